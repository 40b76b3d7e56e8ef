"""``fork`` and ``rewind``: continue from an earlier point, in another folder or in the same one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import loop_runner as lr
from loop_runner.cli import output, trusting
from loop_runner.cli.run import options, overrides, work
from loop_runner.text import shell

_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")


@click.command()
@click.argument("source", metavar="RUN[@PASS[.TURN]]")
@click.argument("new", metavar="NEW")
@click.option(
    "--prompt",
    "prompt_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Another prompt, from FILE.",
)
@options("model", "sub_model", "passes", "turns", "set", "json")
@click.option("--run", "is_run", is_flag=True, help="Continue it at once, as `resume NEW` does.")
@trusting.TRUST
@options("display", "quiet", "verbose")
def fork(
    source: str,
    new: str,
    prompt_file: Path | None,
    settings: tuple[str, ...],
    is_run: bool,
    is_trusted: bool,
    **flags: Any,
) -> int:
    """Start a new run from any point of an existing one.

    RUN@3 is the end of pass 3, RUN@3.7 its turn 7, RUN the latest point. The history up to there is copied;
    RUN itself is not changed and may be active. The cost of the copied passes counts against the fork's
    budget. NEW is a path, or a name under runs/.

    \b
    Example:  loop-runner fork contract-review@3 stricter --prompt stricter.md
    """
    run = lr.open(source)
    changed = overrides(settings, flags)
    if is_run:
        command = shell("loop-runner", "fork", source, new, "--run")
        run.require_trust(changed, trust=is_trusted, command=command)
    made = lr.fork(run, new, prompt_file=prompt_file, settings=changed, trust=is_trusted)
    if is_run:
        return work(lambda listening: lr.resume(made, **listening), flags, made.folder)
    _show_fork(made, run.folder, as_json=flags["as_json"])
    return 0


def _show_fork(made: lr.Run, source: Path, *, as_json: bool) -> None:
    begun = made.forked_from
    assert begun is not None
    at = begun.source
    if as_json:
        output.write_json(
            {
                "run": str(made.folder),
                "commit": begun.commit,
                "from": {"run": str(source), "commit": at.commit, "pass": at.pass_number, "turn": at.turn},
                "changed": list(begun.changed),
            }
        )
        return
    output.write(f"{made.folder} continues from {at} of {source}")
    output.write(f"changed: {', '.join(begun.changed) or 'nothing'}")
    output.write(f"Next   loop-runner resume {shell(made.folder)}")


@click.command()
@click.argument("run_name", metavar="RUN")
@click.argument("moment", metavar="PASS[.TURN]")
@_JSON
def rewind(run_name: str, moment: str, as_json: bool) -> None:
    """Take a run back to the end of a pass, or to a turn; `resume` continues from there.

    Nothing is lost: what the run leaves is kept under a ref, and `rewind RUN rewound/N` takes the run back
    to it. 0 is the start. The dropped turns were paid for, so they still count against the budget.

    \b
    Example:  loop-runner rewind contract-review 3.7
    """
    run = lr.open(run_name)
    gone = run.rewind(moment)
    to, left = gone.to, gone.left
    if as_json:
        output.write_json(
            {
                "run": str(run.folder),
                "commit": to.commit,
                "pass": to.pass_number,
                "turn": to.turn,
                "dropped": {
                    "commit": left.commit,
                    "pass": left.pass_number,
                    "turn": left.turn,
                    "ref": gone.ref,
                    "name": gone.name,
                },
            }
        )
        return
    output.write(f"{run.folder} is back at {to}")
    output.write(f"kept: {left} as {gone.ref}")
    output.write(f"Next   loop-runner resume {shell(run.folder)}")
    output.write(f"       loop-runner rewind {shell(run.folder)} {gone.name}   (undoes this)")
