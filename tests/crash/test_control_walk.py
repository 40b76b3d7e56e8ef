"""A decision of a person and a new prompt, with the runner killed at each step of taking it: applied once.

Notes, limits and stops are walked in tests/runs/test_control_processes. A sample of the steps;
``make test-crash-full`` takes every one.
"""

import json
import os
import shutil

import pytest

from loop_runner import failpoints
from loop_runner.runs import trust
from loop_runner.runs.replay import replay
from tests.crash.forker import Forker
from tests.support.commands import clean_environment
from tests.support.steering import Steered
from tests.support.tasks import cell, ready, write_task

STEPS = (
    "control.take",
    "control.taken",
    "control.settle",
    "control.settled",
    "verify.decided",
    "pass.commit",
)
REQUESTS = {
    "approve": lambda run: run.approve(by="A. Lee"),
    "reject": lambda run: run.reject("clause 4 is missing", by="A. Lee"),
    "prompt": lambda run: run.set_prompt("Say 42.\n"),
}
_SAMPLE = [("approve", "control.taken"), ("reject", "control.settle"), ("prompt", "control.take")]
_ALL = [(request, step) for request in REQUESTS for step in STEPS]
CASES = _ALL if os.environ.get("CRASH_REQUESTS") == "all" else _SAMPLE


@pytest.fixture(scope="module")
def forker(tmp_path_factory):
    with Forker(tmp_path_factory.mktemp("forker")) as forker:
        yield forker


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A run that was stopped while it waited for a person, and one after its first turn."""
    place = tmp_path_factory.mktemp("scenes")
    question = {"human": {"question": "May this be sent?"}}
    waits = Steered(place / "waits")
    task = write_task(place / "a", root=[ready("42")], verifiers=[question], budget={"passes": 1})
    assert waits.start(task, {("waiting", 1, 0): lambda run: run.stop()}).status == "interrupted"
    works = Steered(place / "works")
    task = write_task(place / "b", root=[cell("x = 1"), ready("41"), ready("42")])
    assert works.start(task, {("turn_started", 1, 1): lambda run: run.stop()}).status == "interrupted"
    return {"approve": waits, "reject": waits, "prompt": works}


@pytest.mark.parametrize(("request_kind", "step"), CASES)
def test_a_runner_that_is_killed_while_it_takes_a_request_applies_it_once(
    forker, scenes, tmp_path, request_kind, step
):
    run = Steered(tmp_path / "run")
    shutil.copytree(scenes[request_kind].folder, run.folder, symlinks=True)
    assert not trust.mark(run.folder, clean_environment())
    REQUESTS[request_kind](run.run)
    killed = forker.run("resume", run.folder, "-q", env={failpoints.VARIABLE: f"{step}:1:kill"})
    assert killed.was_killed, killed
    done = forker.run("resume", run.folder, "-q", env={failpoints.VARIABLE: ""})
    assert done.exit_code == (3 if request_kind == "reject" else 0), done
    assert run.requests_left() == []
    assert applied(run, request_kind) == 1
    assert replay(run.folder).is_same


def applied(run, request_kind):
    """How often the history has what was asked."""
    if request_kind == "prompt":
        return len(json.loads(run.text("forks.json"))["forks"])
    verdicts = [path.read_text() for path in run.folder.glob("passes/*/verdict.json")]
    words = {"approve": "approved by A. Lee", "reject": "clause 4 is missing"}
    return sum(words[request_kind] in verdict for verdict in verdicts)
