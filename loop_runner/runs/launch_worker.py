"""The process that runs the runs of a queue: ``python -I launch_worker.py QUEUE SLOTS PYTHON``.

It leaves the session of the process that started it, takes a free slot (or ends), and starts ``loop-runner
resume RUN`` in a session of its own for each entry of the queue, one after another. Killed, it takes nothing
with it: the run holds the slot and the entry until it ends. Imports the standard library only, so it is small
while it waits. See ``run_queue`` for the files.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_MAX_ATTEMPTS = 3  # that a crash cut off: one more would be cut off, too
_TAIL_BYTES = 100_000


def main(queue: Path, slots: int, python: str) -> None:
    """Run what is in the queue, until nothing is left or others have all the slots."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    _passing("queue.slot")
    while (slot := _take_slot(queue, slots)) is not None:
        _passing("queue.take")
        while (entry := _take_entry(queue)) is not None:
            path, fd = entry
            _passing("queue.taken")
            try:
                _run(path, fd, slot, python)
            finally:
                os.close(fd)
        os.close(slot)
        # An entry that came while this process had the last slot was left to it.
        if (entry := _take_entry(queue)) is None:
            return
        os.close(entry[1])


def _take_slot(queue: Path, slots: int) -> int | None:
    for number in range(slots):
        fd = os.open(queue / f"slot-{number}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if _lock(fd):
            return fd
        os.close(fd)
    return None


def _take_entry(queue: Path) -> tuple[Path, int] | None:
    """The oldest entry that no process runs, with its lock."""
    for path in sorted(queue.glob("*.json")):
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        if _lock(fd) and os.fstat(fd).st_nlink:
            return path, fd
        os.close(fd)
    return None


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _run(path: Path, fd: int, slot: int, python: str) -> None:
    """Run what the entry names to its end, and remove the entry."""
    try:
        entry = json.loads(os.pread(fd, 100_000, 0))
        run = path.parent.parent / Path(entry["folder"]).name
        arguments = [str(argument) for argument in entry["arguments"]]
        attempts = int(entry["attempts"])
    except (ValueError, LookupError, TypeError):
        path.unlink(missing_ok=True)
        return
    if attempts < _MAX_ATTEMPTS and not (attempts and _has_ended(run, float(entry.get("started", 0.0)))):
        _write(fd, {**entry, "attempts": attempts + 1, "started": time.time()})
        _passing("queue.start")
        _start(run, arguments, (fd, slot), python)
        _passing("queue.ended")
    path.unlink(missing_ok=True)
    _passing("queue.removed")


def _write(fd: int, entry: dict[str, Any]) -> None:
    """Replace the entry in one step, under its lock: blanks cover the end of a longer one."""
    data = json.dumps(entry).encode()
    os.pwrite(fd, data.ljust(os.fstat(fd).st_size), 0)
    os.fsync(fd)


def _start(run: Path, arguments: list[str], fds: tuple[int, ...], python: str) -> None:
    private = run / ".git" / "loop-runner"
    if not private.is_dir():
        return
    with (private / "launch.log").open("ab") as log:
        process = subprocess.Popen(
            [python, "-P", "-m", "loop_runner", "resume", str(run), *arguments],
            cwd=run.parent,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=fds,
        )
    _passing("queue.started")
    process.wait()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)  # what it may have left in its group


def _has_ended(run: Path, started: float) -> bool:
    """Whether the trace says that the run has ended by itself since ``started``."""
    try:
        with (run / ".git" / "loop-runner" / "events.jsonl").open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - _TAIL_BYTES, 0))
            event = json.loads(file.read().rstrip(b"\n").rpartition(b"\n")[2])
            return bool(event["kind"] == "run_ended" and event["at"] >= started)
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _passing(name: str) -> None:
    """As ``failpoints.passing``, for the first time that ``name`` is come by, without importing it."""
    if os.environ.get("LOOP_RUNNER_FAILPOINT") == f"{name}:1:kill":
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    if os.fork():
        os._exit(0)  # the process that asked waits for this one only, and is not the parent of the other
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
