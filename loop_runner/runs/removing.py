"""Removes a run folder: never one that a process runs or that waits for one, and nothing that is no run."""

from __future__ import annotations

import shutil
from pathlib import Path

from loop_runner.errors import WorkspaceError
from loop_runner.runs import run_queue, trace_file
from loop_runner.text import shell
from loop_runner.workspace.lock import Lock
from loop_runner.workspace.openable import not_a_run, require_git_dir

_BEING_REMOVED = ".removed-"


def remove(folder: Path) -> None:
    """Remove the run in ``folder`` with its history. Raises ``WorkspaceError`` for anything else.

    The folder is moved aside first: killed in between, no half of a run is left under its name.
    """
    if folder.is_symlink() or not (folder / "loop-runner.json").is_file():
        raise not_a_run(folder)
    require_git_dir(folder)
    private = folder / ".git" / "loop-runner"
    private.mkdir(exist_ok=True)
    held = Lock.take(private / "lock", folder)
    try:
        _refuse_waiting(folder)
        aside = folder.absolute().with_name(f"{_BEING_REMOVED}{folder.absolute().name}")
        if aside.exists():
            shutil.rmtree(aside)
        folder.rename(aside)
        shutil.rmtree(aside)
    except OSError as error:
        raise WorkspaceError(
            f"{folder} cannot be removed: {error.strerror}",
            why="a part of it may be gone",
            hint=f"see `{shell('ls', '-la', folder.parent)}`, and remove what is left by hand",
            exit_code=4,
        ) from error
    finally:
        held.release()


def _refuse_waiting(folder: Path) -> None:
    if run_queue.is_waiting(folder, trace_file.last_event_at(folder)):
        raise WorkspaceError(
            f"{folder} waits for a process that runs it",
            why="it would be gone when its turn comes",
            hint=f"stop it first: {shell('loop-runner', 'stop', folder)}",
        )
