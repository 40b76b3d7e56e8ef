"""Finds run folders: the one a person means, and a free one for a new run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from loop_runner.config import Task
from loop_runner.errors import ConfigError, WorkspaceError

if TYPE_CHECKING:
    from loop_runner.workspace.points import Point

RUNS = Path("runs")


def find_run(name: str) -> Path:
    """The run folder called ``name``: a path, or a name under ``runs/``."""
    for folder in (Path(name), RUNS / name):
        if _holds(folder, ".git") or _holds(folder, ".git.new"):
            return folder
    known = ", ".join(path.name for path in all_runs()[:5])
    raise ConfigError(
        f"there is no run {name!r} here",
        why=f"it was looked for as a folder of that name, here and in {RUNS}/",
        hint=f"runs here: {known}" if known else "start one with `loop-runner run TASK.yaml`",
    )


def find_run_at(name: str) -> tuple[Path, Point | None]:
    """The run folder and the moment that ``RUN@PASS[.TURN]`` names; no moment for a plain ``RUN``."""
    from loop_runner.workspace import points

    run, at, moment = name.rpartition("@")
    point = points.parse(moment) if at else None
    if point is None or any(_holds(folder, ".git") for folder in (Path(name), RUNS / name)):
        return find_run(name), None  # a folder may be called so
    return find_run(run), point


def all_runs() -> list[Path]:
    """Every folder under ``runs/`` that is or once was a run, the latest first."""
    if not RUNS.is_dir():
        return []
    folders = [path for path in RUNS.iterdir() if _holds(path, ".git") and _holds(path, "loop-runner.json")]
    return sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)


def _holds(folder: Path, name: str) -> bool:
    """Whether ``name`` is in ``folder``, or cannot be told: opening it then says why."""
    try:
        return (folder / name).exists()
    except PermissionError:
        return True
    except OSError:  # a name that is too long, say
        return False


def new_run_folder(task: Task) -> Path:
    """Where a new run of ``task`` goes: its ``run_dir``, else ``runs/NAME``, numbered when that is finished.

    Raises ``WorkspaceError`` for a run that is there and unfinished, naming ``resume``.
    """
    if task.run_dir is not None:
        return _with_room(task.run_dir)
    number = 1
    # A folder whose making was interrupted has no .git yet; it is taken over.
    while _holds(folder := RUNS / (task.name if number == 1 else f"{task.name}-{number}"), ".git"):
        _refuse_unfinished(folder)
        number += 1
    return _with_room(folder)


def _refuse_unfinished(folder: Path) -> None:
    from loop_runner.workspace.history import History

    with History(folder) as history:
        head = history.head()
    if head.outcome != "accepted":
        raise WorkspaceError(
            f"{folder} holds an unfinished run (pass {head.pass_number}, turn {head.turn})",
            why="starting over would leave paid work behind",
            hint=f"go on with `loop-runner resume {folder}`, or choose another folder with --run-dir",
        )


def forked_run_folder(name: str) -> Path:
    """Where a fork called ``name`` goes: a path with a "/" is taken as it is, a name goes under ``runs/``."""
    return _with_room(Path(name) if "/" in name else RUNS / name)


def _with_room(folder: Path) -> Path:
    """``folder``, if it can be one: nothing on the way to it is a file."""
    for part in (folder, *folder.parents):
        if _is_file(part):
            raise WorkspaceError(
                f"no run folder can be made at {folder}: {part} is a file",
                why="a run is kept in a folder of its own",
                hint="choose another place with --run-dir",
            )
    return folder


def _is_file(path: Path) -> bool:
    try:
        return path.exists() and not path.is_dir()
    except OSError:  # no permission to look: making the folder says so
        return False
