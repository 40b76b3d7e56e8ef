"""``claude-cli:`` and ``codex-cli:`` beside small programs that print what the real clients print.

The real clients are in ``tests/clients/test_as_models.py``.
"""

import asyncio
import json
import stat
import time
from pathlib import Path

import pytest

from loop_runner.errors import ConfigError, ModelError
from loop_runner.model import registry
from loop_runner.model.client import TryAgain
from loop_runner.model.providers import one_message
from loop_runner.records import Message, Request, Usage

PROGRAM = """#!/bin/sh
cd "$PWD" && PATH=/usr/bin:/bin
printf '%s\\0' "$@" > {home}/argv; env -0 > {home}/env; pwd > {home}/cwd; ls > {home}/files
cat > {home}/stdin; cp system.md {home}/system
cat {home}/lines; cat {home}/errors >&2
exec sleep "$(cat {home}/sleep)"
"""
NAMES = {"claude": "claude-cli:claude-haiku-5-5", "codex": "codex-cli:gpt-5.4"}
CLAUDE_USAGE = {
    "input_tokens": 10,
    "output_tokens": 5,
    "cache_read_input_tokens": 7,
    "cache_creation_input_tokens": 3,
}
CODEX_USAGE = {
    "input_tokens": 20,
    "cached_input_tokens": 7,
    "cache_write_input_tokens": 3,
    "output_tokens": 5,
}
QUESTION = (Message("user", "How many?"),)


class Fake:
    """A client on the PATH that prints given lines."""

    def __init__(self, folder, program):
        self.folder, self.name = folder, NAMES[program]
        self.env = {"PATH": str(folder), "HOME": str(folder), "CLAUDECODE": "1", "GIT_DIR": "x"}
        path = folder / program
        path.write_text(PROGRAM.format(home=folder))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        self.prints()

    def prints(self, *events, errors="", sleep=0):
        lines = "".join((event if isinstance(event, str) else json.dumps(event)) + "\n" for event in events)
        for name, value in (("lines", lines), ("errors", errors), ("sleep", sleep)):
            (self.folder / name).write_text(str(value))

    def ask(self, messages=QUESTION, **keys):
        client = registry.client_for(self.name, base_dir=self.folder, env=self.env)
        keys = {"system": "Be short.", **keys}
        return asyncio.run(client.complete(Request(self.name, messages, **keys)))

    def read(self, name):
        return (self.folder / name).read_text()

    def argv(self):
        return self.read("argv").split("\0")[:-1]

    def seen_env(self):
        return dict(line.split("=", 1) for line in self.read("env").split("\0")[:-1])


@pytest.fixture
def claude(tmp_path):
    return Fake(tmp_path, "claude")


@pytest.fixture
def codex(tmp_path):
    return Fake(tmp_path, "codex")


def spoken(*texts, **result):
    """What Claude Code prints for a reply."""
    message = {"model": "claude-haiku-5-5", "content": [{"type": "text", "text": text} for text in texts]}
    end = {"type": "result", "is_error": False, "stop_reason": "end_turn", "usage": CLAUDE_USAGE, **result}
    return {"type": "system"}, {"type": "assistant", "message": message}, end


def refused(status, fault="unknown", text="it did not work"):
    """What Claude Code prints when its provider refuses."""
    message = {"model": "<synthetic>", "content": [{"type": "text", "text": text}]}
    assistant = {"type": "assistant", "message": message, "error": fault, "is_api_error_message": True}
    return assistant, {"type": "result", "is_error": True, "api_error_status": status, "result": text}


def answered(*texts):
    """What Codex prints for a reply."""
    items = [{"type": "item.completed", "item": {"type": "agent_message", "text": text}} for text in texts]
    notice = {"type": "item.completed", "item": {"type": "error", "message": "a notice"}}
    return {"type": "turn.started"}, notice, *items, {"type": "turn.completed", "usage": CODEX_USAGE}


def failed(message):
    return {"type": "error", "message": message}, {"type": "turn.failed", "error": {"message": message}}


# ── a reply ─────────────────────────────────────────────────────────────────────────────────────────


def test_claudes_reply_its_usage_and_its_model_are_taken_as_it_reports_them(claude):
    claude.prints(*spoken("It is ", "42."))
    reply = claude.ask()
    assert (reply.text, reply.stop_reason, reply.model) == ("It is 42.", "end_turn", "claude-haiku-5-5")
    assert reply.usage == Usage(10, 5, 7, 3)


def test_codex_counts_cached_tokens_inside_its_input(codex):
    codex.prints(*answered("It is 42."))
    reply = codex.ask()
    assert (reply.text, reply.usage) == ("It is 42.", Usage(10, 5, 7, 3))


@pytest.mark.parametrize("program", ["claude", "codex"])
def test_a_client_works_in_an_empty_folder_that_is_gone_afterwards(program, tmp_path):
    fake = Fake(tmp_path, program)
    fake.prints(*(spoken("x") if program == "claude" else answered("x")))
    fake.ask()
    assert fake.read("files") == "system.md\n"
    assert fake.read("system").startswith("Be short.")
    env = fake.seen_env()
    assert not {"CLAUDECODE", "GIT_DIR"} & set(env)
    assert fake.read("cwd").strip() == env["PWD"]
    assert not Path(env["PWD"]).exists(), "the folder of the request is removed"


def test_claude_gets_no_tools_no_settings_and_a_limit_for_its_reply(claude):
    claude.prints(*spoken("x"))
    claude.ask(max_output_tokens=99)
    argv, env = claude.argv(), claude.seen_env()
    assert argv[argv.index("--tools") + 1] == ""
    assert argv[argv.index("--setting-sources") + 1] == ""
    assert argv[argv.index("--model") + 1] == "claude-haiku-5-5"
    assert {"--no-session-persistence", "--strict-mcp-config", "--safe-mode"} <= set(argv)
    assert (env["CLAUDE_CODE_MAX_OUTPUT_TOKENS"], env["CLAUDE_CODE_MAX_RETRIES"]) == (
        "99",
        "0",
    )


@pytest.mark.parametrize("program", ["claude", "codex"])
def test_default_leaves_the_model_to_the_client(program, tmp_path):
    fake = Fake(tmp_path, program)
    fake.name = f"{program}-cli:default"
    fake.prints(*(spoken("x") if program == "claude" else answered("x")))
    fake.ask()
    assert not {"--model", "-m"} & set(fake.argv())


def test_a_conversation_is_one_message_whose_beginning_never_changes(claude):
    claude.prints(*spoken("x"))
    turns = [Message("user", "Task"), Message("assistant", "code"), Message("user", "output")]
    claude.ask(tuple(turns[:1]))
    first = (claude.read("system"), claude.read("stdin"))
    claude.ask(tuple(turns))
    second = (claude.read("system"), claude.read("stdin"))
    assert first[0] == second[0], "the instructions of a conversation never change"
    before, after = (json.loads(seen[1])["message"]["content"] for seen in (first, second))
    assert [part["text"] for part in after[:1]] == [part["text"] for part in before]
    assert "cache_control" in after[-1]
    assert "cache_control" not in after[0]
    mark = after[1]["text"].splitlines()[0]
    assert after[1]["text"] == f"{mark}\ncode\n</{mark[1:]}"
    assert mark in first[0]


def test_an_input_cannot_hold_the_mark_of_a_reply():
    marks = set()
    for text in ("a", "b", f"<{one_message._mark(Request('m', (Message('user', 'a'),)))}>"):
        request = Request("m", (Message("user", text),))
        mark = one_message._mark(request)
        assert mark not in text
        marks.add(mark)
    assert len(marks) == 3


def test_a_schema_and_an_unpaired_surrogate_reach_the_client_as_text(codex):
    codex.prints(*answered('{"n": 1}'))
    codex.ask((Message("user", "one \ud800"),), kind="sub", schema={"type": "object"})
    assert '{"type": "object"}' in codex.read("stdin")
    assert codex.read("stdin").startswith("one ?")


# ── what goes wrong ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "fault", "kind", "is_throttle", "ends_run"),
    [
        (429, "rate_limit", TryAgain, True, False),
        (529, "overloaded", TryAgain, True, False),
        (500, "server_error", TryAgain, False, False),
        (None, "unknown", TryAgain, False, False),  # no connection
        (401, "authentication_failed", ModelError, False, True),
        (None, "authentication_failed", ModelError, False, True),
        (400, "billing_error", ModelError, False, True),
        (404, "invalid_request", ModelError, False, False),
    ],
)
def test_claudes_faults_are_told_apart(claude, status, fault, kind, is_throttle, ends_run):
    claude.prints(*refused(status, fault))
    with pytest.raises(ModelError, match="it did not work") as caught:
        claude.ask()
    assert type(caught.value) is kind
    assert getattr(caught.value, "is_throttle", False) is is_throttle
    assert caught.value.ends_run is ends_run


def test_the_limit_of_a_subscription_says_when_it_is_reset(claude):
    info = {"status": "rejected", "resetsAt": time.time() + 1800, "rateLimitType": "five_hour"}
    claude.prints({"type": "rate_limit_event", "rate_limit_info": info}, *refused(None, "rate_limit"))
    with pytest.raises(TryAgain) as caught:
        claude.ask()
    assert caught.value.is_throttle
    assert caught.value.asked_pause_s is not None
    assert 1700 < caught.value.asked_pause_s <= 1800


def test_a_limit_that_is_only_near_refuses_nothing(claude):
    info = {"status": "allowed_warning", "resetsAt": 1}
    claude.prints({"type": "rate_limit_event", "rate_limit_info": info}, *spoken("fine"))
    assert claude.ask().text == "fine"


@pytest.mark.parametrize(
    ("message", "kind", "is_throttle", "ends_run"),
    [
        ("exceeded retry limit, last status: 429 Too Many Requests", TryAgain, True, False),
        ("We are currently experiencing high demand, which may cause errors.", TryAgain, True, False),
        ("unexpected status 401 Unauthorized: no, url: http://x", ModelError, False, True),
        ("You've hit your usage limit. Try again at 3:05 PM.", ModelError, False, True),
        ("You're out of credits. Your workspace is out of credits.", ModelError, False, True),
        ("unexpected status 502 Bad Gateway: x", TryAgain, False, False),
        ("stream disconnected before completion: x", TryAgain, False, False),
        (json.dumps({"error": {"message": "no such model"}}), ModelError, False, False),
    ],
)
def test_codex_faults_are_told_apart(codex, message, kind, is_throttle, ends_run):
    codex.prints(*failed(message))
    with pytest.raises(ModelError) as caught:
        codex.ask()
    assert type(caught.value) is kind
    assert getattr(caught.value, "is_throttle", False) is is_throttle
    assert caught.value.ends_run is ends_run


def test_a_prompt_over_the_window_ends_the_pass_and_not_the_run(tmp_path):
    fake = Fake(tmp_path, "claude")
    fake.prints(*refused(400, text="Prompt is too long"))
    assert fake.ask().stop_reason == "model_context_window_exceeded"
    fake = Fake(tmp_path, "codex")
    fake.prints(*failed("Codex ran out of room in the model's context window. Start a new thread."))
    assert fake.ask().stop_reason == "model_context_window_exceeded"


def test_a_reply_that_reached_its_limit_is_kept(claude):
    _, assistant, _ = spoken("the first half")
    claude.prints(assistant, *refused(None, "max_output_tokens"))
    reply = claude.ask()
    assert (reply.text, reply.stop_reason) == ("the first half", "max_tokens")


@pytest.mark.parametrize("program", ["claude", "codex"])
def test_an_old_client_that_knows_no_such_option_is_named_with_its_words(program, tmp_path):
    fake = Fake(tmp_path, program)
    fake.prints(errors="error: unknown option '--new'\n")
    with pytest.raises(ModelError, match="unknown option '--new'") as caught:
        fake.ask()
    assert not isinstance(caught.value, TryAgain)
    assert "update" in caught.value.hint


@pytest.mark.parametrize("line", ["no json", "[1, 2]", '{"type": "result"', "[" * 20_000, '"text"'])
def test_lines_that_are_no_events_are_left_out(claude, line):
    claude.prints(line, *spoken("fine"))
    assert claude.ask().text == "fine"


@pytest.mark.parametrize("usage", [None, [], {"input_tokens": "many"}, {"output_tokens": -3}])
def test_odd_counts_break_nothing(claude, codex, usage):
    claude.prints(*spoken("fine", usage=usage))
    assert claude.ask().text == "fine"
    codex.prints(*answered("fine")[:-1], {"type": "turn.completed", "usage": usage})
    assert codex.ask().text == "fine"


@pytest.mark.slow
def test_a_client_that_does_not_end_after_its_reply_is_ended(claude):
    claude.prints(*spoken("fine"), sleep=60)
    began = time.monotonic()
    assert claude.ask().text == "fine"
    assert time.monotonic() - began < 30


@pytest.mark.slow
def test_a_cancelled_request_ends_the_client(claude):
    claude.prints(sleep=60)
    client = registry.client_for(claude.name, base_dir=claude.folder, env=claude.env)

    async def ask():
        async with asyncio.timeout(1.5):
            await client.complete(Request(claude.name, QUESTION))

    began = time.monotonic()
    with pytest.raises(TimeoutError):
        asyncio.run(ask())
    assert time.monotonic() - began < 20


# ── what is used ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", NAMES.values())
def test_a_client_that_is_not_installed_is_named(name, tmp_path):
    with pytest.raises(ConfigError, match="is not on the PATH"):
        registry.check(name, base_dir=tmp_path, env={"PATH": str(tmp_path)})


def test_codex_keeps_the_users_provider_and_nothing_else_of_the_settings(codex):
    (codex.folder / ".codex").mkdir()
    (codex.folder / ".codex/config.toml").write_text(
        'model_provider = "own one"\nnotify = ["rm"]\n[mcp_servers.x]\ncommand = "x"\n'
        '[model_providers."own one"]\nname = "Own"\nbase_url = "http://127.0.0.1:9/v1"\nenv_key = "K"\n'
    )
    codex.prints(*answered("x"))
    codex.ask()
    argv = codex.argv()
    assert 'model_provider="own one"' in argv
    kept = next(word for word in argv if word.startswith('model_providers={"own one" = '))
    assert '"env_key" = "K"' in kept
    assert '"request_max_retries" = 0' in kept
    assert not [word for word in argv if "notify" in word or "mcp_servers" in word]
    assert {"--ignore-user-config", "--ephemeral", "read-only"} <= set(argv)


@pytest.mark.parametrize("key", ['experimental_bearer_token = "s"', 'http_headers = {Key = "s"}'])
def test_a_secret_in_codex_settings_is_refused_and_not_shown(codex, key):
    (codex.folder / ".codex").mkdir()
    text = f'model_provider = "own"\n[model_providers.own]\nname = "Own"\n{key}\n'
    (codex.folder / ".codex/config.toml").write_text(text)
    with pytest.raises(ConfigError, match="cannot be used here"):
        codex.ask()


def test_broken_settings_of_codex_are_named(codex):
    (codex.folder / ".codex").mkdir()
    (codex.folder / ".codex/config.toml").write_text("model_provider = \n")
    with pytest.raises(ConfigError, match=r"config\.toml cannot be read"):
        codex.ask()


@pytest.mark.parametrize(
    ("program", "login", "expected"),
    [
        ("claude", ".claude/.credentials.json", "claude-cli:claude-sonnet-5-5"),
        ("codex", ".codex/auth.json", "codex-cli:gpt-5.4"),
    ],
)
def test_without_a_key_and_a_local_model_the_default_is_a_logged_in_client(
    tmp_path, program, login, expected
):
    fake = Fake(tmp_path, program)
    env = {"PATH": fake.env["PATH"], "HOME": str(tmp_path), "LOOP_RUNNER_CACHE": str(tmp_path / "none")}
    with pytest.raises(ConfigError, match="no client is logged in"):
        registry.default_model(env)
    (tmp_path / login).parent.mkdir()
    (tmp_path / login).write_text("{}")
    assert registry.default_model(env) == expected
    assert registry.default_model({**env, "ANTHROPIC_API_KEY": "k"}).startswith("anthropic:")


def test_a_client_brings_its_own_cheaper_sub_model():
    assert registry.default_sub_model("claude-cli:claude-opus-5-5") == "claude-cli:claude-haiku-5-5"
    assert registry.default_sub_model("codex-cli:gpt-5.4") == "codex-cli:gpt-5.4-mini"
    assert registry.default_sub_model("claude-cli:default") == "claude-cli:default"
