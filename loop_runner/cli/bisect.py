"""``bisect``: the first pass whose answer fails a command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loop_runner import text
from loop_runner.cli import output
from loop_runner.errors import ConfigError
from loop_runner.runs.folders import find_run
from loop_runner.text import shell
from loop_runner.workspace.history import History

if TYPE_CHECKING:
    from loop_runner.runs.bisect import Found, Said, Step


@click.command()
@click.argument("run_name", metavar="RUN")
@click.argument("command", metavar="-- COMMAND...", nargs=-1, type=click.UNPROCESSED, required=True)
@click.option("--first-good", is_flag=True, help="Look for the first pass whose answer passes the command.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0, min_open=True),
    default=600.0,
    metavar="SECONDS",
    help="For each try; default 600.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def bisect(run_name: str, command: tuple[str, ...], first_good: bool, timeout_s: float, as_json: bool) -> int:
    """Find the first pass whose answer fails COMMAND, trying as few passes as halving needs.

    COMMAND is run in a checkout of the pass: answer.md, answer.json and the model's files in workspace/.
    Exit code 0 means good, 125 skip, any other up to 127 bad. It is run with your rights, like a verifier's.
    Exit code 3 means that no such pass was found.

    \b
    Example:  loop-runner bisect contract-review -- grep -q "clause 7" answer.md
    """
    from loop_runner.runs import bisect as bisecting

    wanted: Said = "good" if first_good else "bad"
    steps: list[Step] = []
    with History(find_run(run_name)) as history:

        def tell(step: Step) -> None:
            steps.append(step)
            if not as_json:
                output.write(_step_line(step))

        env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        env["LOOP_RUNNER_RUN"] = str(history.folder.absolute())
        trial = bisecting.Trial(history, _absolute(command), env, timeout_s, tell)
        numbers = sorted(trial.passes())
        if not numbers:
            raise ConfigError(f"no pass of {history.folder} has ended yet", why="there is nothing to try")
        found = bisecting.search(numbers, trial, wanted)
        if as_json:
            output.write_json({"run": str(history.folder), "wanted": wanted, **_as_json(found, steps)})
        else:
            output.write(_result(found, wanted, history.folder))
    return 0 if found.first else 3


def _absolute(command: tuple[str, ...]) -> tuple[str, ...]:
    """A program given as ``./check.sh`` is meant from here, not from the checkout."""
    program = command[0]
    if "/" in program and not Path(program).is_absolute() and Path(program).exists():
        return (str(Path(program).absolute()), *command[1:])
    return command


def _step_line(step: Step) -> str:
    said = text.one_line(step.output.strip().rpartition("\n")[2], 80)
    return f"pass {step.pass_number}: {step.said}" + (f"  ({said})" if said else "")


def _result(found: Found, wanted: Said, folder: Path) -> str:
    if found.first is not None:
        number = found.first.pass_number
        before = f"{number - 1} {number}" if number > 1 else f"0 {number}"
        return (
            f"pass {number} is the first {wanted} one ({found.first.commit[:10]})\n"
            f"Next   loop-runner diff {shell(folder)} {before}\n"
            f"       loop-runner show {shell(folder)} {number}"
        )
    if found.candidates:
        return (
            f"the first {wanted} pass is one of {', '.join(map(str, found.candidates))}; the rest was skipped"
        )
    return f"no pass is {wanted}, as far as the last one says"


def _as_json(found: Found, steps: list[Step]) -> dict[str, Any]:
    return {
        "first": None if found.first is None else found.first.pass_number,
        "commit": None if found.first is None else found.first.commit,
        "candidates": list(found.candidates),
        "steps": [
            {
                "pass": step.pass_number,
                "commit": step.commit,
                "said": step.said,
                "exit_code": step.exit_code,
                "output": step.output,
            }
            for step in steps
        ],
    }
