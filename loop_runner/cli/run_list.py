"""``status``, ``runs`` and ``clean``: where a run is, the runs in a folder, the removal of old ones."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

import loop_runner as lr
from loop_runner import keys, text
from loop_runner.cli import output, terminal
from loop_runner.errors import ConfigError, LoopRunnerError
from loop_runner.text import shell

_SHOWN_CALLS = 10
_SHOWN_DIFFERENT = 10
_WATCH_S = 1.0
_INDENT = 33
_AUDIT = "an audit"  # how the reason of an audit begins, whose answer is no text for people
_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
_STATES = click.option(
    "--state",
    "states",
    multiple=True,
    metavar="STATE",
    help="Only runs in this state; more than once for several.",
)


# ── status ──────────────────────────────────────────────────────────────────────────────────────────


@click.command()
@click.argument("run_name", metavar="[RUN]", required=False)
@click.option("-w", "--watch", "is_watching", is_flag=True, help="Show it again every second until it ends.")
@_JSON
def status(run_name: str | None, is_watching: bool, as_json: bool) -> None:
    """Show where a run is and what it does; without RUN, each run under runs/.

    \b
    Example:  loop-runner status runs/contract-review --watch
    """
    look = _looking_at(run_name)
    if is_watching and not as_json:
        _watch(look, is_one=run_name is not None)
        return
    result = look()
    if as_json:
        output.write_json({"runs": [status_as_json(item) for item in result]})
        return
    if not result:
        output.write("no runs here; start one with `loop-runner run TASK.yaml`")
    for item in result:
        _show(item, is_one=run_name is not None)


ls = status


def _looking_at(run_name: str | None) -> Callable[[], Sequence[lr.Status]]:
    if run_name is None:
        return lr.list_runs
    run = lr.open(run_name)
    return lambda: [run.status()]


def _watch(look: Callable[[], Sequence[lr.Status]], *, is_one: bool) -> None:
    """Show the runs again and again: on a terminal in place, elsewhere when something has changed."""
    redraws = terminal.has_colour(sys.stdout)
    before: object = None
    while True:
        result = look()
        now = [(item.folder, item.state, item.pass_number, item.turn, item.activity.kind) for item in result]
        if redraws:
            click.clear()
        if redraws or now != before:
            for item in result:
                _show(item, is_one=is_one)
        if not any(item.is_active for item in result):
            return
        before = now
        time.sleep(_WATCH_S)


def _show(status: lr.Status, *, is_one: bool) -> None:
    output.write(f"{status.folder!s:<32} {status.state:<11} {_where(status)}".rstrip())
    for line in _details(status, is_one=is_one):
        output.prose(f"{'':<{_INDENT}}{line}")
    if status.answer and not status.reason.startswith(_AUDIT):
        output.write(f"{'':<{_INDENT}}{text.one_line(status.answer, _room_beside(_INDENT))}")


def _details(status: lr.Status, *, is_one: bool) -> Iterator[str]:
    """What there is to say of a run, a line each; of one run among others, the most important part."""
    if shown := str(status.activity):
        yield shown
    if status.under_way is not None:
        yield from _under_way_lines(status.under_way)
    yield from (f"look: {text.one_line(sign.text, 200)}" for sign in status.anomalies)
    yield from _different_lines(status)
    yield from _lost_lines(status)
    if status.reason:
        yield text.one_line(status.reason, 300)
    if status.log:
        yield f"its output: {status.log}"
    if is_one:
        yield from _budget_lines(status)
    if (is_one or status.is_active) and (verdict := _verdict_line(status)):
        yield verdict
    if is_one and status.age_s is not None:
        yield f"last event {output.duration(status.age_s)} ago"
    if status.steps:
        yield f"next: {status.steps[0]}"


def _verdict_line(status: lr.Status) -> str:
    """The last verdict with its reason, and the best score so far."""
    last = status.last_verdict
    if last is None or last.outcome == "accepted":
        return ""
    score = "" if last.score is None else f" with score {last.score:g}"
    best = "" if status.best_score is None else f", best {status.best_score:g}"
    return f"pass {last.number} was {last.outcome}{score}{best}: {text.one_line(last.reason, 200)}"


def _budget_lines(status: lr.Status) -> Iterator[str]:
    """What is used of every limit, and how fast."""
    shown = [line for limit in status.limits if (line := _limit(limit))]
    if shown:
        yield f"used: {', '.join(shown)}"


def _limit(limit: Any) -> str:
    if limit.limit is None and not (limit.per_minute and limit.name in ("usd", "tokens")):
        return ""
    unit = "" if limit.name in ("usd", "wall") else f"{limit.name.replace('_', ' ')} "
    return f"{unit}{limit}"


def _room_beside(used: int) -> int:
    """How many characters of an answer are shown on one line behind ``used`` columns."""
    width = terminal.columns(sys.stdout)
    return min(90, max(width - used, 20)) if width else 90


def status_as_json(status: lr.Status) -> dict[str, Any]:
    """The keys of docs/json.md."""
    whole = status.to_dict()
    return {
        "run": str(status.folder),
        "state": status.state,
        "reason": status.reason,
        "different": list(status.different),
        "pid": status.pid,
        "pass": status.pass_number,
        "turn": status.turn,
        "answer": status.answer,
        "in_flight": status.in_flight,
        "unknown_calls": list(status.unknown_calls),
        "now": status.under_way,
        "next": list(status.steps),
        **output.spend_as_json(status.spend),
        "dropped": output.spend_as_json(status.dropped),
        "uncommitted": output.spend_as_json(status.uncommitted),
        "activity": {**whole["activity"], "text": str(status.activity)},
        **{name: whole[name] for name in ("limits", "last_verdict", "best_score", "anomalies")},
        **{name: whole[name] for name in ("last_event_at", "age_s", "model", "log")},
    }


def _under_way_lines(now: Any) -> Iterator[str]:
    """Replies, child sessions and batches of the turn that is under way."""
    if now["doing"] == "verifying":
        yield "its answer is being verified"
    parts = [f"{output.plural(now['answered'], 'reply', 'replies')}"] if now["answered"] else []
    parts += [f"{now['out']:,} out"] if now["out"] else []
    parts += [f"{now['failed']:,} failed"] if now["failed"] else []
    parts += [f"{output.plural(now['children'], 'child session')} at work"] if now["children"] else []
    if parts:
        yield f"in this turn so far: {', '.join(parts)}"
    for batch in now["batches"]:
        name = batch["id"] or "not made yet"
        yield f"waits for a batch of {output.plural(batch['requests'], 'request')} ({name})"


def _different_lines(status: lr.Status) -> Iterator[str]:
    """What is no longer as it was verified."""
    yield from (text.one_line(line, 200) for line in status.different[:_SHOWN_DIFFERENT])
    if (more := len(status.different) - _SHOWN_DIFFERENT) > 0:
        verify = shell("loop-runner", "verify", status.folder)
        yield f"and {output.plural(more, 'more path')}; `{verify}` names them all"


def _lost_lines(status: lr.Status) -> Iterator[str]:
    """Requests that were, or may be, paid for and are in no turn of the run."""
    if (lost := status.in_flight) and not status.is_active:
        yield f"{output.plural(lost, 'request')} in flight when it was stopped; `resume` sends them again"
    if lost := status.spend.unanswered:
        yield f"{output.plural(lost, 'request')} sent before without a reply; the provider may bill them"
    if unknown := status.unknown_calls:
        yield f"{output.plural(len(unknown), 'tool call')} may have happened, and the result is not known:"
        yield from (f"  {call}" for call in unknown[:_SHOWN_CALLS])
    if requests := status.dropped.requests:
        what = f"{output.plural(requests, 'request')}, {_usd(status.dropped.usd)}"
        yield f"{what} dropped by rewinds; they count for the budget too"


def _where(status: lr.Status) -> str:
    if status.state == "unreadable":
        return ""
    turn = f" turn {status.turn}" if status.turn else ""
    place = f"pass {status.pass_number}{turn}" if status.pass_number else "before the first turn"
    if status.pid is not None:
        number = status.pass_number if status.turn else status.pass_number + 1
        place = f"in pass {number} turn {status.turn + 1}"  # the one after the last committed one
    uncommitted = status.uncommitted
    more = f", and {_usd(uncommitted.usd)} not committed yet" if uncommitted.requests else ""
    return f"{place}, {output.duration(status.spend.seconds)}, {_usd(status.spend.usd)}{more}"


def _usd(usd: float | None) -> str:
    return "price unknown" if usd is None else f"{usd:.4f} USD"


# ── runs ────────────────────────────────────────────────────────────────────────────────────────────


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default="runs")
@_STATES
@_JSON
def runs(folder: Path, states: tuple[str, ...], as_json: bool) -> None:
    """List the runs in FOLDER (runs/), the newest first, a line each.

    \b
    Example:  loop-runner runs --state running --state crashed
    """
    result = _listed(folder, states)
    if as_json:
        output.write_json({"runs": [status_as_json(item) for item in result]})
        return
    if not result:
        output.write(f"no runs in {folder}" + (f" that are {' or '.join(states)}" if states else ""))
    width = max((len(item.folder.name) for item in result), default=0)
    for item in result:
        age = "" if item.age_s is None else f"{output.duration(item.age_s)} ago"
        what = str(item.activity) or text.one_line(item.reason or item.answer, 80)
        line = f"{item.folder.name:<{width}}  {item.state:<11} {age:<18} {_usd(item.spend.usd):<14} {what}"
        output.write(line.rstrip())


def _listed(folder: Path, states: tuple[str, ...]) -> list[lr.Status]:
    if not folder.is_dir():
        raise ConfigError(
            f"there is no folder {folder}",
            why="the runs in it were to be listed",
            hint="name the folder that holds the run folders, or start one with `loop-runner run TASK.yaml`",
        )
    return lr.list_runs(folder, states=states)


# ── clean ───────────────────────────────────────────────────────────────────────────────────────────


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default="runs")
@_STATES
@click.option(
    "--older-than",
    default="7d",
    show_default=True,
    metavar="TIME",
    help="Since the last event: `12h`, `30d`.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Only list what would be removed.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@_JSON
def clean(
    folder: Path, states: tuple[str, ...], older_than: str, dry_run: bool, yes: bool, as_json: bool
) -> int:
    """Remove old run folders in FOLDER (runs/) with their histories; asks first.

    A run that a process runs, or that waits for one, stays, and so does everything that is no run folder.

    \b
    Example:  loop-runner clean --older-than 30d --dry-run
    """
    old = [item for item in _listed(folder, states) if _is_old(item, _seconds(older_than))]
    if not as_json:
        for item in old:
            output.write(f"{item.folder}  {item.state}  {_usd(item.spend.usd)}")
    if not dry_run and old and not yes:
        what = output.plural(len(old), "run folder")
        click.confirm(
            f"Remove {what} with everything in {'it' if len(old) == 1 else 'them'}?", abort=True, err=True
        )
    removed, kept = ([], []) if dry_run else _remove(old)
    if as_json:
        listed = [str(item.folder) for item in old]
        output.write_json({"found": listed, "removed": removed, "kept": kept})
    else:
        output.write(_summary(len(old), len(removed), dry_run=dry_run))
    return 4 if kept else 0


def _remove(old: Sequence[lr.Status]) -> tuple[list[str], list[dict[str, str]]]:
    removed, kept = [], []
    for item in old:
        try:
            lr.Run(item.folder).remove()
            removed.append(str(item.folder))
        except LoopRunnerError as error:
            kept.append({"run": str(item.folder), "why": error.message})
            output.note(f"kept: {error.message}")
    return removed, kept


def _summary(result: int, removed: int, *, dry_run: bool) -> str:
    if not result:
        return "nothing to remove"
    if dry_run:
        return f"{output.plural(result, 'run folder')} would be removed"
    return f"removed {output.plural(removed, 'run folder')}"


def _is_old(status: lr.Status, seconds: float) -> bool:
    """Whether it is a run that nothing has happened in for so long, and that no process runs."""
    if status.is_active or status.state == "unreadable":
        return False
    last = status.last_event_at or status.folder.stat().st_mtime
    return time.time() - last >= seconds


def _seconds(words: str) -> float:
    if words.strip("0 ") == "":
        return 0.0
    try:
        return keys.duration(words)
    except keys.BadValueError as error:
        raise click.UsageError(f"--older-than {words!r} is no time: write 12h, 30d or 0") from error
