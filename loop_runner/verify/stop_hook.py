"""Called when a session wants to end: runs every verifier on the committed answer and decides.

Owns the rule (all must accept), the retries of a broken verifier, and the wording of a rejection for the
next pass. A broken verifier never counts for or against an answer. Never calls a model, never writes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace

from loop_runner import redaction
from loop_runner.errors import StoppedError
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
from loop_runner.text import one_line
from loop_runner.verify import (
    NO_MEANS,
    Group,
    Means,
    Submission,
    Verifier,
    Weighted,
    limited,
    rejection,
    score,
)

_UNCHECKED = "no verifier is set, so the answer was not checked"
NO_VERIFIER = VerifierReport("none", Accepted(evidence=_UNCHECKED, statement=_UNCHECKED))
_STATEMENT_CHARS = 300


class StopHook:
    """Decides whether a session may end. A broken verifier is retried ``retries`` times."""

    def __init__(
        self,
        verifiers: Sequence[Verifier],
        means: Means = NO_MEANS,
        *,
        retries: int = 2,
        retry_wait_s: float = 1.0,
    ) -> None:
        self._verifiers = tuple(verifiers)
        self._means = means
        self._retries = retries
        self._retry_wait_s = retry_wait_s

    def decide(self, submission: Submission) -> Decision:
        """``Allow`` when all accept, ``GateBroken`` when one stays broken, else ``Block`` with the evidence.

        All verifiers run, even after one has rejected: the next pass should see every problem at once.
        A person is asked last, and only about an answer that nothing else rejects.
        """
        if not self._verifiers:
            return Allow((NO_VERIFIER,))
        reports = self._reports(submission)
        if broken := [report for report in reports if isinstance(report.verdict, Broken)]:
            limits = [item.verdict.limit for item in broken if isinstance(item.verdict, Broken)]
            # Only money keeps the answer from being judged: that ends a run, and is not a fault of the gate.
            # Where another verifier has already rejected, the run does not wait for this one.
            if not (all(limits) and any(isinstance(item.verdict, Rejected) for item in reports)):
                return GateBroken(_broken_reason(broken), reports, limits[0] if all(limits) else "")
        if all(isinstance(report.verdict, Accepted) for report in reports):
            return Allow(reports)
        return Block(_reason(reports), reports, score(reports))

    def _reports(self, submission: Submission) -> tuple[VerifierReport, ...]:
        reports: dict[int, VerifierReport] = {}
        for number, verifier in sorted(enumerate(self._verifiers), key=lambda pair: pair[1].asks_person):
            if verifier.asks_person and not all(
                isinstance(report.verdict, Accepted) for report in reports.values()
            ):
                continue
            reports[number] = _redacted(self._report(verifier, submission))
        return tuple(reports[number] for number in sorted(reports))

    def _report(self, verifier: Verifier, submission: Submission) -> VerifierReport:
        """One verifier's report; a group's members run one by one, each with its own retries."""
        weight = verifier.weight if isinstance(verifier, Weighted) else 1.0
        inner = verifier.verifier if isinstance(verifier, Weighted) else verifier
        if not isinstance(inner, Group):
            verdict = self._ask(inner, submission)
            if isinstance(verifier, Weighted):
                verdict = limited(verdict, verifier.evidence)
            return VerifierReport(inner.name, self._stated(verdict, verifier), weight)
        members: list[VerifierReport] = []
        for member in sorted(inner.members, key=lambda member: member.asks_person):
            if not inner.is_settled(members):
                members.append(self._report(member, submission))
        verdict = self._stated(inner.combine(members), verifier)
        return VerifierReport(inner.name, verdict, weight, tuple(members))

    def _ask(self, verifier: Verifier, submission: Submission) -> Verdict:
        verdict = self._verdict(verifier, submission)
        for _ in range(self._retries):
            if not isinstance(verdict, Broken) or verdict.limit or verifier.asks_person:
                break
            # A missing file will not come back, but a busy machine or a network may.
            time.sleep(self._retry_wait_s)
            verdict = self._verdict(verifier, submission)
        if isinstance(verdict, Broken) and not verifier.asks_person:
            from loop_runner.verify import control

            return control.judged(verifier, submission, verdict, self._means)
        return verdict

    def _stated(self, verdict: Verdict, verifier: Verifier) -> Verdict:
        """An acceptance with a statement for the report; without one, its requirement."""
        if not isinstance(verdict, Accepted) or verdict.statement:
            return verdict
        described = verifier.described(self._means.programs)
        return replace(verdict, statement=one_line(described, _STATEMENT_CHARS))

    def _verdict(self, verifier: Verifier, submission: Submission) -> Verdict:
        try:
            return verifier.verify(submission, self._means)
        except StoppedError:
            raise  # the run is to stop: that says nothing about the verifier
        except Exception as error:  # noqa: BLE001 - a border: a verifier's bug must not end the run unrecorded
            return Broken(f"it failed with {type(error).__name__}: {error}")


def _redacted(report: VerifierReport) -> VerifierReport:
    """``report`` as it may be stored and shown: a gate's program may print its environment."""
    if not redaction.is_active():
        return report
    members = tuple(map(_redacted, report.members))
    texts = {
        attribute.name: redaction.clean_json(getattr(report.verdict, attribute.name))
        for attribute in fields(report.verdict)
    }
    return replace(report, verdict=replace(report.verdict, **texts), members=members)


def _broken_reason(broken: Sequence[VerifierReport]) -> str:
    lines = [
        f"{one_line(report.verifier)}: {report.verdict.reason}"
        for report in broken
        if isinstance(report.verdict, Broken)
    ]
    return "\n".join(["a verifier could not do its work, which says nothing about the answer", *lines])


def _reason(reports: Sequence[VerifierReport]) -> str:
    """The reason for the next pass: who rejected and why, with the evidence, and one line on who accepted."""
    passed = [one_line(report.verifier) for report in reports if isinstance(report.verdict, Accepted)]
    parts = [f"{len(passed)} of {len(reports)} checks passed."]
    parts += [
        rejection(item.verifier, item.verdict) for item in reports if isinstance(item.verdict, Rejected)
    ]
    if passed:
        parts.append(f"Passed: {', '.join(passed)}.")
    parts += _quoted_in_part(reports)
    return "\n\n".join(parts)


def _quoted_in_part(reports: Sequence[VerifierReport]) -> Iterator[str]:
    """The full lines that an accepted quotation is part of: the model must see the omitted parts."""
    for report in reports:
        yield from _quoted_in_part(report.members)
        if isinstance(report.verdict, Accepted) and (shown := report.verdict.record.get("quoted_in_part")):
            from loop_runner.verify import in_part_words  # imports the whole citation reader

            yield f"{one_line(report.verifier)}: {in_part_words(shown)}"
