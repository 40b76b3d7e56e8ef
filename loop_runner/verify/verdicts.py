"""The decision about the answer of a pass: ``verdict.json``, written and read.

Owns that file's format (docs/proof.md): the decision and each verifier's report. ``course`` adds the state
of the run, and the loop adds how the verifiers were confined. Plain data in, plain data out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loop_runner.records import Accepted, Allow, Block, Broken, Rejected, Verdict, VerifierReport


def decision_as_json(decision: Allow | Block) -> dict[str, Any]:
    """The part of ``verdict.json`` with the decision and each verifier's report."""
    is_allowed = isinstance(decision, Allow)
    return {
        "decision": "allow" if is_allowed else "block",
        "reason": "" if isinstance(decision, Allow) else decision.reason,
        "score": 1.0 if isinstance(decision, Allow) else decision.score,
        "reports": [report_as_json(report) for report in decision.reports],
    }


def decision_from(verdict: Mapping[str, Any]) -> Allow | Block:
    """The decision in ``verdict.json``, with the parts of its reports that affect the next pass."""
    reports = tuple(_report_from(report) for report in verdict.get("reports", ()))
    if verdict["decision"] == "allow":
        return Allow(reports)
    return Block(str(verdict["reason"]), reports, float(verdict.get("score", 0.0)))


def _report_from(report: Mapping[str, Any]) -> VerifierReport:
    evidence, score = str(report.get("evidence", "")), float(report.get("score", 0.0))
    reason, record = str(report.get("reason", "")), report.get("record", {})
    statement = str(report.get("statement", ""))
    verdicts: dict[str, Verdict] = {
        "accepted": Accepted(evidence, score, record=record, statement=statement),
        "rejected": Rejected(reason, evidence, score, record=record),
    }
    verdict: Verdict = verdicts.get(str(report["verdict"])) or Broken(reason)
    members = tuple(_report_from(member) for member in report.get("members", ()))
    return VerifierReport(str(report["verifier"]), verdict, float(report.get("weight", 1)), members)


def report_as_json(report: VerifierReport) -> dict[str, Any]:
    """One verifier's part of a verdict, including its members."""
    verdict = report.verdict
    data: dict[str, Any] = {"verifier": report.verifier, "verdict": verdict_name(report)}
    if isinstance(verdict, Rejected | Broken):
        data["reason"] = verdict.reason
    if isinstance(verdict, Accepted | Rejected):
        data |= {"evidence": verdict.evidence, "score": verdict.score}
        if isinstance(verdict, Accepted) and verdict.statement:
            data["statement"] = verdict.statement
        if verdict.record:
            data["record"] = dict(verdict.record)
    if report.weight != 1:
        data["weight"] = report.weight
    if report.members:
        data["members"] = [report_as_json(member) for member in report.members]
    return data


def verdict_name(report: VerifierReport) -> str:
    """``accepted``, ``rejected`` or ``broken``."""
    return type(report.verdict).__name__.lower()
