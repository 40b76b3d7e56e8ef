"""How a run that is asked to stop does so: what was asked, and when its main thread may be broken off.

Owns the request to stop and the one moment at which ``Interrupted`` may be raised. Whoever
handles signals (the command line) calls ``ask``, and on its own timer ``may_break_off``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import FrameType

_GRACE_S = 1.4  # for a cell, a gate or a commit to end by itself when no request is out
_URGENT_GRACE_S = 0.3


class Interrupted(BaseException):
    """Breaks off what the main thread does, at most once: what is committed and journalled is kept."""


class Stop:
    """What a run is asked from outside; as a function it says whether it is to stop.

    Asked once, no new request is sent, and those that are out are waited for. Asked twice (``is_urgent``),
    they are given up.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, permit: Callable[[], bool] = lambda: True
    ) -> None:
        """``permit``: whether the run may still send requests; else it stops as if asked twice."""
        self.times_requested = 0
        self.is_ending = False  # from now on nothing is broken off
        self._clock = clock
        self._permit = permit
        self._busy_until = 0.0
        self._counts: list[Callable[[], int]] = []
        self._listeners: list[Callable[[], object]] = []

    def __call__(self) -> bool:
        """Whether the run is to stop."""
        return self.times_requested > 0 or not self._permit()

    @property
    def is_urgent(self) -> bool:
        """Whether it was asked more than once."""
        return self.times_requested > 1 or not self._permit()

    def ask(self) -> int:
        """Ask once more; how often by now."""
        self.times_requested += 1
        self._busy_until = self._clock()
        for listener in self._listeners:
            listener()
        return self.times_requested

    def when_asked(self, listener: Callable[[], object]) -> None:
        """Call ``listener`` each time that it is asked, by a signal or by the operator, in any thread."""
        self._listeners.append(listener)

    def watch(self, in_flight: Callable[[], int]) -> None:
        """While ``in_flight`` is not 0, something is out that is paid for: nothing is broken off."""
        self._counts.append(in_flight)

    def may_break_off(self) -> bool:
        """Whether to raise ``Interrupted`` now: asked, nothing in flight for a moment, and not ending."""
        if not self() or self.is_ending:
            return False
        now = self._clock()
        if any(count() for count in self._counts):
            self._busy_until = now
            return False
        if now - self._busy_until < (_URGENT_GRACE_S if self.is_urgent else _GRACE_S):
            return False
        self.is_ending = True
        return True


def is_committing(frame: FrameType | None) -> bool:
    """Whether the run folder is being written: that takes a moment, and is not left half done."""
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("loop_runner.workspace."):
            return True
        frame = frame.f_back
    return False
