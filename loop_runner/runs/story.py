"""What happened in a run, from its commits: its log, and one pass, one turn or the answer as data.

Reads the run folder without its lock. What it returns was written by models: whoever shows it escapes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from loop_runner.errors import ConfigError
from loop_runner.records import SUBCALL_KINDS
from loop_runner.text import shell
from loop_runner.workspace import layout, points
from loop_runner.workspace.commits import Entry
from loop_runner.workspace.history import History
from loop_runner.workspace.openable import parsing
from loop_runner.workspace.points import Point


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A commit of a run. ``turn`` 0 is the end of a pass, whose verdict's ``reason`` it then has."""

    commit: str
    subject: str
    pass_number: int
    turn: int
    outcome: str | None
    seconds: float
    committed_at: float
    unanswered: int  # requests without a reply
    reason: str = ""


def log(history: History) -> Iterator[LogEntry]:
    """The commits of the run, the first one first; those of a person are left out."""
    for entry in reversed(history.commits()):
        if entry.runner or entry.trailers.forked_from:
            yield _entry(history, entry)


def _entry(history: History, entry: Entry) -> LogEntry:
    at = entry.checkpoint
    has_verdict = entry.is_pass and not entry.trailers.forked_from
    return LogEntry(
        at.commit,
        entry.subject,
        at.pass_number,
        at.turn,
        at.outcome,
        entry.seconds,
        entry.committed_at,
        entry.unanswered,
        str(_verdict(history, at.pass_number).get("reason", "")) if has_verdict else "",
    )


def show(history: History, point: Point | None) -> dict[str, Any]:
    """The answer with its verdict, or all that happened in one pass or turn (docs/json.md, ``show``)."""
    if point is None:
        return _answer(history)
    if point.turn is not None:
        return _one_turn(history, point)
    if point.pass_number == 0:
        raise ConfigError(
            f"`show` takes one pass or one turn of a run, not {point}",
            why="what is shown is what happened in it",
            hint=f"for example `{shell('loop-runner', 'show', f'{history.folder}@1')}`",
        )
    return _pass(history, point.pass_number)


def _one_turn(history: History, point: Point) -> dict[str, Any]:
    at = points.find(history, point)
    folder = f"passes/{at.pass_number:04d}/turns/{at.turn:04d}"
    return {
        "run": str(history.folder),
        "commit": at.commit,
        "pass": at.pass_number,
        "turn": at.turn,
        **_turn(history, folder),
        "answer": history.answer(at.commit).content,
    }


def _answer(history: History) -> dict[str, Any]:
    head = history.head()
    last = head.pass_number if head.turn == 0 else head.pass_number - 1
    return {
        "run": str(history.folder),
        "prompt": _text(history, "prompt.md"),
        "answer": history.answer().content,
        "is_verified": head.outcome == "accepted",
        "is_running": history.running() is not None,
        "verdict": _verdict(history, last),
    }


def _pass(history: History, number: int) -> dict[str, Any]:
    folder = f"passes/{number:04d}"
    if not history.files(f"{folder}/"):
        raise ConfigError(
            f"{history.folder} has no pass {number}",
            hint=f"loop-runner log {shell(history.folder)} lists them",
        )
    return {
        "run": str(history.folder),
        "pass": number,
        "told": _text(history, f"{folder}/injected.md"),
        "turns": [_turn(history, f"{folder}/turns/{turn:04d}") for turn in _turn_numbers(history, folder)],
        "changes": [{"kind": kind, "path": path} for kind, path in history.changes(number)],
        "verdict": _verdict(history, number),
    }


def _turn_numbers(history: History, folder: str) -> list[int]:
    return list(range(1, 1 + sum(path.endswith("/reply.md") for path in history.files(f"{folder}/turns/"))))


def _turn(history: History, folder: str) -> dict[str, Any]:
    path = f"{folder}/calls.jsonl"
    with parsing(history.folder, path):
        calls = layout.calls_from_jsonl(history.read(path) or b"")
    return {
        "reply": _text(history, f"{folder}/reply.md"),
        "cell": _text(history, f"{folder}/cell.py"),
        "told": _text(history, f"{folder}/output.txt"),
        "subcalls": sum(call.kind in SUBCALL_KINDS for call in calls),
    }


def _verdict(history: History, number: int) -> dict[str, Any]:
    path = f"passes/{number:04d}/verdict.json"
    with parsing(history.folder, path):
        data = _text(history, path)
        return dict(json.loads(data)) if data else {}


def _text(history: History, path: str) -> str:
    return (history.read(path) or b"").decode("utf-8", "replace")
