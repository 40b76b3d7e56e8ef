"""``status``, ``log`` and ``show``: read runs without changing them, even while they are active."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

import loop_runner as lr
from loop_runner import text
from loop_runner.cli import output

if TYPE_CHECKING:
    from loop_runner import types

_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")


# ── log ─────────────────────────────────────────────────────────────────────────────────────────────


@click.command()
@click.argument("run_name", metavar="RUN")
@click.option("-f", "--follow", is_flag=True, help="Print what happens as it happens, until the run ends.")
@click.option(
    "-v", "--verbose", is_flag=True, help="With --follow: the model's code, output and sub-calls too."
)
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object; with --follow, one on a line for each event."
)
def log(run_name: str, follow: bool, verbose: bool, as_json: bool) -> None:
    """Print the story of a run: every pass with its verdict, every turn with its end.

    \b
    Example:  loop-runner log runs/contract-review --follow
    """
    if follow:
        from loop_runner.cli import follow as following

        run = lr.open(run_name)
        following.follow(run.folder, lambda: run.state == "running", is_verbose=verbose, as_json=as_json)
        return
    run = lr.open(run_name)
    entries = run.log()
    if as_json:
        output.write_json({"run": str(run.folder), "commits": [_entry_as_json(item) for item in entries]})
        return
    for entry in entries:
        indent = "  " if entry.turn else ""
        output.write(f"{entry.commit[:10]}  {indent}{entry.subject}{_seconds(entry)}")
        for line in entry.reason.splitlines()[:6]:
            output.write(f"{'':<14}{text.one_line(line, 100)}".rstrip())


def _seconds(entry: types.LogEntry) -> str:
    parts = [output.duration(entry.seconds)] if entry.seconds else []
    if entry.unanswered:
        parts.append(f"{output.plural(entry.unanswered, 'request')} without a reply")
    return f"  ({', '.join(parts)})" if parts else ""


def _entry_as_json(entry: types.LogEntry) -> dict[str, Any]:
    return {
        "commit": entry.commit,
        "subject": entry.subject,
        "pass": entry.pass_number,
        "turn": entry.turn,
        "outcome": entry.outcome,
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
    """Print the answer of a run with its verdict, or all that happened in one pass or turn.

    RUN@2 is the same as RUN 2; RUN@2.4 is turn 4 of it, with the answer as it was then.

    \b
    Example:  loop-runner show runs/contract-review 2
    """
    run = lr.open(run_name)
    if run.at is not None and pass_number is not None:
        raise click.UsageError(f"`show` takes one pass or one turn of a run, not {run.at} and {pass_number}")
    data = run.show(None if pass_number is None else str(pass_number))
    if as_json:
        output.write_json(data)
        return
    for line in _shown(data):
        output.prose(line.text) if isinstance(line, _RunnerLine) else output.write(line)


@dataclass(frozen=True, slots=True)
class _RunnerLine:
    """A line that is the runner's own word on a run: no text of a prompt or an answer can pass for it."""

    text: str


def _shown(data: dict[str, Any]) -> Iterator[str | _RunnerLine]:
    """What was asked for, as lines."""
    if "turns" in data:
        return _pass_lines(data)
    return _turn_lines(data) if "turn" in data else _answer_lines(data)


def _turn_lines(data: dict[str, Any]) -> Iterator[str]:
    calls = output.plural(data["subcalls"], "sub-call")
    yield f"Pass {data['pass']} turn {data['turn']}, {calls}: the model wrote\n"
    yield text.fence(data["reply"])
    yield "\nand was told\n"
    yield data["told"].rstrip()
    yield "\nThe answer was then\n"
    yield data["answer"].rstrip() or "(no answer yet)"


def _answer_lines(data: dict[str, Any]) -> Iterator[str | _RunnerLine]:
    yield f"{data['prompt'].rstrip()}\n"
    not_yet = "NOT VERIFIED YET: the run is active" if data["is_running"] else "NOT VERIFIED"
    yield _RunnerLine(f"{'VERIFIED' if data['is_verified'] else not_yet}\n")
    yield data["answer"].rstrip() or "(no answer yet)"
    yield ""
    yield from _verdict_lines(data["verdict"])


def _pass_lines(data: dict[str, Any]) -> Iterator[str]:
    yield f"Pass {data['pass']} was told:\n"
    yield text.fence(data["told"])
    for number, turn in enumerate(data["turns"], 1):
        yield f"\nTurn {number}, {output.plural(turn['subcalls'], 'sub-call')}: the model wrote\n"
        yield text.fence(turn["cell"] or turn["reply"], "python" if turn["cell"] else "")
        yield "\nand was told\n"
        yield turn["told"].rstrip()
    if data["changes"]:
        yield "\nFiles that the pass left otherwise than it found them\n"
        yield from (f"  {change['kind']:<7}  {text.name(change['path'])}" for change in data["changes"])
    yield ""
    yield from _verdict_lines(data["verdict"])


# ── shared ──────────────────────────────────────────────────────────────────────────────────────────


def _verdict_lines(verdict: dict[str, Any]) -> Iterator[str]:
    for report in verdict.get("reports", []):
        yield f"{report['verifier']}: {report['verdict']}"
        for part in ("reason", "evidence"):
            if report.get(part):
                yield "  " + str(report[part]).replace("\n", "\n  ")
    if verdict and not verdict.get("reports"):
        yield str(verdict.get("reason", ""))
