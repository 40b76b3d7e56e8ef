"""One runner per run folder, an orphaned git included."""

import signal
import subprocess
import sys
import time

import pytest

from loop_runner.errors import WorkspaceError
from loop_runner.workspace.lock import Lock, holder

HOLD = (
    "import sys, time\nfrom pathlib import Path\nfrom loop_runner.workspace.lock import Lock\n"
    "lock = Lock.take(Path(sys.argv[1]), Path(sys.argv[1]).parent)\n"
)


def start(path, code):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD + code, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process, how=signal.SIGKILL):
    process.send_signal(how)
    process.communicate()


def test_a_second_runner_is_told_the_pid_of_the_first(tmp_path):
    path = tmp_path / "lock"
    first = start(path, "print('held', flush=True); time.sleep(60)")
    try:
        with pytest.raises(WorkspaceError, match=f"pid {first.pid}") as caught:
            Lock.take(path, tmp_path)
        assert caught.value.exit_code == 2
        assert f"kill -INT {first.pid}" in caught.value.hint
        held = holder(path)
        assert held is not None
        assert held.pid == first.pid
    finally:
        end(first)
    Lock.take(path, tmp_path).release()
    assert holder(path) is None


def test_the_lock_of_a_killed_runner_waits_for_its_git(tmp_path):
    path = tmp_path / "lock"
    code = (
        "import subprocess\n"
        "subprocess.Popen(['sleep', '1'], pass_fds=(lock.fd,), stdout=-3, start_new_session=True)\n"
        "print('held', flush=True); time.sleep(60)"
    )
    first = start(path, code)
    end(first)
    started = time.monotonic()
    Lock.take(path, tmp_path).release()
    assert 0.3 < time.monotonic() - started < 8


def test_a_reader_that_looks_does_not_keep_a_runner_out(tmp_path):
    path = tmp_path / "lock"
    for _ in range(20):
        assert holder(path) is None
        Lock.take(path, tmp_path).release()


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        Lock.take(tmp_path / "lock", tmp_path)
    assert (tmp_path / "precious").read_text() == "mine"
