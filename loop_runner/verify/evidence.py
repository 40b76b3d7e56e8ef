"""How much of a rejection the model is shown: the ``evidence:`` setting that every gate takes.

What is withheld is removed from the verdict itself, so no file that an agent could read holds it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from loop_runner.errors import VerifierError
from loop_runner.records import Accepted, Broken, Rejected, Verdict

Evidence = Literal["full", "message", "none"]
LEVELS: tuple[Evidence, ...] = ("full", "message", "none")
_NO_REASON = "it did not accept the answer"


def level(kind: str, value: object) -> Evidence:
    """``value`` as a level. ``VerifierError`` for anything else."""
    if value not in LEVELS:
        raise VerifierError(
            f"verifier `{kind}`: `evidence` is {value!r}",
            why="it decides how much of a rejection the model is shown",
            hint=f"it must be one of {', '.join(LEVELS)}",
        )
    return value


def limited(verdict: Verdict, evidence: Evidence) -> Verdict:
    """``verdict`` without the parts that ``evidence`` withholds from the model."""
    if evidence == "full" or isinstance(verdict, Broken):
        return verdict
    if isinstance(verdict, Rejected) and evidence == "none":
        return replace(verdict, reason=_NO_REASON, evidence="")
    assert isinstance(verdict, Accepted | Rejected)
    return replace(verdict, evidence="")
