"""What a provider says of its tokens, and what happens behind a reply, never ends or hangs a run."""

import asyncio
import json
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loop_runner.budget import Hold
from loop_runner.errors import ModelError
from loop_runner.events import Event, Trace
from loop_runner.model import prices
from loop_runner.model.client import TryAgain
from loop_runner.model.limiter import Policy
from loop_runner.model.providers import chat_answer
from loop_runner.model.switchboard import Switchboard
from loop_runner.records import Call, Message, Reply, Request, Usage
from loop_runner.runs import start as runs
from loop_runner.runs.context import RunContext
from loop_runner.task import config
from loop_runner.text import sane_count
from loop_runner.workspace import layout
from tests.support.call_log import MemoryLog
from tests.support.model_server import ModelServer, Scripted
from tests.support.tasks import cell, ready, write_task

WRONG: list[Any] = [-5, math.nan, math.inf, -math.inf, "12", "many", [1], {"a": 1}, True, 1e30]


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize("api", ["anthropic", "openai"])
def test_a_count_that_cannot_be_right_is_clamped_and_reported_once(
    tmp_path: Path, model_server: ModelServer, api: str, value: Any
) -> None:
    say = "print(llm_query('a'), llm_query('b'))\nanswer['content'] = '42'\nanswer['ready'] = True"
    wrong = {"input_tokens": value, "output_tokens": value}
    model_server.will_reply(Scripted(cell(say), **wrong), Scripted("x", **wrong), Scripted("y", **wrong))
    env = {**model_server.env, "OPENAI_BASE_URL": model_server.openai_url}
    task = write_task(tmp_path / "task", root=[], model=f"{api}:m", budget={"tokens": 10**11})
    seen: list[Event] = []
    outcome = runs.start(config.read_task(task), tmp_path / "run", RunContext(env, (seen.append,)))
    assert outcome.status == "verified"
    assert outcome.spend.usage.input_tokens >= 0
    assert outcome.spend.usage.output_tokens >= 0
    notices = [event.text for event in seen if "cannot be right" in event.text]
    was_coerced = api == "anthropic" and value in ("12", True, 1e30)  # by the SDK, before we see it
    assert len(notices) == 1 or (was_coerced and not notices)
    assert len(model_server.requests) == 3


@pytest.mark.parametrize("details", ["text", [1], {"cached_tokens": "9"}, {"cached_tokens": 10**6}, 7])
def test_details_of_a_count_may_be_anything(details: Any) -> None:

    data = {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": details}
    usage = chat_answer._usage(data).sane()
    assert usage.output_tokens == 5
    assert usage.input_tokens >= 0


@pytest.mark.parametrize(
    ("value", "count"),
    [(0, 0), (7, 7), (7.0, 7), (-1, 0), (math.nan, 0), (math.inf, 0), ("7", 0), (1e12, 10**9)],
)
def test_a_count_is_a_number_from_0_to_a_billion(value: object, count: int) -> None:
    assert sane_count(value) == count


def test_a_journal_with_wrong_counts_can_be_read() -> None:
    call = Call("root", "m", "f", 0, "", Reply("x", usage=Usage(-5, math.nan)))  # type: ignore[arg-type]
    read = layout.call_from_json(json.loads(json.dumps(layout.call_to_json(call))))
    assert read.reply.usage == Usage()


def test_a_price_that_fails_is_no_price(monkeypatch: pytest.MonkeyPatch) -> None:
    import genai_prices

    def calc_price(*_: object, **__: object) -> None:
        raise ValueError("negative")

    monkeypatch.setattr(genai_prices, "calc_price", calc_price)
    assert prices.price("anthropic:claude-test", Usage(1, 1)) is None


# ── what follows a reply ────────────────────────────────────────────────────────────────────────────


class Says:
    """A client whose replies come at once; ``reply`` makes them."""

    def __init__(self, reply: Callable[[], Reply] = lambda: Reply("x", usage=Usage(1, 1))) -> None:
        self._reply = reply

    async def complete(self, _: Request) -> Reply:
        await asyncio.sleep(0)
        return self._reply()

    async def close(self) -> None:
        pass


class Fails:
    """A meter that lets one request out at a time, and fails where ``at`` says."""

    def __init__(self, at: str) -> None:
        self._at = at
        self._out = 0

    def reserve(self, _: Request) -> Hold | None:
        if self._out:
            return None
        self._out += 1
        return Hold(Usage(), 0.0, 0)

    def settle(self, _: Hold, call: Call | None) -> None:
        self._out -= 1
        if self._at == "settle" and call is not None:
            raise ValueError("settle failed")

    def replayed(self, _: Call) -> None:
        if self._at == "replayed":
            raise ValueError("replayed failed")


def ask_many(board: Switchboard, count: int = 4) -> list[str]:
    replies: list[str] = []

    def ask(number: int) -> None:
        replies.append(board.ask(Request("says:x", (Message("user", str(number)),), kind="sub")).text)

    threads = [threading.Thread(target=ask, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads), "a caller still waits"
    return replies


@pytest.mark.parametrize("at", ["settle", "replayed", "on_call"])
def test_a_fault_behind_a_reply_is_told_once_and_every_caller_has_its_reply(at: str) -> None:
    shown: list[str] = []

    def on_call(_: Call, __: bool) -> None:
        if at == "on_call":
            raise ValueError("on_call failed")

    log = MemoryLog()
    for _ in range(2):  # the second time the log serves them
        with Switchboard(
            lambda _: Says(), log=log, meter=Fails(at), on_call=on_call, on_trouble=shown.append
        ) as board:
            assert ask_many(board) == ["x"] * 4
            board.raise_fault()
    assert set(shown) == {f"after a reply: ValueError: {at} failed; the run continues"}


@pytest.mark.parametrize(
    "reply",
    [lambda: Reply("x", usage=None), lambda: None],  # type: ignore[arg-type]
)
def test_a_plugin_that_returns_no_reply_fails_its_callers_and_holds_up_nobody(
    reply: Callable[[], Reply],
) -> None:
    with Switchboard(lambda _: Says(reply), log=MemoryLog(), meter=Fails("")) as board:
        for _ in range(3):
            with pytest.raises((TypeError, AttributeError)):
                board.wait(asyncio.wait_for(board.complete(Request("m:x", (Message("user", "q"),))), 5))


def test_a_listener_of_retries_that_fails_does_not_end_the_tries() -> None:
    left = [TryAgain("busy", reason="busy"), TryAgain("busy", reason="busy")]

    def reply() -> Reply:
        if left:
            raise left.pop()
        return Reply("there")

    def on_retry(_: object) -> None:
        raise ValueError("no")

    policy = Policy(first_pause_s=0.001)
    with Switchboard(lambda _: Says(reply), log=MemoryLog(), on_retry=on_retry, policy=policy) as board:
        assert board.ask(Request("m:x", (Message("user", "q"),))).text == "there"


def test_what_a_broken_stream_reports_is_clamped_too() -> None:
    def reply() -> Reply:
        raise TryAgain("broke", reason="broke", usage=Usage(-5, -5), paid=True)

    log = MemoryLog()
    with (
        Switchboard(lambda _: Says(reply), log=log, policy=Policy(max_tries=1)) as board,
        pytest.raises(ModelError, match="broke"),
    ):
        board.ask(Request("m:x", (Message("user", "q"),)))
    assert [call.reply.usage for call in log.calls] == [Usage()]


def test_a_listener_of_events_that_fails_ends_nothing(tmp_path: Path) -> None:
    seen: list[Event] = []

    def fails(_: Event) -> None:
        raise UnicodeEncodeError("ascii", "é", 0, 1, "no")

    trace = Trace(tmp_path / "events.jsonl", (fails, seen.append))
    trace.append(Event("notice", "é"))
    trace.close()
    assert len(seen) == 1


def test_a_run_whose_counts_were_wrong_is_resumed_without_paying_again(
    tmp_path: Path, model_server: ModelServer
) -> None:
    wrong = {"input_tokens": -5, "output_tokens": math.nan}
    model_server.will_reply(Scripted(ready("41"), **wrong), Scripted(ready("42"), **wrong))  # type: ignore[arg-type]
    env = {**model_server.env, "OPENAI_BASE_URL": model_server.openai_url}
    task = write_task(tmp_path / "task", root=[], model="openai:m", budget={"passes": 1})
    context = RunContext(env)
    assert runs.start(config.read_task(task), tmp_path / "run", context).status == "unverified"
    outcome = runs.resume(tmp_path / "run", context, (("budget.passes", 2),))
    assert (outcome.status, len(model_server.requests)) == ("verified", 2)
