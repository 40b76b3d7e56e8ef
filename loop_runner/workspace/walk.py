"""Reads the files that the model left, without following links, blocking or trusting.

Opens by folder descriptor with O_NOFOLLOW and O_NONBLOCK, takes regular files and links (as links), and
checks after opening that it got what it expected. Everything that is not stored is reported with its reason.
The same files give the same result in whatever order the file system lists them. Runs no git.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from loop_runner import redaction
from loop_runner.workspace.git.fast_import import EXECUTABLE, FILE, LINK

TEMPORARY = b".loop-runner-new-"  # our own unfinished files; see ``folder``

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a fifo that was swapped in would otherwise wait for a writer forever.
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

# A file may change without its times changing: twice within one tick of the clock, or through a memory map,
# where the kernel notes a page's first write only until it has written the page back (30 s by default). So
# small files are always read, and large ones are trusted by their times only when those are older than this.
_ALWAYS_READ_BYTES = 64 * 1024
_SETTLED_S = 60.0
_READ_TRIES = 3

# Names that git, or git on another system, takes for a repository or for settings. It refuses to check them
# out,
# out and hosts refuse to be pushed them. The left-out characters are those that HFS+ ignores.
_GIT_NAME = re.compile(
    rb"(^|\\)(\.git|git~1|\.gitmodules|gitmod~[1-4]|gi7eba~[0-9])[. ]*($|[\\:])", re.IGNORECASE
)
_IGNORED_BY_HFS = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
_MAX_ATTRIBUTE_LINE = 2048  # beyond it git calls the whole history damaged


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of the model's files is stored. Whatever exceeds a limit is left out and reported."""

    files: int = 10_000
    depth: int = 40
    file_bytes: int = 64 * 2**20
    total_bytes: int = 512 * 2**20
    path_bytes: int = 2000


NO_LIMITS = Limits(10**9, 200, 2**40, 2**50, 4000)


@dataclass(frozen=True, slots=True)
class WalkedFile:
    """A file or link: its mode in git, the id of its blob, and its bytes unless they are stored already."""

    mode: str
    blob: str
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Walked:
    """The result of a walk; paths are bytes, relative to the run folder."""

    files: dict[bytes, WalkedFile]
    unstored: tuple[tuple[str, str], ...]  # (path, reason)
    empty_folders: tuple[str, ...]

    def removed(self, known: Iterable[bytes]) -> list[bytes]:
        """The paths of ``known`` that are gone. A path that exists but cannot be stored is not gone."""
        unstored = {os.fsencode(path) for path, _ in self.unstored}
        missing = (path for path in known if path not in self.files)
        return [path for path in missing if not any(path[:at] in unstored for at in _ends_of_parts(path))]


@dataclass(frozen=True, slots=True)
class _Stamp:
    """Recognises an unchanged large file."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass(slots=True)
class _State:
    known: Mapping[bytes, str]  # path -> blob id of what is stored already
    files: dict[bytes, WalkedFile] = field(default_factory=dict)
    unstored: list[tuple[str, str]] = field(default_factory=list)
    empty_folders: list[str] = field(default_factory=list)
    count: int = 0
    total_bytes: int = 0

    def leave_out(self, path: bytes, reason: str) -> None:
        self.unstored.append((os.fsdecode(path), reason))


class Walker:
    """Walks the same folder repeatedly, and reads large files only when they have changed."""

    def __init__(
        self, limits: Limits = Limits(), *, settled_s: float = _SETTLED_S, skip: Collection[bytes] = ()
    ) -> None:
        self._limits = limits
        self._skip = frozenset(skip)  # names that are ignored silently
        self._settled_ns = int(settled_s * 1e9)
        self._cache: dict[bytes, tuple[_Stamp, str]] = {}

    def walk(self, root_fd: int, top: bytes, known: Mapping[bytes, str]) -> Walked:
        """Walk ``top`` below ``root_fd``; ``known`` are the blob ids that are stored already, by path."""
        state = _State(known)
        self._folder(state, root_fd, top, top, 0)
        self._cache = {path: entry for path, entry in self._cache.items() if path in state.files}
        return Walked(state.files, tuple(state.unstored), tuple(state.empty_folders))

    def walk_folder(self, fd: int, called: bytes, known: Mapping[bytes, str]) -> Walked:
        """Walk the folder ``fd`` itself; its paths begin with ``called``."""
        state = _State(known)
        self._folder(state, fd, b".", called, 0)
        self._cache = {path: entry for path, entry in self._cache.items() if path in state.files}
        return Walked(state.files, tuple(state.unstored), tuple(state.empty_folders))

    def look_at(self, folder_fd: int, path: bytes, known: Mapping[bytes, str]) -> WalkedFile | None:
        """The one file at ``path``, in the folder ``folder_fd``; None when it cannot be stored."""
        state = _State(known)
        self._entry(state, folder_fd, path.rpartition(b"/")[2], path, self._limits.depth)
        return state.files.get(path)

    def _folder(self, state: _State, parent_fd: int, name: bytes, path: bytes, depth: int) -> None:
        if depth > self._limits.depth:
            state.leave_out(path, f"deeper than {self._limits.depth} folders")
            return
        try:
            fd = os.open(name, _FOLDER_FLAGS, dir_fd=parent_fd)
        except OSError as error:
            if depth or not isinstance(error, FileNotFoundError):
                state.leave_out(path, f"could not be opened: {error.strerror}")
            return
        try:
            self._entries(state, fd, path, depth)
        finally:
            os.close(fd)

    def _entries(self, state: _State, fd: int, path: bytes, depth: int) -> None:
        names = _names(fd, self._limits.files - state.count)
        if names is None:
            # As a whole, so that what is stored does not depend on the order of the listing.
            state.leave_out(path, f"more than {self._limits.files:,} files")
            return
        state.count += len(names)
        if not names and depth:
            state.empty_folders.append(os.fsdecode(path))
        for name in sorted(names):
            if name in self._skip:
                continue
            self._entry(state, fd, name, path + b"/" + name, depth)

    def _entry(self, state: _State, fd: int, name: bytes, path: bytes, depth: int) -> None:
        if reason := self._refusal(name, path):
            state.leave_out(path, reason)
            return
        try:
            seen = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISDIR(seen.st_mode):
                self._folder(state, fd, name, path, depth + 1)
            elif stat.S_ISLNK(seen.st_mode):
                self._add(state, path, LINK, os.readlink(name, dir_fd=fd))
            elif stat.S_ISREG(seen.st_mode):
                self._file(state, fd, name, path)
            else:
                state.leave_out(path, f"a {_kind(seen.st_mode)}, not a file")
        except FileNotFoundError:
            return  # gone since it was listed
        except OSError as error:
            state.leave_out(path, f"could not be read: {error.strerror}")

    def _refusal(self, name: bytes, path: bytes) -> str:
        plain = _IGNORED_BY_HFS.sub("", name.decode("utf-8", "ignore")).encode()
        if _GIT_NAME.search(name) or _GIT_NAME.search(plain):
            return "git takes this name for its own"
        if len(path) > self._limits.path_bytes:
            return f"its path is longer than {self._limits.path_bytes} bytes"
        return ""

    def _file(self, state: _State, fd: int, name: bytes, path: bytes) -> None:
        for _ in range(_READ_TRIES):
            seen = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if seen.st_size > self._limits.file_bytes:
                state.leave_out(path, f"larger than {self._limits.file_bytes:,} bytes")
                return
            if state.total_bytes + seen.st_size > self._limits.total_bytes:
                state.leave_out(
                    path, f"all files together are larger than {self._limits.total_bytes:,} bytes"
                )
                return
            stamp, mode = _stamp(seen), EXECUTABLE if seen.st_mode & stat.S_IXUSR else FILE
            if self._is_unchanged(state, path, stamp):
                state.total_bytes += seen.st_size
                state.files[path] = WalkedFile(mode, state.known[path], None)
                return
            data = _read(fd, name, stamp)
            if data is not None:
                self._add(state, path, mode, data)
                self._remember(state, path, stamp)
                return
        state.leave_out(path, "it kept changing while it was read")

    def _add(self, state: _State, path: bytes, mode: str, data: bytes) -> None:
        if reason := refused_contents(path, data):
            state.leave_out(path, reason)
            return
        if name := redaction.secret_in(data):
            state.leave_out(path, f"it contains the value of {name}")
            return
        blob = blob_id(data)
        state.total_bytes += len(data)
        state.files[path] = WalkedFile(mode, blob, None if state.known.get(path) == blob else data)

    def _is_unchanged(self, state: _State, path: bytes, stamp: _Stamp) -> bool:
        cached = self._cache.get(path)
        return cached is not None and cached[0] == stamp and cached[1] == state.known.get(path)

    def _remember(self, state: _State, path: bytes, stamp: _Stamp) -> None:
        is_settled = stamp.ctime_ns < time.time_ns() - self._settled_ns
        if stamp.size >= _ALWAYS_READ_BYTES and is_settled and path in state.files:
            self._cache[path] = (stamp, state.files[path].blob)
        else:
            self._cache.pop(path, None)


def _ends_of_parts(path: bytes) -> list[int]:
    return [*(at for at, byte in enumerate(path) if byte == ord(b"/")), len(path)]


def file_at(folder_fd: int, name: bytes) -> tuple[str, str] | None:
    """Mode and blob id of the regular file ``name``, whatever its size; None for anything else."""
    fd = os.open(name, _FILE_FLAGS, dir_fd=folder_fd)
    try:
        seen = os.fstat(fd)
        if not stat.S_ISREG(seen.st_mode):
            return None
        digest = hashlib.sha1(b"blob %d\0" % seen.st_size, usedforsecurity=False)
        while chunk := os.read(fd, 1 << 20):
            digest.update(chunk)
        return EXECUTABLE if seen.st_mode & stat.S_IXUSR else FILE, digest.hexdigest()
    finally:
        os.close(fd)


def refused_contents(path: bytes, data: bytes) -> str:
    """Why git would call a history with these bytes at ``path`` damaged; "" when it would not."""
    is_attributes = path.lower().rpartition(b"/")[2] == b".gitattributes"
    if is_attributes and any(len(line) >= _MAX_ATTRIBUTE_LINE for line in data.split(b"\n")):
        return "git refuses attributes with lines this long"
    return ""


def blob_id(data: bytes) -> str:
    """The id that git gives a blob with these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _names(fd: int, most: int) -> list[bytes] | None:
    """The names in a folder; None when there are more than ``most``, without listing them all."""
    names: list[bytes] = []
    with os.scandir(fd) as entries:
        for entry in entries:
            names.append(os.fsencode(entry.name))
            if len(names) > most:
                return None
    return names


def _read(folder_fd: int, name: bytes, expected: _Stamp) -> bytes | None:
    """The bytes of the file that ``expected`` describes; None when it is, or becomes, another."""
    fd = os.open(name, _FILE_FLAGS, dir_fd=folder_fd)
    try:
        seen = os.fstat(fd)
        if not stat.S_ISREG(seen.st_mode) or _stamp(seen) != expected:
            return None
        parts, left = [], expected.size + 1
        while left and (chunk := os.read(fd, min(left, 1 << 20))):
            parts.append(chunk)
            left -= len(chunk)
        data = b"".join(parts)
        return data if len(data) == expected.size and _stamp(os.fstat(fd)) == expected else None
    finally:
        os.close(fd)


def _stamp(seen: os.stat_result) -> _Stamp:
    return _Stamp(seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket", stat.S_IFBLK: "device", stat.S_IFCHR: "device"}
    return kinds.get(stat.S_IFMT(mode), "special file")
