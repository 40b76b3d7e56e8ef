"""``note``, ``pause``, ``stop``, ``budget``, ``approve`` and ``reject``: steer a run from another terminal.

Each places a request in the run folder; the process that runs the run takes it. Uses the library alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

import loop_runner as lr
from loop_runner.cli import output

_RUN = click.argument("run_name", metavar="RUN")
_NOW = "--now"
_LIMITS = {
    "passes": "Passes of the run.",
    "turns": "Turns of one pass.",
    "tokens": "Tokens in and out.",
    "tokens-in": "Tokens in.",
    "tokens-out": "Tokens out.",
    "usd": "US dollars.",
    "wall": "Time at work: 90s, 30m, 2h, 1d.",
    "subcalls": "Requests that the model's code makes.",
    "tool-calls": "Calls of tools.",
}


def shared(command: Any) -> Any:
    """The options of every command of this file."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")(
        command
    )


def _ask(as_json: bool, place: Callable[[], lr.Placed], then: str, kept: str = "") -> int:
    """Place a request and say what comes of it: ``then`` while a process runs the run, else ``kept``."""
    placed = place()
    if as_json:
        output.write_json({"id": placed.id, "request": placed.kind, "running": placed.is_running})
        return 0
    answer = then if placed.is_running else kept or "no process runs it: `resume` applies this"
    output.write(f"{placed.kind}: {answer}")
    return 0


@click.command()
@_RUN
@click.argument("text", required=False)
@click.option(
    "--file",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Take the text of FILE; - for input.",
)
@shared
def note(run_name: str, text: str | None, file: Path | None, as_json: bool) -> int:
    """Leave a note for the model of a run.

    The model sees it once, in its next message, quoted as the operator's. The note is committed with the
    turn, so a replay and a clone contain it.

    \b
    Example:  loop-runner note runs/contract-review "look at the annexes too"
    """
    run = lr.open(run_name)
    if (text is None) == (file is None):
        raise click.UsageError("give the text of the note, or --file FILE")
    words = text if file is None else _content(file)
    return _ask(as_json, lambda: run.note(words or ""), "the model sees it in its next message")


@click.command()
@_RUN
@click.option(_NOW, "now", is_flag=True, help="Also start no further sub-call of the turn that is under way.")
@shared
def pause(run_name: str, now: bool, as_json: bool) -> int:
    """Pause a run: nothing new is started after the current turn.

    The process stays, with its variables; `resume` ends the pause, `stop` the run. When no process runs the
    run, the next `resume` begins paused, and a second one ends the pause.

    \b
    Example:  loop-runner pause runs/contract-review
    """
    run = lr.open(run_name)
    then = "nothing new is started" if now else "the run waits after this turn"
    return _ask(
        as_json, lambda: run.pause(now=now), then, "no process runs it: the next `resume` begins paused"
    )


@click.command()
@_RUN
@click.option(_NOW, "now", is_flag=True, help="Interrupt the turn, as Ctrl-C does.")
@shared
def stop(run_name: str, now: bool, as_json: bool) -> int:
    """Stop a run after its current turn; `resume` continues it.

    When no process runs the run, the next `resume` ends before its first turn; the one after it continues.

    \b
    Example:  loop-runner stop runs/contract-review
    """
    run = lr.open(run_name)
    then = "the run is interrupted now" if now else "the run ends after this turn"
    kept = "no process runs it: the next `resume` ends before its first turn, the one after it continues"
    return _ask(as_json, lambda: run.stop(now=now), then, kept)


def _limit_options(command: Any) -> Any:
    for name, what in reversed(_LIMITS.items()):
        command = click.option(f"--{name}", metavar="N", help=what)(command)
    return command


@click.command()
@_RUN
@_limit_options
@shared
def budget(run_name: str, as_json: bool, **limits: str | None) -> int:
    """Change the limits of a run, from its next turn on and for good.

    N is the new limit; +N adds to the one that the run has.

    \b
    Example:  loop-runner budget runs/contract-review --passes +5 --usd 10
    """
    run = lr.open(run_name)
    return _ask(as_json, lambda: run.raise_budget(**limits), "the limits change at the next turn")


def _decision(command: Any) -> Any:
    for option in (
        click.option("--by", default="", metavar="NAME", help="Who decided, for the record."),
        click.option("--at", "at", default="", metavar="WHEN", help="When, for the record."),
    ):
        command = option(command)
    return _RUN(command)


@click.command()
@_decision
@shared
def approve(run_name: str, by: str, at: str, as_json: bool) -> int:
    """Approve the answer that a run waits with, for its verifier `human`.

    \b
    Example:  loop-runner approve runs/contract-review --by "A. Lee"
    """
    run = lr.open(run_name)
    return _ask(as_json, lambda: run.approve(by=by, at=at), "the run takes the answer as approved")


@click.command()
@_decision
@click.argument("why")
@shared
def reject(run_name: str, why: str, by: str, at: str, as_json: bool) -> int:
    """Reject the answer that a run waits with; the next pass is shown WHY.

    \b
    Example:  loop-runner reject runs/contract-review "clause 4 is missing"
    """
    run = lr.open(run_name)
    return _ask(as_json, lambda: run.reject(why, by=by, at=at), "the next pass is shown the reason")


def _content(file: Path) -> str:
    """The text of ``file``; "-" is standard input."""
    try:
        with click.open_file(str(file), "rb") as stream:
            data: bytes = stream.read(2_000_000)
            return data.decode("utf-8", "replace")
    except OSError as error:
        raise lr.ConfigError(
            f"{file} cannot be read: {error.strerror}",
            why="the note is taken from it",
            hint="name a text file, or give the text itself",
        ) from error
