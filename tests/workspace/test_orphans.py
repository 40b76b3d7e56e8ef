"""A git that outlives its runner: whatever it was about to do, it does not do it late."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loop_runner.workspace.history import History
from loop_runner.workspace.lock import end_orphans
from loop_runner.workspace.workspace import Workspace
from tests.support.turns import turn

ROOT = Path(__file__).parent.parent.parent
GIT = shutil.which("git")

# Stops itself in front of the n-th run of one git command, before or after it has read its input.
WRAPPER = """#!/bin/sh
for word in "$@"; do
  if [ "$word" = "{command}" ]; then
    echo x >> "{count}"
    if [ "$(wc -l < "{count}")" = {number} ]; then echo $$ > "{stopped}"; kill -STOP $$; fi
  fi
done
exec {git} "$@"
"""


def wait_for(path):
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_text().strip()):
        assert time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.02)
    return int(path.read_text())


def main_of(folder):
    return (folder / ".git/refs/heads/main").read_text().strip()


@pytest.mark.parametrize("command", ["fast-import", "update-ref"])
def test_a_git_that_was_stopped_when_its_runner_was_killed_never_moves_the_branch(tmp_path, command):
    folder, stopped, tools = tmp_path / "run", tmp_path / "stopped", tmp_path / "bin"
    tools.mkdir()
    (tools / "git").write_text(
        WRAPPER.format(command=command, count=tmp_path / "count", number=4, stopped=stopped, git=GIT)
    )
    (tools / "git").chmod(0o755)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.workspace.scripted_run", str(folder)],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"},
        cwd=ROOT,
    )
    orphan = wait_for(stopped)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    handle = os.pidfd_open(orphan)
    try:
        with Workspace.open(folder) as workspace:
            head = workspace.head()
            assert (head.pass_number, head.turn) == (1, 2)
            workspace.commit_turn(turn(1, 3), {})
        stands = main_of(folder)
        try:
            signal.pidfd_send_signal(handle, signal.SIGCONT)
            time.sleep(0.5)
        except ProcessLookupError:
            pass  # ended by the one that took over
        assert main_of(folder) == stands
    finally:
        os.close(handle)
    with History(folder) as history:
        assert [entry.checkpoint.turn for entry in history.commits()] == [3, 2, 1, 0]
    subprocess.run(["git", "fsck", "--strict"], cwd=folder, check=True, capture_output=True)


def test_a_late_git_without_the_lock_is_refused_by_where_the_branch_stands(workspace, run_folder):
    """The second line of defence: the branch moves only from where the writer knew it to be."""
    workspace.commit_turn(turn(1, 1), {})
    before, stands = main_of(run_folder), workspace.head().commit
    parent = subprocess.check_output(["git", "rev-parse", "HEAD^"], cwd=run_folder, text=True).strip()
    # Stopped before it runs, with its instruction: move from `before` to the commit's parent.
    script = f"kill -STOP $$; exec {GIT} update-ref refs/heads/main {parent} {before}"
    late = subprocess.Popen(["sh", "-c", script], cwd=run_folder / ".git", stderr=subprocess.PIPE)
    os.waitid(os.P_PID, late.pid, os.WSTOPPED)
    assert stands == before
    newer = workspace.commit_turn(turn(1, 2), {}).commit
    late.send_signal(signal.SIGCONT)
    _, output = late.communicate(timeout=30)
    assert late.returncode != 0
    assert b"but expected" in output
    assert main_of(run_folder) == newer


def test_a_process_that_is_no_git_is_not_ended_for_holding_the_lock(tmp_path):
    path = tmp_path / "lock"
    with path.open("w") as lock:
        held = subprocess.Popen(["sleep", "30"], pass_fds=(lock.fileno(),))
        try:
            end_orphans(lock.fileno())
            assert held.poll() is None
        finally:
            held.kill()
            held.wait()
