"""``anthropic:`` through the real SDK, against a Messages API on loopback."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, get_args

import pytest

from loop_runner.errors import ConfigError, ModelError
from loop_runner.model.anthropic_client import AnthropicClient
from loop_runner.records import Message, Reply, Request, StopReason, Usage
from tests.support.model_server import HttpError, ModelServer, Scripted

OVERLOADED = HttpError(529, "overloaded_error", "busy")


def request(*texts: str, **changes: Any) -> Request:
    roles = ("user", "assistant")
    messages = tuple(Message(roles[n % 2], text) for n, text in enumerate(texts))  # type: ignore[arg-type]
    return Request("anthropic:claude-test", messages, system="You are brief.", **changes)


def ask_all(server: ModelServer, *requests: Request, max_retries: int = 0) -> list[Reply]:
    async def run() -> list[Reply]:
        client = AnthropicClient("claude-test", server.env, max_retries=max_retries, stream_pause_s=0.001)
        try:
            return [await client.complete(each) for each in requests]
        finally:
            await client.close()

    return asyncio.run(run())


def ask(server: ModelServer, *texts: str, max_retries: int = 0) -> Reply:
    return ask_all(server, request(*(texts or ("hello",))), max_retries=max_retries)[0]


def refusal(server: ModelServer, max_retries: int = 0) -> ModelError:
    with pytest.raises(ModelError) as caught:
        ask(server, max_retries=max_retries)
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


def test_an_overload_is_retried_by_the_sdk(model_server: ModelServer) -> None:
    model_server.will_reply(OVERLOADED, "there")
    assert ask(model_server, max_retries=1).text == "there"


def test_retry_after_is_honoured(model_server: ModelServer) -> None:
    slow_down = HttpError(429, "rate_limit_error", "slow down", headers={"retry-after-ms": "50"})
    model_server.will_reply(slow_down, "there")
    assert ask(model_server, max_retries=1).text == "there"
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
        (OVERLOADED, "still overloaded", "resume"),
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
    refused = refusal(model_server, max_retries=5)
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
def test_a_stream_that_breaks_is_asked_for_again_and_both_are_charged(
    model_server: ModelServer, fault: Scripted
) -> None:
    model_server.will_reply(fault, Scripted("whole", input_tokens=100, output_tokens=7))
    reply = ask(model_server)
    assert reply.text == "whole"
    assert reply.usage.input_tokens == 200
    assert len(model_server.requests) == 2


def test_a_stream_that_keeps_breaking_ends_in_an_error_that_says_it_may_be_billed(
    model_server: ModelServer,
) -> None:
    model_server.will_reply(*[Scripted("x" * 200, drop_after=4)] * 3)
    refused = refusal(model_server)
    assert refused.paid
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
