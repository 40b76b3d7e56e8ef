"""Says how far a long step before a run is: fetching, reading, hashing and converting its inputs.

Owns the one listener of the process, which only a terminal sets, and what it is given. Nothing is counted and
nothing is kept without a listener. Relies on the standard library.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Step:
    """A step that is under way: ``done`` of ``total`` of its ``unit``; a total of 0 is not known."""

    what: str
    done: int = 0
    total: int = 0
    unit: str = "bytes"

    @property
    def share(self) -> float:
        """How much of it is done, from 0 to 1; 0 where the total is not known."""
        return min(self.done / self.total, 1.0) if self.total > 0 else 0.0

    def __str__(self) -> str:
        known = f" of {_amount(self.total, self.unit)}" if self.total > 0 else ""
        return f"{_amount(self.done, self.unit)}{known}"


_Listener = Callable[[Step | None], None]
_listener: _Listener | None = None


@contextmanager
def listening(listener: _Listener) -> Iterator[None]:
    """Call ``listener`` with every step while the block runs, and with None when one has ended."""
    global _listener  # noqa: PLW0603 - one switch for the process, so that nothing is passed down for it
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before


def is_shown() -> bool:
    """Whether anything looks at the steps: a total that costs time is worth it only then."""
    return _listener is not None


@contextmanager
def step(what: str, total: int = 0, unit: str = "bytes") -> Iterator[Callable[[int], None]]:
    """A step that takes as long as the block; what it yields takes what was done, from any thread."""
    listener = _listener
    if listener is None:
        yield _ignore
        return
    current, lock = Step(what, 0, total, unit), threading.Lock()

    def advance(amount: int) -> None:
        nonlocal current
        with lock:
            current = replace(current, done=current.done + amount)
            listener(current)

    listener(current)
    try:
        yield advance
    finally:
        listener(None)


def _ignore(_amount: int) -> None:
    """Nobody looks."""


def _amount(number: int, unit: str) -> str:
    return f"{number / 1e6:,.1f} MB" if unit == "bytes" else f"{number:,} {unit}"
