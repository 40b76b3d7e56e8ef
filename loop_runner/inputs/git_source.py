"""The child's request for a git repository: where it is, and how to start git on it.

The settings are those that the runner always uses for git. This git itself runs in the sandbox, because a
repository's own settings and objects may come from anyone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loop_runner.errors import ConfigError, EnvironmentFault

_SETTINGS = (
    "core.packedGitWindowSize=64m",
    "core.packedGitLimit=512m",
    "core.alternateRefsCommand=",
    "core.pager=cat",
)


def job(
    top: Path,
    revision: str,
    *,
    paths: Sequence[str] = (),
    exclude: Sequence[str] = (),
    exact: Sequence[str] = (),
) -> dict[str, Any]:
    """The request for ``inside/repository``; ``shown`` are the paths that its git needs to see.

    ``exact``: these files and no others. ``ConfigError``: not a repository, or an invalid revision.
    """
    from loop_runner.workspace.git.git import environment, settings

    if revision.startswith("-") or not revision.isprintable():
        raise ConfigError(
            f"{revision!r} is not a revision of a repository",
            why="it would be read as an option of git",
            hint="name a commit, a tag or a branch: {git: PATH, revision: v1.2}",
        )
    git_dir, common_dir = _folders(top)
    program = shutil.which("git")
    if program is None:
        raise EnvironmentFault(
            "git was not found",
            why=f"an input is a revision of {top}",
            hint="install git and see that it is on PATH",
        )
    options = [part for setting in _SETTINGS for part in ("-c", setting)]
    return {
        "argv": [os.path.realpath(program), *settings(), *options],
        "env": environment(git_dir),
        "cwd": str(git_dir),
        "revision": revision,
        "paths": list(paths),
        "exclude": list(exclude),
        "exact": list(exact),
        "shown": [os.path.realpath(program), str(git_dir), str(common_dir)],
    }


def _folders(top: Path) -> tuple[Path, Path]:
    """The folder that git works on, and the one with the objects (another one in a worktree)."""
    from loop_runner.workspace.foreign import Foreign

    if (top / "HEAD").is_file() and (top / "objects").is_dir() and (top / "refs").is_dir():
        return top, top  # a bare repository
    try:
        foreign = Foreign.around(top) if (top / ".git").exists() else None
    except (OSError, UnicodeDecodeError):
        foreign = None
    if foreign is None or not foreign.git_dir.is_dir():
        raise ConfigError(
            f"{top} is not a git repository",
            why="the input is a revision, which is read from a repository",
            hint="name the folder that contains `.git`, or a bare repository",
        )
    if not _is_its_own(foreign.top, foreign.git_dir):
        raise ConfigError(
            f"{top}/.git leads to {foreign.git_dir}, which is not a worktree's or a submodule's place for it",
            why="the model would read a repository that the task does not name",
            hint="name that repository itself",
        )
    return foreign.git_dir, foreign.common_dir


def _is_its_own(top: Path, git_dir: Path) -> bool:
    if git_dir.is_relative_to(top):
        return True
    try:
        back = Path((git_dir / "gitdir").read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError):
        back = None
    if back is not None and (git_dir / back).resolve() == (top / ".git").resolve():
        return True
    return any(git_dir.is_relative_to(parent / ".git" / "modules") for parent in top.parents)


def shown_revision(member: str) -> tuple[str, str]:
    """(commit, path) of an origin's ``member`` that names a file of a repository."""
    commit, _, path = member.partition(":")
    return commit, path
