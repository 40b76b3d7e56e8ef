"""``bisect``: the first pass whose answer fails a command."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

import loop_runner as lr
from loop_runner import text
from loop_runner.cli import output
from loop_runner.text import shell

if TYPE_CHECKING:
    from loop_runner import types


class Seconds(click.FloatRange):
    """A finite number of seconds over 0: a comparison alone would let ``nan`` pass."""

    def __init__(self) -> None:
        super().__init__(0, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; wrong usage for anything else."""
        seconds = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value} is not a finite number of seconds.", param, ctx)
        return float(seconds)


@click.command()
@click.argument("run_name", metavar="RUN")
@click.argument("command", metavar="-- COMMAND...", nargs=-1, type=click.UNPROCESSED, required=True)
@click.option("--first-good", is_flag=True, help="Look for the first pass whose answer passes the command.")
@click.option(
    "--timeout",
    "timeout_s",
    type=Seconds(),
    default=600.0,
    metavar="SECONDS",
    help="Time limit for each try; default 600.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def bisect(run_name: str, command: tuple[str, ...], first_good: bool, timeout_s: float, as_json: bool) -> int:
    """Find the first pass whose answer fails COMMAND, by trying as few passes as possible.

    COMMAND runs in a checkout of the pass: answer.md, answer.json and the model's files in workspace/.
    Exit code 0 means good, 125 skip, any other up to 127 bad. It runs with your rights, as verifiers do.
    Exit code 3 means that no such pass was found.

    \b
    Example:  loop-runner bisect contract-review -- grep -q "clause 7" answer.md
    """
    wanted: Literal["good", "bad"] = "good" if first_good else "bad"
    steps: list[types.Step] = []
    run = lr.open(run_name)

    def tell(step: types.Step) -> None:
        steps.append(step)
        if not as_json:
            output.write(_step_line(step))

    result = run.bisect(command, wanted=wanted, timeout_s=timeout_s, on_step=tell)
    if as_json:
        output.write_json({"run": str(run.folder), "wanted": wanted, **_as_json(result, steps)})
    else:
        output.write(_result(result, wanted, run.folder))
    return 0 if result.first else 3


def _step_line(step: types.Step) -> str:
    shown = text.one_line(step.output.strip().rpartition("\n")[2], 80)
    return f"pass {step.pass_number}: {step.judgement}" + (f"  ({shown})" if shown else "")


def _result(result: types.SearchResult, wanted: str, folder: Path) -> str:
    if result.first is not None:
        number = result.first.pass_number
        before = f"{number - 1} {number}" if number > 1 else f"0 {number}"
        return (
            f"pass {number} is the first {wanted} one ({result.first.commit[:10]})\n"
            f"Next   loop-runner diff {shell(folder)} {before}\n"
            f"       loop-runner show {shell(folder)} {number}"
        )
    if result.candidates:
        candidates = ", ".join(map(str, result.candidates))
        return f"the first {wanted} pass is one of {candidates}; the rest was skipped"
    return f"no pass is {wanted}: the last one is not"


def _as_json(result: types.SearchResult, steps: list[types.Step]) -> dict[str, Any]:
    return {
        "first": None if result.first is None else result.first.pass_number,
        "commit": None if result.first is None else result.first.commit,
        "candidates": list(result.candidates),
        "steps": [
            {
                "pass": step.pass_number,
                "commit": step.commit,
                "said": step.judgement,
                "exit_code": step.exit_code,
                "output": step.output,
            }
            for step in steps
        ],
    }
