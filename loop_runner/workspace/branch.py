"""The branch that a run is committed to, and the error when another program has moved it."""

from __future__ import annotations

from pathlib import Path

from loop_runner.errors import WorkspaceError
from loop_runner.text import shell


def current(folder: Path) -> str:
    """The ref of the branch that is checked out in ``folder``. ``WorkspaceError`` when there is none."""
    head = (folder / ".git" / "HEAD").read_text().strip()
    if not head.startswith("ref: refs/heads/"):
        raise WorkspaceError(
            f"{folder} has no branch checked out",
            why="nothing would keep the commit of the next turn",
            hint=f"`git -C {shell(folder)} switch main`",
        )
    return head.removeprefix("ref: ")


def moved(folder: Path, ref: str) -> WorkspaceError:
    """The error for a branch that is not where this process left it."""
    return WorkspaceError(
        f"the branch {ref.removeprefix('refs/heads/')} of {folder} was moved by another program",
        why="committing over it would drop what that program did",
        hint=f"look at `git -C {shell(folder)} log`; "
        f"`loop-runner resume {shell(folder)}` continues from there",
    )
