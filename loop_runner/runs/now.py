"""What a run is at in this moment: how many sub-calls are answered, out or waiting in a batch.

Relies on the files beside the history that the runner writes before it acts (journal, marks, batches) and on
the end of its trace. Takes no lock; what is torn or gone by the time that it is read counts as nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loop_runner.events import Event
from loop_runner.model.providers.anthropic_batch import read_record
from loop_runner.runs.remembered_status import head_of
from loop_runner.workspace import journal, sent
from loop_runner.workspace.history import History

_TAIL_BYTES = 256 * 1024  # of the trace: far more than what a turn tells of itself


def of_run(history: History) -> dict[str, Any]:
    """Since the last commit: replies, requests that are out, batches, child sessions, what is done now."""
    private = history.git_dir / "loop-runner"
    return _now(private, history.since_checkpoint(), _since_turn(_tail(private / "events.jsonl")))


def of_folder(folder: Path, seen: Sequence[Event]) -> dict[str, Any]:
    """The same of a running run, without git; ``seen`` is the end of its trace."""
    events = [{"kind": event.kind, "data": event.data} for event in seen]
    git_dir = folder / ".git"
    return _now(git_dir / "loop-runner", [head_of(git_dir)], _since_turn(events))


def _now(private: Path, afters: list[str], events: list[dict[str, Any]]) -> dict[str, Any]:
    answered = journal.answered(private / "journal", afters)
    records = [read_record(path) for path in sorted((private / "batches").glob("*.json"))]
    batches = [
        {"id": record.id, "requests": len(record.keys)}
        for record in records
        if record is not None and record.after in afters
    ]
    kinds = [str(event.get("kind")) for event in events]
    reports = [event.get("data") for event in events if event.get("kind") == "subcalls_progress"]
    progress = reports[-1] if reports else None
    return {
        "doing": "verifying"
        if "verifying" in kinds
        else "waiting for the model"
        if len(kinds) < 2
        else "turn",
        "answered": len(answered),
        "out": sent.unanswered(private / sent.NAME, afters, answered),
        "failed": int(progress.get("failed", 0)) if isinstance(progress, dict) else 0,
        "children": max(kinds.count("child_started") - kinds.count("child_finished"), 0),
        "batches": batches,
    }


def has_begun_turn(history: History) -> bool:
    """Whether a reply for the turn that comes next is paid for already, or awaited in a batch."""
    answered, _ = history.under_way()
    records = map(read_record, (history.git_dir / "loop-runner" / "batches").glob("*.json"))
    afters = history.since_checkpoint()
    return answered > 0 or any(record is not None and record.after in afters for record in records)


def last_end(history: History) -> tuple[str, str] | None:
    """How the last start of a run ended, as (status, reason); ("", "") where it did not say; None: no trace.

    The end of an earlier start, or of another place in the history, is not taken for it.
    """
    events = _tail(history.git_dir / "loop-runner" / "events.jsonl")
    if not events:
        return None
    starts = [at for at, event in enumerate(events) if event.get("kind") == "run_started"]
    for event in reversed(events[starts[-1] if starts else 0 :]):
        data = event.get("data")
        if event.get("kind") == "run_ended" and isinstance(data, dict):
            return str(data.get("status", "")), str(event.get("text", ""))
    return "", ""


def _since_turn(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events since the last turn, pass or start began."""
    recent: list[dict[str, Any]] = []
    for event in events:
        if event.get("kind") in ("turn_started", "turn_committed", "pass_started", "run_started"):
            recent.clear()
        recent.append(event)
    return recent


def _tail(trace: os.PathLike[str]) -> list[dict[str, Any]]:
    """The last events of the trace."""
    try:
        with open(trace, "rb") as file:  # noqa: PTH123
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - _TAIL_BYTES, 0))
            tail = file.read(_TAIL_BYTES)
    except OSError:
        return []
    parsed: list[dict[str, Any]] = []
    for line in tail.split(b"\n"):
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue  # torn: the cut, or a line that is being written
        if isinstance(event, dict):
            parsed.append(event)
    return parsed
