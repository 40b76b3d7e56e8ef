"""How a run that is asked to stop does so: what was asked, and when its thread may be broken off.

Owns the request to stop and the one moment at which ``Interrupted`` may be raised. The caller of a run calls
``ask``; ``api/work.py``, which has the run's thread, calls ``may_break_off``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import FrameType

_GRACE_S = 1.4  # for a cell, a gate or a commit to end by itself when no request is out
_URGENT_GRACE_S = 0.3
_OPEN_OR_CLOSE = frozenset({"__init__", "__enter__", "__exit__", "close"})


class Interrupted(BaseException):
    """Breaks off what the thread of a run does, at most once: what is committed and journalled is kept."""


class Stop:
    """A way to stop a run, from any thread or from a signal handler: ``stop.ask()``.

    Asked once, the run sends no new request and waits for the replies on their way. Asked twice
    (``is_urgent``), it gives them up. All finished turns are saved either way. Called, it returns
    whether it was asked. A ``Stop`` is for one run.
    """

    def __init__(self) -> None:
        self.times_requested = 0
        self.is_ending = False  # from now on nothing is broken off
        self.permit: Callable[[], bool] = lambda: True  # whether requests may be sent; else as if asked twice
        self._clock = time.monotonic
        self._busy_until = 0.0
        self._counts: list[Callable[[], int]] = []
        self._when_asked: Callable[[], object] = int

    def __call__(self) -> bool:
        """Whether the run is to stop."""
        return self.times_requested > 0 or not self.permit()

    @property
    def is_urgent(self) -> bool:
        """Whether it was asked more than once."""
        return self.times_requested > 1 or not self.permit()

    def ask(self) -> int:
        """Ask once more; how often by now."""
        self.times_requested += 1
        self._busy_until = self._clock()
        if self.times_requested == 1:
            self._when_asked()
        return self.times_requested

    def when_asked(self, call: Callable[[], object]) -> None:
        """Call ``call`` when it is first asked, in the thread that asks; at once if it was asked already."""
        self._when_asked = call
        if self.times_requested:
            call()

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


def must_finish(frame: FrameType | None) -> bool:
    """Whether the run folder is being written, or a part of the run opened or closed.

    That takes a moment and is not left half done: a part that is half open would never be closed.
    """
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("loop_runner.workspace."):
            return True
        if module.startswith("loop_runner.") and frame.f_code.co_name in _OPEN_OR_CLOSE:
            return True
        frame = frame.f_back
    return False
