"""What holds for every conversation: of a session, of a direct pass, and of a child session."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from loop_runner import failpoints
from loop_runner.events import Event
from loop_runner.model import registry
from loop_runner.records import Outcome
from loop_runner.runs import replay
from loop_runner.runs import start as runs
from loop_runner.runs.context import RunContext
from loop_runner.task import config
from loop_runner.task.profiles import profile
from loop_runner.workspace.history import History
from tests.support.commands import loop_runner
from tests.support.model_server import Answer, HttpError, ModelServer, Received, Scripted
from tests.support.tasks import cell, ready, write_task

KINDS = ("session", "direct", "child")
_ASK_CHILD = cell("answer['content'] = rlm_query('How many?', 'one two three')\nanswer['ready'] = True")
_CAUGHT = cell(
    "try:\n    print(rlm_query('How many?', 'one two'))\nexcept LLMError as error:\n    print(error)"
)


@dataclass
class Held:
    """One conversation of each kind, and what it left behind."""

    kind: str
    server: ModelServer
    folder: Path
    events: list[Event] = field(default_factory=list)
    outcome: Outcome | None = None
    root: str = _ASK_CHILD  # what the root model of a child's run replies

    def final(self, content: str = "42") -> str:
        """A whole reply with the answer."""
        return content if self.kind == "direct" else ready(content)

    def idle(self) -> str:
        """A reply that the conversation cannot work with."""
        return "   " if self.kind == "direct" else "I will look at it first."

    def answer_to(self, request: Received) -> str:
        """A whole reply to whichever conversation asks."""
        is_childs = "for another model" in request.system
        return self.final() if is_childs or self.kind != "child" else self.root

    def write(self, **keys: Any) -> Path:
        """The task file."""
        session = "direct" if self.kind == "direct" else "rlm"
        keys = {"session": session, "model": "anthropic:claude-test", "budget": {"passes": 1}, **keys}
        return write_task(self.folder / "task", root=[], **keys)

    def run(self, *replies: Answer, **keys: Any) -> Outcome:
        """Run a task whose conversation gets ``replies``."""
        if self.kind == "child":
            self.server.will_reply(self.root, *replies, *[ready("42")] * 3)
        else:
            self.server.will_reply(*replies)
        context = RunContext(self.server.env, (self.events.append,))
        self.outcome = runs.start(config.read_task(self.write(**keys)), self.folder / "run", context)
        return self.outcome

    @property
    def prompts(self) -> list[Received]:
        """The requests of the conversation."""
        prompts = [prompt for prompt in self.server.prompts if prompt.path == "/v1/messages"]
        if self.kind != "child":
            return prompts
        return [prompt for prompt in prompts if "for another model" in prompt.system]

    @property
    def turns(self) -> list[Path]:
        """The folders of its committed or kept turns."""
        base = self.folder / "run/passes/0001/turns"
        return sorted((base / "0001/children/0001/turns" if self.kind == "child" else base).iterdir())

    @property
    def replies(self) -> list[str]:
        """What the model replied, turn by turn."""
        return [(turn / "reply.md").read_text() for turn in self.turns]

    @property
    def shown(self) -> list[str]:
        """What the model was shown after each turn."""
        return [(turn / "output.txt").read_text() for turn in self.turns]

    @property
    def end(self) -> str:
        """How the conversation ended."""
        base = self.folder / "run/passes/0001"
        path = base / ("turns/0001/children/0001/child.json" if self.kind == "child" else "pass.json")
        return str(json.loads(path.read_text())["end"])

    def events_of(self, kind: str) -> Sequence[Event]:
        return [event for event in self.events if event.kind == kind]


@pytest.fixture(params=KINDS)
def held(request: pytest.FixtureRequest, tmp_path: Path, model_server: ModelServer) -> Held:
    return Held(request.param, model_server, tmp_path)


# ── a paused reply ──────────────────────────────────────────────────────────────────────────────────


def halves(reply: str) -> tuple[str, str]:
    at = len(reply) // 2
    return reply[:at], reply[at:]


def test_a_paused_reply_is_continued_to_its_end(held: Held) -> None:
    begun, rest = halves(held.final("forty-two 42"))
    held.run(Scripted(begun, "pause_turn"), rest)
    assert len(held.turns) == 1
    assert held.outcome is not None
    assert held.outcome.answer.content == "forty-two 42"
    assert held.prompts[1].messages[-1] == ("assistant", begun)


def test_a_reply_may_pause_more_than_once(held: Held) -> None:
    begun, rest = halves(held.final("forty-two 42"))
    first, second = halves(begun)
    held.run(Scripted(first, "pause_turn"), Scripted(second, "pause_turn"), rest)
    assert held.replies == [held.final("forty-two 42")]
    assert held.prompts[2].messages[-1] == ("assistant", begun)


def test_a_reply_that_pauses_before_its_first_word_is_asked_for_again(held: Held) -> None:
    held.run(Scripted("", "pause_turn"), held.final())
    assert held.replies == [held.final()]
    first, second = held.prompts
    assert first.messages == second.messages


def test_a_pause_after_white_space_continues_without_it(held: Held) -> None:
    """Providers refuse a last message that ends in white space."""
    begun, rest = halves(held.final("forty-two 42"))
    held.run(Scripted(f"{begun.rstrip()} \n", "pause_turn"), rest)
    assert held.prompts[1].messages[-1] == ("assistant", begun.rstrip())


def test_the_usage_of_a_paused_reply_is_that_of_all_its_parts(held: Held) -> None:
    begun, rest = halves(held.final())
    held.run(Scripted(begun, "pause_turn", output_tokens=7), Scripted(rest, output_tokens=4))
    shown = held.events_of("child_turn" if held.kind == "child" else "reply_received")
    assert shown[0].data["usage"]["output_tokens"] == 11


def test_a_reply_that_never_stops_pausing_counts_as_cut(held: Held) -> None:
    held.run(*[Scripted("x", "pause_turn")] * 21, held.final())
    assert "cut at the model's output limit" in held.shown[0]
    assert len(held.turns) == 2


# ── what is reported ────────────────────────────────────────────────────────────────────────────────


def test_each_reply_is_reported_with_its_usage(held: Held) -> None:
    held.run(Scripted(held.final(), input_tokens=13, output_tokens=8, cache_read_tokens=5))
    shown = held.events_of("child_turn" if held.kind == "child" else "reply_received")
    assert shown[0].data["usage"] == {
        "input_tokens": 13,
        "output_tokens": 8,
        "cache_read_tokens": 5,
        "cache_write_tokens": 0,
    }


def test_a_request_that_got_no_reply_before_a_crash_is_counted_when_its_turn_is_committed(held: Held) -> None:
    """It may have been billed, so the outcome and the history both name it."""
    sent = 2 if held.kind == "child" else 1
    held.server.answer_with(held.answer_to)
    task = held.write()
    env = {**held.server.env, "LOOP_RUNNER_FAILPOINT": f"switchboard.replied:{sent}:kill"}
    loop_runner("run", task, "--run-dir", held.folder / "run", cwd=held.folder, env=env)
    outcome = runs.resume(held.folder / "run", RunContext(held.server.env))
    assert (outcome.status, outcome.spend.unanswered) == ("verified", 1)
    with History(held.folder / "run") as history:
        assert history.spend().unanswered == 1


# ── a reply without work in it ──────────────────────────────────────────────────────────────────────


def test_a_reply_without_anything_to_work_with_gets_a_reminder(held: Held) -> None:
    held.run(held.idle(), held.final())
    reminder = "contained no answer" if held.kind == "direct" else "contained no Python code"
    assert reminder in held.shown[0]
    assert (
        held.prompts[1].messages[-1][1] == held.shown[0].rstrip("\n")
        or held.shown[0] in (held.prompts[1].messages[-1][1])
    )


def test_three_such_replies_in_a_row_end_the_conversation(held: Held) -> None:
    held.root = _CAUGHT
    held.run(*[held.idle()] * 4)
    assert len(held.turns) == 3
    assert held.end == ("turns" if held.kind == "direct" else "no_code")


def test_a_cut_reply_is_not_used_and_the_model_is_shown_why(held: Held) -> None:
    held.run(Scripted(held.final("41"), "max_tokens"), held.final("42"))
    assert held.outcome is not None
    assert held.outcome.answer.content == "42"
    assert "cut at the model's output limit" in held.shown[0]


def test_an_empty_reply_is_never_sent_back_as_an_empty_message(held: Held) -> None:
    """Providers refuse a message without text; `openai:` sends each message as it is."""
    held.run(Scripted("", "refusal"), held.final())
    assert held.prompts[1].messages[1] == ("assistant", "(nothing)")
    assert "refusal" in held.shown[0]


# ── the window ──────────────────────────────────────────────────────────────────────────────────────


def test_a_prompt_over_the_window_is_refused_by_the_provider_once_and_ends_the_conversation(
    held: Held,
) -> None:
    held.root = _CAUGHT
    held.run(HttpError(400, "invalid_request_error", "prompt is too long: 9 > 8"), held.final())
    assert held.end == "window"
    assert len(held.turns) == 1


def test_a_conversation_that_the_provider_counts_too_long_sends_nothing_more(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow(monkeypatch)
    held.root = _CAUGHT
    held.run(Scripted("x" * 180_000, "max_tokens"), held.final())
    assert held.end == "window"
    assert len(held.prompts) == 1


def test_a_conversation_whose_guessed_length_is_over_the_window_goes_on_when_the_count_fits(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow(monkeypatch)
    held.run(Scripted("x" * 135_000, "max_tokens"), held.final())
    assert held.end == "ready"
    assert len(held.turns) == 2
    assert replay.replay(held.folder / "run").is_same, "a replay asks no provider to count"


def test_a_conversation_that_nearly_fills_the_window_says_so(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow(monkeypatch)
    held.run(Scripted("x" * 110_000, "max_tokens"), held.idle(), held.final())
    assert "nearly fills your window" not in held.shown[0]
    assert "this conversation nearly fills your window of 40,000 tokens" in held.shown[1]


def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window with room for 40,000 tokens. The test server counts four characters for a token."""
    reply_tokens = profile(registry.profile_name("anthropic:claude-test")).max_reply_tokens
    monkeypatch.setattr(registry, "window_tokens", lambda _model: reply_tokens + 40_000)


# ── limits ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_limit_that_is_nearly_reached_is_in_what_the_model_is_shown(held: Held) -> None:
    big = Scripted(held.idle(), input_tokens=700, output_tokens=5)
    held.run(big, held.final(), budget={"passes": 1, "tokens": 2000})
    assert re.search(r"Nearly used up: 1,2[0-9]{2} of 2,000 tokens are left", held.shown[0])


@pytest.mark.parametrize("budget", [{}, {"tokens": 100_000}, {"usd": 50}, {"wall": "10h"}])
def test_a_limit_that_is_far_away_is_not_mentioned(held: Held, budget: Mapping[str, Any]) -> None:
    prices = {"anthropic:claude-test": {"input": 1.0, "output": 5.0}}
    held.run(held.idle(), held.final(), budget={"passes": 1, **budget}, prices=prices)
    assert "Nearly used up" not in held.shown[0]


def test_the_warning_of_a_limit_is_the_same_when_the_run_is_replayed(held: Held) -> None:
    big = Scripted(held.idle(), input_tokens=700, output_tokens=5)
    held.run(big, held.final(), budget={"passes": 1, "tokens": 2000})
    assert replay.replay(held.folder / "run").is_same


def test_the_warning_in_a_child_session_does_not_depend_on_its_siblings(
    tmp_path: Path, model_server: ModelServer
) -> None:
    """Their order differs from run to run; a turn that is run again must show each of them the same."""
    held = Held("child", model_server, tmp_path)
    questions = [("How many?", "one"), ("How many?", "two")]
    held.root = cell(f"rlm_batch({questions})\nanswer['content'] = '42'\nanswer['ready'] = True")

    def answer(request: Received) -> Answer:
        reply = held.idle() if len(request.messages) == 1 else held.final()
        return Scripted(reply, input_tokens=300, output_tokens=5)

    model_server.will_reply(held.root)
    model_server.answer_with(answer)
    task = held.write(budget={"passes": 1, "tokens": 1500, "subcalls": 3})
    runs.start(config.read_task(task), tmp_path / "run", RunContext(model_server.env))
    shown = sorted((tmp_path / "run").rglob("children/*/turns/0001/output.txt"))
    assert len(shown) == 2
    for path in shown:
        assert "2 of 3 sub-calls are left. When it runs out" in path.read_text()


def test_a_limit_that_is_reached_ends_the_conversation(held: Held) -> None:
    held.root = _CAUGHT
    held.run(Scripted(held.idle(), input_tokens=3000), held.final(), budget={"passes": 1, "tokens": 2000})
    assert held.end == "budget"
    assert len(held.turns) == 1


def test_the_replay_of_a_conversation_is_the_same(held: Held) -> None:
    held.run(held.idle(), held.final())
    assert replay.replay(held.folder / "run").is_same


# ── crashes ─────────────────────────────────────────────────────────────────────────────────────────


def test_replies_without_work_are_counted_across_a_crash(held: Held) -> None:
    """The conversation ends after the same number of turns as one that was never killed."""

    def answer(request: Received) -> str:
        is_childs = "for another model" in request.system
        if held.kind != "child" or is_childs:
            return held.idle()
        return _CAUGHT if len(request.messages) == 1 else ready("42")

    held.server.answer_with(answer)
    kill = "switchboard.replied:3:kill" if held.kind == "child" else "turn.committed:2:kill"
    env = {**held.server.env, "LOOP_RUNNER_FAILPOINT": kill}
    loop_runner("run", held.write(), "--run-dir", held.folder / "run", cwd=held.folder, env=env)
    runs.resume(held.folder / "run", RunContext(held.server.env))
    assert len(held.turns) == 3
    assert held.end == ("turns" if held.kind == "direct" else "no_code")


def test_a_full_window_ends_the_conversation_across_a_crash(held: Held) -> None:
    too_long = HttpError(400, "invalid_request_error", "prompt is too long: 9 > 8")
    if held.kind == "child":
        held.server.will_reply(_CAUGHT)
    held.server.will_reply(too_long)
    held.server.answer_with(lambda _request: ready("42"))
    kill = "turn.ran:1:kill" if held.kind == "child" else "turn.committed:1:kill"
    env = {**held.server.env, "LOOP_RUNNER_FAILPOINT": kill}
    loop_runner("run", held.write(), "--run-dir", held.folder / "run", cwd=held.folder, env=env)
    requests = len(held.prompts)
    runs.resume(held.folder / "run", RunContext(held.server.env))
    assert held.end == "window"
    assert len(held.prompts) == requests == 1


# ── what only passes have ───────────────────────────────────────────────────────────────────────────

POINTS = ["turn.begin", "turn.replied", "turn.ran", "turn.saved", "turn.committed"]


@pytest.mark.parametrize("kind", ["session", "direct"])
def test_every_turn_that_is_committed_passes_the_same_kill_points(
    kind: str, tmp_path: Path, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, passed = Held(kind, model_server, tmp_path), []
    passing = failpoints.passing

    def note(name: str) -> None:
        passed.append(name)
        passing(name)

    monkeypatch.setattr(failpoints, "passing", note)
    held.run(held.idle(), held.final())
    assert [name for name in passed if name in POINTS] == POINTS * 2


@pytest.mark.parametrize("kind", ["session", "direct"])
def test_a_rejected_answer_is_not_handed_in_again_when_the_next_pass_begins_without_one(
    kind: str, tmp_path: Path, model_server: ModelServer
) -> None:
    held = Held(kind, model_server, tmp_path)
    outcome = held.run(held.final("41"), held.idle(), held.final("42"), budget={"passes": 3})
    assert (outcome.status, outcome.spend.passes, outcome.spend.turns) == ("verified", 2, 3)


@pytest.mark.parametrize("kind", ["session", "direct"])
def test_a_strategy_against_standstill_reaches_the_request(
    kind: str, tmp_path: Path, model_server: ModelServer
) -> None:
    held = Held(kind, model_server, tmp_path)
    replies = [held.final("41")] * 2 + [held.final("42")]
    model_server.will_reply(*replies)
    task = held.write(model="openai:m", budget={"passes": 4}, no_progress={"passes": 2, "then": ["model"]})
    env = {"OPENAI_BASE_URL": model_server.openai_url, "OPENAI_API_KEY": "k"}
    outcome = runs.start(config.read_task(task), tmp_path / "run", RunContext(env))
    assert outcome.status == "verified"
    assert [request.body.get("temperature") for request in model_server.prompts] == [None, None, 1.0]
