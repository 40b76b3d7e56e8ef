"""One handle for a run: ``lr.start``, ``Run.status``, ``Run.events`` and ``Run.wait``, from any process."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

import loop_runner as lr
from loop_runner.runs import launch, run_queue, trace_file
from loop_runner.workspace import lock
from tests.support import commands
from tests.support.tasks import cell, ready, write_task

SLOW = "import time\ntime.sleep(60)"


def task_of(tmp_path, *root, name="scripted", latency_s=0.0, **keys):
    path = write_task(tmp_path / f"task-{name}", root=root, name=name, **keys)
    script = path.with_name("script.yaml")
    script.write_text(script.read_text() + f"latency_s: {latency_s}\n")
    return path


def events_of(run):
    return trace_file.path_in(run.folder)


def wait_for(condition):
    """A process that is started takes its time on a busy machine."""
    commands.wait_for(condition, 60)


def holder_of(run):
    return lock.holder(run.folder / ".git/loop-runner/lock")


def is_running(run):
    """Whether a process holds the run, and has written which one it is."""
    holder = holder_of(run)
    return holder is not None and holder.pid > 0


def pid_of(run):
    holder = holder_of(run)
    assert holder is not None
    return holder.pid


def stop(run):
    os.kill(pid_of(run), signal.SIGKILL)
    wait_for(lambda: not is_running(run))


# ── starting ────────────────────────────────────────────────────────────────────────────────────────


def test_a_started_run_is_in_a_session_of_its_own_and_ends_with_its_result(tmp_path):
    run = lr.start(task_of(tmp_path, ready("41"), ready("42"), latency_s=0.3))
    wait_for(lambda: is_running(run))
    pid = pid_of(run)
    assert os.getsid(pid) == pid != os.getsid(0)
    assert run.status().state in ("running", "queued")
    result = run.wait(90)
    assert (result.status, result.answer, result.spend.passes) == ("verified", "42", 2)
    assert result.run == run
    wait_for(lambda: run_queue.entries(run_queue.folder_for(run.folder)) == [])


@pytest.mark.parametrize(
    ("keys", "error"),
    [
        ({"inputs": ["missing.txt"]}, lr.ConfigError),
        ({"model": "script:missing.yaml"}, lr.LoopRunnerError),
        ({"verifiers": []}, lr.ConfigError),
        ({"session": "hook"}, lr.ConfigError),
        ({"budget": {"passes": 0}}, lr.ConfigError),
    ],
)
def test_what_cannot_work_is_an_error_before_anything_is_started(tmp_path, keys, error):
    with pytest.raises(error):
        lr.start(write_task(tmp_path / "task", **{"root": [ready("42")], **keys}), "runs/mine")
    assert not Path("runs/mine").exists()
    assert run_queue.entries(Path("runs/.queue")) == []


def test_a_function_is_refused_because_another_process_does_not_have_it(tmp_path):
    def check(answer, submission):
        return None

    with pytest.raises(lr.ConfigError, match="functions as verifiers"):
        lr.start(lr.Task("What?", inputs={"a.txt": "42"}, verifiers=[check], model="script:x.yaml"))


def test_data_in_memory_reaches_the_other_process(tmp_path):
    script = task_of(tmp_path, ready("42")).with_name("script.yaml")
    task = lr.Task(
        "What?",
        inputs={"a.txt": "42"},
        verifiers=[lr.contains("42")],
        model=f"script:{script}",
        name="memory",
    )
    assert lr.start(task).wait(90).verified


def test_runs_beyond_the_limit_wait_and_are_run_in_order(tmp_path):
    launcher = lr.LocalLauncher(max_runs=1)
    runs = [
        lr.start(task_of(tmp_path, ready("42"), name=name, latency_s=1.0), launcher=launcher)
        for name in "abc"
    ]
    wait_for(lambda: is_running(runs[0]))
    assert [run.status().state for run in runs[1:]] == ["queued", "queued"]
    assert "free place" in runs[1].status().reason
    with pytest.raises(lr.WorkspaceError, match="unfinished run"):
        lr.start(tmp_path / "task-b/task.yaml")
    assert all(run.wait(90).verified for run in runs)
    starts = [next(run.events()).at for run in runs]
    ends = [list(run.events())[-1].at for run in runs]
    assert starts[1] > ends[0]
    assert starts[2] > ends[1]


def test_a_killed_launcher_takes_no_run_with_it_and_what_waits_is_recovered(tmp_path):
    launcher = lr.LocalLauncher(max_runs=1)
    first = lr.start(task_of(tmp_path, cell(SLOW), name="a"), launcher=launcher)
    second = lr.start(task_of(tmp_path, ready("42"), name="b"), launcher=launcher)
    wait_for(lambda: is_running(first))
    pid = pid_of(first)
    worker = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    assert "launch_worker" in Path(f"/proc/{worker}/cmdline").read_text()
    os.kill(worker, signal.SIGKILL)
    time.sleep(0.3)
    assert is_running(first), "the run outlives its launcher"
    assert {run.folder for run in launcher.recover()} == {first.folder, second.folder}
    time.sleep(0.5)
    assert second.status().state == "queued", "the place is still taken"
    stop(first)
    (entry,) = [item for item in run_queue.entries(Path("runs/.queue")) if item.folder == first.folder]
    entry.path.unlink()  # it would be continued, too
    launcher.recover()
    assert second.wait(90).verified


def test_a_run_that_was_cut_off_with_its_launcher_is_continued_once(tmp_path):
    launcher = lr.LocalLauncher()
    run = lr.start(task_of(tmp_path, cell("x = 1"), cell(SLOW), name="a"), launcher=launcher)
    wait_for(lambda: is_running(run) and run.status().turn == 1)
    holder = pid_of(run)
    worker = int(Path(f"/proc/{holder}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(worker, signal.SIGKILL)
    stop(run)
    assert run.status().state == "crashed"
    assert launcher.recover() == [run]
    wait_for(lambda: is_running(run))
    wait_for(lambda: events_of(run).read_text().count('"kind": "run_started"') == 2)
    stop(run)


def test_a_process_that_ends_before_its_run_begins_leaves_its_reason(tmp_path, monkeypatch):
    task = task_of(tmp_path, ready("42"))
    monkeypatch.setattr(launch, "_start_worker", lambda *_: None)
    run = lr.start(task)
    script = task.with_name("script.yaml")
    script.unlink()
    monkeypatch.undo()
    monkeypatch.setenv("LOOP_RUNNER_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("LOOP_RUNNER_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    lr.LocalLauncher().recover()
    wait_for(lambda: run.status().state == "failed")
    status = run.status()
    assert "script.yaml" in status.reason
    assert status.log == str(run_queue.log_of(run.folder))
    with pytest.raises(lr.EnvironmentFault, match="failed"):
        run.wait(30)


def test_a_run_is_waited_for_no_longer_than_asked(tmp_path):
    run = lr.start(task_of(tmp_path, cell(SLOW)))
    wait_for(lambda: run.status().activity.kind == "running code")
    with pytest.raises(TimeoutError, match=r"has not ended after 0\.2 s"):
        run.wait(0.2)
    stop(run)
    with pytest.raises(lr.EnvironmentFault, match="crashed"):
        run.wait(30)


def test_a_queue_that_others_may_write_is_not_used(tmp_path):
    Path("runs/.queue").mkdir(parents=True)
    Path("runs/.queue").chmod(0o777)
    with pytest.raises(lr.WorkspaceError, match="others may write"):
        lr.start(task_of(tmp_path, ready("42")))


# ── status ──────────────────────────────────────────────────────────────────────────────────────────


def test_the_status_of_a_running_run_says_what_it_does_without_git(tmp_path, monkeypatch):
    """The run is asked for by a process of this test, and read where git cannot be started."""
    keys = {"budget": {"passes": 3, "turns": 7, "tokens": 9000, "wall": "1h"}}
    code = "import time\nprint(llm_query('a'))\ntime.sleep(60)"
    sub = [{"contains": "a", "reply": "b"}]
    run = lr.start(task_of(tmp_path, ready("41"), cell(code), sub=sub, **keys))
    wait_for(lambda: run.status().pass_number == 1 and run.status().activity.answered == 1)
    monkeypatch.setenv("PATH", "/nowhere")
    status = run.status()
    assert (status.state, status.is_active, status.pass_number, status.turn) == ("running", True, 1, 0)
    assert status.activity.kind == "running code"
    assert 0 <= status.activity.seconds < 60
    assert str(status.activity).startswith("running code for ")
    assert "1 of 1 sub-calls" in str(status.activity)
    assert status.last_verdict is not None
    assert status.last_verdict.outcome == "rejected"
    assert (status.last_verdict.number, status.best_score) == (1, 0.0)
    assert status.last_verdict.reason
    used = {limit.name: (limit.used, limit.limit) for limit in status.limits}
    assert list(used["passes"]) == [1, 3]
    assert used["turns"][1] == 7
    assert used["tokens"][0] > 0
    assert used["tokens"][1] == 9000
    assert used["wall"][1] == 3600
    assert status.answer == "41"
    assert (status.age_s or 0) < 60
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    stop(run)


def no_git(monkeypatch):
    """From now on, git cannot be started."""
    monkeypatch.setenv("PATH", "/nowhere")


@pytest.mark.parametrize("place", ["own", "clone", "read-only", "packed"])
def test_the_status_of_an_ended_run_is_remembered_until_the_run_changes(tmp_path, monkeypatch, place):
    lr.run(task_of(tmp_path, ready("41"), ready("42"), budget={"passes": 3}), run_dir="mine")
    folder = Path("mine")
    if place == "clone":
        subprocess.run(["git", "clone", "-q", "mine", "copy"], check=True, capture_output=True)
        folder = Path("copy")
    elif place == "packed":
        subprocess.run(["git", "-C", "mine", "pack-refs", "--all"], check=True)
    elif place == "read-only":
        for path in sorted(folder.rglob("*"), reverse=True):
            path.chmod(path.stat().st_mode & ~0o222)
    run = lr.open(folder)
    first = run.status()
    assert first.state == "verified"
    assert first.last_verdict is not None
    assert first.last_verdict.outcome == "accepted"
    assert first.best_score == 1.0
    passes = {limit.name: (limit.used, limit.limit) for limit in first.limits}["passes"]
    assert list(passes) == [2, 3]
    assert (first.last_event_at is None) == (place == "clone")
    no_git(monkeypatch)
    again = run.status()
    assert again.at >= first.at
    assert {**again.to_dict(), "at": 0, "age_s": 0} == {**first.to_dict(), "at": 0, "age_s": 0}


@pytest.mark.parametrize(
    "change",
    [
        lambda run: (run / "answer.md").write_text("43"),
        lambda run: (run / "passes/new.txt").write_text("x"),
        lambda run: (run / "answer.md").unlink(),
    ],
    ids=["changed", "added", "removed"],
)
def test_what_is_remembered_does_not_hide_a_change(tmp_path, change):
    run = lr.run(task_of(tmp_path, ready("42")), run_dir="mine").run
    assert run.status().state == "verified"
    change(run.folder)
    assert run.status().state == "different"


def test_what_is_remembered_does_not_hide_a_resume_a_rewind_or_a_stop_file(tmp_path):
    task = task_of(tmp_path, ready("41"), ready("41"), ready("42"), budget={"passes": 1})
    run = lr.run(task, run_dir="mine").run
    assert run.status().state == "unverified"
    lr.resume(run, budget={"passes": 2})
    assert run.status().pass_number == 2
    (run.folder / "STOP").touch()
    assert run.status().state == "cancelled"


def test_a_cache_that_holds_nonsense_or_cannot_be_written_costs_time_only(tmp_path, monkeypatch):
    run = lr.run(task_of(tmp_path, ready("42")), run_dir="mine").run
    assert run.status().state == "verified"
    for file in (tmp_path / "cache/status").iterdir():
        file.write_text(json.dumps({"mark": json.loads(file.read_text())["mark"], "status": {"state": "x"}}))
    assert run.status().state == "verified"
    monkeypatch.setenv("LOOP_RUNNER_CACHE", "/proc/nowhere")
    assert run.status().state == "verified"


def test_a_run_folder_that_moved_in_over_another_has_its_own_status(tmp_path):
    lr.run(task_of(tmp_path, ready("42"), name="a"), run_dir="a")
    lr.run(task_of(tmp_path, ready("41"), name="b", budget={"passes": 1}), run_dir="b")
    assert lr.open("a").status().state == "verified"
    shutil.rmtree("a")
    Path("b").rename("a")
    assert lr.open("a").status().state == "unverified"


# ── events ──────────────────────────────────────────────────────────────────────────────────────────


def test_the_events_of_a_run_are_followed_to_its_end_from_another_process(tmp_path):
    run = lr.start(task_of(tmp_path, ready("41"), ready("42"), latency_s=0.3))
    seen = list(run.events())
    assert [event.seq for event in seen] == list(range(1, len(seen) + 1))
    assert (seen[0].kind, seen[-1].kind) == ("run_started", "run_ended")
    kinds = [event.kind for event in seen]
    assert kinds.index("cell_started") < kinds.index("cell_finished")
    middle = seen[len(seen) // 2].seq
    assert [event.seq for event in run.events(since=middle)] == list(range(middle + 1, len(seen) + 1))
    assert list(run.events(since=len(seen))) == []


def test_events_have_no_gap_over_a_resume_and_in_a_trace_of_an_older_version(tmp_path):
    task = task_of(tmp_path, ready("41"), ready("42"), budget={"passes": 1})
    run = lr.run(task, run_dir="mine").run
    lines = [json.loads(line) for line in events_of(run).read_text().splitlines()]
    old = [
        json.dumps({key: line[key] for key in ("at", "kind", "pass", "turn", "text", "data")})
        for line in lines
    ]
    events_of(run).write_text("\n".join(old) + '\n{"kind": "turn_sta')
    lr.resume(run, budget={"passes": 2})
    seen = list(run.events())
    assert [event.seq for event in seen] == list(range(1, len(seen) + 1))
    assert [event.kind for event in seen].count("run_started") == 2
    assert seen[len(old)].kind == "run_started"


def test_a_trace_with_nonsense_in_it_is_read_as_far_as_it_can_be(tmp_path):
    run = lr.run(task_of(tmp_path, ready("42")), run_dir="mine").run
    events_of(run).write_text(
        '{"kind": "from the future", "data": [], "text": 3, "pass": -1, "turn": "x", "at": "y"}\n'
        'null\n[]\n{"kind": 3}\n{"kind": "pass_ended", "data": {"verdict": 3}, "budget": {"usd": 3}}\n'
        '{"kind": "notice", "budget": {"usd": [1, null]}, "seq": -4}\n'
    )
    seen = list(run.events())
    assert [(event.seq, event.kind) for event in seen] == [(1, "notice"), (2, "pass_ended"), (3, "notice")]
    view = lr.RunView(seen)
    assert view.last_verdict is not None
    assert view.last_verdict.outcome == ""
    assert run.status().state in ("verified", "different")


def test_a_clone_has_no_events_and_does_not_wait_for_any(tmp_path):
    lr.run(task_of(tmp_path, ready("42")), run_dir="mine")
    subprocess.run(["git", "clone", "-q", "mine", "copy"], check=True, capture_output=True)
    assert list(lr.open("copy").events()) == []


def test_a_trace_that_is_a_link_is_not_followed(tmp_path):
    run = lr.run(task_of(tmp_path, ready("42")), run_dir="mine").run
    secret = tmp_path / "secret.jsonl"
    events_of(run).rename(secret)
    events_of(run).symlink_to(secret)
    assert list(run.events()) == []


# ── lists ───────────────────────────────────────────────────────────────────────────────────────────


def test_runs_are_listed_newest_first_and_by_state(tmp_path):
    for name, answer in (("a", "42"), ("b", "41"), ("c", "42")):
        lr.run(task_of(tmp_path, ready(answer), name=name, budget={"passes": 1}))
    Path("runs/d/.git").mkdir(parents=True)
    Path("runs/d/loop-runner.json").write_text("nonsense")
    Path("runs/notes").mkdir()
    states = {status.folder.name: status.state for status in lr.list_runs()}
    assert states == {"a": "verified", "b": "unverified", "c": "verified", "d": "unreadable"}
    assert [status.folder.name for status in lr.list_runs(states=["verified"])] == ["c", "a"]
    assert lr.list_runs("nowhere") == []
