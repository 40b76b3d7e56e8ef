"""Turns what the machine refuses (no space, no permission, no git) into errors in three parts.

Owns the wording, so that every module of this room says the same thing about the same fault. Never decides
whether a fault may be lived with.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loop_runner.errors import EnvironmentFault, LoopRunnerError, WorkspaceError
from loop_runner.text import shell

_FULL = {errno.ENOSPC, errno.EDQUOT}
_HARDLY_ANY_BYTES = 1 << 20
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}


def from_os_error(error: OSError, folder: Path, doing: str) -> LoopRunnerError:
    """The error to raise for ``error``, met in the run folder ``folder`` while ``doing``."""
    if error.errno in _FULL:
        return disk_full(folder, doing)
    if error.errno in _REFUSED:
        return unwritable(folder, doing, error.strerror or str(error))
    return EnvironmentFault(
        f"{doing} failed in {folder}: {error.strerror or error}",
        why="what cannot be written down cannot be resumed, so the run stopped",
        hint="see what is wrong with the disk; all that was committed before is safe, and `resume` goes on",
    )


def disk_full(folder: Path, doing: str) -> EnvironmentFault:
    """No space is left where the run folder is."""
    return EnvironmentFault(
        f"the disk is full: {doing} failed in {folder}",
        why="what cannot be written down cannot be resumed, so the run stopped; nothing committed is lost",
        hint=f"free some space, then `loop-runner resume {shell(folder)}`",
    )


def unwritable(folder: Path, doing: str, reason: str) -> WorkspaceError:
    """The run folder, or something in it, refuses to be written."""
    return WorkspaceError(
        f"{folder} cannot be written ({reason.lower()}) while {doing}",
        why="every turn is committed there before the next begins",
        hint="give yourself write permission on the folder and all in it, or choose another with --run-dir",
        exit_code=4,
    )


def is_full(folder: Path) -> bool:
    """Whether hardly any space is left: a git that met the end of it may speak of corruption instead."""
    try:
        return shutil.disk_usage(folder).free < _HARDLY_ANY_BYTES
    except OSError:
        return False


@contextmanager
def told(folder: Path, doing: str) -> Iterator[None]:
    """Within it, an ``OSError`` becomes an error that says what failed, why it matters and what to do."""
    try:
        yield
    except OSError as error:
        raise from_os_error(error, folder, doing) from error
