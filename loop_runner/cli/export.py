"""``export``: an agent's work, as a branch of the user's repository."""

from __future__ import annotations

from pathlib import Path

import click

import loop_runner as lr
from loop_runner.cli import output

_SHOWN = 20


@click.command()
@click.argument("run_name", metavar="RUN")
@click.option("--branch", metavar="NAME", help="Name of the new branch; default loop-runner/RUN.")
@click.option(
    "--to", type=click.Path(path_type=Path), help="The repository; default: the one that the run began with."
)
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object on standard output.")
def export(run_name: str, branch: str | None, to: Path | None, as_json: bool) -> None:
    """Put an agent's work into your repository, as a new branch with one commit for each pass.

    No branch, index or file that is there is touched. Files that your ignore rules name are left out.

    \b
    Example:  loop-runner export runs/mend-the-tests --branch mended
    """
    run = lr.open(run_name)
    done = run.export(branch, to)
    made = done.made
    if as_json:
        output.write_json(
            {
                "run": str(run.folder),
                "repository": str(done.repository),
                "branch": made.branch,
                "commit": made.commit,
                "commits": made.passes,
                "left_out": list(made.left_out),
                "not_carried": [{"path": path, "reason": reason} for path, reason in made.not_carried],
            }
        )
        return
    output.write(
        f"{done.repository}: branch {made.branch}, {output.plural(made.passes, 'commit')}, {made.commit[:12]}"
    )
    if made.left_out:
        output.write(f"left out, as your ignore rules say: {output.plural(len(made.left_out), 'file')}")
    for path, reason in made.not_carried[:_SHOWN]:
        output.write(f"not carried over, so it stays as it was: {path} ({reason})")
    if len(made.not_carried) > _SHOWN:
        output.write(f"and {len(made.not_carried) - _SHOWN} more; --json lists them all")
