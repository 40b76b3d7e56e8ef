"""Folders outside of a run: the user's cache, and temporary ones that can be recognised as orphaned.

Each temporary folder is locked (``flock``) for as long as the process that made it lives, however that ends.
So what a killed process leaves differs from what a living one uses, and ``sweep`` removes it. A folder gets
the name by which it is swept only when it is locked. Follows no link, crosses no mount, never fails a run.
Relies on ``linux``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from loop_runner import linux

PREFIX = "loop-runner-tmp-"
_NEW = ".loop-runner-new-"  # not locked yet
_NEW_FOR_S = 3600.0  # after which a folder that was never locked is left by a process that was killed there
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SWEEP_S = 1.0
_REMOVE_S = 60.0
# Where a run that is root gives a folder to the user id that the model's code runs as: see ``kernel.wrap``.
_HANDED_OVER = range(0x7000_0000, 0x7800_0000)
_NOBODY = 65534
_ELSEWHERE = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - where folders with short names are made


class Scratch:
    """A temporary folder of this process; as a context manager it gives its path and goes at the end."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd

    def remove(self) -> None:
        """Remove the folder with all that is in it, as far as that can be done; more than once is fine."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        try:
            with contextlib.suppress(OSError, RecursionError):
                os.fchmod(fd, 0o700)
                _empty(fd, os.fstat(fd).st_dev, time.monotonic() + _REMOVE_S)
                self.path.rmdir()
        finally:
            os.close(fd)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.remove()


def make(kind: str, *, parent: Path | None = None) -> Scratch:
    """A new folder, open to this user only, in ``parent`` (None: where temporary files go). ``OSError``."""
    # Without links: a program that compares this path with its own current folder must see the same names.
    new = Path(tempfile.mkdtemp(prefix=_NEW, dir=parent)).resolve()
    fd = os.open(new, _FLAGS)
    try:
        with contextlib.suppress(OSError):  # a file system without locks: then it is never swept
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path = new.with_name(f"{PREFIX}{kind}-{new.name.removeprefix(_NEW)}")
        new.rename(path)
    except BaseException:
        os.close(fd)
        raise
    return Scratch(path, fd)


def sweep(within_s: float = _SWEEP_S) -> int:
    """Remove what processes of this user left that are gone; how many folders. Stops after ``within_s``."""
    until = time.monotonic() + within_s
    swept = 0
    for place in dict.fromkeys((tempfile.gettempdir(), *_ELSEWHERE)):
        with contextlib.suppress(OSError):
            parent = os.open(place, _FLAGS & ~os.O_NOFOLLOW)
            try:
                for name in os.listdir(parent):  # noqa: PTH208 - a descriptor
                    if time.monotonic() > until:
                        return swept
                    if name.startswith((PREFIX, _NEW)):
                        swept += _sweep_one(parent, name, until)
            finally:
                os.close(parent)
    return swept


def _sweep_one(parent: int, name: str, until: float) -> bool:
    try:
        fd = _opened(parent, name)
    except OSError:
        return False  # a file, a link, another user's, gone
    try:
        if not _is_left(fd, parent, name):
            return False
        _empty(fd, os.fstat(fd).st_dev, until)
        os.rmdir(name, dir_fd=parent)
    except (OSError, RecursionError):
        return False  # in use, or not all of it could be removed: the next sweep tries again
    finally:
        os.close(fd)
    return True


def _is_left(fd: int, parent: int, name: str) -> bool:
    """Whether no process uses the folder ``fd``; it is locked then. ``BlockingIOError`` while one does."""
    seen = os.fstat(fd)
    if not _is_own(seen.st_uid) or seen.st_dev != os.fstat(parent).st_dev:
        return False
    if name.startswith(_NEW) and seen.st_mtime > time.time() - _NEW_FOR_S:
        return False
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return os.path.samestat(seen, os.stat(name, dir_fd=parent, follow_symlinks=False))


def _is_own(uid: int) -> bool:
    user = os.geteuid()
    return uid == user or (user == 0 and (uid in _HANDED_OVER or uid == _NOBODY))


def _empty(fd: int, device: int, until: float) -> None:
    """Remove what is in the folder ``fd``, as far as that goes until ``until``."""
    for name in os.listdir(fd):
        if time.monotonic() > until:
            return
        with contextlib.suppress(OSError):
            try:
                os.unlink(name, dir_fd=fd)
            except (IsADirectoryError, PermissionError):  # the second: macOS
                _remove_folder(fd, name, device, until)


def _remove_folder(parent: int, name: str, device: int, until: float) -> None:
    fd = _opened(parent, name)
    try:
        if os.fstat(fd).st_dev == device:
            _empty(fd, device, until)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent)


def _opened(parent: int, name: str) -> int:
    """The folder, with the rights to look into it and remove from it, which a program may have taken away."""
    with linux.folder_at(parent, name) as place:
        seen = os.fstat(place)
        if _is_own(seen.st_uid) and seen.st_mode & 0o700 != 0o700:
            linux.open_up(place)
        return os.open(name, _FLAGS, dir_fd=parent)


def cache_dir(env: Mapping[str, str]) -> Path:
    """The user's cache folder: ``$LOOP_RUNNER_CACHE``, else ``loop-runner`` in the folder that XDG names.

    Everything in it can be recreated, so it may be removed at any time.
    """
    if chosen := env.get("LOOP_RUNNER_CACHE"):
        return Path(chosen).expanduser().absolute()
    # As in the XDG base directory specification: what is not absolute is to be ignored.
    users = Path(env.get("XDG_CACHE_HOME") or os.environ.get("XDG_CACHE_HOME", ""))
    return (users if users.is_absolute() else Path("~/.cache").expanduser()) / "loop-runner"
