"""Refuses a run folder whose ``.git`` leads somewhere else, before anything in it is opened.

A run folder from another person may contain links to files of this machine where the runner reads or
appends, pipes that would block it forever, or a list of other repositories to read from. A run folder made
by the runner or by ``git clone`` contains none of these.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from loop_runner.errors import WorkspaceError

_MAX_ENTRIES = 1_000_000
_PRIVATE = "loop-runner"
# Files of the model or of a person that the runner moved aside; it opens none of them.
_KEPT = frozenset({"displaced", "damaged", "set-aside"})


def require_plain(folder: Path) -> None:
    """Raise ``WorkspaceError`` when ``.git`` of ``folder`` is or contains a link, a pipe or an alternate."""
    git_dir = folder / ".git"
    try:
        mode = git_dir.lstat().st_mode
    except (OSError, ValueError):
        return  # the caller reports that it is missing or unreadable
    if stat.S_ISLNK(mode):
        raise _odd(folder, ".git is a link")
    if not stat.S_ISDIR(mode):
        return
    for place in ("objects/info/alternates", "objects/info/http-alternates", "commondir"):
        if os.path.lexists(git_dir / place):
            raise _odd(folder, f".git/{place} names another repository to read from")
    for path, what in _odd_entries(git_dir):
        raise _odd(folder, f"{path} is {what}")


def _odd_entries(git_dir: Path) -> Iterator[tuple[str, str]]:
    """Entries below ``git_dir`` that are neither a file nor a folder."""
    waiting = [(git_dir, ".git")]
    count = 0
    while waiting:
        folder, name = waiting.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue  # opening it reports the reason
        for entry in entries:
            count += 1
            path = f"{name}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                is_opened = path != ".git/hooks" and not (folder.name == _PRIVATE and entry.name in _KEPT)
                if is_opened:
                    waiting.append((folder / entry.name, path))
            elif entry.is_symlink():
                yield path, "a link"
            elif not entry.is_file(follow_symlinks=False) and not _is_socket(entry):
                yield path, "no regular file"
        if count > _MAX_ENTRIES:
            return


def _is_socket(entry: os.DirEntry[str]) -> bool:
    """No reader opens a socket, and a hook's client may have left one."""
    try:
        return stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode)
    except OSError:
        return True  # gone


def _odd(folder: Path, what: str) -> WorkspaceError:
    return WorkspaceError(
        f"{folder} is damaged: {what}",
        why="it could make the runner read or change other files of this machine, or block forever",
        hint="nothing was read or changed; get the run from its origin with `git clone`",
        exit_code=4,
    )
