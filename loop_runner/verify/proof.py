"""The evidence that an answer was verified, in a file that anyone can check: ``proof.json``.

Owns its format (docs/proof.md); ``verdicts`` owns the format of a verdict. Plain data in, plain data out: it
holds hashes, verdicts and versions, never a time or a path that this machine made for the run.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loop_runner import __version__
from loop_runner.records import Allow, VerifierReport
from loop_runner.verify.verdicts import report_as_json

PATH = "proof.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Subject:
    """What was verified."""

    name: str
    pass_number: int
    turn: int
    tree: str  # git's id of the verified tree: of the last parent of the pass's commit
    answer: bytes
    task: bytes
    prompt: bytes
    inputs: bytes  # inputs.json


def proof_of(subject: Subject, decision: Allow, sandbox: Mapping[str, Any]) -> dict[str, Any]:
    """``proof.json`` of an accepted answer."""
    return {
        "format": FORMAT,
        "run": subject.name,
        "pass": subject.pass_number,
        "turn": subject.turn,
        "tree": subject.tree,
        "answer_sha256": sha256(subject.answer),
        "task_sha256": sha256(subject.task),
        "prompt_sha256": sha256(subject.prompt),
        "inputs_sha256": sha256(subject.inputs),
        "gates": [report_as_json(report) for report in decision.reports],
        "sandbox": dict(sandbox),
        "versions": {"loop-runner": __version__, "python": platform.python_version()},
    }


def to_bytes(data: Mapping[str, Any]) -> bytes:
    """In the form of all JSON files that the runner writes."""
    return (json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def sha256(data: bytes) -> str:
    """Hex."""
    return hashlib.sha256(data).hexdigest()


# ── comparing ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Compared:
    """One verifier, then and now."""

    verifier: str
    recorded: str  # accepted, rejected; "" when the record does not name it
    now: str
    status: str  # same, different, broken
    detail: str = ""
    is_output_same: bool | None = None  # None: there is no output, or none is recorded


def compare(recorded: Sequence[Mapping[str, Any]], now: Sequence[VerifierReport]) -> list[Compared]:
    """Each verifier of a re-run compared with its entry in the proof (or verdict); members after groups."""
    before = {str(report["verifier"]): report for report in _flat(recorded)}
    rows = [
        _compared(before.pop(report["verifier"], {}), report)
        for report in _flat([report_as_json(current) for current in now])
    ]
    # ``any`` stops at the first acceptance, so a member may be missing on either side; a verifier may not.
    named = {str(report["verifier"]) for report in recorded}
    gone = [name for name in before if name in named]
    return rows + [
        Compared(name, str(before[name]["verdict"]), "", "different", "it was not run") for name in gone
    ]


def _flat(reports: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [inner for report in reports for inner in (report, *_flat(report.get("members", ())))]


def _compared(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> Compared:
    was, is_now = str(recorded.get("verdict", "")), str(now["verdict"])
    status = "broken" if is_now == "broken" else "same" if was == is_now else "different"
    then, today = recorded.get("record", {}), now.get("record", {})
    outputs = (then.get("output_sha256"), today.get("output_sha256"))
    notes = [str(now.get("reason", ""))] if status != "same" else []
    if today.get("person"):
        notes.append("a person decided, and was not asked again: this is what the record says")
    if then.get("interpreter") and then["interpreter"] != today.get("interpreter"):
        notes.append(f"another program here: {dict(today.get('interpreter') or {}).get('path', 'none')}")
    if today.get("installed"):
        notes.append(str(today["installed"]))
    return Compared(
        str(now["verifier"]),
        was,
        is_now,
        status,
        "; ".join(note for note in notes if note),
        None if None in outputs else outputs[0] == outputs[1],
    )
