"""Writes an audit's report for people and programs: Markdown, JSON, and GitHub's annotations.

Owns the wording of the report. ``exchange`` has the formats that other tools read. All text from a model or a
file goes through ``markup``. Returns text; writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from loop_runner.audit import markup
from loop_runner.audit.findings import Finding, Report
from loop_runner.audit.rules import Rule
from loop_runner.inputs import is_fault

_LISTED = 20  # of what is beside the findings
_NO_REASON = "no reason given"
_NAMED = 8  # files that are left out for one reason
_OWN_QUOTE = " (the line itself: the quote that the model gave is not on it)"
_RENAMED = "Write it again with --write-baseline for all files if an earlier version named them otherwise."
UNSURE = "unsure: "  # prefix for a place that the model could not decide
_COMMANDS = {"error": "error", "warning": "warning", "note": "notice"}


INFORMATION = "urn:loop-runner:docs:audit"  # if the address of this copy is unknown


@dataclass(frozen=True, slots=True)
class About:
    """What a report says of its audit besides the findings."""

    rules: tuple[Rule, ...]
    version: str
    fail_on: str = "warning"
    run: str = ""  # the run folder
    model: str = ""
    reason: str = ""  # why it is not complete, or why nothing was judged
    comparison: str = ""  # what --changed-since compared with
    unused: tuple[str, ...] = ()  # rules that are about none of the files
    lacks_key: bool = False  # there was no key, so that no model was asked
    category: str = "loop-runner-audit/"  # tells the audits of one workflow apart
    information_uri: str = INFORMATION


def verdict(report: Report, about: About) -> str:
    """One line: what was found, and whether that fails."""
    counts = {name: count for name, count in report.counts().items() if count}
    beside = _beside_new(report)
    is_all_new = all(finding.state == "new" for finding in report.findings)
    none = "no findings" if is_all_new else "no new findings"
    summary = ", ".join([*(_number(count, name) for name, count in counts.items())] or [none])
    reason = markup.plain(about.reason)
    if not report.is_complete:
        return f"INCOMPLETE: {summary} so far{beside}; {reason or 'not every place was judged'}"
    if is_empty(report):
        return f"NOTHING JUDGED: {reason or 'there was no file to judge'}"
    failing = report.failing(about.fail_on)
    if failing:
        return f"FAILED: {summary}; {_number(failing, 'finding')} at or over {about.fail_on}{beside}"
    if counts and about.fail_on == "never":
        return f"FOUND: {summary}; none of them fails the audit{beside}"
    word = "UNSURE" if report.undecided else "CLEAN"
    return f"{word}: {summary}" + (f", none at or over {about.fail_on}" if counts else "") + beside


def is_empty(report: Report) -> bool:
    """Whether no file was judged: then an empty list of findings means nothing."""
    return report.is_complete and not report.files


def _beside_new(report: Report) -> str:
    """``; 4 known, 1 suppressed; unsure about 2 places``."""
    numbers = [(sum(report.counts(state).values()), state) for state in ("known", "suppressed")]
    shown = ", ".join(f"{count:,} {state}" for count, state in numbers if count)
    unsure = f"unsure about {_number(len(report.undecided), 'place')}" if report.undecided else ""
    return "".join(f"; {part}" for part in (shown, unsure) if part)


def markdown(report: Report, about: About) -> str:
    """The report for a person, and for GitHub's step summary."""
    titles = {rule.id: rule.title for rule in about.rules}
    lines = ["# Audit", "", f"**{verdict(report, about)}**", ""]
    for name, findings in groupby(new_findings(report), key=lambda item: item.file):
        lines += [f"## {markup.markdown(name)}", ""]
        lines += [line for item in findings for line in _shown(item, titles)]
        lines += [""]
    lines += [*_unsure(report, titles), *_beside(report), *_facts(report, about)]
    return "\n".join(lines).rstrip("\n") + "\n"


def _unsure(report: Report, titles: Mapping[str, str]) -> list[str]:
    """The places that a person has to look at; all of them."""
    if not report.undecided:
        return []
    shown = [
        line
        for finding in report.undecided
        for line in _shown(finding, titles, f"{markup.markdown(finding.file)}, ")
    ]
    return ["## Unsure", "", "The model could not decide these places; they are no findings.", "", *shown, ""]


def _shown(finding: Finding, titles: Mapping[str, str], where: str = "") -> list[str]:
    title = markup.markdown(titles.get(finding.rule, finding.rule))
    return [
        f"- {where}line {finding.line}, **{finding.severity}** `{finding.rule}`: {title}",
        f"  - {markup.code(finding.quote)}{_OWN_QUOTE if finding.quoted_by == 'audit' else ''}",
        f"  - {markup.markdown(finding.reason)}",
    ]


def _beside(report: Report) -> list[str]:
    """Everything besides new findings: each kind with its number, the first few by name."""
    excused = [
        f"{_place(entry.file, entry.line)} `{entry.rule}`: {markup.markdown(entry.excuse or _NO_REASON)}"
        for entry in (*report.findings, *report.unsure)
        if entry.state == "suppressed"
    ]
    unjudged = [
        f"{_place(entry['file'], entry['line'])} `{entry['rule']}`: {markup.markdown(entry['why'])}"
        for entry in report.unjudged
    ]
    idle = [
        f"{_place(entry['file'], entry['line'])}: {markup.markdown(entry['why'])}" for entry in report.idle
    ]
    return [
        *_list("Suppressed", excused),
        *_list("Suppressions without effect", idle),
        *_list("Not judged", unjudged),
        *_list("Not searched", _not_searched(report)),
    ]


def _not_searched(report: Report) -> list[str]:
    """A line for each reason, starting with those that mean that something is wrong with a file."""
    by_reason: dict[str, list[str]] = {}
    for entry in report.not_searched:
        by_reason.setdefault(entry["why"], []).append(entry["file"])
    return [
        f"{markup.markdown(reason)}: {_names(by_reason[reason])}"
        for reason in sorted(by_reason, key=lambda reason: not is_fault(reason))
    ]


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(map(markup.markdown, names[:_NAMED])) + more


def _list(title: str, items: Sequence[str]) -> list[str]:
    if not items:
        return []
    shown = [f"- {item}" for item in items[:_LISTED]]
    more = [f"- and {len(items) - _LISTED} more"] if len(items) > _LISTED else []
    return [f"## {title}", "", *shown, *more, ""]


def _facts(report: Report, about: About) -> list[str]:
    known = sum(report.counts("known").values())
    known_unsure = sum(finding.state == "known" for finding in report.unsure)
    files, rules = _number(report.files, "file"), _number(len(about.rules), "rule")
    places = f"{_number(report.judged, 'place')} of {report.candidates:,} judged"
    dropped = _number(report.dropped, "finding")
    facts = [
        f"{places} in {files} by {rules}{f' with {markup.code(about.model)}' if about.model else ''}.",
        f"{dropped} dropped: about a line that no question was about." if report.dropped else "",
        f"{_number(known, 'finding')} known from the baseline." if known else "",
        f"{_number(known_unsure, 'unsure place')} known from the baseline." if known_unsure else "",
        f"{_number(report.gone, 'entry', 'entries')} of the baseline not found any more."
        if report.gone
        else "",
        f"{_number(report.nameless, 'entry', 'entries')} of the baseline: no file has that name. {_RENAMED}"
        if report.nameless
        else "",
        _unused_rules(about),
        f"{_number(report.unchanged, 'file')} left out as unchanged: {markup.markdown(about.comparison)}."
        if about.comparison
        else "",
        f"Run: {markup.code(about.run)}" if about.run else "",
    ]
    return "\\\n".join(fact for fact in facts if fact).split("\n")


def _unused_rules(about: About) -> str:
    if not about.unused:
        return ""
    return f"No file fits `files` of {', '.join(map(markup.code, about.unused))}."


def _place(file: str, line: int) -> str:
    return f"{markup.markdown(file)}:{line}"


def _number(count: int, noun: str, plural: str | None = None) -> str:
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def github(report: Report, about: About) -> str:
    """One workflow command for each new finding and each unsure place: GitHub shows it on the line."""
    titles = {rule.id: rule.title for rule in about.rules}
    commands = [(_COMMANDS[finding.severity], "", finding) for finding in new_findings(report)]
    commands += [("notice", UNSURE, finding) for finding in report.undecided]
    return "".join(
        f"::{command} file={markup.command_property(finding.file)},line={finding.line},"
        f"col={finding.column},"
        f"title={markup.command_property(f'{mark}{finding.rule}: {titles[finding.rule]}')}::"
        f"{markup.command_data(finding.reason)}\n"
        for command, mark, finding in commands
    )


def as_dict(report: Report, about: About, exit_code: int) -> dict[str, Any]:
    """The object of ``--json`` (docs/json.md)."""
    return {
        "status": "complete" if report.is_complete else "incomplete",
        "verdict": verdict(report, about),
        "exit_code": exit_code,
        "fail_on": about.fail_on,
        "failing": report.failing(about.fail_on),
        "reason": about.reason,
        "run": about.run,
        "model": about.model,
        "rules": [{"id": item.id, "title": item.title, "severity": item.severity} for item in about.rules],
        "files": report.files,
        "unchanged_files": report.unchanged,
        "candidates": report.candidates,
        "judged": report.judged,
        "dropped": report.dropped,
        "baseline_gone": report.gone,
        "baseline_nameless": report.nameless,
        "baseline_written": report.written,
        "comparison": about.comparison,
        "unused_rules": list(about.unused),
        "findings": [_as_dict(item) for item in report.findings],
        "unsure": [_as_dict(item) for item in report.unsure],
        "unjudged": list(report.unjudged),
        "not_searched": list(report.not_searched),
        "idle_suppressions": list(report.idle),
    }


def _as_dict(finding: Finding) -> dict[str, Any]:
    return {
        "rule": finding.rule,
        "severity": finding.severity,
        "file": finding.file,
        "line": finding.line,
        "column": finding.column,
        "quote": finding.quote,
        **({"quoted_by": finding.quoted_by} if finding.quoted_by == "audit" else {}),
        "reason": finding.reason,
        "fingerprint": finding.fingerprint,
        "state": finding.state,
        "excuse": finding.excuse,
    }


def new_findings(report: Report) -> Sequence[Finding]:
    """The findings that are neither suppressed nor known."""
    return [finding for finding in report.findings if finding.state == "new"]
