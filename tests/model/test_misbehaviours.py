"""Every habit of a server in the table: the product adapts, tries again, or says what to do."""

import asyncio
import json
import resource
from typing import Any

import pytest

from loop_runner.errors import ModelError
from loop_runner.model.limiter import Limiter, Policy
from loop_runner.model.providers import chat_answer
from loop_runner.model.providers.openai_compatible import OpenAICompatibleClient
from loop_runner.records import Message, Reply, Request
from tests.model.misbehaviours import (
    ADAPTED,
    GOOD,
    HOPELESS,
    TOO_LONG,
    TRIED_AGAIN,
    UNDERSTOOD,
    Misbehaving,
    chunk,
    completion,
    stream,
    whole,
)
from tests.support.commands import loop_runner
from tests.support.tasks import write_task

KINDS = ("root", "sub")  # a stream, and a reply as a whole
MESSAGES = (Message("user", "first"), Message("user", "second"))


def ask(server: Misbehaving, kind: Any = "root", *, times: int = 1, **changes: Any) -> list[Reply]:
    async def run() -> list[Reply]:
        client = OpenAICompatibleClient("m", server.url, "test-key")
        limiter = Limiter("openai", 8, policy=Policy(max_tries=3, max_throttled=3, first_pause_s=0.001))
        settings = {"system": "s", "temperature": 0.2, "schema": {"type": "object"}, **changes}
        request = Request("openai:m", MESSAGES, kind=kind, offers_tool=kind == "root", **settings)
        try:
            return [await limiter.run(lambda: client.complete(request)) for _ in range(times)]
        finally:
            await client.close()

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def short_rest(monkeypatch):
    monkeypatch.setattr(chat_answer, "_REST_S", 0.5)


@pytest.mark.parametrize("name", TOO_LONG)
@pytest.mark.parametrize("kind", KINDS)
def test_a_request_that_is_too_long_is_reported_as_that_in_whatever_words(name, kind):
    with Misbehaving(TOO_LONG[name]) as server:
        assert ask(server, kind)[0].stop_reason == "model_context_window_exceeded"
        assert len(server.bodies) == 1


@pytest.mark.parametrize("name", ADAPTED)
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_server_does_not_know_is_left_out_or_renamed_from_then_on(name, kind):
    with Misbehaving(ADAPTED[name]) as server:
        first, second = ask(server, kind, times=2)
        assert (first.text, second.text) == (GOOD, GOOD)
        is_of_one_prompt = "less room" in name
        assert is_of_one_prompt or server.bodies[-1] == server.bodies[-2]
        sent = json.dumps(server.bodies[-1]["messages"])
        assert all(text in sent for text in ("s", "first", "second"))


@pytest.mark.parametrize("name", UNDERSTOOD)
@pytest.mark.parametrize("kind", KINDS)
def test_an_odd_reply_that_is_whole_is_understood_at_the_first_try(name, kind):
    with Misbehaving(UNDERSTOOD[name]) as server:
        reply = ask(server, kind)[0]
        assert (reply.text, reply.stop_reason) == (GOOD, "end_turn")
        assert len(server.bodies) == 1
        assert reply.usage.output_tokens > 0


@pytest.mark.parametrize("name", TRIED_AGAIN)
@pytest.mark.parametrize("kind", KINDS)
def test_what_passes_is_tried_again(name, kind):
    with Misbehaving(TRIED_AGAIN[name]) as server:
        assert ask(server, kind)[0].text == GOOD
        is_of_streams = "stream" in name or "event" in name
        assert len(server.bodies) == 2 or (is_of_streams and kind == "sub")


@pytest.mark.parametrize("name", HOPELESS)
@pytest.mark.parametrize("kind", KINDS)
def test_where_nothing_helps_the_message_says_what_to_do(name, kind):
    switch, message = HOPELESS[name]
    with Misbehaving(switch) as server:
        if kind == "sub" and "stream" in name and "GB" not in name:
            return
        with pytest.raises(ModelError, match=message) as raised:
            ask(server, kind)
        assert raised.value.exit_code == 4
        assert len(str(raised.value)) < 2000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 1_500_000  # kilobytes


@pytest.mark.parametrize(
    "char", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e", "\u00e9", "\U0001f600"]
)
def test_a_line_of_a_stream_ends_nowhere_but_at_cr_and_lf(char):
    events = [chunk(f"a{char}b{char}"), chunk(None, "stop")]
    with Misbehaving(stream(*events, ensure_ascii=False)) as server:
        assert ask(server)[0].text == f"a{char}b{char}"


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_a_stream_may_be_cut_anywhere(size):
    data = "".join(
        f"data: {json.dumps(event, ensure_ascii=False)}\r\n\r\n"
        for event in (chunk("é\u2028😀"), chunk("!", "stop"))
    ).encode()
    parts = [data[start : start + size].decode("latin-1") for start in range(0, len(data), size)]
    switch = stream(end="")
    with Misbehaving(switch) as server:
        server._switch = lambda body, number: _cut(switch, body, number, parts)
        assert ask(server)[0].text == "é\u2028😀!"


def _cut(switch, body, number, parts):
    from dataclasses import replace

    return replace(switch(body, number), chunks=[part.encode("latin-1") for part in parts])


@pytest.mark.parametrize(("finish", "reason"), [
    ("length", "max_tokens"), ("MAX_TOKENS", "max_tokens"), ("model_length", "max_tokens"),
    ("content_filter", "refusal"), ("SAFETY", "refusal"), ("RECITATION", "refusal"),
])  # fmt: skip
@pytest.mark.parametrize("kind", KINDS)
def test_the_reasons_to_end_are_known_by_their_other_names(finish, reason, kind):
    with Misbehaving(whole(completion(finish=finish))) as server:
        assert ask(server, kind)[0].stop_reason == reason


def test_a_tool_call_in_the_form_of_ollama_is_read():
    call = {"function": {"name": "repl", "arguments": {"code": "x = 1"}}}
    delta = {"content": "", "tool_calls": [{"index": None, "id": None, **call}]}
    events = [{"choices": [{"index": 0, "delta": delta, "finish_reason": "tool_calls"}]}]
    with Misbehaving(stream(*events)) as server:
        reply = ask(server)[0]
    assert reply.stop_reason == "tool_use"
    assert "x = 1" in reply.text


@pytest.mark.parametrize("name", ["a page of a portal", "2 GB, packed", "a refused key, in plain text"])
def test_a_run_ends_with_exit_code_4_and_can_be_resumed(name, tmp_path):
    task = write_task(tmp_path / "task", root=[], model="openai:m", verifiers=[{"contains": "x"}])
    with Misbehaving(HOPELESS[name][0]) as server:
        env = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "k"}
        ended = loop_runner("run", task, "--run-dir", "run", cwd=tmp_path, env=env)
        assert ended.returncode == 4, ended.stderr
        assert "what to do" in ended.stderr
        again = loop_runner("resume", "run", cwd=tmp_path, env=env)
    assert again.returncode == 4


def test_the_table_has_at_least_forty_switches():
    tables: list[dict[str, Any]] = [TOO_LONG, ADAPTED, UNDERSTOOD, TRIED_AGAIN, HOPELESS]
    assert sum(len(table) for table in tables) >= 40
