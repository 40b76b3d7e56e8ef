"""``status``, ``log`` and ``show``: read runs without changing them, even while they are active."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click

from loop_runner import text
from loop_runner.cli import output
from loop_runner.errors import ConfigError
from loop_runner.records import SUBCALL_KINDS
from loop_runner.runs.folders import find_run, find_run_at
from loop_runner.text import shell
from loop_runner.workspace import layout, points
from loop_runner.workspace.commits import Entry
from loop_runner.workspace.history import History
from loop_runner.workspace.openable import parsing
from loop_runner.workspace.points import Point

_SHOWN_DIFFERENT = 10
_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")


# ── log ─────────────────────────────────────────────────────────────────────────────────────────────


@click.command()
@click.argument("run_name", metavar="RUN")
@click.option("-f", "--follow", is_flag=True, help="Print events as they happen, until the run ends.")
@click.option(
    "-v", "--verbose", is_flag=True, help="With --follow: the model's code, output and sub-calls too."
)
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object; with --follow, one line for each event."
)
def log(run_name: str, follow: bool, verbose: bool, as_json: bool) -> None:
    """Print the story of a run: every pass with its verdict, every turn with its end.

    \b
    Example:  loop-runner log runs/contract-review --follow
    """
    if follow:
        from loop_runner.cli import follow as following

        with History(find_run(run_name)) as history:
            following.follow(
                history.folder,
                lambda: history.running() is not None,
                is_verbose=verbose,
                as_json=as_json,
            )
        return
    with History(find_run(run_name)) as history:
        entries = [entry for entry in reversed(history.commits()) if _is_ours(entry)]
        if as_json:
            output.write_json(
                {"run": str(history.folder), "commits": [_entry_as_json(item) for item in entries]}
            )
            return
        for entry in entries:
            indent = "" if entry.checkpoint.turn == 0 else "  "
            output.write(f"{entry.checkpoint.commit[:10]}  {indent}{entry.subject}{_seconds(entry)}")
            if entry.is_pass and not entry.trailers.forked_from:
                reason = _verdict(history, entry.checkpoint.pass_number).get("reason", "")
                for line in str(reason).splitlines()[:6]:
                    output.write(f"{'':<14}{text.one_line(line, 100)}".rstrip())


def _is_ours(entry: Entry) -> bool:
    return bool(entry.runner or entry.trailers.forked_from)


def _seconds(entry: Entry) -> str:
    parts = [output.duration(entry.seconds)] if entry.seconds else []
    if entry.unanswered:
        parts.append(f"{output.plural(entry.unanswered, 'request')} without a reply")
    return f"  ({', '.join(parts)})" if parts else ""


def _entry_as_json(entry: Entry) -> dict[str, Any]:
    point = entry.checkpoint
    return {
        "commit": point.commit,
        "subject": entry.subject,
        "pass": point.pass_number,
        "turn": point.turn,
        "outcome": point.outcome,
        "seconds": entry.seconds,
        "committed_at": entry.committed_at,
        "unanswered": entry.unanswered,
    }


# ── show ────────────────────────────────────────────────────────────────────────────────────────────


@click.command()
@click.argument("run_name", metavar="RUN[@PASS[.TURN]]")
@click.argument("pass_number", metavar="[PASS]", type=click.IntRange(1), required=False)
@_JSON
def show(run_name: str, pass_number: int | None, as_json: bool) -> None:
    """Print the answer of a run with its verdict, or everything that happened in one pass or turn.

    RUN@2 is the same as RUN 2; RUN@2.4 is its turn 4, with the answer at that time.

    \b
    Example:  loop-runner show runs/contract-review 2
    """
    folder, point = find_run_at(run_name)
    with History(folder) as history:
        data, lines = _shown(history, point, pass_number)
        if as_json:
            output.write_json(data)
            return
        for line in lines:
            output.prose(line.text) if isinstance(line, _RunnerLine) else output.write(line)


@dataclass(frozen=True, slots=True)
class _RunnerLine:
    """A line in the runner's own words: no text of a prompt or an answer can pass for it."""

    text: str


def _shown(
    history: History, point: Point | None, pass_number: int | None
) -> tuple[dict[str, Any], Iterator[str | _RunnerLine]]:
    """The requested part, as data and as lines."""
    if point is not None and point.turn is not None:
        data = _one_turn(history, point)
        return data, _turn_lines(data)
    if point is not None and (pass_number is not None or point.pass_number == 0):
        raise ConfigError(
            f"`show` takes one pass or one turn of a run, not {point}"
            + (f" and {pass_number}" if pass_number else ""),
            why="`show` prints what happened in it",
            hint=f"for example `{shell('loop-runner', 'show', f'{history.folder}@1')}`",
        )
    number = pass_number if point is None else point.pass_number
    if number:
        data = _pass(history, number)
        return data, _pass_lines(data)
    data = _answer(history)
    return data, _answer_lines(data)


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


def _turn_lines(data: dict[str, Any]) -> Iterator[str]:
    calls = output.plural(data["subcalls"], "sub-call")
    yield f"Pass {data['pass']} turn {data['turn']}, {calls}: the model wrote\n"
    yield text.fence(data["reply"])
    yield "\nand was shown\n"
    yield data["told"].rstrip()
    yield "\nThe answer was then\n"
    yield data["answer"].rstrip() or "(no answer yet)"


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


def _answer_lines(data: dict[str, Any]) -> Iterator[str | _RunnerLine]:
    yield f"{data['prompt'].rstrip()}\n"
    not_yet = "NOT VERIFIED YET: the run is active" if data["is_running"] else "NOT VERIFIED"
    yield _RunnerLine(f"{'VERIFIED' if data['is_verified'] else not_yet}\n")
    yield data["answer"].rstrip() or "(no answer yet)"
    yield ""
    yield from _verdict_lines(data["verdict"])


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


def _pass_lines(data: dict[str, Any]) -> Iterator[str]:
    yield f"The prompt of pass {data['pass']}:\n"
    yield text.fence(data["told"])
    for number, turn in enumerate(data["turns"], 1):
        yield f"\nTurn {number}, {output.plural(turn['subcalls'], 'sub-call')}: the model wrote\n"
        yield text.fence(turn["cell"] or turn["reply"], "python" if turn["cell"] else "")
        yield "\nand was shown\n"
        yield turn["told"].rstrip()
    if data["changes"]:
        yield "\nFiles that the pass changed\n"
        yield from (f"  {change['kind']:<7}  {text.name(change['path'])}" for change in data["changes"])
    yield ""
    yield from _verdict_lines(data["verdict"])


# ── shared ──────────────────────────────────────────────────────────────────────────────────────────


def _verdict(history: History, number: int) -> dict[str, Any]:
    path = f"passes/{number:04d}/verdict.json"
    with parsing(history.folder, path):
        data = _text(history, path)
        return dict(json.loads(data)) if data else {}


def _verdict_lines(verdict: dict[str, Any]) -> Iterator[str]:
    for report in verdict.get("reports", []):
        yield f"{report['verifier']}: {report['verdict']}"
        for part in ("reason", "evidence"):
            if report.get(part):
                yield "  " + str(report[part]).replace("\n", "\n  ")
    if verdict and not verdict.get("reports"):
        yield str(verdict.get("reason", ""))


def _text(history: History, path: str) -> str:
    return (history.read(path) or b"").decode("utf-8", "replace")
