"""Finds the run folder that a person means, by a path or by a name under ``runs/``."""

from __future__ import annotations

import contextlib
import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from loop_runner.errors import ConfigError
from loop_runner.runs.new_folders import holds, is_file, runs_folder, with_room
from loop_runner.text import shell

if TYPE_CHECKING:
    from loop_runner.workspace.points import Point


def find_run(name: str) -> Path:
    """The run folder called ``name``: a path, or a name under ``runs/``."""
    for folder in (Path(name), runs_folder() / name):
        if holds(folder, ".git") or holds(folder, ".git.new"):
            return folder
    raise ConfigError(
        f"there is no run {name!r} here",
        why=f"no folder of that name was found, here or in {runs_folder()}/",
        hint=_instead(name),
    )


def _instead(name: str) -> str:
    """What was probably meant by ``name``, which is no run."""
    if name.endswith((".yaml", ".yml")) and is_file(Path(name)):
        return f"it is a file; if it is a task, start it: loop-runner run {shell(name)}"
    names = [path.name for path in all_runs()]
    if near := difflib.get_close_matches(Path(name).name, names, 1):
        return f"did you mean {shell(runs_folder() / near[0])}?"
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    known = ", ".join(names[:5])
    return f"runs here: {known}{more}" if known else "start one with `loop-runner run TASK.yaml`"


def find_run_at(name: str) -> tuple[Path, Point | None]:
    """The run folder and the moment that ``RUN@PASS[.TURN]`` names; no moment for a plain ``RUN``."""
    from loop_runner.workspace import points

    run, at, moment = name.rpartition("@")
    point = points.parse(moment) if at else None
    if point is None or any(holds(folder, ".git") for folder in (Path(name), runs_folder() / name)):
        return find_run(name), None  # a folder may have this name
    return find_run(run), point


def all_runs() -> list[Path]:
    """Every folder under ``runs/`` that is or once was a run, the latest first."""
    return runs_in(runs_folder())


def runs_in(parent: Path) -> list[Path]:
    """Every folder in ``parent`` that is or once was a run, the latest first."""
    if not parent.is_dir():
        return []
    folders = [path for path in parent.iterdir() if holds(path, ".git") and holds(path, "loop-runner.json")]
    return sorted(folders, key=_changed_at, reverse=True)


def _changed_at(folder: Path) -> float:
    """When something was written in the run last."""
    times = [folder.stat().st_mtime]
    for name in (".git/loop-runner/events.jsonl", ".git/HEAD"):
        with contextlib.suppress(OSError):
            times.append((folder / name).stat().st_mtime)
    return max(times)


def forked_run_folder(name: str) -> Path:
    """Where a fork called ``name`` goes: a path with a "/" is taken as it is, a name goes under ``runs/``."""
    return with_room(Path(name) if "/" in name else runs_folder() / name)
