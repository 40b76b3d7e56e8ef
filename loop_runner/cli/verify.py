"""``verify``: run the verifiers of a finished run again, from the folder or any clone of it."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from loop_runner import text
from loop_runner.cli import output
from loop_runner.errors import ConfigError
from loop_runner.runs.context import RunContext
from loop_runner.runs.folders import find_run


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
    from loop_runner.runs import reverify

    folder = find_run(run_name)
    recheck = reverify.verify_run(
        folder,
        RunContext(os.environ),
        at=at,
        task_dir=task_dir,
        ask_again=ask_again,
        granted=_known(granted),
    )
    code = reverify.exit_code(recheck)
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


def _known(granted: tuple[str, ...]) -> tuple[str, ...]:
    """The words of ``--allow``. ``ConfigError`` for one that grants nothing."""
    for word in granted:
        key, _, value = word.partition("=")
        if word not in ("network", "tier=C") and not (key in ("show", "program", "plugin") and value):
            raise ConfigError(
                f"--allow {word!r} is not something that a verifier can be granted",
                why="a misspelled grant could be taken for another",
                hint="it can be: network, show=PATH, program=PATH, plugin=NAME, tier=C",
            )
    return granted


def _headline(recheck: Any, code: int) -> str:
    if code == 0:
        return "VERIFIED again: every verifier accepts the committed answer, as the proof says"
    if code == 4:
        return "BROKEN: a verifier could not run here, so the proof was not checked"
    if recheck.status == "same":
        return "UNVERIFIED: the verifiers give the recorded verdict again, and it was not an acceptance"
    return "DIFFERENT: this is not what was proven"


def _as_json(recheck: Any, code: int) -> dict[str, Any]:
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
