"""Writes an audit's report for people and programs: Markdown, JSON, what GitHub shows beside the code.

Owns the words of the report. ``exchange`` has the formats that other tools read. Whatever a model or a file
wrote goes through ``markup``. Returns text; writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from loop_runner.audit import markup
from loop_runner.audit.findings import Finding, Report
from loop_runner.audit.rules import Rule

_LISTED = 20  # of what is beside the findings
_OWN_QUOTE = " (the line itself: the quote that the model gave is not on it)"
_COMMANDS = {"error": "error", "warning": "warning", "note": "notice"}


@dataclass(frozen=True, slots=True)
class About:
    """What a report says of its audit besides the findings."""

    rules: tuple[Rule, ...]
    version: str
    fail_on: str = "warning"
    run: str = ""  # the run folder
    model: str = ""
    reason: str = ""  # why it is not complete


def verdict(report: Report, about: About) -> str:
    """One line: what was found, and whether that fails."""
    counts = {name: count for name, count in report.counts().items() if count}
    said = ", ".join(_number(count, name) for name, count in counts.items()) or "no findings"
    if not report.is_complete:
        return f"INCOMPLETE: {said} so far; {markup.plain(about.reason) or 'not every place was judged'}"
    failing = report.failing(about.fail_on)
    if failing:
        return f"FAILED: {said}; {_number(failing, 'finding')} at or over {about.fail_on}"
    if counts and about.fail_on == "never":
        return f"FOUND: {said}; none of them fails the audit"
    return f"CLEAN: {said}" + (f", none at or over {about.fail_on}" if counts else "")


def markdown(report: Report, about: About) -> str:
    """The report for a person, and for GitHub's step summary."""
    titles = {rule.id: rule.title for rule in about.rules}
    new = [each for each in report.findings if each.state == "new"]
    lines = ["# Audit", "", f"**{verdict(report, about)}**", ""]
    for name, found in groupby(new, key=lambda each: each.file):
        lines += [f"## {markup.markdown(name)}", ""]
        lines += [line for each in found for line in _shown(each, titles)]
        lines += [""]
    lines += [*_beside(report), *_facts(report, about)]
    return "\n".join(lines).rstrip("\n") + "\n"


def _shown(each: Finding, titles: Mapping[str, str]) -> list[str]:
    title = markup.markdown(titles.get(each.rule, each.rule))
    return [
        f"- line {each.line}, **{each.severity}** `{each.rule}`: {title}",
        f"  - {markup.code(each.quote)}{_OWN_QUOTE if each.quoted_by == 'audit' else ''}",
        f"  - {markup.markdown(each.reason)}",
    ]


def _beside(report: Report) -> list[str]:
    """What is neither new nor found: each kind with its number, the first few by name."""
    excused = [
        f"{_place(each.file, each.line)} `{each.rule}`: {markup.markdown(each.excuse or 'no reason given')}"
        for each in report.findings
        if each.state == "suppressed"
    ]
    unjudged = [
        f"{_place(each['file'], each['line'])} `{each['rule']}`: {markup.markdown(each['why'])}"
        for each in report.unjudged
    ]
    odd = [f"{markup.markdown(each['file'])}: {markup.markdown(each['why'])}" for each in report.not_searched]
    return [*_list("Suppressed", excused), *_list("Not judged", unjudged), *_list("Not searched", odd)]


def _list(title: str, items: Sequence[str]) -> list[str]:
    if not items:
        return []
    shown = [f"- {item}" for item in items[:_LISTED]]
    more = [f"- and {len(items) - _LISTED} more"] if len(items) > _LISTED else []
    return [f"## {title}", "", *shown, *more, ""]


def _facts(report: Report, about: About) -> list[str]:
    known = sum(report.counts("known").values())
    files, rules = _number(report.files, "file"), _number(len(about.rules), "rule")
    places = f"{_number(report.judged, 'place')} of {report.candidates:,} judged"
    dropped = _number(report.dropped, "finding")
    facts = [
        f"{places} in {files} by {rules} with {markup.code(about.model)}.",
        f"{dropped} dropped: about a line that was not asked about." if report.dropped else "",
        f"{_number(known, 'finding')} known from the baseline." if known else "",
        f"{_number(report.gone, 'entry', 'entries')} of the baseline not found any more."
        if report.gone
        else "",
        f"{_number(report.unchanged, 'file')} left out as unchanged." if report.unchanged else "",
        f"Run: {markup.code(about.run)}" if about.run else "",
    ]
    return "\\\n".join(fact for fact in facts if fact).split("\n")


def _place(file: str, line: int) -> str:
    return f"{markup.markdown(file)}:{line}"


def _number(count: int, noun: str, plural: str | None = None) -> str:
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def github(report: Report, about: About) -> str:
    """One workflow command for each new finding: GitHub shows it on the line."""
    titles = {rule.id: rule.title for rule in about.rules}
    return "".join(
        f"::{_COMMANDS[each.severity]} file={markup.command_property(each.file)},line={each.line},"
        f"col={each.column},title={markup.command_property(f'{each.rule}: {titles[each.rule]}')}::"
        f"{markup.command_data(each.reason)}\n"
        for each in report.findings
        if each.state == "new"
    )


def as_dict(report: Report, about: About, exit_code: int) -> dict[str, Any]:
    """The object of ``--json`` (docs/json.md)."""
    return {
        "status": "complete" if report.is_complete else "incomplete",
        "exit_code": exit_code,
        "fail_on": about.fail_on,
        "failing": report.failing(about.fail_on),
        "reason": about.reason,
        "run": about.run,
        "model": about.model,
        "rules": [{"id": each.id, "title": each.title, "severity": each.severity} for each in about.rules],
        "files": report.files,
        "unchanged_files": report.unchanged,
        "candidates": report.candidates,
        "judged": report.judged,
        "dropped": report.dropped,
        "baseline_gone": report.gone,
        "findings": [_as_dict(each) for each in report.findings],
        "unjudged": list(report.unjudged),
        "not_searched": list(report.not_searched),
    }


def _as_dict(each: Finding) -> dict[str, Any]:
    return {
        "rule": each.rule,
        "severity": each.severity,
        "file": each.file,
        "line": each.line,
        "column": each.column,
        "quote": each.quote,
        **({"quoted_by": each.quoted_by} if each.quoted_by == "audit" else {}),
        "reason": each.reason,
        "fingerprint": each.fingerprint,
        "state": each.state,
        "excuse": each.excuse,
    }


def new_findings(report: Report) -> Sequence[Finding]:
    """Those that nobody has excused or known before."""
    return [each for each in report.findings if each.state == "new"]
