"""What a verifier is given and what it is: the seam that every kind meets. Plain data, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from loop_runner.records import Inputs, Verdict


@dataclass(frozen=True, slots=True)
class Submission:
    """A committed answer. ``checkout`` holds ``answer.md``, ``answer.json`` and ``workspace/``, read-only."""

    answer: str
    checkout: Path
    inputs: Inputs


class Verifier(Protocol):
    """Gives ``Rejected`` for a bad answer and ``Broken`` when it could not tell; raises for neither."""

    @property
    def name(self) -> str:
        """What the task calls it; unique among the task's verifiers."""
        ...

    @property
    def requirement(self) -> str:
        """What it asks of an answer, in words that the model is told before it begins."""
        ...

    def verify(self, submission: Submission) -> Verdict:
        """Check the committed bytes; the inputs may be read, nothing may be changed."""
        ...
