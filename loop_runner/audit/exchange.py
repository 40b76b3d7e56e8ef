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
                    _notification(each["file"], f"not judged by {each['rule']}: {each['why']}", each["line"])
                    for each in report.unjudged
                ]
                + [
                    _notification(each["file"], f"suppression without effect: {each['why']}", each["line"])
                    for each in report.idle
                ]
                + _not_searched(report)
                + _headline(report, about),
            }
        ],
        "results": [_sarif_result(each, numbers) for each in report.findings]
        + [_sarif_unsure(each, numbers) for each in report.unsure],
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


def _sarif_result(each: Finding, numbers: dict[str, int]) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": each.rule,
        "ruleIndex": numbers[each.rule],
        "level": each.severity,
        "message": {"text": markup.plain(each.reason) or each.rule},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": _artifact(each.file),
                    "region": {
                        "startLine": each.line,
                        "startColumn": each.column,
                        "endColumn": each.column + len(each.quote),
                        "snippet": {"text": each.quote},
                    },
                }
            }
        ],
        "partialFingerprints": {"loopRunnerAudit/v1": each.fingerprint},
        "baselineState": _BASELINE[each.state],
    }
    if each.state == "suppressed":
        result["suppressions"] = [{"kind": "inSource", "justification": markup.plain(each.excuse)}]
    return result


def _sarif_unsure(each: Finding, numbers: dict[str, int]) -> dict[str, Any]:
    text = f"{UNSURE}{markup.plain(each.reason) or each.rule}"
    return _sarif_result(each, numbers) | {"kind": "review", "level": "none", "message": {"text": text}}


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
    ordered = sorted(report.not_searched, key=lambda each: not is_fault(each["why"]))
    shown = [_notification(each["file"], f"not searched: {each['why']}") for each in ordered[:_MAX_LEFT_OUT]]
    for notification, each in zip(shown, ordered, strict=False):
        notification["level"] = "warning" if is_fault(each["why"]) else "note"
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
    found = new_findings(report)
    suites = ET.Element("testsuites", {"name": "loop-runner audit"})
    suite = ET.SubElement(suites, "testsuite", {"name": "audit"})
    for rule in about.rules:
        own = [each for each in found if each.rule == rule.id]
        unsure = [each for each in report.undecided if each.rule == rule.id]
        for each in own:
            _junit_finding(suite, each, rule)
        for each in unsure:
            message = markup.xml(f"{UNSURE}{rule.title}: {markup.plain(each.reason)}")
            ET.SubElement(_junit_case(suite, each, rule), "skipped", {"message": message})
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


def _junit_case(suite: ET.Element, each: Finding, rule: Rule) -> ET.Element:
    file = markup.xml(each.file)
    about = {"classname": f"audit.{rule.id}", "name": f"{file}:{each.line}", "file": file}
    return ET.SubElement(suite, "testcase", {**about, "line": str(each.line)})


def _junit_finding(suite: ET.Element, each: Finding, rule: Rule) -> None:
    case = _junit_case(suite, each, rule)
    message = markup.xml(f"{rule.title}: {markup.plain(each.reason)}")
    failure = ET.SubElement(case, "failure", {"type": rule.severity, "message": message})
    failure.text = _junit_line(each)


def _junit_line(each: Finding) -> str:
    return markup.xml(f"{each.file}:{each.line}: {markup.plain(each.reason)}\n    {markup.plain(each.quote)}")


def gitlab(report: Report, about: About) -> str:
    """GitLab's code quality report: the new findings, and the unsure places, marked as such, as "info"."""
    titles = {rule.id: rule.title for rule in about.rules}
    entries = [_gitlab_entry(each, titles[each.rule]) for each in new_findings(report)]
    for each in report.undecided:
        entry = _gitlab_entry(each, f"{UNSURE}{titles[each.rule]}")
        # Its own: once the model has decided, the finding is new to GitLab.
        mark = hashlib.sha256(f"{UNSURE}{each.fingerprint}".encode()).hexdigest()
        entries.append(entry | {"severity": "info", "fingerprint": mark})
    return json.dumps(entries, indent=1) + "\n"


def _gitlab_entry(each: Finding, title: str) -> dict[str, Any]:
    return {
        "description": f"{title}: {markup.plain(each.reason)}",
        "check_name": each.rule,
        "fingerprint": each.fingerprint,
        "severity": _GITLAB[each.severity],
        "location": {"path": each.file, "lines": {"begin": each.line}},
    }
