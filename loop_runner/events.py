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
    "cell_started",
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
    "operator",
    "paused",
    "resumed",
    "waiting",
    "pass_ended",
    "run_ended",
    "notice",
]


Amounts = Mapping[str, tuple[float, float | None]]
"""What is used of each limit, by its key in a task file, and the limit; None: there is none."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened; ``text`` is for a person, ``data`` is JSON-able."""

    kind: EventKind
    text: str = ""
    pass_number: int = 0
    turn: int = 0
    data: Mapping[str, Any] = field(default_factory=dict)
    seq: int = field(default=0, compare=False)  # counted by the trace, from 1, over all starts of the run
    at: float = field(default=0.0, compare=False)  # seconds since 1970, as the trace wrote it down
    budget: Amounts = field(default_factory=dict, compare=False)  # what is used so far; empty: not recorded


# Thousands in a second: not each is flushed.
_MANY: frozenset[EventKind] = frozenset({"subcall_finished", "tool_finished"})
# Those that show how much of the budget is used.
_METERED: frozenset[EventKind] = frozenset(
    {
        *("run_started", "pass_started", "turn_started", "reply_received", "cell_started", "cell_finished"),
        *("turn_committed", "subcalls_progress", "verifying", "pass_ended", "run_ended"),
    }
)
_FLUSH_S = 0.1
_to_json = json.JSONEncoder(ensure_ascii=True).encode

Listener = Callable[[Event], None]


class Trace:
    """Appends events to a file and tells listeners, in the order in which they happen, from any thread."""

    def __init__(
        self,
        path: Path | None = None,
        listeners: tuple[Listener, ...] = (),
        meter: Callable[[], Amounts] = dict,
    ) -> None:
        """``meter`` gives what is used of each limit, for the events that show it."""
        self._meter = meter
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
        budget = self._meter() if event.kind in _METERED else {}
        if budget:
            line["budget"] = budget
        with self._lock:
            self._seq += 1
            event = replace(event, seq=self._seq, at=line["at"], budget=budget)
            line["seq"] = self._seq
            self._write(_to_json(line).encode() + b"\n", is_one_of_many=event.kind in _MANY)
            for listener in self._listeners:
                # Events come from the threads that deliver replies: no listener may end or hold up a run.
                with contextlib.suppress(Exception):
                    listener(event)

    def tell(self, kind: EventKind, text: str = "", at: tuple[int, int] = (0, 0), /, **data: object) -> None:
        """Append an event of this kind; ``at`` is its pass and turn."""
        self.append(Event(kind, text, *at, data))

    def flush(self) -> None:
        """Let readers see every event so far."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            if self._file is not None:
                self._file.flush()

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
            return int(
                line["seq"] if "seq" in line else sum(read_line(record) is not None for record in lines)
            )
        except (ValueError, LookupError, TypeError, RecursionError):
            continue
    return 0


def read_line(data: bytes) -> dict[str, Any] | None:
    """A line of the file, as ``Trace`` writes it; None for one that a killed runner left torn."""
    try:
        line = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) and isinstance(line.get("kind"), str) else None


_UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError)


def event_from(line: Mapping[str, Any], seq: int) -> Event:
    """The event of a line; what cannot be read of it has its default. ``seq``: for a line without one."""
    data, text = line.get("data"), line.get("text")
    return Event(
        line["kind"],
        text if isinstance(text, str) else "",
        _number(line.get("pass")),
        _number(line.get("turn")),
        data if isinstance(data, dict) else {},
        seq=max(_number(line.get("seq")), seq),
        at=float(at) if isinstance(at := line.get("at"), int | float) else 0.0,
        budget=_amounts(line.get("budget")),
    )


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _amounts(value: object) -> Amounts:
    """The budget of a line as far as it is one: a run folder may come from anyone."""
    try:
        return {
            str(name): (float(used), None if limit is None else float(limit))
            for name, (used, limit) in dict(value or {}).items()  # type: ignore[call-overload]
        }
    except _UNREADABLE:
        return {}


def _open(path: Path) -> IO[bytes]:
    """The file to append to; a line that a killed runner left torn stays a line of its own."""
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
    return path.open("ab", buffering=1 << 16)
