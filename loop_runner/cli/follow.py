"""Follows a run while it goes on: the trace, line by line, as the runner writes it.

Owns the waiting. Relies on watchdog to be woken when the trace grows, looks by itself once a second where
nothing wakes it (a network file system, say), and on the run's lock to know that the run has ended. Never
waits for a run that nobody runs.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import loop_runner as lr
from loop_runner.api.typed_events import typed
from loop_runner.cli import output
from loop_runner.cli.display import Progress
from loop_runner.errors import ConfigError
from loop_runner.events import Event
from loop_runner.text import shell

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver

_LOOK_AGAIN_S = 1.0

Line = dict[str, Any]
"""One line of the trace, as ``events.Trace`` writes it."""


def follow(folder: Path, is_running: Callable[[], bool], *, is_verbose: bool, as_json: bool) -> None:
    """Print the trace of the run's last start, and what is added to it until the run ends."""
    trace = folder / ".git" / "loop-runner" / "events.jsonl"
    if not trace.is_file():
        raise ConfigError(
            f"{folder} has no trace to follow",
            why="the trace is kept beside the history, and a clone does not bring it",
            hint=f"`loop-runner log {shell(folder)}` tells the story from the history",
        )
    progress = Progress(is_verbose=is_verbose)
    with trace.open("rb") as file, woken_by(trace.parent) as wait:
        for line in _from_last_start(lines(file, is_running, wait)):
            shown = (
                json.dumps({"version": output.JSON_VERSION, **line}) if as_json else _shown(line, progress)
            )
            if shown and not output.stream(shown):
                return


def lines(file: IO[bytes], is_running: Callable[[], bool], wait: Callable[[], None]) -> Iterator[Line | None]:
    """Every line of the trace; None when all that is there was given. Ends when nobody runs any more."""
    torn = b""
    while True:
        goes_on = is_running()  # looked at first: what is written before the end is read after it
        while data := file.readline():
            torn += data
            if torn.endswith(b"\n"):
                if (line := _parsed(torn)) is not None:
                    yield line
                torn = b""
        yield None
        if not goes_on:
            return
        wait()


def _parsed(data: bytes) -> Line | None:
    """The line, or None for one that a killed runner left torn."""
    try:
        line = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) and isinstance(line.get("kind"), str) else None


def _from_last_start(found: Iterator[Line | None]) -> Iterator[Line]:
    """The lines from the last start that is there already, then all that come."""
    kept: list[Line] = []
    for line in found:
        if line is None:
            break
        if line["kind"] == "run_started":
            kept.clear()
        kept.append(line)
    yield from kept
    yield from (line for line in found if line is not None)


def _shown(line: Line, progress: Progress) -> str | None:
    """One event for a person, with the time of day; None when it is of no interest."""
    try:
        event = typed(Event(line["kind"], line["text"], line["pass"], line["turn"], line["data"]))
        said = progress.line(event)
        if isinstance(event, lr.types.RunEnded):
            said = f"{event.status}: {event.text}"
        clock = time.strftime("%H:%M:%S", time.localtime(line["at"]))
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return f"--:--:--  {line['kind']}"  # a newer runner writes what this one does not know
    return None if said is None else f"{clock}  " + said.replace("\n", "\n          ")


# ── being woken ─────────────────────────────────────────────────────────────────────────────────────


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
        written.wait(_LOOK_AGAIN_S)
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
