"""The same from another process, with signals and kills: nothing is lost, and nothing is done twice."""

import json
import shutil
import threading
import time

import pytest

import loop_runner as lr
from loop_runner.failpoints import NAMES
from loop_runner.runs import trust
from loop_runner.runs.replay import replay
from tests.support.commands import clean_environment, loop_runner, started, wait_for
from tests.support.steering import Steered
from tests.support.tasks import cell, ready, write_task

SLOW = cell("import time\nfor _ in range(300):\n    time.sleep(0.1)")


def is_running(folder):
    return (folder / ".git/loop-runner/events.jsonl").exists() and "turn_started" in (
        folder / ".git/loop-runner/events.jsonl"
    ).read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_run_is_noted_paused_raised_resumed_and_stopped_from_another_terminal(tmp_path):
    waits = cell("import os, time\nwhile not os.path.exists('go'):\n    time.sleep(0.05)")
    root = [waits, ready("41"), cell("x = 1"), SLOW]
    task = write_task(tmp_path / "task", root=root, budget={"passes": 1})
    run = tmp_path / "run"
    with started("run", task, "--run-dir", run, cwd=tmp_path) as process:
        wait_for(lambda: is_running(run), 60)
        assert loop_runner("pause", run, cwd=tmp_path).returncode == 0
        noted = loop_runner("note", run, "look at the annexes", cwd=tmp_path)
        assert noted.stdout == "note: the model sees it in its next message\n"
        (run / "workspace/go").touch()
        process.wait_for_line("paused: nothing new is started", 60)
        raised = loop_runner("budget", run, "--passes", "+2", "--json", cwd=tmp_path)
        assert json.loads(raised.stdout)["running"] is True
        assert "continues" in loop_runner("resume", run, cwd=tmp_path).stderr
        process.wait_for_line("pass 2 turn 2: asking the model", 60)
        wait_for(lambda: lr.open(run).state == "running")
        assert loop_runner("stop", run, "--now", cwd=tmp_path).returncode == 0
        code, _, _ = process.finish(60)
    assert code == 130
    assert (run / "passes/0001/turns/0002/note.md").exists()
    assert json.loads((run / "budget.json").read_bytes())["limits"] == {"passes": 3}
    assert lr.open(run).state == "unfinished"


def test_a_stop_for_now_breaks_off_the_cell_of_a_run_of_the_library(tmp_path):
    run = Steered(tmp_path / "run")
    task = write_task(tmp_path / "task", root=[SLOW, ready("42")])
    seen = []

    def stop_soon(event):
        seen.append(event)
        if event.kind == "reply_received":
            run.run.stop(now=True)

    began = time.monotonic()
    result = lr.run(task, run_dir=run.folder, on_event=stop_soon)
    assert result.status == "interrupted"
    assert time.monotonic() - began < 25


def test_a_pause_for_now_holds_the_next_sub_call_until_the_run_is_resumed(tmp_path):
    run = Steered(tmp_path / "run")
    code = cell(
        "first = llm_query('one')\nimport time; time.sleep(0.7)\nsecond = llm_query('two')\nFINAL('42')"
    )
    sub = [{"match": ".", "reply": "ok"}]
    task = write_task(tmp_path / "task", root=[code], sub=sub)
    order = []

    def resume():
        order.append("resuming")
        run.run.resume()

    def on_event(event):
        order.append(event.kind)
        if event.kind == "subcall_finished" and order.count("subcall_finished") == 1:
            run.run.pause(now=True)
        if event.kind == "operator" and event.request == "pause":
            threading.Timer(1.0, resume).start()

    assert lr.run(task, run_dir=run.folder, on_event=on_event).verified
    second = len(order) - 1 - order[::-1].index("subcall_finished")
    assert order.index("operator") < order.index("resuming") < second


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that was stopped after its first turn."""
    run = Steered(tmp_path_factory.mktemp("stopped") / "run")
    task = write_task(run.folder.parent / "task", root=[cell("x = 1"), cell("y = 2"), ready("42")])
    assert run.start(task, {("turn_started", 1, 1): lambda run: run.stop()}).status == "interrupted"
    return run


def commands(stopped, tmp_path, point):
    """A copy of the run that counts as made here, and what runs a command that is killed at ``point``."""
    run = Steered(tmp_path / "run")
    shutil.copytree(stopped.folder, run.folder, symlinks=True)
    assert not trust.mark(run.folder, clean_environment())

    def command(name, *args, is_killed=False):
        env = {"LOOP_RUNNER_FAILPOINT": f"{point}:1:kill"} if is_killed else {}
        return loop_runner(name, run.folder, *args, cwd=tmp_path, env=env).returncode

    return run, command


@pytest.mark.slow
@pytest.mark.parametrize("point", ["control.write", "control.place", "control.placed"])
def test_a_command_that_is_killed_leaves_the_whole_request_or_none(stopped, tmp_path, point):
    run, command = commands(stopped, tmp_path, point)
    assert command("note", "the note", is_killed=True) == -9
    assert run.resume().status == "verified"
    notes = [path.read_text() for path in run.folder.glob("passes/**/note.md")]
    assert "".join(notes).count("the note") == (point == "control.placed")
    assert run.requests_left() == []


@pytest.mark.slow
@pytest.mark.parametrize("point", ["control.take", "control.taken", "control.settle", "control.settled"])
def test_a_runner_that_is_killed_with_a_request_loses_none_and_does_none_twice(stopped, tmp_path, point):
    run, command = commands(stopped, tmp_path, point)
    run.run.note("the note")
    run.run.raise_budget(passes="+1")
    assert command("resume", "-q", is_killed=True) == -9
    assert command("resume", "-q") == 0
    notes = [path.read_text() for path in run.folder.glob("passes/**/note.md")]
    assert "".join(notes).count("the note") == 1
    assert json.loads(run.text("budget.json"))["limits"] == {"passes": 11}
    assert run.requests_left() == []
    assert replay(run.folder).is_same


@pytest.mark.slow
@pytest.mark.parametrize("point", ["control.write", "control.place", "control.placed", "control.taken"])
def test_a_runner_that_is_killed_while_it_takes_a_kept_stop_stops_once_at_most_and_loses_no_note(
    stopped, tmp_path, point
):
    run, command = commands(stopped, tmp_path, point)
    run.run.stop()
    run.run.note("the note")
    assert command("resume", "-q", is_killed=True) == -9
    if point in ("control.write", "control.place"):
        assert command("resume", "-q") == 130  # it is still meant for the next process
    assert command("resume", "-q") == 0
    notes = [path.read_text() for path in run.folder.glob("passes/**/note.md")]
    assert "".join(notes).count("the note") == 1
    assert run.requests_left() == []
    assert replay(run.folder).is_same


def test_every_step_of_a_request_is_a_place_where_a_test_kills_the_process():
    steps = "write place placed take taken settle settled"
    assert {name for name in NAMES if name.startswith("control.")} == {
        f"control.{step}" for step in steps.split()
    }
