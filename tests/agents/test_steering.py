"""The operator of a run whose passes an agent does: notes, pauses and stops reach it between passes."""

import threading
import time

import pytest

import loop_runner as lr
from loop_runner.runs import start as runs
from loop_runner.runs.context import RunContext
from loop_runner.task import config
from tests.agents.conftest import agent_task, started
from tests.support.commands import wait_for

PLAN = [{"say": "it is 41"}, {"say": "it is 42"}]


def steered(tmp_path, env, steps, plan=PLAN, stop=None):
    """The outcome and the kinds of events of a run in which each step is done at its first event."""
    folder, kinds, left = tmp_path / "run", [], dict(steps)

    def heard(event):
        kinds.append(event.kind)
        if step := left.pop((event.kind, event.pass_number), None):
            step(lr.Run(folder))

    task = agent_task(tmp_path / "task", plan)
    context = RunContext(env, (heard,), stop or lr.Stop())
    return runs.start(config.read_task(task), folder, context), kinds, task


@pytest.mark.slow
def test_a_stop_ends_the_run_after_the_pass_and_it_is_continued(tmp_path, env):
    outcome, _, task = steered(tmp_path, env, {("verifying", 1): lambda run: run.stop()})
    assert outcome.status == "interrupted"
    assert "the operator stopped it" in outcome.reason
    assert outcome.checkpoint.pass_number == 1
    assert len(started(task)) == 1, "no further pass was begun"
    assert runs.resume(tmp_path / "run", RunContext(env)).status == "verified"


@pytest.mark.slow
def test_a_pause_holds_the_next_pass_until_the_run_is_resumed_and_a_note_reaches_it(tmp_path, env):
    seen = []

    def look(run):
        seen.append((run.is_paused, run.status().state, len(started(tmp_path / "task" / "task.yaml"))))
        run.note("read the annexes")
        run.resume()

    steps = {("verifying", 1): lambda run: run.pause(), ("paused", 2): look}
    outcome, kinds, task = steered(tmp_path, env, steps)
    assert outcome.status == "verified"
    assert seen == [(True, "paused", 1)]
    assert kinds.index("paused") < kinds.index("resumed")
    assert "read the annexes" in started(task)[1]["prompt"]


@pytest.mark.slow
def test_a_stop_for_now_ends_the_client_in_the_middle_of_its_pass(tmp_path, env):
    began = time.monotonic()

    def stop(run):
        wait_for(lambda: bool(started(tmp_path / "task" / "task.yaml")))
        run.stop(now=True)

    def begin(run):
        threading.Thread(target=stop, args=(run,)).start()

    steps = {("pass_started", 1): begin}
    outcome, _, _ = steered(tmp_path, env, steps, [{"sleep": 60, "say": "it is 42"}])
    assert outcome.status == "interrupted"
    assert time.monotonic() - began < 40
