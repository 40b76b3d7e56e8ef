"""``findings``: the gate of an audit. Each finding of the answer is looked up in the inputs.

Owns the requirements for an audit's answer (docs/audit.md): it is JSON, and each finding has a known rule
with that rule's severity, a quote that is on its line, and a reason that does not deny the finding. No
place is left unjudged; "unsure" counts as judged. It cannot tell whether a finding is right, or whether
one is missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from loop_runner.errors import ConfigError, VerifierError
from loop_runner.inputs import content
from loop_runner.kernel.inside.claims import denies
from loop_runner.records import Accepted, Broken, InputText, Rejected, Verdict
from loop_runner.text import plural
from loop_runner.verify.located import Lines
from loop_runner.verify.one_line import exact_line
from loop_runner.verify.options import Keys, Options
from loop_runner.verify.verifier import NO_MEANS, BaseVerifier, Means, Submission

Severity = Literal["note", "warning", "error"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)  # in rising order
_TEXTS = ("rule", "severity", "file", "quote", "reason")


@dataclass(frozen=True, slots=True)
class Findings(BaseVerifier):
    """Accepts a report if every finding is confirmed and every place was judged."""

    is_free = True
    is_repeatable = False
    breaks_by_inputs = True
    KEYS: ClassVar[Keys] = {
        "rules": {"type": "object", "minProperties": 1, "additionalProperties": {"enum": list(SEVERITIES)}}
    }

    name: str
    rules: Mapping[str, str] = field(default_factory=dict)  # id to severity

    @classmethod
    def from_options(cls, name: str, options: Options, task_dir: Path) -> Findings:  # noqa: ARG003
        """Raises ``VerifierError`` for invalid rules."""
        rules = options.text_or_mapping("rules")
        if not isinstance(rules, Mapping) or not all(severity in SEVERITIES for severity in rules.values()):
            raise VerifierError(
                f"verifier `findings`: `rules` is {rules!r}",
                why="each finding must belong to one of these rules, with its severity",
                hint=f"a mapping of rule ids to {', '.join(SEVERITIES)}",
            )
        return cls(name or "findings", dict(rules))

    @property
    def requirement(self) -> str:
        """See ``Verifier``."""
        return "every finding must quote the line that it is about, and every place must have been judged"

    def verify(self, submission: Submission, means: Means = NO_MEANS) -> Verdict:
        """``Broken`` when an input that a finding is about has changed."""
        try:
            report = _read(submission.answer)
        except ValueError as error:
            return Rejected(f"the answer is not the report of an audit: {error}")
        texts = {text.name: text for text in submission.inputs.texts}
        findings, unsure, unjudged = report["findings"], report["unsure"], report["unjudged"]
        try:
            wrong = [*self._wrong(findings, texts), *self._wrong(unsure, texts, is_unsure=True)]
        except ConfigError as error:
            return Broken(error.message)
        score = 1 - (len(wrong) + len(unjudged)) / max(report["candidates"] + len(wrong), 1)
        record = {"findings": len(findings), "candidates": report["candidates"], "dropped": report["dropped"]}
        record |= {"unsure": len(unsure)} if unsure else {}
        if wrong:
            evidence = "\n".join(wrong)
            total = len(findings) + len(unsure)
            return Rejected(
                f"{len(wrong)} of {plural(total, 'finding')} cannot be confirmed", evidence, score, record
            )
        if unjudged:
            evidence_lines = "\n".join(exact_line(json.dumps(entry)) for entry in unjudged)
            return Rejected(
                f"{plural(len(unjudged), 'place was', 'places were')} not judged",
                evidence_lines,
                score,
                record,
            )
        beside = f", and the model is unsure about {len(unsure)}" if unsure else ""
        return Accepted(
            f"{len(findings)} findings stand, {report['candidates']} places were judged{beside}", 1.0, record
        )

    def _wrong(
        self, findings: Sequence[Any], texts: Mapping[str, InputText], *, is_unsure: bool = False
    ) -> Iterator[str]:
        """A line for each finding that is not confirmed. ``ConfigError`` when an input has changed."""
        at_hand: dict[str, Lines] = {}
        seen = set()
        for finding in findings:
            name = finding["file"]
            if name in texts and name not in at_hand:
                at_hand = {name: Lines(content(texts[name]))}  # one input in memory at a time
            place = (finding["rule"], name, finding["line"])
            why = self._why_not(finding, at_hand.get(name), is_unsure=is_unsure)
            why = "it is listed twice" if place in seen else why
            seen.add(place)
            if why:
                yield exact_line(f"{name}:{finding['line']}: {finding['rule']}: {why}")

    def _why_not(self, finding: Mapping[str, Any], lines: Lines | None, *, is_unsure: bool) -> str:
        if self.rules.get(finding["rule"]) != finding["severity"]:
            return "no such rule exists, or its severity is another"
        if lines is None:
            return "no input has this name"
        if not _is_on(finding["quote"], lines.get(finding["line"]) or ""):
            return "the quote is not on that line"
        if not is_unsure and denies(finding["reason"]):
            return f"its own reason says that the line is right: {finding['reason']}"
        return ""


def _is_on(quote: str, line: str) -> bool:
    """Whether ``quote`` is all of ``line``, or a meaningful part of it."""
    return quote in line and (any(char.isalnum() for char in quote) or quote == line.strip() != "")


def _read(answer: str) -> dict[str, Any]:
    """The report in ``answer``; ``ValueError`` says what is wrong with it."""
    try:
        report = json.loads(answer)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(report, dict) or report.get("format") != 1:
        raise ValueError("it is not an object with `format` 1")
    counts = [report.get(name) for name in ("candidates", "judged", "dropped")]
    report.setdefault("unsure", [])  # reports of earlier versions have none
    lists = [report.get(name) for name in ("findings", "unjudged", "unsure")]
    if not all(type(entry) is int and entry >= 0 for entry in counts):
        raise ValueError("`candidates`, `judged` and `dropped` are counts")
    if not all(isinstance(entry, list) for entry in lists) or not all(
        map(_is_finding, [*report["findings"], *report["unsure"]])
    ):
        raise ValueError(
            f"`findings` and `unsure` are objects with {', '.join(_TEXTS)} and line; `unjudged` is a list"
        )
    return report


def _is_finding(value: object) -> bool:
    return (
        isinstance(value, dict)
        and all(isinstance(value.get(name), str) for name in _TEXTS)
        and type(value.get("line")) is int
    )
