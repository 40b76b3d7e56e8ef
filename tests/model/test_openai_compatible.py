"""``openai:``: chat completions against a server on loopback."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loop_runner.errors import ConfigError, ModelError
from loop_runner.model.limiter import Limiter, Policy
from loop_runner.model.providers.openai_compatible import OpenAICompatibleClient
from loop_runner.model.registry import client_for
from loop_runner.model.switchboard import Switchboard
from loop_runner.records import Message, Reply, Request, Usage
from loop_runner.session.reply_reader import read
from tests.support.call_log import MemoryLog
from tests.support.model_server import HttpError, ModelServer, Scripted

BUSY = HttpError(503, "server_error", "busy")


def ask(server: ModelServer, text: str = "hello", *, max_tries: int = 3, **changes: Any) -> Reply:
    async def run() -> Reply:
        client = OpenAICompatibleClient("m", server.openai_url, "test-key")
        policy = Policy(max_tries=max_tries, max_throttled=max_tries, first_pause_s=0.001)
        try:
            request = Request("openai:m", (Message("user", text),), system="s", **changes)
            return await Limiter("openai", 8, policy=policy).run(lambda: client.complete(request))
        finally:
            await client.close()

    return asyncio.run(run())


def test_a_reply_carries_text_stop_reason_model_and_usage_with_the_cached_part_apart(
    model_server: ModelServer,
) -> None:
    model_server.will_reply(
        Scripted("hi", "max_tokens", input_tokens=11, output_tokens=22, cache_read_tokens=33)
    )
    assert ask(model_server) == Reply("hi", "max_tokens", Usage(11, 22, 33), "m")


def test_the_request_says_what_the_record_says(model_server: ModelServer) -> None:
    model_server.will_reply("ok")
    ask(model_server, "a\udc80b", max_output_tokens=77)
    sent = model_server.requests[0]
    assert (sent.system, sent.first_user_text, sent.body["max_tokens"]) == ("s", "a?b", 77)
    assert sent.headers["authorization"] == "Bearer test-key"


def test_a_busy_server_is_asked_again(model_server: ModelServer) -> None:
    model_server.will_reply(BUSY, HttpError(429, "x", "slow", headers={"retry-after": "0"}), "there")
    assert ask(model_server).text == "there"


def test_after_the_last_try_the_error_says_what_the_server_said(model_server: ModelServer) -> None:
    model_server.will_reply(BUSY, BUSY)
    with pytest.raises(ModelError, match="answered 503: busy"):
        ask(model_server, max_tries=2)


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (HttpError(401, "invalid_api_key", "bad"), "OPENAI_API_KEY"),
        (HttpError(404, "not_found", "no such model"), "has a model 'm'"),
        (HttpError(429, "insufficient_quota", "spent", "insufficient_quota"), "quota is spent"),
        (HttpError(400, "invalid_request_error", "bad"), ""),
    ],
)
def test_what_waiting_cannot_mend_is_not_asked_again(
    model_server: ModelServer, error: HttpError, hint: str
) -> None:
    model_server.will_reply(error)
    with pytest.raises(ModelError) as caught:
        ask(model_server)
    assert len(model_server.requests) == 1
    assert hint in caught.value.hint
    assert "test-key" not in str(caught.value)


@pytest.mark.parametrize("kind", ["context_length_exceeded", "exceed_context_size_error"])
def test_a_prompt_over_the_window_is_a_reply(model_server: ModelServer, kind: str) -> None:
    model_server.will_reply(HttpError(400, kind, "too long", kind))
    assert ask(model_server).stop_reason == "model_context_window_exceeded"


def test_an_answer_that_is_no_completion_is_shown_and_counted_as_paid(model_server: ModelServer) -> None:
    async def run() -> None:
        client = OpenAICompatibleClient("m", f"{model_server.url}/wrong", None)
        try:
            await client.complete(Request("openai:m", (Message("user", "x"),)))
        finally:
            await client.close()

    model_server.will_reply("ok")
    with pytest.raises(ModelError, match="not a chat completion") as caught:
        asyncio.run(run())
    assert caught.value.paid
    assert "authorization" not in model_server.requests[0].headers


def test_an_unreachable_server_is_named_after_the_tries(model_server: ModelServer) -> None:
    model_server.close()
    with pytest.raises(ModelError, match="cannot be reached") as caught:
        ask(model_server)
    assert not caught.value.paid


def test_the_environment_gives_key_and_address(model_server: ModelServer, tmp_path: Path) -> None:
    model_server.will_reply("ok")

    async def run() -> None:
        env = {"OPENAI_BASE_URL": model_server.openai_url, "OPENAI_API_KEY": "k"}
        client = client_for("openai:m", base_dir=tmp_path, env=env)
        await client.complete(Request("openai:m", (Message("user", "x"),)))
        await client.close()

    asyncio.run(run())
    assert model_server.requests[0].headers["authorization"] == "Bearer k"
    with pytest.raises(ConfigError, match="needs a key or an address"):
        client_for("openai:m", base_dir=tmp_path, env={})


@pytest.mark.parametrize("kind", ["root", "sub"])
def test_a_conversation_is_streamed_and_a_sub_call_is_not(model_server: ModelServer, kind: Any) -> None:
    model_server.will_reply(Scripted("hi " * 100, "max_tokens", 11, 22, 33))
    assert ask(model_server, kind=kind) == Reply("hi " * 100, "max_tokens", Usage(11, 22, 33), "m")
    assert model_server.requests[0].body.get("stream", False) == (kind == "root")


@pytest.mark.parametrize("kind", ["root", "sub"])
def test_a_server_that_counts_nothing_is_not_taken_to_be_free(model_server: ModelServer, kind: Any) -> None:
    model_server.will_reply(Scripted("y" * 400, has_usage=False))
    assert ask(model_server, "x" * 4000, kind=kind).usage == Usage(1001, 100)


@pytest.mark.parametrize("field", ["stream_options", "stream", "response_format"])
def test_a_server_that_does_not_know_a_field_is_asked_without_it(
    model_server: ModelServer, field: str
) -> None:
    model_server.will_reply(HttpError(400, "invalid_request_error", f"unknown field: {field}"), "ok")
    assert ask(model_server, schema={"type": "object"}).text == "ok"
    first, second = (sent.body for sent in model_server.requests)
    assert field in first
    assert field not in second


def test_a_schema_is_sent_in_the_servers_own_form(model_server: ModelServer) -> None:
    model_server.will_reply("{}")
    ask(model_server, schema={"type": "object"}, kind="sub")
    sent = model_server.requests[0].body["response_format"]
    assert sent == {"type": "json_schema", "json_schema": {"name": "reply", "schema": {"type": "object"}}}


@pytest.mark.parametrize(
    "fault",
    [
        Scripted("x" * 400, drop_after=4),
        Scripted("x" * 400, end_after=4),
        Scripted("x" * 400, garble_after=4),
        Scripted("x" * 400, error_after=(4, "server_error")),
    ],
)
def test_a_stream_that_breaks_is_asked_for_again_and_both_are_charged(
    model_server: ModelServer, fault: Scripted
) -> None:
    model_server.will_reply(fault, Scripted("whole", input_tokens=50, output_tokens=7))
    assert ask(model_server, "x" * 4000) == Reply("whole", "end_turn", Usage(50, 7), "m")
    log = MemoryLog()
    model_server.will_reply(fault, "whole")
    env = {"OPENAI_BASE_URL": model_server.openai_url}
    with Switchboard(
        lambda model: client_for(model, base_dir=Path(), env=env),
        log=log,
        policy=Policy(first_pause_s=0.001),
    ) as board:
        board.ask(Request("openai:m", (Message("user", "x" * 4000),)))
    lost, answered = log.calls
    assert (lost.is_lost, answered.is_lost) == (True, False)
    assert lost.reply.usage == Usage(1000, 30), "three of ten pieces came: 120 characters"


def test_a_reply_that_only_trickles_is_given_up(model_server: ModelServer) -> None:
    model_server.will_reply(Scripted("x" * 400, trickle_s=0.4))

    async def run() -> None:
        client = OpenAICompatibleClient("m", model_server.openai_url, None, reply_s=1.5)
        try:
            await client.complete(Request("openai:m", (Message("user", "x"),)))
        finally:
            await client.close()

    with pytest.raises(ModelError, match="the reply came too slowly") as caught:
        asyncio.run(run())
    assert caught.value.paid


@pytest.mark.parametrize("kind", ["root", "sub"])
def test_a_tool_call_is_read_as_code_and_answered_with_its_result(
    model_server: ModelServer, kind: Any
) -> None:
    model_server.will_reply(Scripted("I look.", code="x = 1", tool_id="call_1"), "ok")

    async def run() -> Reply:
        client = OpenAICompatibleClient("m", model_server.openai_url, None)
        try:
            first = Request("openai:m", (Message("user", "go"),), offers_tool=True, kind=kind)
            reply = await client.complete(first)
            messages = (*first.messages, Message("assistant", reply.text), Message("user", "out"))
            await client.complete(replace(first, messages=messages))
            return reply
        finally:
            await client.close()

    reply = asyncio.run(run())
    assert (reply.stop_reason, read(reply.text).code) == ("tool_use", "x = 1")
    _, call, result = model_server.requests[1].body["messages"]
    assert call["content"] == "I look."
    assert call["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "repl", "arguments": '{"code": "x = 1"}'}}
    ]
    assert result == {"role": "tool", "tool_call_id": "call_1", "content": "out"}
