"""Finds run folders: the one a person means, and a free one for a new run."""

from __future__ import annotations

from pathlib import Path

from loop_runner.config import Task
from loop_runner.errors import ConfigError, WorkspaceError

RUNS = Path("runs")


def find_run(name: str) -> Path:
    """The run folder called ``name``: a path, or a name under ``runs/``."""
    for folder in (Path(name), RUNS / name):
        if (folder / ".git").is_dir():
            return folder
    known = ", ".join(path.name for path in all_runs()[:5])
    hint = f"runs here: {known}" if known else "start one with `loop-runner run TASK.yaml`"
    raise ConfigError(f"there is no run {name!r} here", hint=hint)


def all_runs() -> list[Path]:
    """Every run folder under ``runs/``, the latest first."""
    if not RUNS.is_dir():
        return []
    folders = [path for path in RUNS.iterdir() if (path / ".git" / "loop-runner").is_dir()]
    return sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)


def new_run_folder(task: Task) -> Path:
    """Where a new run of ``task`` goes: its ``run_dir``, else ``runs/NAME``, numbered when that is finished.

    Raises ``WorkspaceError`` for a run that is there and unfinished, naming ``resume``.
    """
    from loop_runner.workspace.history import History

    if task.run_dir is not None:
        return task.run_dir
    number = 1
    while (folder := RUNS / (task.name if number == 1 else f"{task.name}-{number}")).exists():
        head = History(folder).head()
        if head.outcome != "accepted":
            raise WorkspaceError(
                f"{folder} holds an unfinished run (pass {head.pass_number}, turn {head.turn})",
                why="starting over would leave paid work behind",
                hint=f"go on with `loop-runner resume {folder}`, or choose another folder with --run-dir",
            )
        number += 1
    return folder
