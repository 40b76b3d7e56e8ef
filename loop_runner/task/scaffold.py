"""Writes the folder that a task of some type begins with.

Owns what ``loop-runner init`` puts down: the files of ``examples/starters/TYPE/`` with the task's name filled
in. Never writes over a file, and writes nothing when one is in the way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from loop_runner.errors import ConfigError
from loop_runner.task import resources
from loop_runner.task.task_types import TYPES, TaskType

_NAME = "TASK_NAME"  # stands for it in the starters
_WHY = "each type has prompts, gates and a first folder of its own"


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: paths relative to ``folder``, sorted."""

    folder: Path
    name: str
    files: tuple[str, ...]


def offered() -> tuple[TaskType, ...]:
    """The types that a folder can be made of."""
    return tuple(known for known in TYPES.values() if known.has_starter)


def create(type_name: str, folder: Path) -> Written:
    """Write the starter of a type into ``folder``, which may be there already.

    Raises ``ConfigError`` for an unknown type, and when a file of the starter's is there or cannot be made.
    """
    source = resources.folder("examples/starters") / _known(type_name).name
    name = _task_name(folder, type_name)
    contents = {
        path.relative_to(source).as_posix(): path.read_text(encoding="utf-8").replace(_NAME, name)
        for path in sorted(source.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts  # pip compiles what it installs
    }
    _refuse_existing(folder, contents)
    for relative, content in contents.items():
        path = folder / relative
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:  # "x": whatever came meanwhile stays
                file.write(content)
        except OSError as error:
            raise ConfigError(
                f"{path} cannot be written: {error.strerror or error}",
                why="the folder would be incomplete",
                hint="choose another folder; the files written so far are left there",
            ) from error
    return Written(folder, name, tuple(contents))


def _known(type_name: str) -> TaskType:
    import difflib

    names = [offered_type.name for offered_type in offered()]
    if type_name in names:
        return TYPES[type_name]
    near = difflib.get_close_matches(type_name, names, n=1)
    raise ConfigError(
        f"there is no type {type_name!r} to begin with",
        why=_WHY,
        hint=f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}",
    )


def _refuse_existing(folder: Path, contents: dict[str, str]) -> None:
    there = [relative for relative in contents if _is_there(folder / relative)]
    if _is_there(folder) and not folder.is_dir():
        there = [str(folder)]
    if there:
        if there == [str(folder)]:
            raise ConfigError(
                f"{folder} is a file",
                why="a task is a folder with several files",
                hint="choose another folder",
            )
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise ConfigError(
            f"{there[0]}{more} would be overwritten in {folder}",
            why="init never changes an existing file; nothing was written",
            hint="choose another folder",
        )


def _is_there(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _task_name(folder: Path, type_name: str) -> str:
    """The folder's name in letters that a run folder may have."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.absolute().name).strip("-._")
    return name[:60] or f"my-{type_name}"
