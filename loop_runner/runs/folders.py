"""Finds run folders: the one a person means, and a free one for a new run."""

from __future__ import annotations

import difflib
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from loop_runner.errors import ConfigError, WorkspaceError
from loop_runner.task.config import Task
from loop_runner.text import name as shown_name
from loop_runner.text import shell

if TYPE_CHECKING:
    from loop_runner.workspace.history import History
    from loop_runner.workspace.points import Point

RUNS = Path("runs")
_NAME_BYTES = 255  # of one name, on every common file system


def find_run(name: str) -> Path:
    """The run folder called ``name``: a path, or a name under ``runs/``."""
    for folder in (Path(name), RUNS / name):
        if _holds(folder, ".git") or _holds(folder, ".git.new"):
            return folder
    raise ConfigError(
        f"there is no run {name!r} here",
        why=f"it was looked for as a folder of that name, here and in {RUNS}/",
        hint=_instead(name),
    )


def _instead(name: str) -> str:
    """What was probably meant by ``name``, which is no run."""
    if name.endswith((".yaml", ".yml")) and _is_file(Path(name)):
        return f"it is a file; if it is a task, start it: loop-runner run {shell(name)}"
    found = [path.name for path in all_runs()]
    if near := difflib.get_close_matches(Path(name).name, found, 1):
        return f"did you mean {shell(RUNS / near[0])}?"
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    known = ", ".join(found[:5])
    return f"runs here: {known}{more}" if known else "start one with `loop-runner run TASK.yaml`"


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

    The folder may hold a run without a committed turn, which ``make_way`` removes. Raises ``WorkspaceError``
    for a run with paid work in it, naming the command that continues it, and for a finished run in the
    folder that the user chose.
    """
    if task.run_dir is not None:
        if not _is_free(task.run_dir, task):
            raise _finished(task.run_dir)
        return with_room(task.run_dir)
    number = 1
    # A folder whose making was interrupted has no .git yet; it is taken over.
    while _holds(folder := RUNS / (task.name if number == 1 else f"{task.name}-{number}"), ".git"):
        if _is_free(folder, task):
            break
        number += 1
    return with_room(folder)


def _is_free(folder: Path, task: Task) -> bool:
    """Whether a run may be created in ``folder``; False for a finished run, which stays."""
    from loop_runner.workspace.history import History

    if not _holds(folder, ".git"):
        return True
    with History(folder) as history:
        head = history.head()
        if head.outcome == "accepted":
            return False
        if has_begun(history) or not _is_as_created(history):
            if task.run_dir is None and _is_of_another_task(history, task):
                return False
            raise _unfinished(history, task)
    return True


def _is_of_another_task(history: History, task: Task) -> bool:
    """Whether the run was begun from another task file, or to answer another question or other files."""
    from loop_runner.runs import origin
    from loop_runner.task import config
    from loop_runner.workspace.openable import parsing

    found = origin.of_run(history.folder, history.read)
    if found is not None or task.file is not None:
        return found is not None and found.file != task.file
    with parsing(history.folder, "task.yaml"):
        source = (history.read("task.yaml") or b"").decode()
        old = config.parse_task(source, label="task.yaml", base_dir=history.folder)
    return (old.prompt, old.inputs) != (task.prompt, task.inputs)


def has_begun(history: History) -> bool:
    """Whether the run in ``history`` is going on, has a committed turn, or holds a reply that is paid for."""
    head = history.head()
    awaits = next((history.git_dir / "loop-runner" / "batches").glob("*.json"), None)
    return bool(
        head.pass_number or head.turn or history.running() or history.under_way()[0] or awaits is not None
    )


def _is_as_created(history: History) -> bool:
    """Whether the user created the folder here and added nothing to it."""
    from loop_runner.runs import trust

    if not trust.is_marked(history, os.environ):
        return False
    folder = history.folder.absolute()
    known = {folder / path for path in history.files()}
    found = (path for path in folder.rglob("*") if history.git_dir not in (path, *path.parents))
    return all(path in known for path in found if not path.is_dir())


def make_way(folder: Path) -> bool:
    """Remove the run in ``folder``, if it holds one without a committed turn; whether it did.

    Looks again while it holds the lock: another process may have committed in between. Raises
    ``WorkspaceError`` for a run that has begun and for a folder that another process uses.
    """
    from loop_runner.workspace.lock import Lock

    if not _holds(folder, ".git"):
        return False
    private = folder / ".git" / "loop-runner"
    private.mkdir(exist_ok=True)
    held = Lock.take(private / "lock", folder)
    try:
        _refuse_begun(folder)
        shutil.rmtree(folder)
    except OSError as error:
        raise WorkspaceError(
            f"{folder} holds a run that never began, and it cannot be removed: {error.strerror}",
            why="the new run would go there",
            hint="remove it, or choose another folder with --run-dir",
        ) from error
    finally:
        held.release()
    return True


def _refuse_begun(folder: Path) -> None:
    from loop_runner.workspace.history import History

    with History(folder) as history:
        head = history.head()
        if head.pass_number or head.turn or history.under_way()[0]:
            raise WorkspaceError(
                f"{folder} holds a run with committed work",
                why="the new run would take its place",
                hint="choose another folder with --run-dir",
            )


def _finished(folder: Path) -> WorkspaceError:
    return WorkspaceError(
        f"{folder} holds a finished run",
        why="a run folder holds one run, and its history is the proof of it",
        hint=f"see it with `loop-runner show {shell(folder)}`, or choose another folder with --run-dir",
    )


def _unfinished(history: History, task: Task) -> WorkspaceError:
    from loop_runner.runs import origin

    folder, head = history.folder, history.head()
    found = origin.of_run(folder, history.read)
    resume = f"continue it with `loop-runner resume {shell(folder)}`"
    if task.file is not None and (found is None or task.file != found.file):
        changed = "; it was started from another task file" if found is not None else ""
    elif found is not None and found.has_changed():
        changed = f"; {found.file.name} has changed since it began"
        resume = (
            f"continue it with the changed file: `loop-runner resume {shell(folder)} --retask`, or with the "
            f"old one: `loop-runner resume {shell(folder)}`"
        )
    else:
        changed = ""
    return WorkspaceError(
        f"{folder} holds an unfinished run (pass {head.pass_number}, turn {head.turn}){changed}",
        why="starting over would leave paid work behind",
        hint=f"{resume}; or choose another folder with --run-dir",
    )


def named_after(question: str) -> str:
    """The name of a run that has none of its own: the first words of what it is asked."""
    words = re.findall(r"[a-z0-9_]+", question[:400].lower())
    return "-".join(words)[:40].strip("-_") or "question"


def forked_run_folder(name: str) -> Path:
    """Where a fork called ``name`` goes: a path with a "/" is taken as it is, a name goes under ``runs/``."""
    return with_room(Path(name) if "/" in name else RUNS / name)


def with_room(folder: Path) -> Path:
    """``folder``, if it can be one: nothing on the way to it is a file."""
    longest = max(folder.parts, key=lambda part: len(os.fsencode(part)), default="")
    if len(os.fsencode(longest)) > _NAME_BYTES:
        raise WorkspaceError(
            f"no run folder can be made at {shown_name(longest, 80)}: file name too long",
            why="a run is kept in a folder of its own",
            hint="choose another place with --run-dir",
        )
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
