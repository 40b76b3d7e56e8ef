"""What a caller may ask of a run while it is under way, from any process: the control methods of ``Run``.

Each places a request in the run folder and returns at once. The process that runs the run takes it at its
next turn, answers it by an event (``operator``) and commits it with the turn. When no process runs the run,
the request is kept, and ``lr.resume`` applies it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loop_runner.runs import steering
from loop_runner.runs.steering import Placed

__all__ = ["Controls", "Placed"]


class Controls:
    """The control methods. ``ConfigError`` for what cannot be asked of the run as it is."""

    __slots__ = ()
    folder: Path

    @property
    def is_paused(self) -> bool:
        """Whether a process runs the run and was asked to pause, and not to resume since."""
        return steering.is_paused(self.folder)

    @property
    def question(self) -> str | None:
        """What the run waits for a person to decide; None when it waits for nobody."""
        open_question = steering.question(self.folder)
        return None if open_question is None else open_question.text

    def note(self, text: str) -> Placed:
        """Leave a note: the model sees it once, in its next message, quoted as the operator's."""
        return steering.note(self.folder, text)

    def pause(self, *, now: bool = False) -> Placed:
        """Start nothing new after the current turn; ``now``: no further sub-call of the turn either.

        When no process runs the run, the next one begins paused: ``resume`` ends that.
        """
        return steering.pause(self.folder, now=now)

    def resume(self) -> Placed:
        """End a pause, also one that is kept for the next process.

        A run that no process runs is continued by ``lr.resume``.
        """
        return steering.resume(self.folder)

    def stop(self, *, now: bool = False) -> Placed:
        """End after the current turn; ``now``: at once, as Ctrl-C does. ``lr.resume`` continues the run.

        When no process runs the run, the next one ends before its first turn, ``interrupted``.
        """
        return steering.stop(self.folder, now=now)

    def raise_budget(self, **limits: Any) -> Placed:
        """Change limits from the next turn on, for good: ``passes=20`` sets one, ``passes="+5"`` adds.

        Limits: ``passes``, ``turns``, ``tokens``, ``tokens_in``, ``tokens_out``, ``usd``, ``wall``,
        ``subcalls``, ``tool_calls``.
        """
        return steering.raise_budget(self.folder, limits)

    def set_prompt(self, text: str) -> Placed:
        """Give the run another prompt from its next pass on; the change is a commit, as that of a fork."""
        return steering.set_prompt(self.folder, text)

    def approve(self, *, by: str = "", at: str = "") -> Placed:
        """Approve the answer that a ``human`` verifier asks about. ``by``, ``at``: recorded as given."""
        return steering.decide(self.folder, approves=True, by=by, at=at)

    def reject(self, why: str, *, by: str = "", at: str = "") -> Placed:
        """Reject it; the next pass is shown ``why``."""
        return steering.decide(self.folder, approves=False, why=why, by=by, at=at)
