"""Reads the trace of a run, from any process: all of it, its end, or what is added to it.

Owns the waiting for new lines. Relies on watchdog to be woken when the trace grows, and looks by itself once
a second where nothing wakes it (a network file system, say). A trace may come from anyone: what is no event
is left out, and a link or a device is not opened.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from loop_runner.events import Event, event_from, read_line

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver

LOOK_AGAIN_S = 1.0
_BLOCK = 64 * 1024
_MAX_TAIL = 16 * 1024 * 1024
_STARTS = (b'"kind": "pass_started"', b'"kind": "run_started"')

Line = dict[str, Any]
"""One line of the trace, as ``events.Trace`` writes it."""


def path_in(folder: Path) -> Path:
    """Where the trace of the run in ``folder`` is."""
    return folder / ".git" / "loop-runner" / "events.jsonl"


def opened(path: Path) -> IO[bytes] | None:
    """The trace, for reading; None where there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return None
    return os.fdopen(fd, "rb")


# ── the end of it ───────────────────────────────────────────────────────────────────────────────────


def last_events(folder: Path, *, whole_pass: bool) -> list[Event]:
    """The last events of the trace; ``whole_pass``: from the last start of a pass or of the run."""
    if (file := opened(path_in(folder))) is None:
        return []
    with file:
        data = _tail(file, whole_pass=whole_pass)
    lines = (read_line(line) for line in data.split(b"\n") if line)
    return [event_from(line, 0) for line in lines if line is not None]


def last_event_at(folder: Path) -> float:
    """When the last event was written, in seconds since 1970; 0 where there is none."""
    return max((event.at for event in last_events(folder, whole_pass=False)), default=0.0)


def _tail(file: IO[bytes], *, whole_pass: bool) -> bytes:
    end = file.seek(0, os.SEEK_END)
    length = min(_BLOCK if whole_pass else _BLOCK // 8, end)
    while True:
        file.seek(end - length)
        data = file.read(length)
        if length == end:
            return data
        whole = data[data.find(b"\n") + 1 :]
        is_enough = any(mark in whole for mark in _STARTS) if whole_pass else whole.count(b"\n") > 0
        if is_enough or length >= _MAX_TAIL:
            return whole
        length = min(length * 4, end)


# ── all of it, as it grows ──────────────────────────────────────────────────────────────────────────


def follow(
    folder: Path,
    since: int,
    is_active: Callable[[], bool],
    observers: Sequence[Callable[[], BaseObserver]] | None = None,
) -> Iterator[Event]:
    """The events after number ``since``, and those that are added until the run ends.

    Their numbers have no gap. ``is_active`` says whether a process runs the run, or soon will.
    """
    with contextlib.ExitStack() as stack:
        wait: Callable[[], None] | None = None
        while (file := opened(path_in(folder))) is None:
            if not is_active():
                return
            threading.Event().wait(LOOK_AGAIN_S / 10)  # it has not begun yet
        stack.enter_context(file)

        def wait_for_more() -> None:
            nonlocal wait
            if wait is None:
                wait = stack.enter_context(woken_by(path_in(folder).parent, observers))
            wait()

        seq = 0
        for line in lines(file, is_active, wait_for_more):
            if line is not None:
                event = event_from(line, seq + 1)
                seq = event.seq
                if seq > since:
                    yield event


def lines(file: IO[bytes], is_active: Callable[[], bool], wait: Callable[[], None]) -> Iterator[Line | None]:
    """The whole lines of the trace as they come; None each time that all there were have been given."""
    torn = b""
    while True:
        goes_on = is_active()  # before the file: what is written until the lock is released is still read
        while chunk := file.readline():
            torn += chunk
            if torn.endswith(b"\n"):
                if (line := read_line(torn)) is not None:
                    yield line
                torn = b""
        yield None
        if not goes_on:
            return
        wait()


@contextlib.contextmanager
def woken_by(
    folder: Path, observers: Sequence[Callable[[], BaseObserver]] | None = None
) -> Iterator[Callable[[], None]]:
    """Gives a function that waits until a file in ``folder`` was written, or for a second."""
    from watchdog.events import FileModifiedEvent, FileSystemEventHandler
    from watchdog.observers import Observer
    from watchdog.observers.polling import PollingObserver

    written = threading.Event()

    class Handler(FileSystemEventHandler):
        def on_modified(self, event: object) -> None:
            written.set()

    def wait() -> None:
        written.wait(LOOK_AGAIN_S)
        written.clear()

    observer = None
    for make in observers or (Observer, PollingObserver):
        observer = make()
        observer.schedule(Handler(), str(folder), event_filter=[FileModifiedEvent])
        try:
            observer.start()
            break
        except OSError:  # the system has no watches left, or none at all
            observer = None
    try:
        yield wait
    finally:
        if observer is not None:
            observer.stop()
            observer.join()
