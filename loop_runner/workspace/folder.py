"""Writes, removes and moves files below the run folder without following a link.

Every step from the run folder down is by descriptor with O_NOFOLLOW, so a link left in the way is replaced
and never written through. A file is made beside its target and renamed onto it. Files in the way are never
deleted: they are moved aside. Git provides the durability: these files can be rebuilt from HEAD.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from loop_runner import failpoints
from loop_runner.workspace.git.fast_import import EXECUTABLE, LINK, Blob
from loop_runner.workspace.walk import TEMPORARY

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Folder:
    """The run folder's files. ``aside`` is the folder for things that were in the way."""

    def __init__(self, root: Path, aside: Path) -> None:
        self.fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._aside = aside
        self._count = 0
        self.moved_aside: list[tuple[str, Path]] = []  # (path, where it is now)

    def close(self) -> None:
        """Close the descriptor; more than once is fine."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def write(self, path: bytes, blob: Blob, *, permissions: int | None = None) -> None:
        """Put ``blob`` at ``path``, making the folders above it: the old bytes or the new, never both."""
        with self._parent(path.rpartition(b"/")[0]) as fd:
            self._count += 1
            new = TEMPORARY + b"%d-%d" % (os.getpid(), self._count)
            failpoints.passing("folder.write")
            try:
                _make(fd, new, blob, permissions)
                failpoints.passing("folder.rename")
                self._rename(fd, new, path)
            except OSError:
                with contextlib.suppress(OSError):
                    os.unlink(new, dir_fd=fd)
                raise

    def _rename(self, fd: int, new: bytes, path: bytes) -> None:
        name = path.rpartition(b"/")[2]
        try:
            os.rename(new, name, src_dir_fd=fd, dst_dir_fd=fd)
        except (IsADirectoryError, NotADirectoryError):
            self.move_aside(path)
            os.rename(new, name, src_dir_fd=fd, dst_dir_fd=fd)

    def make_folder(self, path: bytes) -> None:
        """Make the folder ``path`` and those above it."""
        with self._parent(path):
            return

    def remove(self, path: bytes) -> None:
        """Remove the file or link at ``path`` and the folders that this leaves empty, except the topmost."""
        failpoints.passing("folder.remove")
        folder, _, name = path.rpartition(b"/")
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), self.existing(folder) as fd:
            os.unlink(name, dir_fd=fd)
        self.remove_empty(folder)

    def remove_empty(self, path: bytes) -> None:
        """Remove the folder ``path`` if it is empty, then the one above it; never the topmost."""
        while b"/" in path:
            parent, _, name = path.rpartition(b"/")
            try:
                with self.existing(parent) as fd:
                    os.rmdir(name, dir_fd=fd)
            except OSError:
                return
            path = parent

    def move_aside(self, path: bytes) -> None:
        """Move whatever is at ``path`` out of the way; it is listed in ``moved_aside``."""
        folder, _, name = path.rpartition(b"/")
        self._aside.mkdir(parents=True, exist_ok=True)
        target = self._aside / f"{time.time_ns()}-{os.fsdecode(name)[:80]}"
        with self.existing(folder) as fd:
            seen = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISDIR(seen.st_mode) and not seen.st_mode & stat.S_IWUSR:
                os.chmod(name, 0o700, dir_fd=fd)  # a folder must be writable to be moved
            os.rename(name, target, src_dir_fd=fd)
        self.moved_aside.append((os.fsdecode(path), target))

    def remove_unfinished(self, folders: Iterable[bytes] = ()) -> None:
        """Remove what a killed ``write`` left at the top and in ``folders``; a walk finds the rest."""
        for path in (b"", *folders):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError), self.existing(path) as fd:
                for name in map(os.fsencode, os.listdir(fd)):  # noqa: PTH208 - by descriptor
                    if name.startswith(TEMPORARY):
                        os.unlink(name, dir_fd=fd)

    @contextlib.contextmanager
    def existing(self, path: bytes) -> Iterator[int]:
        """A descriptor of the folder ``path``, which must exist and not be a link."""
        fd = os.dup(self.fd)
        try:
            for name in filter(None, path.split(b"/")):
                deeper = os.open(name, _FLAGS, dir_fd=fd)
                os.close(fd)
                fd = deeper
            yield fd
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _parent(self, path: bytes) -> Iterator[int]:
        """A descriptor of the folder ``path``, made if it is missing; links in the way are moved aside."""
        fd, above = os.dup(self.fd), b""
        try:
            for name in filter(None, path.split(b"/")):
                above = above + b"/" + name if above else name
                deeper = self._step(fd, name, above)
                os.close(fd)
                fd = deeper
            yield fd
        finally:
            os.close(fd)

    def _step(self, fd: int, name: bytes, path: bytes) -> int:
        with contextlib.suppress(FileNotFoundError):
            try:
                return os.open(name, _FLAGS, dir_fd=fd)
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                self.move_aside(path)
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=fd)
        return os.open(name, _FLAGS, dir_fd=fd)


def _make(fd: int, name: bytes, blob: Blob, permissions: int | None) -> None:
    if blob.mode == LINK:
        os.symlink(blob.data, name, dir_fd=fd)
        return
    mode = permissions if permissions is not None else (0o755 if blob.mode == EXECUTABLE else 0o644)
    file = os.open(name, _NEW_FILE, mode, dir_fd=fd)
    try:
        view = memoryview(blob.data)
        while view:
            view = view[os.write(file, view) :]
        os.fchmod(file, mode)
    except BaseException:
        os.unlink(name, dir_fd=fd)
        raise
    finally:
        os.close(file)
