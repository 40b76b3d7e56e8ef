"""SIGKILL at any moment: what was acknowledged is there, and the end is that of the unbroken run."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loop_runner.workspace.history import History
from tests.workspace.scripted_run import PASSES, TURNS

KILLS = 30
SEED = 7
ROOT = Path(__file__).parent.parent.parent


def start(folder):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.workspace.scripted_run", str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def run_killed(folder, after_s):
    """The lines that a run printed before it was killed or ended, and whether it ended."""
    process = start(folder)
    time.sleep(after_s)
    os.kill(process.pid, signal.SIGKILL)
    output, _ = process.communicate()
    return output.splitlines(), process.returncode == 0


def acknowledged_is_there(folder, lines):
    with History(folder) as history:
        subjects = {entry.subject.partition(":")[0] for entry in history.commits()}
        committed = {call.fingerprint for call in history.calls()}
    path = folder / ".git/loop-runner/journal"
    journal = path.read_bytes() if path.exists() else b""
    for line in lines:
        word, _, what = line.partition(" ")
        if word == "paid":
            assert what in committed or what.encode() in journal, f"{line} is lost"
        elif word == "pass":
            assert line in subjects, f"{line} is lost"
        elif word == "turn":
            number, _, turn = what.partition(".")
            assert f"pass {number} turn {turn}" in subjects, f"{line} is lost"


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The tree of a run that nobody killed, and how long it took."""
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    started = time.monotonic()
    output, _ = start(folder).communicate(timeout=60)
    assert output.splitlines()[-1] == "end"
    return tree(folder), time.monotonic() - started


def tree(folder):
    return subprocess.check_output(["git", "rev-parse", "HEAD^{tree}"], cwd=folder, text=True).strip()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_at_thirty_random_moments_nothing_acknowledged_is_lost(tmp_path, unbroken):
    expected, whole_s = unbroken
    moments = random.Random(SEED)
    kills = rounds = 0
    while kills < KILLS:
        rounds += 1
        folder, output, has_ended = tmp_path / f"run{rounds}", [], False
        while not has_ended:
            lines, has_ended = run_killed(folder, moments.uniform(0.1, whole_s))
            kills += not has_ended
            output += lines
            if (folder / ".git").is_dir():
                acknowledged_is_there(folder, output)
        assert tree(folder) == expected
        paid = [line for line in output if line.startswith("paid")]
        assert len(paid) == len(set(paid)), "a call was made twice"
        status = subprocess.check_output(["git", "status", "--porcelain"], cwd=folder, text=True)
        assert status == ""
        subprocess.run(
            ["git", "fsck", "--strict", "--no-dangling"], cwd=folder, check=True, capture_output=True
        )
        with History(folder) as history:
            assert [entry.subject for entry in history.passes()] == ["pass 1: rejected", "pass 2: accepted"]
            assert history.spend().turns == PASSES * TURNS


def test_a_runner_killed_while_git_commits_is_not_overtaken_by_that_git(tmp_path):
    folder = tmp_path / "run"
    process = start(folder)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("turn 1.2"):
            break
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    output, _ = start(folder).communicate(timeout=60)
    assert output.splitlines()[-1] == "end"
    with History(folder) as history:
        turns = [entry.subject for entry in history.commits() if entry.checkpoint.turn]
    assert len(turns) == len(set(turns)) == PASSES * TURNS
