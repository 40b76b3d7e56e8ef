"""Finds, reads and removes the run folders of audits. Starts nothing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from loop_runner.audit.chosen_files import Scope
from loop_runner.audit.outputs import write_file
from loop_runner.workspace.history import History


def default_place(files: Scope) -> Path:
    """``runs`` at the top of the repository that the audit is started in, with its own .gitignore."""
    cwd = Path.cwd().resolve()
    if not (files.is_in_repository and cwd.is_relative_to(files.base)):
        return Path("runs")
    runs = files.base / "runs"
    ignore = runs / ".gitignore"
    if not os.path.lexists(ignore):
        write_file(ignore, "# Written by loop-runner audit.\n/audit-*\n/.gitignore\n")
    return Path(os.path.relpath(runs, cwd))


def exists(folder: Path) -> bool:
    """Whether ``folder`` holds a run."""
    return (folder / ".git").exists()


def accepted_answer(folder: Path) -> str | None:
    """The answer of an audit that is complete; None when there is none yet."""
    if not exists(folder):
        return None
    with History(folder) as history:
        return history.answer().content if history.head().outcome == "accepted" else None


def passes_done(folder: Path) -> int:
    """How many passes the audit in ``folder`` has finished or begun."""
    with History(folder) as history:
        return history.head().pass_number


def prune(current: Path, keep: int) -> None:
    """Remove the oldest run folders beside ``current``, which is the newest, until ``keep`` are left."""
    others = [path for path in current.parent.glob("audit-*") if path != current and (path / ".git").is_dir()]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in others[keep - 1 :]:
        shutil.rmtree(path, ignore_errors=True)
