"""Workers: each job runs once, wherever it is tried; a lost worker's jobs continue elsewhere."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from loop_runner import EnvironmentFault
from loop_runner.fleet.executors import Dispatch, run_here
from loop_runner.fleet.fleet_file import read_fleet
from loop_runner.fleet.states import JobState
from loop_runner.fleet.stores import open_store
from loop_runner.fleet.worker import Worker
from tests.support.commands import loop_runner
from tests.support.git import git

pytestmark = pytest.mark.slow

FINDS = """```python
import re
answer["content"] = re.search(r"port is (\\d+)", str(context)).group(1)
answer["ready"] = True
```"""
SLOW = "```python\nimport time\ntime.sleep({seconds})\nprint('looked')\n```"


def make(folder, *, jobs=2, replies=(FINDS,), store="store", **keys):
    """A fleet whose job N is to find the port 8000 + N; the path of its file."""
    (folder / "in").mkdir(exist_ok=True)
    for number in range(jobs):
        (folder / f"in/doc{number}.txt").write_text(f"the port is {8000 + number}\n")
    (folder / "script.yaml").write_text(yaml.safe_dump({"root": list(replies)}))
    task = {
        "name": "x",
        "prompt": "Which port is in {{ job.path }}?",
        "inputs": ["{{ job.path }}"],
        "model": "script:script.yaml",
        "verifiers": [{"regex": {"pattern": r"^80\d\d$"}}],
        "kernel": {"require_tier": "C"},
    }
    (folder / "task.yaml").write_text(yaml.safe_dump(task))
    fleet = {"name": "ports", "task": "task.yaml", "jobs": {"glob": "in/*.txt"}, "store": store, **keys}
    (folder / "fleet.yaml").write_text(yaml.safe_dump(fleet))
    return folder / "fleet.yaml"


def opened(path, cache="cache"):
    fleet = read_fleet(path)
    store = open_store(fleet.store, fleet.folder, fleet.folder / cache)
    store.begin(fleet.identity)
    return fleet, store


def answers(store):
    return [json.loads(data)["answer"] for data in store.results().values()]


def test_a_fleet_runs_its_jobs_and_a_second_start_runs_nothing(tmp_path):
    fleet, store = opened(make(tmp_path))
    assert run_here(Dispatch(fleet, store, fleet.jobs, tmp_path / "own")).left == ()
    assert answers(store) == ["8000", "8001"]
    changes = []
    run_here(Dispatch(fleet, store, fleet.jobs, tmp_path / "own", lambda *change: changes.append(change)))
    assert changes == []


def test_a_job_that_lost_its_machine_continues_on_another_from_the_last_pushed_turn(tmp_path):
    git(tmp_path, "init", "-q", "--bare", "store.git")
    path = make(
        tmp_path, jobs=1, replies=["```python\nfound = 8000\nprint(found)\n```", SLOW.format(seconds=60)]
    )
    data = yaml.safe_load(path.read_text()) | {"store": "store.git"}
    path.write_text(yaml.safe_dump(data))
    fleet, store = opened(path, "first")
    # The first worker: it runs a turn, pushes it, and is gone with its machine.
    first = Worker(fleet, store, fleet.jobs, tmp_path / "machine1", 1, ttl_s=8.0)
    end = time.monotonic() + 120
    first._take(store.states())
    (held,) = first._held.values()
    while held.process.progress().get("turns", 0) < 1 and time.monotonic() < end:
        first._look_after()
        time.sleep(0.2)
    first._renew(held)
    held.process.kill()
    pushed = held.pushed
    # The second one, elsewhere: it waits until the lease has expired and goes on after that turn.
    (tmp_path / "script.yaml").write_text(
        yaml.safe_dump(
            {"root": ["never used", "```python\nanswer['content'] = str(found)\nanswer['ready'] = True\n```"]}
        )
    )
    other_fleet, other = opened(path, "second")
    ending = Worker(other_fleet, other, other_fleet.jobs, tmp_path / "machine2", 1, ttl_s=30.0).work()
    assert ending.left == ()
    assert answers(other) == ["8000"]
    (state,) = [kept.state for kept in other.states().values()]
    assert state.crashes == (first.name,)
    (run,) = (tmp_path / "machine2/runs").iterdir()
    assert pushed in git(run, "log", "--format=%H", "main")
    ended = loop_runner("fleet", "report", path.name, "-o", "pages", cwd=tmp_path)
    assert "1 run of 1 job" in ended.stdout, ended.stderr
    assert "8000" in next((tmp_path / "pages/runs").iterdir()).read_text()


def test_a_run_whose_worker_was_killed_sends_nothing_after_its_permit(tmp_path):
    path = make(tmp_path, jobs=1, replies=[SLOW.format(seconds=4), FINDS])
    code = (
        "import sys, pathlib\n"
        "from tests.fleet.test_worker import opened\n"
        "from loop_runner.fleet.worker import Worker\n"
        "fleet, store = opened(pathlib.Path(sys.argv[1]))\n"
        "Worker(fleet, store, fleet.jobs, pathlib.Path(sys.argv[2]), 1, ttl_s=3.0).work()\n"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", code, path, tmp_path / "own"], cwd=Path(__file__).parents[2]
    )
    _, store = opened(path)
    end = time.monotonic() + 120
    turns = tmp_path / "store/runs"
    while not list(turns.glob("*/task.yaml")) and time.monotonic() < end:
        time.sleep(0.1)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    (run,) = turns.iterdir()
    while (
        json.loads(loop_runner("status", run, "--json", cwd=tmp_path).stdout)["runs"][0]["state"] == "running"
    ):
        assert time.monotonic() < end, "the run does not stop"
        time.sleep(0.5)
    assert store.results() == {}
    assert not (run / "proof.json").exists()


def test_a_job_that_loses_three_workers_is_stopped_as_poison(tmp_path):
    fleet, store = opened(make(tmp_path, jobs=1))
    name = fleet.jobs[0].name
    lost = JobState(status="running", worker="w3", crashes=("w1", "w2"), ttl_s=0.1, attempts=3)
    store.swap(name, None, lost)
    assert Worker(fleet, store, fleet.jobs, tmp_path / "own", 1).work().left == ()
    state = store.states()[name].state
    assert (state.status, state.crashes) == ("poison", ("w1", "w2", "w3"))
    assert "w1, w2, w3" in state.reason


def test_a_lease_that_is_renewed_is_never_taken_over(tmp_path):
    fleet, store = opened(make(tmp_path, jobs=1))
    name = fleet.jobs[0].name
    kept = store.swap(name, None, JobState(status="running", worker="other", ttl_s=0.5))
    worker = Worker(fleet, store, fleet.jobs, tmp_path / "own", 1)
    for _ in range(4):
        assert not worker._is_free(fleet.jobs[0], kept)
        time.sleep(0.3)
        kept = store.swap(name, kept, kept.state.beaten())


def test_a_fleet_stops_when_its_money_does_not_suffice_for_another_job(tmp_path):
    fleet, store = opened(make(tmp_path, budget={"usd": 1, "per_job": {"usd": 1}}, concurrency=1))
    first = fleet.jobs[0].name
    store.swap(first, None, JobState(status="verified", spent_usd=0.5))
    ending = Worker(fleet, store, fleet.jobs, tmp_path / "own", 1).work()
    assert ending.left == (fleet.jobs[1].name,)
    assert "does not suffice" in ending.reason


def test_a_paused_job_is_not_taken_until_it_is_resumed(tmp_path):
    fleet, store = opened(make(tmp_path, jobs=1))
    kept = store.swap(fleet.jobs[0].name, None, JobState(is_paused=True))
    assert "paused" in Worker(fleet, store, fleet.jobs, tmp_path / "own", 1).work().reason
    store.swap(fleet.jobs[0].name, kept, replace(kept.state, is_paused=False))
    assert Worker(fleet, store, fleet.jobs, tmp_path / "own", 1).work().left == ()


def test_a_job_that_runs_gets_a_note_and_a_pause_and_its_worker_keeps_it(tmp_path):
    fleet, store = opened(make(tmp_path, jobs=1, replies=[*[SLOW.format(seconds=0.3)] * 12, FINDS]))
    worker = Worker(fleet, store, fleet.jobs, tmp_path / "own", 1)
    name, end = fleet.jobs[0].name, time.monotonic() + 100
    run = tmp_path / "store/runs" / name

    def until(has_happened):
        while not has_happened():
            assert time.monotonic() < end
            worker._look_after()
            worker._hear(store.states())
            time.sleep(0.1)

    def change(new):
        kept = store.states()[name]
        store.swap(name, kept, new(kept.state))

    worker._take(store.states())
    change(lambda state: state.with_note("mind the annexes"))
    until(lambda: any("annexes" in path.read_text() for path in run.glob("passes/*/turns/*/control.json")))
    assert store.states()[name].state.notes == ()
    change(lambda state: replace(state, is_paused=True))
    until(lambda: not worker._held)
    state = store.states()[name].state
    assert (state.status, state.is_paused, state.crashes) == ("interrupted", True, ())
    assert "paused" in worker.work().reason


@pytest.mark.parametrize(
    ("status", "after"),
    [
        *(("waiting", "stopped"), ("interrupted", "stopped"), ("running", "running")),
        *(("verified", None), ("broken", None), ("poison", None), ("stopped", None)),
    ],
)
def test_a_stop_ends_a_job_at_once_unless_a_worker_runs_it(status, after):
    state = JobState(status=status, is_paused=True).stopped()
    assert (state and state.status) == after
    assert state is None or state.is_stopped


def test_a_job_that_was_stopped_while_it_lost_its_worker_is_not_begun_again(tmp_path):
    fleet, store = opened(make(tmp_path, jobs=1))
    name = fleet.jobs[0].name
    store.swap(name, None, JobState(status="running", worker="lost", is_stopped=True, reserved_usd=1.0))
    assert Worker(fleet, store, fleet.jobs, tmp_path / "own", 1).work().left == ()
    state = store.states()[name].state
    assert (state.status, state.worker, state.reserved_usd) == ("stopped", "", 0.0)
    assert not (tmp_path / "own/jobs").exists()


def test_a_worker_takes_a_lease_of_its_own_again_and_does_not_count_as_lost(tmp_path):
    fleet, store = opened(make(tmp_path, jobs=1))
    worker = Worker(fleet, store, fleet.jobs, tmp_path / "own", 1)
    name = fleet.jobs[0].name
    store.swap(name, None, JobState(status="running", worker=worker.name, ttl_s=100.0, attempts=1))
    worker._take(store.states())
    worker._held[name].process.kill()
    state = store.states()[name].state
    assert (state.status, state.worker, state.crashes) == ("running", worker.name, ())


def test_a_worker_waits_for_a_store_that_cannot_be_reached_and_gives_up_in_the_end(tmp_path):
    fleet, store = opened(make(tmp_path, jobs=1))
    store.swap(fleet.jobs[0].name, None, JobState(status="verified"))
    (tmp_path / "store").rename(tmp_path / "away")
    sentences = []

    def on_wait(sentence):
        sentences.append(sentence)
        (tmp_path / "away").rename(tmp_path / "store")

    worker = Worker(fleet, store, fleet.jobs, tmp_path / "own", 1, on_wait=on_wait)
    assert worker.work().left == ()
    assert "trying again for 10 minutes" in sentences[0]
    (tmp_path / "store").rename(tmp_path / "away")
    with pytest.raises(EnvironmentFault, match="store"):
        Worker(fleet, store, fleet.jobs, tmp_path / "own", 1, patience_s=-1.0).work()


def test_a_task_that_cannot_run_breaks_its_job_and_not_the_fleet(tmp_path):
    path = make(tmp_path)
    (tmp_path / "in/doc0.txt").unlink()
    (tmp_path / "jobs.jsonl").write_text('{"path": "in/doc0.txt"}\n{"path": "in/doc1.txt"}\n')
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"jobs": "jobs.jsonl"}))
    fleet, store = opened(path)
    Worker(fleet, store, fleet.jobs, tmp_path / "own", 2).work()
    states = [store.states()[job.name].state for job in fleet.jobs]
    assert [state.status for state in states] == ["broken", "verified"]
    assert "doc0.txt" in states[0].reason
