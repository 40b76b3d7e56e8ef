"""Finds a free folder for a new run, and removes a run that never began. Paid work is never removed."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from loop_runner.errors import WorkspaceError
from loop_runner.runs import run_queue
from loop_runner.task.config import Task
from loop_runner.text import name as shown_name
from loop_runner.text import shell

if TYPE_CHECKING:
    from loop_runner.workspace.history import History

RUNS = Path("runs")
_NAME_BYTES = 255  # of one name, on every common file system


_chosen: list[Path] = []  # by the settings of the command line; at most one


def runs_folder() -> Path:
    """The folder that runs are created and looked for in: ``runs``, or the one that the settings name."""
    return _chosen[-1] if _chosen else RUNS


def use_runs_folder(folder: Path | None) -> None:
    """Create and look for runs in ``folder`` from now on, in the whole process; None: in ``runs`` again."""
    _chosen[:] = [] if folder is None else [folder]


def new_run_folder(task: Task, env: Mapping[str, str]) -> Path:
    """Where a new run of ``task`` goes: its ``run_dir``, else ``runs/NAME``, numbered when that is finished.

    The folder may hold a run without a committed turn, which ``make_way`` removes. Raises ``WorkspaceError``
    for a run with paid work in it, naming the command that continues it, and for a finished run in the
    folder that the user chose.
    """
    if task.run_dir is not None:
        if not _is_free(task.run_dir, task, env):
            raise _finished(task.run_dir)
        return with_room(task.run_dir)
    number = 1
    # A folder whose making was interrupted has no .git yet; it is taken over.
    while holds(folder := runs_folder() / (task.name if number == 1 else f"{task.name}-{number}"), ".git"):
        if _is_free(folder, task, env):
            break
        number += 1
    return with_room(folder)


def _is_free(folder: Path, task: Task, env: Mapping[str, str]) -> bool:
    """Whether a run may be created in ``folder``; False for a finished run, which stays."""
    from loop_runner.workspace.history import History

    if not holds(folder, ".git"):
        return True
    with History(folder) as history:
        head = history.head()
        if head.outcome == "accepted":
            return False
        if has_begun(history) or not _is_as_created(history, env):
            if task.run_dir is None and _is_of_another_task(history, task):
                return False
            raise _unfinished(history, task)
    return True


def _is_of_another_task(history: History, task: Task) -> bool:
    """Whether the run was begun from another task file, or to answer another question or other files."""
    from loop_runner.runs import origin
    from loop_runner.task import config
    from loop_runner.workspace.openable import parsing

    begun_from = origin.of_run(history.folder, history.read)
    if begun_from is not None or task.file is not None:
        return begun_from is not None and begun_from.file != task.file
    with parsing(history.folder, "task.yaml"):
        source = (history.read("task.yaml") or b"").decode()
        old = config.parse_task(source, label="task.yaml", base_dir=history.folder)
    return (old.prompt, old.inputs) != (task.prompt, task.inputs)


def has_begun(history: History) -> bool:
    """Whether the run in ``history`` is active, has a committed turn, or holds a reply that is paid for."""
    head = history.head()
    awaits = next((history.git_dir / "loop-runner" / "batches").glob("*.json"), None)
    is_running = bool(history.running()) or run_queue.is_waiting(history.folder)
    return bool(head.pass_number or head.turn or is_running or history.under_way()[0] or awaits is not None)


def _is_as_created(history: History, env: Mapping[str, str]) -> bool:
    """Whether the user created the folder here and added nothing to it."""
    from loop_runner.runs import trust

    if not trust.is_marked(history, env):
        return False
    folder = history.folder.absolute()
    known = {folder / path for path in history.files()}
    paths = (path for path in folder.rglob("*") if history.git_dir not in (path, *path.parents))
    return all(path in known for path in paths if not path.is_dir())


def make_way(folder: Path) -> bool:
    """Remove the run in ``folder``, if it holds one without a committed turn; whether it did.

    Looks again while it holds the lock: another process may have committed in between. Raises
    ``WorkspaceError`` for a run that has begun and for a folder that another process uses.
    """
    from loop_runner.workspace.lock import Lock

    if not holds(folder, ".git"):
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
            hint="remove it, or choose another folder with --run-dir (run_dir= in a program)",
        ) from error
    finally:
        held.release()
    return True


def _refuse_begun(folder: Path) -> None:
    from loop_runner.workspace.history import History

    with History(folder) as history:
        head = history.head()
        if head.pass_number or head.turn or history.under_way()[0] or run_queue.is_waiting(folder):
            raise WorkspaceError(
                f"{folder} holds a run with committed work",
                why="the new run would take its place",
                hint="choose another folder with --run-dir (run_dir= in a program)",
            )


def _finished(folder: Path) -> WorkspaceError:
    return WorkspaceError(
        f"{folder} holds a finished run",
        why="a run folder holds one run, and its history is the proof of it",
        hint=f"see it with `loop-runner show {shell(folder)}`, or choose another folder with"
        " --run-dir (run_dir= in a program)",
    )


def _unfinished(history: History, task: Task) -> WorkspaceError:
    from loop_runner.runs import origin

    folder, head = history.folder, history.head()
    source = origin.of_run(folder, history.read)
    resume = f"continue it with `loop-runner resume {shell(folder)}`"
    if task.file is not None and (source is None or task.file != source.file):
        changed = "; it was started from another task file" if source is not None else ""
    elif source is not None and source.has_changed():
        changed = f"; {source.file.name} has changed since it began"
        resume = (
            f"continue it with the changed file: `loop-runner resume {shell(folder)} --retask`, or with the "
            f"old one: `loop-runner resume {shell(folder)}`"
        )
    else:
        changed = ""
    return WorkspaceError(
        f"{folder} holds an unfinished run (pass {head.pass_number}, turn {head.turn}){changed}",
        why="starting over would leave paid work behind",
        hint=f"{resume}; or choose another folder with --run-dir (run_dir= in a program)",
    )


def holds(folder: Path, name: str) -> bool:
    """Whether ``name`` is in ``folder``, or cannot be told: opening it then says why."""
    try:
        return (folder / name).exists()
    except PermissionError:
        return True
    except OSError:  # a name that is too long, say
        return False


def with_room(folder: Path) -> Path:
    """``folder``, if it can be one: nothing on the way to it is a file."""
    longest = max(folder.parts, key=lambda part: len(os.fsencode(part)), default="")
    if len(os.fsencode(longest)) > _NAME_BYTES:
        raise WorkspaceError(
            f"no run folder can be made at {shown_name(longest, 80)}: file name too long",
            why="a run is kept in a folder of its own",
            hint="choose another place with --run-dir (run_dir= in a program)",
        )
    for part in (folder, *folder.parents):
        if is_file(part):
            raise WorkspaceError(
                f"no run folder can be made at {folder}: {part} is a file",
                why="a run is kept in a folder of its own",
                hint="choose another place with --run-dir (run_dir= in a program)",
            )
    return folder


def is_file(path: Path) -> bool:
    """Whether something other than a folder is at ``path``, as far as one may look."""
    try:
        return path.exists() and not path.is_dir()
    except OSError:  # no permission to look: making the folder says so
        return False


def named_after(question: str) -> str:
    """The name of a run that has none of its own: the first words of what it is asked."""
    words = re.findall(r"[a-z0-9_]+", question[:400].lower())
    return "-".join(words)[:40].strip("-_") or "question"
