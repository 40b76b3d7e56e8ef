"""The real clients as models: ``claude-cli:`` and ``codex-cli:`` against a loopback provider."""

import asyncio
import json

import pytest
import yaml

from loop_runner.errors import ModelError
from loop_runner.model import registry
from loop_runner.model.client import TryAgain
from loop_runner.records import Message, Request, Usage
from tests.clients.server import Refused

CELL = "```repl\nFINAL(llm_query('which number?'))\n```"
NAMES = {"claude": "claude-cli:claude-haiku-5-5", "codex": "codex-cli:test"}


class Client:
    """A real client on the PATH of a place, asked through its provider."""

    def __init__(self, place, path, name):
        (place.folder / "bin" / name).symlink_to(path)
        self.place, self.model = place, NAMES[name]

    def ask(self, *messages, **keys):
        client = registry.client_for(self.model, base_dir=self.place.folder, env=self.place.env)
        request = Request(self.model, messages or (Message("user", "Which number?"),), **keys)
        return asyncio.run(client.complete(request))


@pytest.fixture(params=["claude", "codex"])
def client(request, place):
    return Client(place, request.getfixturevalue(request.param), request.param)


def test_a_reply_and_its_usage_come_without_tools_memory_or_a_session(client):
    home = client.place.folder / "home"
    (home / ".claude").mkdir()
    (home / ".claude/CLAUDE.md").write_text("MEMORY OF THE USER")
    (home / ".claude/settings.json").write_text(json.dumps({"outputStyle": "Explanatory"}))
    client.place.provider.replies = ["It is 42."]
    reply = client.ask(system="SYSTEM PROMPT", max_output_tokens=321)
    assert (reply.text, reply.usage) == ("It is 42.", Usage(10, 5))
    (body,) = client.place.provider.requests
    sent = json.dumps(body)
    assert "SYSTEM PROMPT" in sent
    assert "MEMORY OF THE USER" not in sent
    names = [tool.get("name") for tool in body.get("tools", ())]
    assert names in ([], ["request_user_input"]), (
        "Codex has one tool that cannot be switched off; it does nothing"
    )
    assert body.get("max_tokens", 321) == 321
    kept = [path for path in home.rglob("*.jsonl") if "Which number?" in path.read_text()]
    assert kept == [], "no session is kept"


def test_a_later_turn_repeats_the_beginning_byte_for_byte(client):
    client.place.provider.replies = ["first", "second"]
    turns = [Message("user", "Task."), Message("assistant", "first"), Message("user", "Output.")]
    client.ask(*turns[:1], system="S")
    client.ask(*turns, system="S")
    first, second = client.place.provider.requests
    assert len(first) == len(second)
    place = "messages" if "messages" in first else "input"
    texts = [json.dumps(body[place]) for body in (first, second)]
    assert "Task." in texts[1]
    assert texts[1].index("Task.") < texts[1].index("first") < texts[1].index("Output.")


@pytest.mark.parametrize(
    ("status", "kind", "is_throttle", "ends_run"),
    [
        (429, TryAgain, True, False),
        (401, ModelError, False, True),
        (400, ModelError, False, False),
    ],
)
def test_refusals_are_told_apart_and_sent_once(client, status, kind, is_throttle, ends_run):
    client.place.provider.replies = [Refused(status)] * 3
    with pytest.raises(ModelError) as caught:
        client.ask()
    assert type(caught.value) is kind
    assert getattr(caught.value, "is_throttle", False) is is_throttle
    assert caught.value.ends_run is ends_run
    if status != 400:  # Claude Code asks again in another form: nothing is billed for a refused form
        assert len(client.place.provider.requests) == 1, "the retries are ours"


def test_a_run_ends_verified_with_root_and_sub_model_through_the_client(client):
    client.place.provider.replies = [CELL, "it is 42"]
    task = {
        "name": "through-a-client",
        "prompt": "Which number?",
        "model": client.model,
        "sub_model": client.model,
        "verifiers": [{"contains": "42"}],
    }
    path = client.place.folder / "task.yaml"
    path.write_text(yaml.safe_dump(task))
    outcome = client.place.run(path)
    assert (outcome.status, outcome.spend.subcalls) == ("verified", 1)
    assert (outcome.spend.usage.input_tokens, outcome.spend.usage.output_tokens) == (20, 10)
