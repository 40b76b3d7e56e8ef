"""A run that is put into the queue, with each process of it killed at each step: run once, and never lost.

The one who asks is killed (its command ends with SIGKILL), or the process that runs the queue. Both times
the next one who looks after the folder (``recover``) finds what was asked for. A sample of the steps;
``make test-crash-full`` takes every one.
"""

import json
import os
import time

import pytest

import loop_runner as lr
from loop_runner import failpoints
from loop_runner.runs import run_queue
from tests.crash.forker import Forker
from tests.support.commands import wait_for
from tests.support.tasks import cell, ready, write_task

OF_THE_ONE_WHO_ASKS = ("queue.write", "queue.place", "queue.placed", "queue.added", "queue.serve")
OF_THE_ONE_WHO_RUNS = (
    *("queue.slot", "queue.take", "queue.taken", "queue.start"),
    *("queue.started", "queue.ended", "queue.removed"),
)
_SAMPLE = {"queue.placed", "queue.added", "queue.taken", "queue.started", "queue.ended"}


def taken(points):
    """The steps that are walked: all of them with CRASH_REQUESTS=all."""
    return [name for name in points if name in _SAMPLE or os.environ.get("CRASH_REQUESTS") == "all"]


@pytest.fixture(scope="module")
def forker(tmp_path_factory):
    with Forker(tmp_path_factory.mktemp("forker"), "loop_runner.runs.launch") as forker:
        yield forker


def requested(forker, tmp_path, point):
    """The run of a command that is killed at ``point``, or whose process that runs the queue is."""
    folder = write_task(tmp_path / "task", root=[cell("x = 1"), ready("42")], name="queued").parent
    args = ("run", folder / "task.yaml", "--run-dir", tmp_path / "runs/it", "--detach", "-q")
    return tmp_path / "runs/it", forker.run(*args, env={failpoints.VARIABLE: f"{point}:1:kill"})


def recover(run):
    """What the next command does that starts something in the folder, until nothing waits."""
    deadline = time.monotonic() + 60
    while run_queue.entries(run_queue.folder_for(run)):
        lr.LocalLauncher().recover(run.parent)
        assert time.monotonic() < deadline, "the queue is never empty"
        time.sleep(0.05)


def starts(run):
    """How often a process began to run it."""
    lines = (run / ".git/loop-runner/events.jsonl").read_text().splitlines()
    return [json.loads(line)["kind"] for line in lines].count("run_started")


@pytest.mark.parametrize("point", taken(OF_THE_ONE_WHO_ASKS))
def test_who_asks_for_a_run_is_killed_and_the_run_is_run_once_or_was_never_created(forker, tmp_path, point):
    run, ended = requested(forker, tmp_path, point)
    assert ended.was_killed
    is_created = point in ("queue.added", "queue.serve")
    assert (run / ".git").exists() == is_created
    if is_created:
        assert lr.open(run).status().state == "queued"
        assert "no process runs" in lr.open(run).status().reason
    recover(run)
    if is_created:
        assert lr.open(run).status().state == "verified"
        assert starts(run) == 1
    else:  # the same command works: nothing is in its way
        assert forker.run("run", tmp_path / "task/task.yaml", "--run-dir", run, "-q", env={}).exit_code == 0


@pytest.mark.parametrize("point", taken(OF_THE_ONE_WHO_RUNS))
def test_the_process_that_runs_the_queue_is_killed_and_the_run_is_run_once(forker, tmp_path, point):
    run, ended = requested(forker, tmp_path, point)
    assert ended.exit_code == 0, ended
    if point in ("queue.started", "queue.ended", "queue.removed"):
        wait_for(lambda: lr.open(run).status().state == "verified", 60)
    recover(run)
    assert lr.open(run).status().state == "verified"
    assert starts(run) == 1


def test_a_request_to_continue_a_run_survives_the_one_who_asked(forker, tmp_path):
    task = write_task(tmp_path / "task", root=[ready("41"), ready("42")], name="again", budget={"passes": 1})
    run = tmp_path / "runs/it"
    assert forker.run("run", task, "--run-dir", run, "-q", env={}).exit_code == 3
    more = ("resume", run, "--passes", "2", "--detach")
    for point in ("queue.place", "queue.added"):
        assert forker.run(*more, env={failpoints.VARIABLE: f"{point}:1:kill"}).was_killed
    assert forker.run(*more, env={failpoints.VARIABLE: ""}).exit_code == 0
    recover(run)
    assert lr.open(run).status().state == "verified"
    assert starts(run) == 2, "the request that was placed and the one after it are one"


def test_every_step_of_the_queue_is_a_place_where_a_test_kills_a_process():
    names = {name for name in failpoints.NAMES if name.startswith("queue.")}
    assert names == {*OF_THE_ONE_WHO_ASKS, *OF_THE_ONE_WHO_RUNS}


def test_what_was_left_half_written_is_removed_later(tmp_path):
    queue = tmp_path / ".queue"
    queue.mkdir(mode=0o700)
    old, new = queue / "1.new", queue / "2.new"
    old.write_text("{")
    new.write_text("{")
    os.utime(old, (1, 1))
    lr.LocalLauncher().recover(tmp_path)
    assert (old.exists(), new.exists()) == (False, True)
