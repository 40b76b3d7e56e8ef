"""What a killed process leaves among temporary files goes with the next run; what a living one has, stays."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loop_runner import scratch
from loop_runner.sandbox import wrap
from tests.support.commands import clean_environment, loop_runner, wait_for
from tests.support.tasks import cell, ready, write_task


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The temporary folder of this test."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setattr(scratch, "_ELSEWHERE", ())
    return folder


HELD = """
import sys, time
from pathlib import Path
from loop_runner import scratch
made = scratch.make("kernel", parent=Path(sys.argv[1]))
(made.path / "deep" / "er").mkdir(parents=True)
(made.path / "deep" / "er" / "file").write_text("x")
print(made.path, flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(place):
    """Another process with a folder in ``place``."""
    process = subprocess.Popen(
        [sys.executable, "-c", HELD, str(place)],
        stdout=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    )
    assert process.stdout is not None
    yield process, Path(process.stdout.readline().strip())
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_folder_of_a_living_process_stays_and_that_of_a_killed_one_goes(place, holder):
    assert scratch.sweep() == 0
    process, made = holder
    assert os.listdir(place) == [made.name]
    process.kill()
    process.wait()
    assert scratch.sweep() == 1
    assert os.listdir(place) == []


def test_ones_own_folder_stays_and_goes_when_it_is_left(place):
    with scratch.make("gate") as folder:
        assert scratch.sweep() == 0
        assert folder.name.startswith("loop-runner-tmp-gate-")
        assert folder.stat().st_mode & 0o777 == 0o700
        closed = folder / "closed"
        (closed / "in").mkdir(parents=True)
        closed.chmod(0)
        folder.chmod(0o500)
    assert os.listdir(place) == []


def left(folder):
    """A folder as a killed process leaves it."""
    made = scratch.make("kernel", parent=folder)
    os.close(made._fd)
    return made.path


def test_links_are_removed_and_not_followed(place, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("x")
    folder = left(place)
    (folder / "link").symlink_to(kept)
    (folder / "file").symlink_to(kept / "file")
    (place / "loop-runner-tmp-kernel-link").symlink_to(kept)
    assert scratch.sweep() == 1
    assert os.listdir(place) == ["loop-runner-tmp-kernel-link"]
    assert os.listdir(kept) == ["file"]


def test_what_only_looks_like_one_is_left_alone(place):
    for name in ("loop-runner-kernel-abc", "mine", "loop-runner-abc.log"):
        (place / name).mkdir()
    (place / "loop-runner-tmp-file").write_text("x")
    assert scratch.sweep() == 0
    assert len(os.listdir(place)) == 4


def test_a_folder_that_was_never_locked_goes_after_an_hour(place):
    new = place / ".loop-runner-new-abc"
    new.mkdir()
    assert scratch.sweep() == 0, "its maker may be about to lock it"
    os.utime(new, (0, time.time() - 3601))
    assert scratch.sweep() == 1


def test_a_sweep_ends_in_time_and_the_next_one_goes_on(place):
    folder = left(place)
    for number in range(2000):
        (folder / str(number)).write_text("")
    for _ in range(20):
        left(place)
    assert scratch.sweep(within_s=0) == 0
    assert len(os.listdir(place)) == 21
    while scratch.sweep(within_s=0.01) or os.listdir(place):
        pass
    assert os.listdir(place) == []


def test_nothing_that_goes_wrong_fails_it(place):
    left(place)
    place.chmod(0)
    try:
        scratch.sweep()
    finally:
        place.chmod(0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_a_folder_of_another_user_is_left_alone_and_one_given_to_the_models_user_is_not(place):
    others, given = left(place), left(place)
    os.chown(others, 12345, 12345)
    os.chown(given, 0x7000_1234, 0x7000_1234)
    assert scratch.sweep() == 1
    assert os.listdir(place) == [others.name]


def test_the_ids_that_folders_are_given_to_are_those_of_the_models_code():
    assert range(wrap._FIRST_UID, wrap._FIRST_UID + wrap._UIDS) == scratch._HANDED_OVER
    assert scratch._NOBODY == wrap._NOBODY


def test_a_run_that_is_killed_leaves_folders_and_the_next_run_removes_them(tmp_path):
    place = tmp_path / "tmp"
    place.mkdir()
    env = {"TMPDIR": str(place)}
    root = [cell("import time\nopen('here', 'w').close()\ntime.sleep(600)"), ready("42")]
    task = write_task(tmp_path / "task", root=root)
    command = [
        sys.executable,
        "-m",
        "loop_runner",
        "run",
        str(task),
        "-q",
        "--run-dir",
        str(tmp_path / "run"),
    ]
    running = subprocess.Popen(command, env=clean_environment(env), cwd=tmp_path, stderr=subprocess.DEVNULL)
    wait_for((tmp_path / "run/workspace/here").exists, timeout_s=60)
    made = {name for name in os.listdir(place) if name.startswith(scratch.PREFIX)}
    assert any("-kernel-" in name for name in made)
    other = write_task(tmp_path / "other", root=[ready("42")])
    assert loop_runner("run", other, "-q", cwd=tmp_path, env=env).returncode == 0
    assert made <= set(os.listdir(place)), "of a living run"
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert made <= set(os.listdir(place)), "nobody was there to remove them"
    assert loop_runner("run", other, "-q", "--run-dir", "again", cwd=tmp_path, env=env).returncode == 0
    assert [name for name in os.listdir(place) if name.startswith((scratch.PREFIX, scratch._NEW))] == []
