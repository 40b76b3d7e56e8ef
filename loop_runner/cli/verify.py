"""``verify``: run the verifiers of a finished run again, from the folder or any clone of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import loop_runner as lr
from loop_runner import text
from loop_runner.cli import output

if TYPE_CHECKING:
    from loop_runner import types


@click.command()
@click.argument("run_name", metavar="RUN")
@click.option("--at", metavar="COMMIT", help="What to verify; default: HEAD.")
@click.option(
    "--task-dir",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Where the inputs are here, if not where the run found them.",
)
@click.option(
    "--ask-again", is_flag=True, help="Ask models again, and pay, instead of using recorded replies."
)
@click.option(
    "--allow",
    "granted",
    multiple=True,
    metavar="WHAT",
    help="Grant the verifiers what the run requires: network, show=PATH, program=PATH, plugin=NAME, tier=C.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def verify(
    run_name: str,
    at: str | None,
    task_dir: Path | None,
    ask_again: bool,
    granted: tuple[str, ...],
    as_json: bool,
) -> int:
    """Run the verifiers of a finished run again, and compare each verdict with the recorded one.

    A plain `git clone` of the run folder is enough, plus the inputs if a verifier reads them. The folder may
    come from anyone: its verifiers get no network and none of your files unless you --allow it. Exit codes:
    0 accepted as proven, 3 something is different or was not accepted, 4 a verifier could not run, or
    requires more than is allowed.

    \b
    Example:  loop-runner verify runs/contract-review
    """
    recheck = lr.verify(run_name, at=at, task_dir=task_dir, ask_again=ask_again, allow=granted)
    code = recheck.exit_code
    if as_json:
        output.write_json(_as_json(recheck, code))
        return code
    what = "the proof" if recheck.has_proof else "the verdict"
    output.write(f"pass {recheck.pass_number} at {recheck.commit[:12]}, against {what} of that pass")
    for fault in recheck.faults:
        output.write(f"  different  {text.one_line(fault, 1000)}")
    for gate in recheck.gates:
        then = f"{gate.recorded or 'not recorded'} then, " if gate.status == "different" else ""
        same_output = {True: ", same output", False: ", other output", None: ""}[gate.is_output_same]
        output.write(
            f"  {gate.status:<9}  {text.one_line(gate.verifier)}: {then}{gate.now or 'not run'}{same_output}"
        )
        if gate.detail:
            output.write(f"             {text.one_line(gate.detail, 300)}")
    output.prose(_headline(recheck, code))
    return code


def _headline(recheck: types.Recheck, code: int) -> str:
    if code == 0:
        return "VERIFIED again: every verifier accepts the committed answer, as the proof says"
    if code == 4:
        return "BROKEN: a verifier could not run here, so the proof was not checked"
    if recheck.status == "same":
        return "UNVERIFIED: the verifiers give the recorded verdict again, and it was not an acceptance"
    return "DIFFERENT: this is not what was proven"


def _as_json(recheck: types.Recheck, code: int) -> dict[str, Any]:
    return {
        "status": recheck.status,
        "verified": code == 0,
        "commit": recheck.commit,
        "pass": recheck.pass_number,
        "has_proof": recheck.has_proof,
        "faults": list(recheck.faults),
        "verifiers": [asdict(gate) for gate in recheck.gates],
        "requests": recheck.requests,
    }
