"""Turns refusals of the machine (no space, no permission, no git) into errors in three parts.

Owns the wording, so that every module of this folder reports a fault in the same way. Never decides whether
a fault is acceptable.
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
        why="a run that cannot be stored cannot be resumed, so it stopped",
        hint="check the disk; everything committed before is safe, and `resume` continues from there",
    )


def disk_full(folder: Path, doing: str) -> EnvironmentFault:
    """No space is left where the run folder is."""
    return EnvironmentFault(
        f"the disk is full: {doing} failed in {folder}",
        why="a run that cannot be stored cannot be resumed, so it stopped; nothing committed is lost",
        hint=f"free some space, then `loop-runner resume {shell(folder)}`",
    )


def unwritable(folder: Path, doing: str, reason: str) -> WorkspaceError:
    """The run folder, or something in it, cannot be written."""
    return WorkspaceError(
        f"{folder} cannot be written ({reason.lower()}) while {doing}",
        why="every turn is committed there before the next begins",
        hint="give yourself write permission on the folder and its contents, or choose another:"
        " --run-dir (run_dir= in a program)",
        exit_code=4,
    )


def is_full(folder: Path) -> bool:
    """Whether hardly any space is left: a git that ran out of it may report corruption instead."""
    try:
        return shutil.disk_usage(folder).free < _HARDLY_ANY_BYTES
    except OSError:
        return False


@contextmanager
def translated(folder: Path, doing: str) -> Iterator[None]:
    """Within it, an ``OSError`` becomes an error that says what failed, why it matters and what to do."""
    try:
        yield
    except OSError as error:
        raise from_os_error(error, folder, doing) from error
