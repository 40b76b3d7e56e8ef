"""Writes down what happens, as it happens: the trace.

One event is one JSON line in the run folder's ``.git/loop-runner/events.jsonl``, and one call to each
listener (the display is one). The trace holds the clock times that the git tree leaves out. Losing it loses
no work.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

EventKind = Literal[
    "run_started",
    "pass_started",
    "turn_started",
    "reply_received",
    "cell_finished",
    "turn_committed",
    "subcall_finished",
    "verifying",
    "pass_ended",
    "run_ended",
    "notice",
]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened; ``text`` is for a person, ``data`` is JSON-able."""

    kind: EventKind
    text: str = ""
    pass_number: int = 0
    turn: int = 0
    data: Mapping[str, Any] = field(default_factory=dict)


Listener = Callable[[Event], None]


class Trace:
    """Appends events to a file and tells listeners, in the order in which they happen."""

    def __init__(self, path: Path | None = None, listeners: tuple[Listener, ...] = ()) -> None:
        self._file = None if path is None else path.open("a", encoding="utf-8")
        self._listeners = listeners

    def append(self, event: Event) -> None:
        """Write ``event`` down. A full disk does not stop a run here: the trace is a log, not the state."""
        if self._file is not None:
            line: dict[str, Any] = {
                "at": round(time.time(), 3),
                "kind": event.kind,
                "pass": event.pass_number,
            }
            line |= {"turn": event.turn, "text": event.text, "data": dict(event.data)}
            try:
                self._file.write(json.dumps(line, ensure_ascii=True) + "\n")
                self._file.flush()
            except OSError:
                self._file = None
        for listener in self._listeners:
            listener(event)

    def close(self) -> None:
        """Close the file; later events reach the listeners only."""
        if self._file is not None:
            self._file.close()
            self._file = None
