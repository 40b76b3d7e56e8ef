"""``anthropic:`` through the real SDK, against a Messages API on loopback."""

import asyncio
import gzip
import json
import os
import resource
import subprocess
import sys
import zlib
from collections.abc import Mapping
from functools import partial
from typing import Any, get_args

import pytest

from loop_runner.errors import ConfigError, ModelError
from loop_runner.model.client import TryAgain
from loop_runner.model.limiter import Limiter, Policy
from loop_runner.model.providers.anthropic_client import AnthropicClient
from loop_runner.records import Message, Reply, Request, StopReason, Usage
from loop_runner.session.reply_reader import read
from tests.support.misbehaving_server import Answer, always, bomb, misbehaving
from tests.support.model_server import HttpError, ModelServer, Scripted

OVERLOADED = HttpError(529, "overloaded_error", "busy")


def request(*texts: str, **changes: Any) -> Request:
    roles = ("user", "assistant")
    messages = tuple(Message(roles[n % 2], text) for n, text in enumerate(texts))  # type: ignore[arg-type]
    return Request("anthropic:claude-test", messages, system="You are brief.", **changes)


def ask_all(server: ModelServer, *requests: Request, max_tries: int = 1) -> list[Reply]:
    async def run() -> list[Reply]:
        client = AnthropicClient("claude-test", server.env)
        policy = Policy(max_tries=max_tries, max_throttled=max_tries, first_pause_s=0.001)
        limiter = Limiter("anthropic", 8, policy=policy)
        try:
            return [await limiter.run(partial(client.complete, item)) for item in requests]
        finally:
            await client.close()

    return asyncio.run(run())


def ask(server: ModelServer, *texts: str, max_tries: int = 1) -> Reply:
    return ask_all(server, request(*(texts or ("hello",))), max_tries=max_tries)[0]


def refusal(server: ModelServer, max_tries: int = 1) -> ModelError:
    with pytest.raises(ModelError) as caught:
        ask(server, max_tries=max_tries)
    assert caught.value.exit_code == 4
    assert "test-key" not in str(caught.value)
    return caught.value


def test_a_reply_carries_text_stop_reason_model_and_all_four_kinds_of_tokens(
    model_server: ModelServer,
) -> None:
    model_server.will_reply(Scripted("forty-two", "end_turn", 11, 22, 33, 44))
    assert ask(model_server) == Reply("forty-two", "end_turn", Usage(11, 22, 33, 44), "claude-test")


@pytest.mark.parametrize("reason", get_args(StopReason))
def test_each_stop_reason_arrives(model_server: ModelServer, reason: StopReason) -> None:
    model_server.will_reply(Scripted("some text", reason))
    assert ask(model_server).stop_reason == reason


def test_a_refusal_may_have_no_text(model_server: ModelServer) -> None:
    model_server.will_reply(Scripted("", "refusal"))
    assert ask(model_server).text == ""


def test_the_request_says_what_the_record_says(model_server: ModelServer) -> None:
    model_server.will_reply("ok")
    ask_all(model_server, request("one", "two", "three", max_output_tokens=123))
    sent = model_server.requests[0]
    assert (sent.system, sent.body["max_tokens"], sent.body["model"]) == (
        "You are brief.",
        123,
        "claude-test",
    )
    assert sent.messages == [("user", "one"), ("assistant", "two"), ("user", "three")]
    assert not {"temperature", "top_p", "top_k"} & set(sent.body)


def test_the_prefix_of_a_conversation_is_marked_for_the_cache_and_its_bytes_stay(
    model_server: ModelServer,
) -> None:
    model_server.will_reply("ok", "ok")
    ask_all(model_server, request("one"), request("one", "two", "three"))
    first, second = (sent.body for sent in model_server.requests)
    mark = {"type": "ephemeral"}
    assert first["system"][-1]["cache_control"] == mark
    assert first["messages"][0]["content"][-1]["cache_control"] == mark
    assert first["cache_control"] == mark
    assert json.dumps(second["system"]) == json.dumps(first["system"])
    assert json.dumps(second["messages"][:1]) == json.dumps(first["messages"])
    prefix = json.dumps(first["messages"], ensure_ascii=False, separators=(",", ":"))[:-1].encode()
    assert all(prefix in sent.raw for sent in model_server.requests)


def test_a_sub_call_is_not_written_to_the_cache(model_server: ModelServer) -> None:
    model_server.will_reply("ok")
    ask_all(model_server, request("one", kind="sub"))
    assert b"cache_control" not in model_server.requests[0].raw


def test_an_empty_turn_and_broken_unicode_are_sent_in_a_form_that_the_api_takes(
    model_server: ModelServer,
) -> None:
    model_server.will_reply("ok")
    ask(model_server, "a\ud800b", "", "go on")
    assert model_server.requests[0].messages == [
        ("user", "a?b"),
        ("assistant", "(no text)"),
        ("user", "go on"),
    ]


def test_an_overload_is_tried_again(model_server: ModelServer) -> None:
    model_server.will_reply(OVERLOADED, "there")
    assert ask(model_server, max_tries=2).text == "there"


def test_retry_after_is_honoured(model_server: ModelServer) -> None:
    slow_down = HttpError(429, "rate_limit_error", "slow down", headers={"retry-after-ms": "50"})
    model_server.will_reply(slow_down, "there")
    assert ask(model_server, max_tries=2).text == "there"
    assert len(model_server.requests) == 2


@pytest.mark.parametrize(
    ("error", "message", "hint"),
    [
        (HttpError(401, "authentication_error", "bad key"), "the key was refused", "ANTHROPIC_API_KEY"),
        (HttpError(402, "billing_error", "no credit"), "the account cannot pay", "settle the account"),
        (HttpError(403, "permission_error", "not yours"), "the key may not do this", "which models"),
        (HttpError(404, "not_found_error", "model: x"), "there is no such model", "check the name"),
        (HttpError(400, "invalid_request_error", "bad"), "the request was refused", ""),
        (HttpError(429, "rate_limit_error", "slow"), "over the rate limit", "lower the width"),
        (OVERLOADED, "overloaded", "resume"),
        (HttpError(500, "api_error", "oops"), "the service failed", "resume"),
    ],
)
def test_an_error_says_what_it_means_and_what_to_do(
    model_server: ModelServer, error: HttpError, message: str, hint: str
) -> None:
    model_server.will_reply(error)
    refused = refusal(model_server)
    assert message in refused.message
    assert error.message in refused.message
    assert "req_test" in refused.message
    assert hint in refused.hint


@pytest.mark.parametrize(
    "error",
    [
        HttpError(429, "rate_limit_error", "spent", "enforced_spend_limit_reached", {"retry-after": "3600"}),
        HttpError(429, "rate_limit_error", "spent", "contract_spend_limit_reached"),
        HttpError(402, "billing_error", "spent"),
        HttpError(401, "authentication_error", "spent"),
    ],
)
def test_a_spent_account_or_a_bad_key_is_never_asked_again(
    model_server: ModelServer, error: HttpError
) -> None:
    model_server.will_reply(error)
    refused = refusal(model_server, max_tries=6)
    assert len(model_server.requests) == 1
    if error.status != 401:
        assert "cannot pay" in refused.message


@pytest.mark.parametrize(
    "error",
    [
        HttpError(400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
        HttpError(413, "invalid_request_error", "Request exceeds the maximum size"),
    ],
)
def test_a_prompt_over_the_window_is_a_reply_that_the_model_can_be_told_about(
    model_server: ModelServer, error: HttpError
) -> None:
    model_server.will_reply(error)
    assert ask(model_server) == Reply("", "model_context_window_exceeded", model="claude-test")


@pytest.mark.parametrize(
    "fault",
    [
        Scripted("x" * 200, input_tokens=100, drop_after=4),
        Scripted("x" * 200, input_tokens=100, garble_after=4),
        Scripted("x" * 200, input_tokens=100, end_after=4),
        Scripted("x" * 200, input_tokens=100, error_after=(4, "overloaded_error")),
    ],
)
def test_a_stream_that_breaks_is_asked_for_again(model_server: ModelServer, fault: Scripted) -> None:
    model_server.will_reply(fault, Scripted("whole", input_tokens=100, output_tokens=7))
    reply = ask(model_server, max_tries=2)
    assert reply.text == "whole"
    assert reply.usage == Usage(100, 7)
    assert len(model_server.requests) == 2


def test_a_stream_that_keeps_breaking_ends_in_an_error_that_says_it_may_be_billed(
    model_server: ModelServer,
) -> None:
    model_server.will_reply(*[Scripted("x" * 200, input_tokens=100, drop_after=4)] * 3)
    refused = refusal(model_server, max_tries=9)
    assert refused.paid
    assert "(3 tries)" in refused.message
    assert len(model_server.requests) == 3


def test_an_error_in_a_stream_that_waiting_cannot_mend_ends_at_once(model_server: ModelServer) -> None:
    model_server.will_reply(Scripted("x" * 200, error_after=(4, "invalid_request_error")))
    assert "scripted" in refusal(model_server).message
    assert len(model_server.requests) == 1


def test_an_unreachable_api_is_named(model_server: ModelServer) -> None:
    model_server.close()
    assert "cannot be reached" in refusal(model_server).message


def test_a_missing_key_is_a_config_error_before_any_request(
    model_server: ModelServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    for name in [name for name in os.environ if name.startswith("ANTHROPIC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ANTHROPIC_CONFIG_DIR", str(tmp_path))
    with pytest.raises(ConfigError, match="anthropic:m needs a key") as caught:
        AnthropicClient("m", {"ANTHROPIC_BASE_URL": model_server.url, "ANTHROPIC_API_KEY": ""})
    assert "ANTHROPIC_API_KEY" in caught.value.hint


@pytest.mark.parametrize(
    ("env", "header", "value"),
    [
        ({"ANTHROPIC_AUTH_TOKEN": "tok"}, "authorization", "Bearer tok"),
        ({"ANTHROPIC_AUTH_TOKEN": "tok", "ANTHROPIC_API_KEY": "k"}, "authorization", "Bearer k"),
    ],
)
def test_the_key_is_sent_as_the_sdk_sends_it(
    model_server: ModelServer, env: Mapping[str, str], header: str, value: str
) -> None:
    model_server.will_reply("ok")

    async def run() -> None:
        client = AnthropicClient("m", {**env, "ANTHROPIC_BASE_URL": model_server.url})
        await client.complete(request("x"))
        await client.close()

    asyncio.run(run())
    assert model_server.requests[0].headers[header] == value


def test_the_sdk_is_not_imported_before_the_first_request() -> None:
    code = (
        "import sys, pathlib\n"
        "from loop_runner.model.registry import client_for\n"
        "client_for('anthropic:m', base_dir=pathlib.Path(), env={'ANTHROPIC_API_KEY': 'k'})\n"
        "print([name for name in ('anthropic', 'httpx2', 'yaml') if name in sys.modules])\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize("limit", [{"stall_s": 0.1}, {"reply_s": 0.1}])
def test_a_reply_that_stops_coming_or_only_trickles_is_given_up_and_charged(
    model_server: ModelServer, limit: dict[str, float]
) -> None:
    model_server.will_reply(Scripted("x" * 400, input_tokens=100, trickle_s=0.4))

    async def run() -> None:
        client = AnthropicClient("claude-test", model_server.env, **limit)
        await client.open()  # the import takes longer than the limits of this test
        try:
            await client.complete(request("hello"))
        finally:
            await client.close()

    with pytest.raises(TryAgain, match="the reply came too slowly") as caught:
        asyncio.run(run())
    assert caught.value.usage.input_tokens in (0, 100), "nothing may have come yet on a busy machine"


def test_tokens_are_counted_by_the_provider(model_server: ModelServer) -> None:
    async def run() -> int:
        client = AnthropicClient("claude-test", model_server.env)
        try:
            return await client.count_tokens(request("hello " * 1000, offers_tool=True))
        finally:
            await client.close()

    assert 1500 < asyncio.run(run()) < 2000
    assert model_server.requests[0].path == "/v1/messages/count_tokens"
    assert "max_tokens" not in model_server.requests[0].body


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}, "required": ["n"]}


def test_a_schema_is_sent_in_the_apis_own_form(model_server: ModelServer) -> None:
    model_server.will_reply("{}")
    ask_all(model_server, request("x", schema=SCHEMA, kind="sub"))
    sent = model_server.requests[0].body["output_config"]["format"]
    assert sent["type"] == "json_schema"
    assert sent["schema"]["properties"]["n"]["type"] == "integer"
    assert sent["schema"]["additionalProperties"] is False


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {"type": "array", "items": {"type": "object"}},
        {"type": ["integer", "null"]},
        {"minimum": 3},
    ],
)
def test_a_schema_that_the_api_would_change_is_left_to_the_check(
    model_server: ModelServer, schema: dict[str, Any]
) -> None:
    model_server.will_reply("{}")
    ask_all(model_server, request("x", schema=schema, kind="sub"))
    assert "output_config" not in model_server.requests[0].body


def test_a_model_that_takes_no_schema_is_asked_without_from_then_on(model_server: ModelServer) -> None:
    refused = HttpError(400, "invalid_request_error", "output_config.format: not supported by this model")
    model_server.will_reply(refused, "{}", "{}")
    ask_all(model_server, *[request("x", schema=SCHEMA, kind="sub")] * 2)
    assert ["output_config" in sent.body for sent in model_server.requests] == [True, False, False]


# ── tool calls ──────────────────────────────────────────────────────────────────────────────────────


def test_a_tool_call_is_read_as_code_and_answered_with_its_result(model_server: ModelServer) -> None:
    model_server.will_reply(Scripted("I look.", code="print('```')\nx = 1"), "ok", "ok")
    reply = ask_all(model_server, request("go", offers_tool=True))[0]
    assert (reply.stop_reason, read(reply.text).code) == ("tool_use", "print('```')\nx = 1")
    later = [request("go", reply.text, "```", *more, offers_tool=True) for more in ((), ("done", "more"))]
    ask_all(model_server, *later)
    first, second, third = (sent.body for sent in model_server.requests)
    assert first["tools"][0]["name"] == "repl"
    call, result = second["messages"][1:]
    assert call["content"] == [
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "toolu_test", "name": "repl", "input": {"code": "print('```')\nx = 1"}},
    ]
    assert result["content"] == [
        {"type": "tool_result", "tool_use_id": "toolu_test", "content": [{"type": "text", "text": "```"}]}
    ]
    assert third["messages"][:3] == second["messages"]


def test_a_tool_call_that_was_cut_off_is_text_afterwards(model_server: ModelServer) -> None:
    model_server.will_reply(Scripted(code="print(1)", stop_reason="max_tokens"), "ok")
    reply = ask_all(model_server, request("go", offers_tool=True))[0]
    assert reply.stop_reason == "max_tokens"
    ask_all(model_server, request("go", reply.text, "it was cut", offers_tool=True))
    assert b'"type":"tool_use"' not in model_server.requests[1].raw


def test_without_the_tool_a_call_of_an_earlier_turn_is_sent_as_text(model_server: ModelServer) -> None:
    model_server.will_reply("ok")
    ask_all(model_server, request("go", "```repl tool=toolu_1\nx\n```", "out"))
    assert model_server.requests[0].messages[1] == ("assistant", "```repl tool=toolu_1\nx\n```")


EVENT = (
    b'event: message_start\ndata: {"type": "message_start", "message": {"id": "m", "type": "message", '
    b'"role": "assistant", "content": [], "model": "m", "stop_reason": null, "stop_sequence": null, "usage": '
    b'{"input_tokens": 3, "output_tokens": 0}}}\n\n'
    b'event: content_block_start\ndata: {"type": "content_block_start", "index": 0, "content_block": '
    b'{"type": "text", "text": ""}}\n\n'
    b'event: content_block_delta\ndata: {"type": "content_block_delta", "index": 0, "delta": '
    b'{"type": "text_delta", "text": "forty-two"}}\n\n'
    b'event: message_delta\ndata: {"type": "message_delta", "delta": {"stop_reason": "end_turn", '
    b'"stop_sequence": null}, "usage": {"output_tokens": 2}}\n\n'
    b'event: message_stop\ndata: {"type": "message_stop"}\n\n'
)


def ask_at(url: str) -> Reply:
    async def run() -> Reply:
        client = AnthropicClient("m", {"ANTHROPIC_API_KEY": "test-key", "ANTHROPIC_BASE_URL": url})
        try:
            return await client.complete(request("hello"))
        finally:
            await client.close()

    return asyncio.run(run())


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "identity"])
def test_a_packed_reply_is_read(encoding: str) -> None:
    packed = {"gzip": gzip.compress(EVENT), "deflate": zlib.compress(EVENT), "identity": EVENT}[encoding]
    answer = Answer(200, packed, "text/event-stream", {"content_encoding": encoding})
    with misbehaving(always(answer)) as (url, _):
        assert ask_at(url).text == "forty-two"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "kind", "text"),
    [(200, "text/event-stream", b" "), (200, "application/json", b"{"), (400, "application/json", b" ")],
)
def test_a_packed_reply_of_a_gigabyte_does_not_fill_the_memory(status: int, kind: str, text: bytes) -> None:
    answer = Answer(status, bomb(1024, text), kind, {"content_encoding": "gzip"})
    with misbehaving(always(answer)) as (url, _):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(ModelError):
            ask_at(url)
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kb < 400 * 1024


def test_a_reply_that_is_not_packed_as_it_says_is_a_broken_connection() -> None:
    answer = Answer(200, b"no gzip", "text/event-stream", {"content_encoding": "gzip"})
    with misbehaving(always(answer)) as (url, _), pytest.raises(TryAgain, match="cannot be unpacked"):
        ask_at(url)
