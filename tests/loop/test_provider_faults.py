"""Whole runs against providers that fail: what the user sees, what was paid, how the run ends.

Both shapes of API are played by our own server on loopback; the clients are the real ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from loop_runner.errors import ModelError
from loop_runner.events import Event
from loop_runner.model.limiter import Policy
from loop_runner.records import Outcome, Usage
from loop_runner.runs import start as runs
from loop_runner.runs.context import RunContext
from loop_runner.task import config
from tests.support.model_server import HttpError, Scripted
from tests.support.tasks import cell, ready, write_task

QUICK = Policy(max_tries=3, max_throttled=3, first_pause_s=0.001, longest_pause_s=0.01)
GOOD = Scripted(ready("42"), input_tokens=100, output_tokens=7)
LONG = ready("42") + "\n" + "x" * 400  # streamed in a dozen pieces
API = {"anthropic": "anthropic:claude-test", "openai": "openai:gpt-test"}


def broken(**fault):
    return Scripted(LONG, input_tokens=100, output_tokens=7, **fault)


@dataclass(frozen=True)
class Start:
    run: Callable[..., Outcome]
    events: list[Event]
    folder: Path
    env: dict[str, str]

    def __call__(self, api, *answers):
        return self.run(api, *answers)


@pytest.fixture
def start(tmp_path, model_server):
    """Run a task against ``answers`` of one API; gives the outcome and all that a person was told."""

    events: list[Event] = []

    def run(api, *answers):
        model_server.will_reply(*answers)
        env = {**model_server.env, "OPENAI_BASE_URL": model_server.openai_url}
        task = write_task(tmp_path / "task", root=[], model=API[api], budget={"turns": 3, "passes": 3})
        context = RunContext(env, (events.append,), policy=QUICK)
        return runs.start(config.read_task(task), tmp_path / "run", context)

    folder = tmp_path / "run"
    return Start(run, events, folder, {**model_server.env, "OPENAI_BASE_URL": model_server.openai_url})


@dataclass(frozen=True)
class Passing:
    """A fault that a run survives."""

    name: str
    answers: Sequence[object]
    output: str = ""  # in a retry, an observation or a verdict
    prompts: int = 2  # tokens of input are 100 for each prompt that was paid
    paid: int = 1
    retries: int = 1


SLOW_DOWN = HttpError(429, "rate_limit_error", "slow down", headers={"retry-after": "0.05"})
PASSING = [
    Passing("latency", [Scripted(GOOD.text, input_tokens=100, delay_s=0.5)], prompts=1, retries=0),
    Passing("slow trickle", [broken(trickle_s=0.04)], prompts=1, retries=0),
    Passing("429 with retry-after", [SLOW_DOWN, GOOD], "429"),
    Passing("529", [HttpError(529, "overloaded_error", "busy"), GOOD], "529"),
    Passing("500", [HttpError(500, "api_error", "oops"), GOOD], "500"),
    Passing("dropped before the reply", [broken(drop_after=0), GOOD], "cannot be reached"),
    Passing("dropped in the middle", [broken(drop_after=4), GOOD], "the connection broke", paid=2),
    Passing("ended in the middle", [broken(end_after=4), GOOD], "ended too early", paid=2),
    Passing("malformed SSE", [broken(garble_after=4), GOOD], "the stream broke", paid=2),
    Passing(
        "an error in the stream", [broken(error_after=(4, "overloaded_error")), GOOD], "ended with", paid=2
    ),
    Passing(
        "refusal",
        [Scripted("", "refusal", input_tokens=100), GOOD],
        "the model stopped with refusal",
        paid=2,
        retries=0,
    ),
    Passing(
        "max_tokens",
        [Scripted(GOOD.text[:20], "max_tokens", input_tokens=100), GOOD],
        "Your reply was cut at the model's output limit",
        paid=2,
        retries=0,
    ),
    Passing(
        "context window exceeded",
        [
            HttpError(
                400, "context_length_exceeded", "prompt is too long: 9 tokens > 8", "context_length_exceeded"
            ),
            GOOD,
        ],
        "the conversation filled the model's window",
        retries=0,
    ),
]


@pytest.mark.parametrize("api", API)
@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: fault.name)
def test_a_run_survives(api, fault, start, model_server):
    outcome = start(api, *fault.answers)
    assert (outcome.status, outcome.answer.content) == ("verified", "42")
    assert len(model_server.prompts) == fault.prompts
    # A stream that broke is counted by the API that says so at its beginning, else guessed from its length.
    paid = outcome.spend.usage.input_tokens
    assert paid == 100 * fault.paid or (api == "openai" and paid > 100 * (fault.paid - 1))
    output = [event.text for event in start.events] + [
        path.read_text() for path in (start.folder / "passes").rglob("output.txt")
    ]
    assert any(fault.output in text for text in output)
    assert sum(event.kind == "retried" for event in start.events) == fault.retries


@dataclass(frozen=True)
class Ending:
    """A fault that ends a run with exit code 4."""

    name: str
    answers: Sequence[object]
    output: str
    hint: str
    prompts: int = 1


QUOTA = HttpError(429, "insufficient_quota", "spend limit reached", "enforced_spend_limit_reached")
ANTHROPIC_ENDS = [
    Ending(
        "auth",
        [HttpError(401, "authentication_error", "bad key")],
        "the key was refused",
        "ANTHROPIC_API_KEY",
    ),
    Ending("payment", [HttpError(402, "billing_error", "no credit")], "the account cannot pay", "settle"),
    Ending("spend limit", [QUOTA], "the account cannot pay", "settle"),
    Ending("always 429", [SLOW_DOWN] * 3, "over the rate limit", "lower the width", 3),
    Ending("always 529", [HttpError(529, "overloaded_error", "busy")] * 3, "overloaded", "wait", 3),
    Ending("always broken", [broken(drop_after=4)] * 3, "the connection broke", "check the network", 3),
]
OPENAI_QUOTA = HttpError(429, "insufficient_quota", "quota spent", "insufficient_quota")
OPENAI_ENDS = [
    Ending("auth", [HttpError(401, "invalid_api_key", "bad key")], "answered 401: bad key", "OPENAI_API_KEY"),
    Ending("payment", [HttpError(402, "billing", "no credit")], "answered 402", "settle"),
    Ending("spend limit", [OPENAI_QUOTA], "answered 429: quota spent", "quota"),
    Ending("always 503", [HttpError(503, "x", "busy")] * 3, "answered 503: busy", "try again later", 3),
    Ending("always broken", [broken(drop_after=4)] * 3, "the connection broke", "check the network", 3),
]


@pytest.mark.parametrize(
    ("api", "fault"),
    [("anthropic", fault) for fault in ANTHROPIC_ENDS] + [("openai", fault) for fault in OPENAI_ENDS],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_run_ends_with_exit_code_4_and_goes_on_when_the_fault_is_gone(api, fault, start, model_server):
    with pytest.raises(ModelError) as caught:
        start(api, *fault.answers)
    assert caught.value.exit_code == 4
    assert fault.output in caught.value.message
    assert fault.hint in caught.value.hint
    assert len(model_server.prompts) == fault.prompts
    model_server.will_reply(GOOD)
    outcome = runs.resume(start.folder, RunContext(start.env, policy=QUICK))
    assert outcome.status == "verified"
    assert len(model_server.prompts) == fault.prompts + 1
    if api == "anthropic":
        lost = 3 if fault.name == "always broken" else 0
        paid = Usage(100, 7) + Usage(100 * lost, 10 * lost)
        assert outcome.spend.usage == paid, "what gave no reply is charged all the same, once"


def test_what_was_paid_for_nothing_is_still_counted_by_a_third_process(start, model_server):
    with pytest.raises(ModelError):
        start("anthropic", *[broken(drop_after=4)] * 3)
    model_server.will_reply(cell("print(1)"), HttpError(401, "authentication_error", "bad key"))
    context = RunContext(start.env, policy=QUICK)
    with pytest.raises(ModelError):
        runs.resume(start.folder, context)
    model_server.will_reply(GOOD)
    outcome = runs.resume(start.folder, context)
    assert outcome.spend.usage == Usage(300 + 10 + 100, 30 + 5 + 7)


def test_an_api_that_is_not_there_ends_the_run_with_exit_code_4(start, model_server):
    model_server.close()
    with pytest.raises(ModelError, match=r"cannot be reached.*\(3 tries\)") as caught:
        start("anthropic")
    assert caught.value.exit_code == 4
    assert "ANTHROPIC_BASE_URL" in caught.value.hint
    assert [event.data["failed_tries"] for event in start.events if event.kind == "retried"] == [1, 2]
