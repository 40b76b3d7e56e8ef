"""A full disk and a folder that may not be written: a clear error, and nothing that was committed is lost."""

import os
import subprocess
import sys
from contextlib import contextmanager, suppress
from itertools import count

import pytest

from loop_runner.errors import EnvironmentFault, LoopRunnerError
from loop_runner.workspace.workspace import Workspace
from tests.support.turns import call, turn

IS_ROOT = os.getuid() == 0


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MB."""
    if not IS_ROOT:
        pytest.skip("needs root, to mount a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount here: {mounted.stderr.decode()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@contextmanager
def full(disk, leave=0):
    """Within it, ``disk`` has ``leave`` bytes left."""
    filler = disk / "filler"
    left = os.statvfs(disk)
    size = max(left.f_bavail * left.f_bsize - leave, 0)
    with suppress(OSError), filler.open("wb") as file:  # closing writes, too, and git's index may come before
        file.write(bytes(size))
    yield
    filler.unlink()


def assert_says_what_to_do(error, folder):
    assert isinstance(error, EnvironmentFault)
    assert error.exit_code == 4
    assert "disk is full" in error.message
    assert error.why
    assert f"loop-runner resume {folder}" in error.hint


def test_a_full_disk_while_committing_loses_nothing_that_was_committed(small_disk, git):
    folder = small_disk / "run"
    with Workspace.create(folder, name="x", files={}) as workspace:
        stands = workspace.commit_turn(turn(1, 1), {})
        workspace.journal.append(call("paid", text="kept"))
        (workspace.model_folder / "big.bin").write_bytes(os.urandom(200_000))
        with full(small_disk, leave=50_000):
            with pytest.raises(EnvironmentFault) as caught:
                workspace.commit_turn(turn(1, 2), {})
            assert_says_what_to_do(caught.value, folder)
            assert workspace.head() == stands
            assert not list((folder / ".git").rglob("tmp_*"))
        assert workspace.commit_turn(turn(1, 2), {}).turn == 2, "the same turn works once there is space"
    with Workspace.open(folder) as again:
        assert again.head().turn == 2
        assert b"kept" in (again.history.read("passes/0001/turns/0002/calls.jsonl") or b"")
    git("fsck", "--strict", cwd=folder)


def append_for_ever(journal):
    for index in count():
        journal.append(call(f"{index}", text="x" * 500))


def test_a_full_disk_while_writing_the_journal_keeps_what_is_in_it(small_disk):
    folder = small_disk / "run"
    with Workspace.create(folder, name="x", files={}) as workspace:
        workspace.journal.append(call("first"))
        with full(small_disk):
            with pytest.raises(EnvironmentFault) as caught:
                append_for_ever(workspace.journal)
            assert_says_what_to_do(caught.value, folder)
        kept = workspace.journal.calls()
        workspace.journal.append(call("after"))
    with Workspace.open(folder) as again:
        assert again.journal.calls() == (*kept, call("after"))


def test_a_disk_that_fills_up_at_any_point_leaves_a_run_that_can_go_on(small_disk, git):
    for leave in (0, 4096, 20_000, 60_000, 150_000):
        folder = small_disk / f"run{leave}"
        done = 0
        with full(small_disk, leave=500_000 + leave):
            try:
                with Workspace.create(folder, name="x", files={}) as workspace:
                    for number in range(1, 200):
                        (workspace.model_folder / "a").write_bytes(os.urandom(20_000))
                        workspace.commit_turn(turn(1, number), {})
                        done = number
            except LoopRunnerError as error:
                assert_says_what_to_do(error, folder)
            except OSError:
                pass  # the test's own writing
        assert done
        with Workspace.open(folder) as again:
            assert again.head().turn in (done, done + 1)
            again.commit_turn(turn(1, again.head().turn + 1), {})
        git("fsck", "--strict", cwd=folder)
        subprocess.run(["rm", "-r", folder], check=True)


def test_making_a_run_on_a_full_disk_leaves_nothing_in_the_way(small_disk):
    folder = small_disk / "run"
    with full(small_disk):
        with pytest.raises(EnvironmentFault) as caught:
            Workspace.create(folder, name="x", files={"prompt.md": b"x" * 10_000})
        assert "disk is full" in caught.value.message
    Workspace.create(folder, name="x", files={}).close()


AS_NOBODY = """
import os, sys
from pathlib import Path
from loop_runner.errors import LoopRunnerError
from loop_runner.workspace.workspace import Workspace
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    {code}
except LoopRunnerError as error:
    print(type(error).__name__, error.exit_code, error)
"""


def as_nobody(code, path):
    if not IS_ROOT:
        pytest.skip("needs root, to become another user")
    for folder in path.parents[:-1]:
        folder.chmod(folder.stat().st_mode | 0o055)
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY.format(code=code), str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_a_run_folder_that_may_not_be_written_is_said_to_be_so(workspace, run_folder):
    workspace.commit_turn(turn(1, 1), {})
    workspace.close()
    output = as_nobody("Workspace.open(Path(sys.argv[1]))", run_folder)
    assert output.startswith("WorkspaceError 4")
    assert "cannot be written (permission denied)" in output
    assert "what to do: give yourself write permission" in output


def test_a_run_cannot_be_made_where_nothing_may_be_written(tmp_path):
    output = as_nobody("Workspace.create(Path(sys.argv[1]) / 'run', name='x', files={})", tmp_path / "shut")
    assert output.startswith("WorkspaceError 4")
    assert "cannot be written" in output
    assert not (tmp_path / "shut").exists()


def test_a_run_folder_that_may_not_be_read_is_said_to_be_so(workspace, run_folder):
    workspace.close()
    (run_folder / ".git").chmod(0o700)
    output = as_nobody("Workspace.open(Path(sys.argv[1]))", run_folder)
    assert output.startswith("WorkspaceError 4")
    assert "cannot be read" in output


def test_a_read_only_file_system_is_said_to_be_one(small_disk):
    folder = small_disk / "run"
    Workspace.create(folder, name="x", files={}).close()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    try:
        with pytest.raises(LoopRunnerError, match="read-only file system") as caught:
            Workspace.open(folder)
        assert caught.value.exit_code == 4
    finally:
        subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
