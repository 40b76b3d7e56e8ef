"""A rewind takes a run back; what it leaves is kept, and a crash in its middle leaves a whole run."""

import json
import signal
import subprocess
import sys

import pytest

from loop_runner.workspace.history import History
from loop_runner.workspace.workspace import Workspace
from tests.support.commands import clean_environment, loop_runner
from tests.support.git import assert_clean, git, subjects, tree
from tests.support.tasks import cell, ready, write_task
from tests.support.turns import call, turn


def json_of(*args, cwd, code=0):
    result = loop_runner(*args, "--json", cwd=cwd)
    assert code is None or result.returncode == code, result.stdout + result.stderr
    return json.loads(result.stdout)


def test_the_run_stands_where_it_was_taken_and_what_it_left_is_kept(place):
    run = place / "runs/scripted"
    tip = git(run, "rev-parse", "HEAD")
    data = json_of("rewind", "scripted", "2.1", cwd=place)
    assert (data["pass"], data["turn"]) == (2, 1)
    assert data["dropped"] == {
        "commit": tip,
        "pass": 3,
        "turn": 0,
        "ref": "refs/loop-runner/rewound/1",
        "name": "rewound/1",
    }
    assert git(run, "rev-parse", "refs/loop-runner/rewound/1") == tip
    assert subjects(run)[-2:] == ["pass 2 turn 1: ran", "rewound: to pass 2 turn 1"]
    assert data["commit"] == git(run, "rev-parse", "HEAD")
    assert (run / "workspace/notes/plan.md").read_text() == "count\ncount again\n"
    assert not (run / "passes/0003").exists()
    assert_clean(run)
    assert json_of("status", "scripted", cwd=place)["runs"][0]["state"] == "unfinished"


def test_going_on_after_a_rewind_ends_with_the_same_tree(place):
    run = place / "runs/scripted"
    before = tree(run)
    for moment in ("3.1", "2", "1.1", "0"):
        json_of("rewind", "scripted", moment, cwd=place)
        assert_clean(run)
        assert json_of("resume", "scripted", "-q", cwd=place)["status"] == "verified"
        assert tree(run) == before
        assert_clean(run)
    assert len(git(run, "for-each-ref", "refs/loop-runner/rewound").splitlines()) == 4
    assert git(run, "for-each-ref", "refs/loop-runner/set-aside") == "", "nothing looked like an edit"


def test_a_run_is_taken_back_to_what_it_left_with_the_command_that_is_printed(place):
    run = place / "runs/scripted"
    before = tree(run)
    output = loop_runner("rewind", "scripted", "1", cwd=place).stdout
    assert "runs/scripted is back at the end of pass 1" in output
    assert "kept: the end of pass 3 as refs/loop-runner/rewound/1" in output
    (back,) = [line for line in output.splitlines() if "(undoes this)" in line]
    result = loop_runner(*back.split("(")[0].split()[1:], cwd=place)
    assert result.returncode == 0, result.stderr
    assert tree(run) == before
    assert json_of("status", "scripted", cwd=place)["runs"][0]["state"] == "verified"
    assert loop_runner("fork", "scripted@rewound/2", "other", "--passes", "9", cwd=place).returncode == 0


def test_what_was_dropped_stays_on_the_bill_and_in_every_clone(place):
    before = status(place, "scripted")
    assert before["dropped"]["usage"]["requests"] == 0
    json_of("rewind", "scripted", "1", cwd=place)
    now = status(place, "scripted")
    for key in ("input_tokens", "output_tokens", "requests"):
        assert now["usage"][key] + now["dropped"]["usage"][key] == before["usage"][key]
    assert (now["dropped"]["passes"], now["dropped"]["turns"]) == (2, 3)
    assert now["dropped"]["seconds"] > 0
    shown = loop_runner("status", "scripted", cwd=place).stdout
    assert "3 requests, 0.0000 USD dropped by rewinds; they count for the budget too" in shown
    git(place, "clone", "-q", "runs/scripted", "copy")
    assert status(place, "copy")["dropped"] == now["dropped"]
    assert json_of("resume", "scripted", "-q", cwd=place)["status"] == "verified"
    assert status(place, "scripted")["dropped"] == now["dropped"]
    json_of("rewind", "scripted", "rewound/1", cwd=place)
    after = status(place, "scripted")
    assert after["usage"] == before["usage"], "gone back to, they are the run's again"
    assert after["dropped"]["usage"] == now["dropped"]["usage"], "what was done in between was the same"


def status(place, name):
    return json_of("status", name, cwd=place)["runs"][0]


def test_a_limit_that_is_spent_is_not_had_back_by_going_back(tmp_path):
    root = [cell("llm_query('a')"), ready("41"), cell("llm_query('b')"), ready("42")]
    task = write_task(tmp_path / "task", root=root, sub=[{"reply": "x"}], budget={"subcalls": 2})
    assert loop_runner("run", task, "-q", cwd=tmp_path).returncode == 0
    json_of("rewind", "scripted", "0", cwd=tmp_path)
    result = loop_runner("resume", "scripted", "-q", cwd=tmp_path)
    assert "2 sub-calls" in result.stdout + result.stderr + output_of(tmp_path / "runs/scripted")
    assert status(tmp_path, "scripted")["usage"]["subcalls"] == 0
    assert json_of("resume", "scripted", "-q", "--set", "budget.subcalls=9", cwd=tmp_path, code=None)
    assert json_of("replay", "scripted", cwd=tmp_path)["status"] == "same"


def output_of(run):
    """What the model was told after its cells."""
    return "".join(path.read_text() for path in run.glob("passes/*/turns/*/output.txt"))


def test_a_running_run_is_not_rewound(place):
    with Workspace.open(place / "runs/scripted"):
        result = loop_runner("rewind", "scripted", "1", cwd=place)
    assert result.returncode == 2
    assert "is in use by another runner" in result.stderr
    assert git(place / "runs/scripted", "for-each-ref", "refs/loop-runner/rewound") == ""


@pytest.mark.parametrize(
    ("moment", "output"),
    [("9", "3 of its passes have ended"), ("x", "names no moment of a run"), ("3", "stands at 3 already")],
)
def test_what_cannot_be_gone_back_to_is_refused(place, moment, output):
    result = loop_runner("rewind", "scripted", moment, cwd=place)
    assert result.returncode == 2
    assert output in result.stderr
    assert git(place / "runs/scripted", "for-each-ref", "refs/loop-runner/rewound") == ""


# ── the workspace's part ────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def long_run(tmp_path):
    """Two turns in a run folder that is open."""
    with Workspace.create(tmp_path / "run", name="x", files={"prompt.md": b"Count.\n"}) as workspace:
        (workspace.model_folder / "a").mkdir()
        (workspace.model_folder / "a/deep.txt").write_text("1")
        (workspace.model_folder / "kept.txt").write_text("same")
        workspace.commit_turn(turn(1, 1), {})
        (workspace.model_folder / "a/deep.txt").unlink()
        (workspace.model_folder / "a").rmdir()
        (workspace.model_folder / "a").write_text("a file where a folder was")
        (workspace.model_folder / "empty").mkdir()
        workspace.commit_turn(turn(1, 2), {})
        yield workspace


def first_turn(workspace):
    with History(workspace.folder) as history:
        return next(commit.checkpoint.commit for commit in history.commits() if commit.checkpoint.turn == 1)


def test_replies_that_no_turn_holds_are_kept_with_what_is_left(long_run):
    long_run.journal.append(call("paid and not used"))
    kept = long_run.rewind(first_turn(long_run))
    assert long_run.journal.calls() == ()
    run = long_run.folder
    assert git(run, "log", "-1", "--format=%s", kept) == "kept: 1 reply that no turn holds"
    assert "a reply" in git(run, "show", f"{kept}:passes/0001/rewound/calls.jsonl")
    assert long_run.history.dropped().requests == 2
    long_run.rewind(git(run, "rev-parse", kept))
    assert long_run.head().turn == 2
    assert long_run.journal.calls() == (call("paid and not used"),), "gone back to"
    assert (long_run.history.spend().requests, long_run.history.dropped().requests) == (2, 0)
    assert git(run, "log", "-1", "--format=%s") == "pass 1 turn 2: ran", "nothing is owed, nothing is said"
    long_run.commit_turn(turn(1, 3), {})
    assert long_run.history.spend().requests == 4


def test_folders_files_and_links_change_places_and_the_run_goes_on_from_there(long_run):
    long_run.rewind(first_turn(long_run))
    run = long_run.folder
    assert (run / "workspace/a/deep.txt").read_text() == "1"
    assert not (run / "workspace/empty").exists()
    long_run.commit_turn(turn(1, 2), {})
    rewound = "rewound: to pass 1 turn 1"
    assert subjects(run) == ["run: x", "pass 1 turn 1: ran", rewound, "pass 1 turn 2: ran"]
    assert git(run, "ls-tree", "-r", "--name-only", "HEAD", "workspace").splitlines() == [
        "workspace/a/deep.txt",
        "workspace/kept.txt",
    ]
    assert json.loads(git(run, "show", "HEAD:variables/manifest.json"))["variables"][0]["name"] == "words"


KILLED = """
import os, signal, sys
from pathlib import Path
from loop_runner.workspace import rewinding, workspace
from loop_runner.workspace.git import fast_import
point, put_files, steps = fast_import.point, rewinding.put_files, iter(range(9))
def counted(original):
    def step(*args, **kwargs):
        number = next(steps)
        if number == int(sys.argv[2]): os.kill(os.getpid(), signal.SIGKILL)
        original(*args, **kwargs)
    return step
fast_import.point, rewinding.put_files = counted(point), counted(put_files)
with workspace.Workspace.open(Path(sys.argv[1])) as opened:
    opened.rewind(sys.argv[3])
"""


@pytest.mark.parametrize("step", range(3))
def test_a_rewind_that_is_killed_leaves_a_whole_run_at_the_one_end_or_the_other(place, step):
    """The steps: the ref, the branch, the files. The program above kills itself before one of them."""
    run = place / "runs/scripted"
    before, tip = tree(run), git(run, "rev-parse", "HEAD")
    target = git(run, "log", "--format=%H", "--grep=^pass 1 turn 1")
    command = [sys.executable, "-c", KILLED, str(run), str(step), target]
    done = subprocess.run(command, env=clean_environment(), check=False, cwd=place, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert git(run, "rev-parse", "HEAD^" if step == 2 else "HEAD") == (target if step == 2 else tip)
    kept = git(run, "for-each-ref", "--format=%(objectname)", "refs/loop-runner/rewound")
    assert kept == ("" if step == 0 else tip)
    assert json_of("resume", "scripted", "-q", cwd=place)["status"] == "verified"
    assert tree(run) == before
    assert_clean(run)
