"""The runs that wait for a process, in a folder beside them: ``.queue``.

An entry is a file, placed atomically, that names a run folder. Who runs it holds the entry's lock and one of
the ``slot-N`` files, as many as may run at once; both are inherited by the process of the run, so that they
are free exactly when that process and its ``launch_worker`` have ended. An entry is removed when its run has
ended. One that is left without a lock was cut off by a crash: its run is continued. Starts no process.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loop_runner import failpoints
from loop_runner.errors import WorkspaceError
from loop_runner.text import shell

FOLDER = ".queue"
LOG = "launch.log"
_MAX_ENTRY_BYTES = 100_000
_MAX_LOG_BYTES = 20_000
_UNFINISHED_S = 60.0  # the age of a file that nobody will finish writing
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Entry:
    """A run that waits or runs. ``is_taken``: a process has it; ``started``: when, 0 for not yet."""

    path: Path
    folder: Path
    is_taken: bool
    started: float  # seconds since 1970


@dataclass(frozen=True, slots=True)
class FailedStart:
    """The output of a process that ended before it could run its run."""

    path: Path
    reason: str


def folder_for(run: Path) -> Path:
    """The queue of the folder that the run folder ``run`` is in."""
    return run.absolute().parent / FOLDER


def log_of(run: Path) -> Path:
    """Where the process that a launcher started for ``run`` prints."""
    return run / ".git" / "loop-runner" / LOG


@contextlib.contextmanager
def adding(run: Path, arguments: Sequence[str] = ()) -> Iterator[None]:
    """Add ``run`` to the queue; it may be taken when the block has ended, and is removed if that fails.

    ``arguments`` are further ones of ``loop-runner resume RUN``.
    """
    queue = _made(folder_for(run))
    path = queue / f"{time.time_ns():020d}-{os.getpid()}-{next(_numbers)}.json"
    beside = path.with_suffix(".new")
    content = {"version": 1, "folder": run.absolute().name, "arguments": list(arguments), "attempts": 0}
    failpoints.passing("queue.write")
    fd = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.write(fd, json.dumps(content).encode())
        os.fsync(fd)
        failpoints.passing("queue.place")
        beside.rename(path)
        _sync(queue)
        failpoints.passing("queue.placed")
        try:
            yield
            failpoints.passing("queue.added")
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    finally:
        os.close(fd)


def entries(queue: Path) -> list[Entry]:
    """Everything in the queue, in the order in which it was added."""
    queued = (_entry(path) for path in sorted(queue.absolute().glob("*.json")))
    return [entry for entry in queued if entry is not None]


def is_waiting(run: Path, last_event_at: float = 0.0) -> bool:
    """Whether ``run`` is in the queue, or its process has just been started and has no event yet."""
    queue = folder_for(run)
    if not queue.is_dir():
        return False
    mine = [entry for entry in entries(queue) if entry.folder == run.absolute()]
    return any(not entry.started or (entry.is_taken and entry.started > last_event_at) for entry in mine)


def is_served(queue: Path) -> bool:
    """Whether a process runs what is in the queue: one that was killed has left its entries as they were."""
    return any(_is_held(path) for path in queue.glob("slot-*"))


def sweep(queue: Path) -> None:
    """Remove what processes that were killed while they wrote an entry have left in the queue."""
    before = time.time() - _UNFINISHED_S
    for path in queue.glob("*.new"):
        with contextlib.suppress(OSError):
            if path.lstat().st_mtime < before:
                path.unlink()


def remove(run: Path) -> bool:
    """Take ``run`` out of the queue; False where it is not in it, or has a process already."""
    for entry in entries(folder_for(run)):
        if entry.folder == run.absolute():
            with _locked(entry.path) as is_free:
                if is_free:
                    entry.path.unlink(missing_ok=True)
                    return True
    return False


def failed_start(run: Path) -> FailedStart | None:
    """What a process that was started for ``run`` printed, if all that it did was to print it."""
    path = log_of(run)
    if (path.parent / "events.jsonl").exists():
        return None
    try:
        data = path.read_bytes()[-_MAX_LOG_BYTES:]
    except OSError:
        return None
    lines = data.decode("utf-8", "replace").splitlines()
    marked = [line for line in lines if line.startswith("loop-runner: ")]
    reason = next(iter(marked or reversed([line for line in lines if line.strip()])), "it printed nothing")
    return FailedStart(path, reason.removeprefix("loop-runner: "))


def _made(queue: Path) -> Path:
    """The folder of the queue. What another user put there is not used: it names what is run."""
    queue.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = queue.lstat()
    if not queue.is_dir() or queue.is_symlink() or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise WorkspaceError(
            f"{queue} belongs to another user, or others may write in it",
            why="it names the runs that are started with your keys",
            hint=f"choose a folder of your own for the run, or see `{shell('ls', '-ld', queue)}`",
        )
    return queue


def _entry(path: Path) -> Entry | None:
    try:
        data: Any = json.loads(path.read_bytes()[:_MAX_ENTRY_BYTES])
        name, started = data["folder"], float(data.get("started", 0.0))
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    if not isinstance(name, str) or Path(name).name != name:
        return None
    with _locked(path) as is_free:
        return Entry(path, path.parent.parent / name, not is_free, started)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Whether no process had the lock of ``path``; within the block, this one has it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


def _is_held(path: Path) -> bool:
    with _locked(path) as is_free:
        return not is_free


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
