"""Lists the paths in which the files in a run folder differ from those of a commit.

Reads the files as they are: by descriptor, without following a link, without waiting for a pipe, and without
reading a file whose size already shows a difference. Starts git on the git folder only.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from loop_runner.workspace.git.fast_import import LINK
from loop_runner.workspace.git.git import Git, GitFailed
from loop_runner.workspace.history import History
from loop_runner.workspace.openable import damaged
from loop_runner.workspace.walk import TEMPORARY

MISSING, CHANGED, ADDED = "missing", "changed", "added"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CHUNK = 1 << 20
_MAX_ENTRIES = 2_000_000
_SHA1_HEX = 40


@dataclass(frozen=True, slots=True)
class Stored:
    """A file of a commit."""

    mode: str
    oid: str
    size: int


def stored(history: History, commit: str) -> dict[bytes, Stored]:
    """Every file of a commit, by path. Raises ``WorkspaceError`` when git cannot read it."""
    options = ("-r", "-l", "-z", "--full-tree", "--end-of-options", commit)
    try:
        listing = Git(history.git_dir).run("ls-tree", *options)
    except GitFailed as error:
        raise damaged(history.folder, commit, error.stderr) from error
    files = {}
    for about, _, path in (line.partition(b"\t") for line in listing.split(b"\0") if line):
        mode, kind, oid, size = about.decode().split()
        files[path] = Stored(mode, oid, int(size) if kind == "blob" and size.isdecimal() else -1)
    return files


def between(old: Mapping[bytes, Stored], new: Mapping[bytes, Stored]) -> dict[str, str]:
    """Path to ``missing``, ``changed`` or ``added``, for each path that differs from ``old`` to ``new``."""
    kinds = {
        path: ADDED if path not in old else MISSING if path not in new else CHANGED
        for path in old.keys() | new.keys()
        if old.get(path) != new.get(path)
    }
    return {os.fsdecode(path): kinds[path] for path in sorted(kinds)}


def in_folder(folder: Path, files: Mapping[bytes, Stored]) -> dict[str, str]:
    """As ``between``, for the current files in ``folder``.

    Additions only count below the folders of ``files``: a person may put a file beside them. A clone without
    its files (``--no-checkout``) has nothing that could differ.
    """
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        tops = {path.partition(b"/")[0] for path in files}
        present = {os.fsencode(name) for name in os.listdir(root)}  # noqa: PTH208 - a descriptor
        if not tops & present:
            return {}
        looked = _Looked(root, files)
        for top in sorted(tops & present):
            looked.at(top)
    finally:
        os.close(root)
    differences = looked.differences | {path: MISSING for path in files if path not in looked.seen}
    return {os.fsdecode(path): differences[path] for path in sorted(differences)}


class _Looked:
    """What was seen of the files of a folder, and how they differ."""

    def __init__(self, root: int, files: Mapping[bytes, Stored]) -> None:
        self._root = root
        self._files = files
        self.seen: set[bytes] = set()
        self.differences: dict[bytes, str] = {}

    def at(self, top: bytes) -> None:
        """Look at ``top`` and everything below it."""
        waiting = [top]
        while waiting and len(self.seen) < _MAX_ENTRIES:
            path = waiting.pop()
            with suppress(OSError), _parent(self._root, path) as (fd, name):
                if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                    waiting += [path + b"/" + entry for entry in _names(fd, name)]
                elif path in self._files:
                    self.seen.add(path)
                    if not _is_stored(fd, name, self._files[path]):
                        self.differences[path] = CHANGED
                else:
                    self.seen.add(path)
                    self.differences[path] = ADDED


class _parent:  # noqa: N801 - used as a function
    """The descriptor of the folder that contains ``path``, and its name there; no link is followed."""

    def __init__(self, root: int, path: bytes) -> None:
        *self._folders, self._name = path.split(b"/")
        self._fd = os.dup(root)

    def __enter__(self) -> tuple[int, bytes]:
        try:
            for name in self._folders:
                deeper = os.open(name, _FOLDER, dir_fd=self._fd)
                os.close(self._fd)
                self._fd = deeper
        except OSError:
            os.close(self._fd)
            raise
        return self._fd, self._name

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _names(parent: int, name: bytes) -> Iterator[bytes]:
    fd = os.open(name, _FOLDER, dir_fd=parent)
    try:
        names = os.listdir(fd)  # noqa: PTH208 - a descriptor
    finally:
        os.close(fd)
    return (encoded for encoded in map(os.fsencode, names) if not encoded.startswith(TEMPORARY))


def _is_stored(parent: int, name: bytes, file: Stored) -> bool:
    """Whether the file ``name`` holds what git stores for it. Its permissions are not compared."""
    seen = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if stat.S_ISLNK(seen.st_mode):
        target = os.readlink(name, dir_fd=parent)
        return file.mode == LINK and _blob_id(file, len(target), lambda: iter((target,))) == file.oid
    if file.mode == LINK or not stat.S_ISREG(seen.st_mode) or seen.st_size != file.size:
        return False
    fd = os.open(name, _FILE, dir_fd=parent)
    try:
        return _blob_id(file, file.size, lambda: iter(lambda: os.read(fd, _CHUNK), b"")) == file.oid
    finally:
        os.close(fd)


def _blob_id(file: Stored, size: int, chunks: Callable[[], Iterator[bytes]]) -> str:
    digest = hashlib.sha1(usedforsecurity=False) if len(file.oid) == _SHA1_HEX else hashlib.sha256()
    digest.update(b"blob %d\0" % size)
    left = size
    for chunk in chunks():
        digest.update(chunk[:left])
        left -= len(chunk)
        if left < 0:
            return ""
    return digest.hexdigest()
