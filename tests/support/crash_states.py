"""From a recording of a program's system calls: what a disk may hold after the power failed at any moment.

The program is run under strace. Every write, rename, link and removal below one folder becomes an operation
on a file or a folder, and every fsync says which operations are safe from then on. What POSIX promises is
all that is believed: an fsync of a file makes its bytes safe and not its name, an fsync of a folder makes its
names safe and not what they name. Of everything else, any part may be lost, in any order.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_CALLS = (
    "openat,creat,read,write,writev,pwrite64,lseek,ftruncate,fsync,fdatasync,syncfs,rename,renameat,renameat2,"
    "link,linkat,unlink,unlinkat,rmdir,mkdir,mkdirat,symlink,symlinkat,copy_file_range,fallocate,close,chdir"
)
_LINE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+)(?:<([^>]*)>)?")
_PART = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(?:\.\.\.)?|([-\w|]+)<((?:[^>\\]|\\x[0-9a-f]{2})*)>|([-\w|]+)')
_FDS = {"write", "pwrite64", "lseek", "ftruncate", "fsync", "fdatasync", "read", "close"}
_IGNORED = {"syncfs", "fallocate", "copy_file_range", "writev"}


@dataclass(eq=False)
class Node:
    """A file, folder or link. Operations are (moment, …); those up to ``synced`` are safe at a moment."""

    kind: str
    target: bytes = b""
    data: list[tuple[int, str, int, bytes]] = field(default_factory=list)  # moment, write|cut, offset, bytes
    names: list[tuple[int, str, Node | None]] = field(default_factory=list)  # moment, name, what (None: gone)
    syncs: list[int] = field(default_factory=list)

    def synced(self, at: int) -> int:
        """The last moment, no later than ``at``, up to which everything here is safe."""
        return max((moment for moment in self.syncs if moment <= at), default=-1)


@dataclass
class Recording:
    """What a program did below a folder. ``printed`` are the lines that it printed, with their moments."""

    root: Node
    moments: int
    printed: list[tuple[int, str]]
    changes: list[int]  # the moments at which something was written, named or made safe


@dataclass(frozen=True)
class State:
    """What the disk holds: path to bytes, to a link's target, or to None for a folder."""

    at: int
    policy: str
    entries: Mapping[str, tuple[str, bytes]]

    def write(self, folder: Path) -> None:
        """Make it so below ``folder``."""
        for path, (kind, data) in sorted(self.entries.items()):
            target = folder / path
            if kind == "folder":
                target.mkdir()
            elif kind == "link":
                target.symlink_to(os.fsdecode(data))
            else:
                target.write_bytes(data)


# ── recording ───────────────────────────────────────────────────────────────────────────────────────


def record(argv: Sequence[str], root: Path, log: Path, cwd: Path) -> Recording:
    """Run ``argv`` to its end under strace and tell what it did below ``root``, which is empty."""
    command = ["strace", "-f", "-y", "-xx", "-s", "8000000", "-e", f"trace={_CALLS}", "-o", str(log), *argv]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.DEVNULL, env=environment)
    return _Reader(root).read(log)


class _Reader:
    def __init__(self, root: Path) -> None:
        self._top = os.fsencode(root.resolve())
        self._root = Node("folder")
        self._at = 0
        self._printed: list[tuple[int, str]] = []
        self._changes: list[int] = []
        self._places: dict[tuple[str, str], int] = {}
        self._folders: dict[str, bytes] = {}  # where each process is, once it went there
        self._appending: set[tuple[str, str]] = set()

    def read(self, log: Path) -> Recording:
        for line in _joined(log):
            match = _LINE.match(line)
            if match is None or int(match[4]) < 0:
                continue
            parts = [_part(item) for item in _PART.finditer(match[3])]
            self._call(match[1], match[2], parts, int(match[4]), _bytes(match[5] or ""))
        return Recording(self._root, self._at + 1, self._printed, self._changes)

    def _call(self, pid: str, name: str, parts: list[tuple[str, bytes]], result: int, opened: bytes) -> None:
        if name in _FDS:
            self._by_descriptor(pid, name, parts, result)
        elif name == "openat":
            self._open(pid, parts, result, opened)
        elif name == "chdir":
            self._folders[pid] = parts[0][1]
        elif name in _IGNORED:
            assert not self._is_below(parts[0][1]), f"{name} is not understood"
        else:
            self._by_name(pid, name, parts)

    def _by_descriptor(self, pid: str, name: str, parts: list[tuple[str, bytes]], result: int) -> None:
        descriptor, path = parts[0]
        key = (pid, descriptor)
        if name == "write" and descriptor == "1" and path == b"/dev/null":  # git's is a pipe
            self._printed += [(self._at, line) for line in parts[1][1].decode(errors="replace").splitlines()]
        if not self._is_below(path) or name == "close":
            return
        if name == "lseek":
            self._places[key] = result
        elif name == "read":
            self._places[key] = self._places.get(key, 0) + result
        elif name in ("fsync", "fdatasync"):
            if node := self._find(path):
                self._tick()
                node.syncs.append(self._at)
        elif node := self._find(path):
            self._tick()
            if name == "ftruncate":
                node.data.append((self._at, "cut", int(parts[1][0]), b""))
            elif name == "pwrite64":
                node.data.append((self._at, "write", int(parts[-1][0]), parts[1][1][:result]))
            else:
                place = _length(node.data) if key in self._appending else self._places.get(key, 0)
                node.data.append((self._at, "write", place, parts[1][1][:result]))
                self._places[key] = place + result

    def _open(self, pid: str, parts: list[tuple[str, bytes]], result: int, opened: bytes) -> None:
        flags = parts[2][0].split("|")
        if not self._is_below(opened):
            return
        key = (pid, str(result))
        self._places[key] = 0
        self._appending.discard(key)
        if "O_APPEND" in flags:
            self._appending.add(key)
        if "O_CREAT" in flags and self._find(opened) is None:
            self._name(opened, Node("file"))
        elif "O_TRUNC" in flags and (node := self._find(opened)):
            self._tick()
            node.data.append((self._at, "cut", 0, b""))

    def _by_name(self, pid: str, name: str, parts: list[tuple[str, bytes]]) -> None:
        paths = list(_paths(parts, self._folders.get(pid, b"")))
        if not self._is_below(paths[-1]):
            return
        if name.startswith("mkdir"):
            self._name(paths[0], Node("folder"))
        elif name.startswith("symlink"):
            self._name(paths[-1], Node("link", target=parts[0][1]))
        elif name.startswith("link"):
            self._name(paths[1], self._find(paths[0]))
        elif name.startswith("rename"):
            node = self._find(paths[0])
            self._tick()
            for path, what in ((paths[1], node), (paths[0], None)):
                self._folder_of(path).names.append((self._at, _last(path), what))
        else:
            self._name(paths[0], None)

    def _name(self, path: bytes, node: Node | None) -> None:
        self._tick()
        self._folder_of(path).names.append((self._at, _last(path), node))

    def _tick(self) -> None:
        self._at += 1
        self._changes.append(self._at)

    def _is_below(self, path: bytes) -> bool:
        return path == self._top or path.startswith(self._top + b"/")

    def _folder_of(self, path: bytes) -> Node:
        node = self._find(path.rpartition(b"/")[0])
        assert node is not None, path
        return node

    def _find(self, path: bytes) -> Node | None:
        node: Node | None = self._root
        for name in os.fsdecode(path[len(self._top) :]).split("/"):
            if name and node is not None:
                node = _current(node.names).get(name)
        return node


def _joined(log: Path) -> Iterator[str]:
    """Lines of a trace; a call that another process interrupted is put together where it ended."""
    begun: dict[str, str] = {}
    with log.open(errors="replace") as lines:
        for line in lines:
            pid = line.partition(" ")[0]
            if line.endswith("<unfinished ...>\n"):
                begun[pid] = line.removesuffix("<unfinished ...>\n")
            elif " resumed>" in line[:60]:
                yield begun.pop(pid, "") + line.partition(" resumed>")[2]
            else:
                yield line


def _part(match: re.Match[str]) -> tuple[str, bytes]:
    """(word, bytes) of an argument: a descriptor with its path, a string, or a word."""
    if match[1] is not None:
        return "", _bytes(match[1])
    return (match[2], _bytes(match[3])) if match[2] is not None else (match[4], b"")


def _bytes(text: str) -> bytes:
    if "\\x" in text:
        return bytes.fromhex(text.replace("\\x", ""))
    return text.encode()


def _paths(parts: list[tuple[str, bytes]], folder: bytes) -> Iterator[bytes]:
    """The paths that a call names, each whole: a name follows the folder that it is relative to."""
    above = folder
    for word, data in parts:
        if word:
            above = data or above
        elif data.startswith(b"/") or not above:
            yield data
        else:
            yield above + b"/" + data


def _last(path: bytes) -> str:
    return os.fsdecode(path.rpartition(b"/")[2])


def _current(names: Sequence[tuple[int, str, Node | None]]) -> dict[str, Node | None]:
    return {name: node for _, name, node in names}


def _length(data: Sequence[tuple[int, str, int, bytes]]) -> int:
    return len(_content(data))


def _content(data: Sequence[tuple[int, str, int, bytes]]) -> bytes:
    content = bytearray()
    for _, what, offset, written in data:
        if what == "cut":
            content = content[:offset].ljust(offset, b"\0")
        else:
            content = content.ljust(offset, b"\0")
            content[offset : offset + len(written)] = written
    return bytes(content)


# ── what may be left ────────────────────────────────────────────────────────────────────────────────

Choice = Callable[[str], str]
"""For an operation that is not safe yet ("name" or "data"): "kept", "lost" or, of data, "zeros"."""


def policies(rng: random.Random, mixes: int) -> dict[str, Choice]:
    """What may become of everything that was not flushed."""
    return {
        "all lost": lambda _: "lost",
        "all kept": lambda _: "kept",
        "names, no bytes": lambda what: "kept" if what == "name" else "lost",
        "names, zeros": lambda what: "kept" if what == "name" else "zeros",
        "bytes, no names": lambda what: "lost" if what == "name" else "kept",
        **{
            f"any part ({number})": lambda what: rng.choice(
                ["kept", "lost"] if what == "name" else ["kept", "lost", "zeros"]
            )
            for number in range(1, mixes + 1)
        },
    }


def states(
    recording: Recording, moments: Sequence[int], rng: random.Random, mixes: int = 2
) -> Iterator[State]:
    """Every different state that may be left at one of ``moments``."""
    seen: set[int] = set()
    for at in moments:
        for name, choice in policies(rng, mixes).items():
            entries: dict[str, tuple[str, bytes]] = {}
            _fill(recording.root, "", at, choice, entries)
            key = hash((_acknowledged(recording, at), frozenset(entries.items())))
            if key not in seen:
                seen.add(key)
                yield State(at, name, entries)


def _acknowledged(recording: Recording, at: int) -> int:
    return sum(moment <= at for moment, _ in recording.printed)


def _fill(node: Node, path: str, at: int, choice: Choice, entries: dict[str, tuple[str, bytes]]) -> None:
    safe = node.synced(at)
    there: dict[str, Node] = {}
    chosen: dict[int, bool] = {}  # both halves of a rename are kept, or none
    for moment, name, what in node.names:
        if moment > at:
            break
        if moment not in chosen:
            chosen[moment] = moment <= safe or choice("name") == "kept"
        if not chosen[moment]:
            continue
        if what is None:
            there.pop(name, None)
        else:
            there[name] = what
    for name, item in there.items():
        below = f"{path}/{name}" if path else name
        entries[below] = (item.kind, item.target if item.kind == "link" else _left(item, at, choice))
        _fill(item, below, at, choice, entries)


def _left(node: Node, at: int, choice: Choice) -> bytes:
    safe = node.synced(at)
    kept: list[tuple[int, str, int, bytes]] = []
    for item in node.data:
        moment, what, offset, data = item
        if moment > at:
            break
        fate = "kept" if moment <= safe else choice("data")
        if fate == "kept":
            kept.append(item)
        elif fate == "zeros" and what == "write":
            kept.append((moment, what, offset, bytes(len(data))))
    return _content(kept)
