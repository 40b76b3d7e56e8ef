"""What an arm is, what it is given, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from evals.endpoint import Endpoint
from evals.questions import Question


@dataclass(frozen=True, slots=True)
class Setup:
    """What the arms share. ``endpoint`` is None where only arms are measured that need none."""

    model: str
    endpoint: Endpoint | None
    limit_s: float  # for one question
    passes: int = 5


@dataclass(frozen=True, slots=True)
class Attempt:
    """The answer of an arm. ``verified`` is None for an arm that verifies nothing."""

    answer: str
    verified: bool | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    passes: int = 1
    error: str = ""  # why there is no answer


class Arm(Protocol):
    """One way to answer."""

    def missing(self) -> str:
        """Why the arm cannot be measured on this machine; "" when it can."""
        ...

    def version(self) -> str:
        """What answers, with its version."""
        ...

    def answer(self, question: Question, folder: Path) -> Attempt:
        """Answer once. ``folder`` is empty and the arm's own. Never raises for what the model did."""
        ...
