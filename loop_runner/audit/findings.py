"""What an audit found, as people and CI systems are to see it: fingerprinted, suppressed, known already.

Owns the fingerprint, the form of suppression comments and the baseline file. Reads the committed report and
the inputs, each checked against its hash; changes neither.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from loop_runner.inputs import content
from loop_runner.records import Inputs
from loop_runner.verify.findings import SEVERITIES

State = Literal["new", "known", "suppressed"]
_IGNORE = re.compile(r"loop-runner:[ \t]*ignore\[([^\]\n]{1,400})\](?:[ \t]*[:-]*[ \t]*(.*))?")
_NO_RULE = re.compile(r"loop-runner:[ \t]*ignore\b(?![ \t]*\[[^\]\n]{1,400}\])")
_COMMENT_END = re.compile(r"[ \t]*(?:\*/|-->|#\}|%>|\*\))[ \t]*$")
_KEYS = ("rule", "severity", "file", "line", "quote", "reason")


@dataclass(frozen=True, slots=True)
class Finding:
    """One place that breaks a rule. ``line`` counts from 1; ``column`` too, where the quote begins."""

    rule: str
    severity: str
    file: str
    line: int
    quote: str
    reason: str
    column: int = 1
    fingerprint: str = ""
    state: State = "new"
    excuse: str = ""  # what the suppression comment gives as its reason
    quoted_by: str = "model"  # or "audit": the model's own quote was not on the line


@dataclass(frozen=True, slots=True)
class Report:
    """An audit's result. ``is_complete``: its gate accepted it, so every place was judged."""

    findings: tuple[Finding, ...] = ()
    files: int = 0
    candidates: int = 0
    judged: int = 0
    dropped: int = 0  # about a line that was not asked about
    unjudged: tuple[Mapping[str, Any], ...] = ()
    not_searched: tuple[Mapping[str, Any], ...] = ()
    idle: tuple[Mapping[str, Any], ...] = ()  # suppression comments that name no rule of this audit
    unchanged: int = 0  # files left out by --changed-since
    gone: int = 0  # entries of the baseline that were looked for and are not found any more
    nameless: int = 0  # entries of the baseline whose file does not exist under that name
    written: Mapping[str, Any] | None = None  # what --write-baseline wrote
    is_complete: bool = True
    unsure: tuple[Finding, ...] = ()  # places that the model could not decide; they are no findings

    @property
    def undecided(self) -> tuple[Finding, ...]:
        """The unsure places that no comment suppresses and no baseline knows."""
        return tuple(finding for finding in self.unsure if finding.state == "new")

    def counts(self, state: State = "new") -> dict[str, int]:
        """How many findings of each severity are in ``state``, the gravest first."""
        counter = Counter(finding.severity for finding in self.findings if finding.state == state)
        return {severity: counter[severity] for severity in reversed(SEVERITIES)}

    def failing(self, level: str) -> int:
        """How many new findings are at ``level`` or over it; "never" counts none."""
        if level == "never":
            return 0
        return sum(
            finding.state == "new" and SEVERITIES.index(finding.severity) >= SEVERITIES.index(level)
            for finding in self.findings
        )


def read(answer: str, texts: Inputs) -> Report:
    """The report in a committed answer, each finding with its fingerprint and state.

    Raises ``ConfigError`` when a file that a finding is about has changed since.
    """
    if not answer:
        return Report(is_complete=False)
    body = json.loads(answer)
    return Report(
        _located(body["findings"], texts),
        body["files"],
        body["candidates"],
        body["judged"],
        body["dropped"],
        tuple(body["unjudged"]),
        tuple(body["not_searched"]),
        unsure=_located(body.get("unsure", ()), texts),
    )


def _located(items: Sequence[Mapping[str, Any]], texts: Inputs) -> tuple[Finding, ...]:
    """The findings of a report, each with what its file says about it."""
    paths = {text.name: text for text in texts.texts}
    by_file: dict[str, list[Finding]] = {}
    for item in items:
        quoted_by = "audit" if item.get("quoted_by") == "audit" else "model"
        finding = Finding(**{name: item[name] for name in _KEYS}, quoted_by=quoted_by)
        if finding.file in paths:
            by_file.setdefault(finding.file, []).append(finding)
    return tuple(
        finding
        for name, findings in by_file.items()
        for finding in _distinct(findings, content(paths[name]).decode("utf-8", "replace"))
    )


def _distinct(findings: Sequence[Finding], text: str) -> list[Finding]:
    """The findings of one file, with all that its text says about them."""
    lines = text.split("\n")
    settled = [" ".join(line.split()) for line in lines]
    located = []
    for finding in findings:
        if not 1 <= finding.line <= len(lines) or finding.quote not in lines[finding.line - 1]:
            continue  # the gate rejects such a report; what is shown of it holds all the same
        line = settled[finding.line - 1]
        occurrence = settled[: finding.line - 1].count(line)
        excuse = _excuse(lines, finding)
        located.append(
            replace(
                finding,
                column=lines[finding.line - 1].find(finding.quote) + 1,
                fingerprint=fingerprint(finding.rule, finding.file, line, occurrence),
                state="new" if excuse is None else "suppressed",
                excuse=excuse or "",
            )
        )
    return located


def fingerprint(rule: str, file: str, line: str, occurrence: int) -> str:
    """SHA-256 (hex) over the rule, the file, the line's words and how many lines before it are the same.

    The line, not the model's quote, which may be longer or shorter another time; and not its number.
    """
    return hashlib.sha256(json.dumps([rule, file, line, occurrence]).encode()).hexdigest()


def idle_suppressions(texts: Inputs, rules: Collection[str]) -> tuple[Mapping[str, Any], ...]:
    """Comments that suppress nothing, because they name no rule or one that the audit does not have."""
    return tuple(
        {"file": text.name, "line": number, "why": why}
        for text in texts.texts
        for number, line in enumerate(content(text).decode("utf-8", "replace").split("\n"), 1)
        if "loop-runner:" in line
        for why in _idle(line, rules)
    )


def _idle(line: str, rules: Collection[str]) -> Iterator[str]:
    if _NO_RULE.search(line):
        yield "it names no rule: write ignore[RULE]"
    for match in _IGNORE.finditer(line):
        for name in match[1].split(","):
            if name.strip() not in rules:
                near = difflib.get_close_matches(name.strip(), rules, 1)
                yield f"there is no rule {name.strip()!r}" + (f": did you mean {near[0]!r}?" if near else "")


def _excuse(lines: Sequence[str], finding: Finding) -> str | None:
    """The reason of the comment on its line, or the one above, that suppresses it; None: there is none."""
    for number in (finding.line, finding.line - 1):
        for match in _IGNORE.finditer(lines[number - 1]) if number else ():
            if finding.rule in {name.strip() for name in match[1].split(",")}:
                return _COMMENT_END.sub("", match[2] or "").strip()
    return None
