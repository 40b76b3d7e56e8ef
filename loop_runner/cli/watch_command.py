"""``watch``: the runs, or one run, on the whole terminal."""

from __future__ import annotations

from pathlib import Path

import click

import loop_runner as lr
from loop_runner import plugins
from loop_runner.errors import EnvironmentFault


@click.command()
@click.argument("run_name", metavar="[RUN]", required=False)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default="runs",
    show_default=True,
    help="Where the runs are.",
)
def watch(run_name: str | None, folder: Path) -> None:
    """Show all runs as a list, and a run as a page, until you press q. The runs do not notice.

    \b
    Example:  loop-runner watch runs/contract-review
    """
    try:
        from loop_runner.watch.screens import WatchApp
    except ImportError as error:
        raise EnvironmentFault(
            "`watch` needs the extra [watch], which is not installed",
            why="it draws the whole terminal with textual",
            hint=f"{plugins.command_for('watch')}; or use `loop-runner status --watch`",
        ) from error
    WatchApp(folder, None if run_name is None else lr.open(run_name)).run()
