"""Follows an active run: the trace, line by line, as the runner writes it.

Relies on ``trace_file`` for the waiting, and on the run's lock to know that the run has ended. Never waits
for a run without a runner.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import loop_runner as lr
from loop_runner.api.typed_events import typed
from loop_runner.cli import output
from loop_runner.cli.display import Progress
from loop_runner.errors import ConfigError
from loop_runner.events import Event
from loop_runner.runs.trace_file import Line, lines, woken_by
from loop_runner.text import shell


def follow(folder: Path, is_running: Callable[[], bool], *, is_verbose: bool, as_json: bool) -> None:
    """Print the trace of the run's last start, and what is added to it until the run ends."""
    trace = folder / ".git" / "loop-runner" / "events.jsonl"
    if not trace.is_file():
        raise ConfigError(
            f"{folder} has no trace to follow",
            why="the trace is stored next to the history, and a clone does not include it",
            hint=f"`loop-runner log {shell(folder)}` shows the story from the history",
        )
    progress = Progress(is_verbose=is_verbose)
    with trace.open("rb") as file, woken_by(trace.parent) as wait:
        for line in _from_last_start(lines(file, is_running, wait)):
            shown = (
                json.dumps({"version": output.JSON_VERSION, **line}) if as_json else _shown(line, progress)
            )
            if shown and not output.stream(shown):
                return


def _from_last_start(events: Iterator[Line | None]) -> Iterator[Line]:
    """The lines from the last start so far, then all new ones."""
    kept: list[Line] = []
    for line in events:
        if line is None:
            break
        if line["kind"] == "run_started":
            kept.clear()
        kept.append(line)
    yield from kept
    yield from (line for line in events if line is not None)


def _shown(line: Line, progress: Progress) -> str | None:
    """One event for a person, with the time of day; None when it is not interesting."""
    try:
        event = typed(Event(line["kind"], line["text"], line["pass"], line["turn"], line["data"]))
        shown = progress.line(event)
        if isinstance(event, lr.types.RunEnded):
            shown = f"{event.status}: {event.text}"
        clock = time.strftime("%H:%M:%S", time.localtime(line["at"]))
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return f"--:--:--  {line['kind']}"  # a newer runner writes kinds that this one does not know
    return None if shown is None else f"{clock}  " + shown.replace("\n", "\n          ")
