"""Verifiers made of verifiers: all of them, any of them, with different weights.

Owns how the members' verdicts combine and how a rejection is worded. It runs no member itself: the stop
hook does, with its retries, and passes the reports in.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from loop_runner.records import Accepted, Broken, Inputs, Rejected, Verdict, VerifierReport
from loop_runner.text import cut_middle, one_line
from loop_runner.verify.evidence import Evidence, limited
from loop_runner.verify.programs import Programs
from loop_runner.verify.verifier import NO_MEANS, Means, Need, Submission, Verifier

_EVIDENCE_CHARS = 4000  # for each verifier; the next prompt has a budget


@dataclass(frozen=True, slots=True)
class Weighted:
    """A verifier with the settings that any kind may have in a task.

    ``weight`` is its share in the score; the default is 1. ``evidence`` limits what a rejection shows.
    ``says`` replaces the kind's own words for its requirement in the prompt.
    """

    verifier: Verifier
    weight: float
    evidence: Evidence = "full"
    says: str = ""

    @property
    def name(self) -> str:
        """See ``Verifier``."""
        return self.verifier.name

    @property
    def label(self) -> str:
        """See ``Verifier``."""
        return self.verifier.label

    @property
    def requirement(self) -> str:
        """See ``Verifier``."""
        return self.says or self.verifier.requirement

    @property
    def network(self) -> bool:
        """See ``Verifier``."""
        return self.verifier.network

    @property
    def runs_code(self) -> bool:
        """See ``Verifier``."""
        return self.verifier.runs_code

    @property
    def is_free(self) -> bool:
        """See ``Verifier``. Limited evidence is never free: repeated checks would reveal it."""
        return self.evidence == "full" and self.verifier.is_free

    @property
    def reads_files(self) -> bool:
        """See ``Verifier``."""
        return self.verifier.reads_files

    @property
    def asks_person(self) -> bool:
        """See ``Verifier``."""
        return self.verifier.asks_person

    @property
    def is_repeatable(self) -> bool:
        """See ``Verifier``."""
        return self.verifier.is_repeatable

    @property
    def breaks_by_inputs(self) -> bool:
        """See ``Verifier``."""
        return self.verifier.breaks_by_inputs

    def described(self, pins: Programs, *, briefly: bool = False) -> str:
        """See ``Verifier``."""
        return self.says or self.verifier.described(pins, briefly=briefly)

    def sources(self) -> list[Path]:
        """See ``Verifier``."""
        return self.verifier.sources()

    def models(self) -> tuple[str, ...]:
        """See ``Verifier``."""
        return self.verifier.models()

    def needs(self, pins: Programs) -> Iterator[Need]:
        """See ``Verifier``."""
        return self.verifier.needs(pins)

    def refuse(self, inputs: Inputs) -> None:
        """See ``Verifier``."""
        self.verifier.refuse(inputs)

    def fault(self, pins: Programs) -> str:
        """See ``Verifier``."""
        return self.verifier.fault(pins)

    def verify(self, submission: Submission, means: Means = NO_MEANS) -> Verdict:
        """See ``Verifier``."""
        return limited(self.verifier.verify(submission, means), self.evidence)


@dataclass(frozen=True, slots=True)
class Group:
    """``all`` accepts when every member does, ``any`` when one does."""

    name: str
    mode: Literal["all", "any"]
    members: tuple[Verifier, ...]

    @property
    def label(self) -> str:
        """See ``Verifier``."""
        return f"verifier {self.name!r}"

    @property
    def requirement(self) -> str:
        """See ``Verifier``."""
        return self._listed(member.requirement for member in self.members)

    @property
    def network(self) -> bool:
        """See ``Verifier``."""
        return any(member.network for member in self.members)

    @property
    def runs_code(self) -> bool:
        """See ``Verifier``."""
        return any(member.runs_code for member in self.members)

    @property
    def is_free(self) -> bool:
        """See ``Verifier``."""
        return all(member.is_free for member in self.members)

    @property
    def reads_files(self) -> bool:
        """See ``Verifier``."""
        return any(member.reads_files for member in self.members)

    @property
    def asks_person(self) -> bool:
        """See ``Verifier``."""
        return any(member.asks_person for member in self.members)

    @property
    def is_repeatable(self) -> bool:
        """See ``Verifier``."""
        return all(member.is_repeatable for member in self.members)

    @property
    def breaks_by_inputs(self) -> bool:
        """See ``Verifier``."""
        return all(member.breaks_by_inputs for member in self.members)

    def described(self, pins: Programs, *, briefly: bool = False) -> str:
        """See ``Verifier``."""
        return self._listed(member.described(pins, briefly=briefly) for member in self.members)

    def sources(self) -> list[Path]:
        """See ``Verifier``."""
        return [path for member in self.members for path in member.sources()]

    def models(self) -> tuple[str, ...]:
        """See ``Verifier``."""
        return tuple(model for member in self.members for model in member.models())

    def needs(self, pins: Programs) -> Iterator[Need]:
        """See ``Verifier``."""
        return (need for member in self.members for need in member.needs(pins))

    def refuse(self, inputs: Inputs) -> None:
        """See ``Verifier``."""
        for member in self.members:
            member.refuse(inputs)

    def fault(self, pins: Programs) -> str:
        """See ``Verifier``."""
        return next((why for member in self.members if (why := member.fault(pins))), "")

    def verify(self, submission: Submission, means: Means = NO_MEANS) -> Verdict:
        """Run every member once; the stop hook runs them one by one instead."""
        reports = [VerifierReport(member.name, member.verify(submission, means)) for member in self.members]
        return self.combine(reports)

    def _listed(self, requirements: Iterable[str]) -> str:
        listed = "; ".join(f"({number}) {text}" for number, text in enumerate(requirements, 1))
        return f"{'all' if self.mode == 'all' else 'at least one'} of these must hold: {listed}"

    def is_settled(self, reports: Sequence[VerifierReport]) -> bool:
        """True when no further member can change the verdict: ``any`` needs one; the rest may cost money."""
        return self.mode == "any" and any(isinstance(report.verdict, Accepted) for report in reports)

    def combine(self, reports: Sequence[VerifierReport]) -> Verdict:
        """The group's verdict. In ``any``, a broken member does not matter if another member accepts."""
        accepted = [report for report in reports if isinstance(report.verdict, Accepted)]
        if len(accepted) == len(reports) or (accepted and self.mode == "any"):
            evidence = "\n".join(f"{report.verifier}: accepted" for report in accepted)
            return Accepted(evidence, score(reports) if self.mode == "all" else 1.0)
        broken = [
            (report.verifier, report.verdict) for report in reports if isinstance(report.verdict, Broken)
        ]
        if broken:
            reason = "; ".join(f"{name}: {verdict.reason}" for name, verdict in broken)
            return Broken(reason, next((verdict.limit for _, verdict in broken if verdict.limit), ""))
        evidence_of_all = "\n\n".join(
            rejection(report.verifier, report.verdict)
            for report in reports
            if isinstance(report.verdict, Rejected)
        )
        condition = "all must" if self.mode == "all" else "one must"
        return Rejected(
            f"{len(accepted)} of {len(reports)} accepted it; {condition}",
            evidence_of_all,
            score(reports) if self.mode == "all" else max(_score(report) for report in reports),
        )


def leaves(verifiers: Iterable[Verifier]) -> Iterator[Verifier]:
    """The verifiers that check something themselves, taken out of their groups."""
    for verifier in verifiers:
        inner = verifier.verifier if isinstance(verifier, Weighted) else verifier
        if isinstance(inner, Group):
            yield from leaves(inner.members)
        else:
            yield inner


def score(reports: Sequence[VerifierReport]) -> float:
    """The mean of the scores by weight, without broken verifiers. 0 when all are broken."""
    counted = [
        (report.weight, _score(report)) for report in reports if not isinstance(report.verdict, Broken)
    ]
    total = sum(weight for weight, _ in counted)
    return sum(weight * value for weight, value in counted) / total if total else 0.0


def rejection(name: str, verdict: Rejected) -> str:
    """A rejection as the next prompt shows it."""
    reason = cut_middle(verdict.reason, _EVIDENCE_CHARS).replace("\n", "\n    ")
    headline = f"Failed: {one_line(name)}: {reason}"
    evidence = cut_middle(verdict.evidence.strip("\n"), _EVIDENCE_CHARS)
    # Every line is indented: programs and models wrote the evidence, and it must not look like our words.
    return f"{headline}\n{textwrap.indent(evidence, '    ', lambda _: True)}" if evidence else headline


def _score(report: VerifierReport) -> float:
    return 0.0 if isinstance(report.verdict, Broken) else report.verdict.score
