"""Writes down what happens, as it happens: the trace.

One event is one JSON line in the run folder's ``.git/loop-runner/events.jsonl``, and one call to each
listener (the display is one). The trace holds the clock times that the git tree leaves out. Losing it loses
no work.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Literal

from loop_runner import failpoints, redaction

EventKind = Literal[
    "run_started",
    "pass_started",
    "turn_started",
    "reply_received",
    "cell_finished",
    "turn_committed",
    "subcall_finished",
    "subcalls_progress",
    "tool_finished",
    "child_started",
    "child_turn",
    "child_finished",
    "retried",
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
    seq: int = field(default=0, compare=False)  # counted by the trace, from 1, over all starts of the run


_MANY: frozenset[EventKind] = frozenset(
    {"subcall_finished", "tool_finished"}
)  # thousands in a second: not each is flushed
_FLUSH_S = 0.1
_to_json = json.JSONEncoder(ensure_ascii=True).encode

Listener = Callable[[Event], None]


class Trace:
    """Appends events to a file and tells listeners, in the order in which they happen, from any thread."""

    def __init__(self, path: Path | None = None, listeners: tuple[Listener, ...] = ()) -> None:
        self._file = None if path is None else _open(path)
        self._listeners = listeners
        self._seq = 0 if path is None else _last_seq(path)
        self._flushed_at = 0.0
        self._lock = threading.RLock()

    def append(self, event: Event) -> None:
        """Write ``event`` down. A full disk does not stop a run here: the trace is a log, not the state."""
        if redaction.is_active():
            text, data = redaction.clean(event.text), redaction.clean_json(event.data)
            event = replace(event, text=text, data=data)
        line: dict[str, Any] = {"at": round(time.time(), 3), "kind": event.kind, "pass": event.pass_number}
        line |= {"turn": event.turn, "text": event.text, "data": dict(event.data)}
        with self._lock:
            self._seq += 1
            event = replace(event, seq=self._seq)
            line["seq"] = self._seq
            self._write(_to_json(line).encode() + b"\n", is_one_of_many=event.kind in _MANY)
            for listener in self._listeners:
                # Events come from the threads that deliver replies: no listener may end or hold up a run.
                with contextlib.suppress(Exception):
                    listener(event)

    def tell(self, kind: EventKind, text: str = "", at: tuple[int, int] = (0, 0), /, **data: object) -> None:
        """Append an event of this kind; ``at`` is its pass and turn."""
        self.append(Event(kind, text, *at, data))

    def close(self) -> None:
        """Close the file; later events reach the listeners only."""
        with self._lock, contextlib.suppress(OSError):
            if self._file is not None:
                self._file.close()
            self._file = None

    def _write(self, data: bytes, *, is_one_of_many: bool) -> None:
        if self._file is None:
            return
        try:
            failpoints.passing("trace.write")
            self._file.write(data)
            now = time.monotonic()
            if not is_one_of_many or now - self._flushed_at > _FLUSH_S:
                self._file.flush()
                self._flushed_at = now
        except OSError:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None


def _last_seq(path: Path) -> int:
    """The number of the last whole event in the file; an older file's events are counted."""
    lines = path.read_bytes().split(b"\n") if path.is_file() else []  # a device has no end
    for at in range(len(lines), 0, -1):
        try:
            line = json.loads(lines[at - 1])
            return int(line.get("seq", at))
        except (ValueError, AttributeError, TypeError, RecursionError):
            continue
    return 0


def _open(path: Path) -> IO[bytes]:
    """The file to append to; a line that a killed runner left torn stays a line of its own."""
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
    return path.open("ab", buffering=1 << 16)
