"""Writes an audit's report in the formats that other tools read: SARIF 2.1.0, JUnit XML, GitLab code quality.

Owns what goes where in each. Returns text; JSON is ASCII, so that it is safe wherever it is shown.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree as ET

from loop_runner.audit import markup
from loop_runner.audit.findings import Finding, Report
from loop_runner.audit.reports import UNSURE, About, is_empty, new_findings, verdict
from loop_runner.audit.rules import Rule
from loop_runner.inputs import is_fault

_SARIF = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_MAX_LEFT_OUT = 1000
_BASELINE = {"new": "new", "known": "unchanged", "suppressed": "new"}
_GITLAB = {"error": "major", "warning": "minor", "note": "info"}


def sarif(report: Report, about: About) -> str:
    """SARIF 2.1.0 with every finding, those suppressed or known marked as such.

    Unsure places are results of the kind "review" (a person has to decide), which have no level.
    """
    numbers = {rule.id: number for number, rule in enumerate(about.rules)}
    run = {
        "automationDetails": {"id": about.category},
        "tool": {
            "driver": {
                "name": "loop-runner audit",
                "semanticVersion": about.version,
                "version": about.version,
                "informationUri": about.information_uri,
                "rules": [_sarif_rule(rule) for rule in about.rules],
            }
        },
        "columnKind": "unicodeCodePoints",
        "invocations": [
            {
                "executionSuccessful": report.is_complete and not about.lacks_key,
                "toolExecutionNotifications": [
                    _notification(
                        entry["file"], f"not judged by {entry['rule']}: {entry['why']}", entry["line"]
                    )
                    for entry in report.unjudged
                ]
                + [
                    _notification(entry["file"], f"suppression without effect: {entry['why']}", entry["line"])
                    for entry in report.idle
                ]
                + _not_searched(report)
                + _headline(report, about),
            }
        ],
        "results": [_sarif_result(entry, numbers) for entry in report.findings]
        + [_sarif_unsure(entry, numbers) for entry in report.unsure],
    }
    return json.dumps({"$schema": _SARIF, "version": "2.1.0", "runs": [run]}, indent=1) + "\n"


def _sarif_rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.description},
        "help": {"text": _help(rule, str), "markdown": _help(rule, markup.code)},
        "defaultConfiguration": {"level": rule.severity},
    }


def _help(rule: Rule, shown: Callable[[str], str]) -> str:
    """The rule with its examples, and how a finding is suppressed."""
    lines = [f"- wrong: {shown(example)}" for example in rule.wrong]
    lines += [f"- right: {shown(example)}" for example in rule.right]
    suppress = f"Suppress a finding with a comment: {shown(f'loop-runner: ignore[{rule.id}] reason')}"
    return "\n\n".join(part for part in (rule.description, "\n".join(lines), suppress) if part)


def _sarif_result(finding: Finding, numbers: dict[str, int]) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": numbers[finding.rule],
        "level": finding.severity,
        "message": {"text": markup.plain(finding.reason) or finding.rule},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": _artifact(finding.file),
                    "region": {
                        "startLine": finding.line,
                        "startColumn": finding.column,
                        "endColumn": finding.column + len(finding.quote),
                        "snippet": {"text": finding.quote},
                    },
                }
            }
        ],
        "partialFingerprints": {"loopRunnerAudit/v1": finding.fingerprint},
        "baselineState": _BASELINE[finding.state],
    }
    if finding.state == "suppressed":
        result["suppressions"] = [{"kind": "inSource", "justification": markup.plain(finding.excuse)}]
    return result


def _sarif_unsure(finding: Finding, numbers: dict[str, int]) -> dict[str, Any]:
    text = f"{UNSURE}{markup.plain(finding.reason) or finding.rule}"
    return _sarif_result(finding, numbers) | {"kind": "review", "level": "none", "message": {"text": text}}


def _notification(file: str, message: str, line: int | None = None) -> dict[str, Any]:
    place: dict[str, Any] = {"artifactLocation": _artifact(file)}
    if line is not None:
        place["region"] = {"startLine": line}
    return {
        "level": "warning",
        "message": {"text": markup.plain(message)},
        "locations": [{"physicalLocation": place}],
    }


def _not_searched(report: Report) -> list[dict[str, Any]]:
    ordered = sorted(report.not_searched, key=lambda entry: not is_fault(entry["why"]))
    shown = [
        _notification(entry["file"], f"not searched: {entry['why']}") for entry in ordered[:_MAX_LEFT_OUT]
    ]
    for notification, entry in zip(shown, ordered, strict=False):
        notification["level"] = "warning" if is_fault(entry["why"]) else "note"
    if more := len(ordered) - len(shown):
        shown.append({"level": "note", "message": {"text": f"not searched: {more:,} more files"}})
    return shown


def _headline(report: Report, about: About) -> list[dict[str, Any]]:
    """The verdict, where an empty list of results does not mean that nothing is wrong."""
    if report.is_complete and not is_empty(report) and not report.undecided:
        return []
    level = "warning" if report.is_complete else "error"
    return [{"level": level, "message": {"text": verdict(report, about)}}]


def _artifact(file: str) -> dict[str, str]:
    uri = quote(file.encode("utf-8", "surrogateescape"))
    return {"uri": f"file://{uri}"} if file.startswith("/") else {"uri": uri, "uriBaseId": "%SRCROOT%"}


def junit(report: Report, about: About) -> str:
    """JUnit XML: a test case for each new finding, with its file, and one for each rule without any.

    An unsure place is a skipped test case: it did not fail, and it did not pass.
    """
    findings = new_findings(report)
    suites = ET.Element("testsuites", {"name": "loop-runner audit"})
    suite = ET.SubElement(suites, "testsuite", {"name": "audit"})
    for rule in about.rules:
        own = [finding for finding in findings if finding.rule == rule.id]
        unsure = [finding for finding in report.undecided if finding.rule == rule.id]
        for finding in own:
            _junit_finding(suite, finding, rule)
        for finding in unsure:
            message = markup.xml(f"{UNSURE}{rule.title}: {markup.plain(finding.reason)}")
            ET.SubElement(_junit_case(suite, finding, rule), "skipped", {"message": message})
        if not own and not unsure:
            case = ET.SubElement(suite, "testcase", {"classname": "audit", "name": rule.id})
            if is_empty(report):
                ET.SubElement(case, "skipped", {"message": markup.xml(verdict(report, about))})
    if not report.is_complete:
        case = ET.SubElement(suite, "testcase", {"classname": "audit", "name": "every place was judged"})
        ET.SubElement(case, "error", {"message": markup.xml(markup.plain(about.reason))})
    for element in (suites, suite):
        for key, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error")):
            element.set(key, str(sum(1 for _ in suite.iter(tag))))
        element.set("skipped", str(sum(1 for _ in suite.iter("skipped"))))
    ET.indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(suites, encoding="unicode")}\n'


def _junit_case(suite: ET.Element, finding: Finding, rule: Rule) -> ET.Element:
    file = markup.xml(finding.file)
    about = {"classname": f"audit.{rule.id}", "name": f"{file}:{finding.line}", "file": file}
    return ET.SubElement(suite, "testcase", {**about, "line": str(finding.line)})


def _junit_finding(suite: ET.Element, finding: Finding, rule: Rule) -> None:
    case = _junit_case(suite, finding, rule)
    message = markup.xml(f"{rule.title}: {markup.plain(finding.reason)}")
    failure = ET.SubElement(case, "failure", {"type": rule.severity, "message": message})
    failure.text = _junit_line(finding)


def _junit_line(finding: Finding) -> str:
    return markup.xml(
        f"{finding.file}:{finding.line}: {markup.plain(finding.reason)}\n    {markup.plain(finding.quote)}"
    )


def gitlab(report: Report, about: About) -> str:
    """GitLab's code quality report: the new findings, and the unsure places, marked as such, as "info"."""
    titles = {rule.id: rule.title for rule in about.rules}
    entries = [_gitlab_entry(finding, titles[finding.rule]) for finding in new_findings(report)]
    for finding in report.undecided:
        entry = _gitlab_entry(finding, f"{UNSURE}{titles[finding.rule]}")
        # Its own: once the model has decided, the finding is new to GitLab.
        mark = hashlib.sha256(f"{UNSURE}{finding.fingerprint}".encode()).hexdigest()
        entries.append(entry | {"severity": "info", "fingerprint": mark})
    return json.dumps(entries, indent=1) + "\n"


def _gitlab_entry(finding: Finding, title: str) -> dict[str, Any]:
    return {
        "description": f"{title}: {markup.plain(finding.reason)}",
        "check_name": finding.rule,
        "fingerprint": finding.fingerprint,
        "severity": _GITLAB[finding.severity],
        "location": {"path": finding.file, "lines": {"begin": finding.line}},
    }
