"""``report``: a run, or all runs in a folder, as HTML that needs nothing else."""

from __future__ import annotations

from pathlib import Path

import click

from loop_runner.cli import output
from loop_runner.errors import ConfigError
from loop_runner.text import shell


@click.command()
@click.argument("run_name", metavar="RUN|FOLDER")
@click.option(
    "-o",
    "--output",
    "target",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="The file, or the folder for all runs of FOLDER; default RUN.html.",
)
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object on standard output.")
def report(run_name: str, target: Path | None, as_json: bool) -> None:
    """Write a run as one HTML file: answer, proof, history, cost. It can be read offline and sent as it is.

    With a folder of runs, write an index of all of them into the folder that -o names. Nothing is started,
    so the run may be a clone, damaged, or another person's.

    \b
    Example:  loop-runner report runs/contract-review -o review.html
    """
    from loop_runner.report import all_runs

    folder = Path(run_name)
    if all_runs.is_folder_of_runs(folder):
        path, count = _index(folder, target)
    else:
        path, count = _page(run_name, target), 1
    if as_json:
        size = path.stat().st_size if path.is_file() else None
        output.write_json({"file": str(path), "runs": count, "bytes": size})
        return
    output.write(f"{path}: {output.plural(count, 'run')}")


def _index(folder: Path, target: Path | None) -> tuple[Path, int]:
    from loop_runner.report import all_runs

    if target is None or target.is_file():
        raise ConfigError(
            f"{folder} holds several runs, and their reports need a folder",
            why="each run has a page of its own, beside the index",
            hint=f"name one: {shell('loop-runner', 'report', folder, '-o', 'reports/')}",
        )
    return all_runs.write(folder, target)


def _page(run_name: str, target: Path | None) -> Path:
    import loop_runner as lr
    from loop_runner.report import page, writing

    run = lr.open(run_name)
    path = target or Path(f"{run.folder.absolute().name}.html")
    if path.is_dir():
        path /= f"{run.folder.absolute().name}.html"
    writing.write(path, page.render(run.record()))
    return path
