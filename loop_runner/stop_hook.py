"""Asked when a session wants to end: runs every verifier on the committed answer and decides.

Owns the rule (all must accept), the retries of a broken verifier, and the words in which a rejection is
told to the next pass. A broken verifier never counts for or against an answer. Never calls a model, never
writes.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Sequence

from loop_runner.records import (
    Accepted,
    Allow,
    Block,
    Broken,
    Decision,
    GateBroken,
    Rejected,
    Verdict,
    VerifierReport,
)
from loop_runner.text import cut_middle
from loop_runner.verify import Submission, Verifier

NO_VERIFIER = VerifierReport("none", Accepted(evidence="no verifier was set: the answer was taken as it is"))

_EVIDENCE_CHARS = 4000  # for each verifier; the next prompt has a budget


class StopHook:
    """Decides whether a session may end. A broken verifier is asked ``retries`` times more."""

    def __init__(self, verifiers: Sequence[Verifier], *, retries: int = 2, retry_wait_s: float = 1.0) -> None:
        self._verifiers = tuple(verifiers)
        self._retries = retries
        self._retry_wait_s = retry_wait_s

    def decide(self, submission: Submission) -> Decision:
        """``Allow`` when all accept, ``GateBroken`` when one stays broken, else ``Block`` with the evidence.

        All verifiers are run, also behind one that rejects: the next pass is to hear everything at once.
        """
        if not self._verifiers:
            return Allow((NO_VERIFIER,))
        reports = tuple(VerifierReport(one.name, self._ask(one, submission)) for one in self._verifiers)
        if broken := [report for report in reports if isinstance(report.verdict, Broken)]:
            return GateBroken(_broken_reason(broken), reports)
        if all(isinstance(report.verdict, Accepted) for report in reports):
            return Allow(reports)
        scores = [report.verdict.score for report in reports if not isinstance(report.verdict, Broken)]
        return Block(_reason(reports), reports, sum(scores) / len(scores))

    def _ask(self, verifier: Verifier, submission: Submission) -> Verdict:
        verdict = _verdict(verifier, submission)
        for _ in range(self._retries):
            if not isinstance(verdict, Broken):
                break
            # A missing file will not come back, but a busy machine or a network may.
            time.sleep(self._retry_wait_s)
            verdict = _verdict(verifier, submission)
        return verdict


def _verdict(verifier: Verifier, submission: Submission) -> Verdict:
    try:
        return verifier.verify(submission)
    except Exception as error:  # noqa: BLE001 - a border: a verifier's own bug must not end the run unrecorded
        return Broken(f"it failed with {type(error).__name__}: {error}")


def _broken_reason(broken: Sequence[VerifierReport]) -> str:
    lines = [f"{one.verifier}: {one.verdict.reason}" for one in broken if isinstance(one.verdict, Broken)]
    return "\n".join(["a verifier could not do its work, which says nothing about the answer", *lines])


def _reason(reports: Sequence[VerifierReport]) -> str:
    """What the next pass is told: who rejected, why, with the evidence, and in one line who accepted."""
    passed = [report.verifier for report in reports if isinstance(report.verdict, Accepted)]
    parts = [f"{len(passed)} of {len(reports)} checks passed."]
    parts += [_rejection(one.verifier, one.verdict) for one in reports if isinstance(one.verdict, Rejected)]
    if passed:
        parts.append(f"Passed: {', '.join(passed)}.")
    return "\n\n".join(parts)


def _rejection(name: str, verdict: Rejected) -> str:
    said = f"Failed: {name}: {cut_middle(verdict.reason, _EVIDENCE_CHARS)}"
    evidence = cut_middle(verdict.evidence.strip("\n"), _EVIDENCE_CHARS)
    # Every line is indented: evidence holds what programs and models wrote, and must not pass for our words.
    return f"{said}\n{textwrap.indent(evidence, '    ', lambda _: True)}" if evidence else said
