"""Reads the folders of a commit, object by object, through the git process that is already running.

A separate git for each listing cost a run more than everything else that it does with git. Each object read
here is checked against its id, so a damaged one is never mistaken for another.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from loop_runner.workspace.git.git import GitObject

MAX_FOLDERS = 64  # more of them are listed faster by a separate git
_MAX_KEPT = 128
_FOLDER, _SUBMODULE = "040000", "160000"


class Damaged(Exception):  # noqa: N818 - says what happened; becomes one of our errors further up
    """An object that a commit names is missing, or does not match its id."""


class TooLarge(Exception):  # noqa: N818 - as above
    """More than ``MAX_FOLDERS`` folders would have to be read."""


@dataclass(frozen=True, slots=True)
class Item:
    """A name in a folder; ``mode`` as git writes it in a listing, with six digits."""

    mode: str
    oid: str

    @property
    def is_folder(self) -> bool:
        """It is a folder."""
        return self.mode == _FOLDER

    @property
    def is_file(self) -> bool:
        """A file or a link: a person may have committed a submodule."""
        return self.mode not in (_FOLDER, _SUBMODULE)


class Trees:
    """Folders by the ids of their objects. ``get`` reads an object; see ``ObjectReader``."""

    def __init__(self, get: Callable[[str], GitObject | None]) -> None:
        self._get = get
        self._kept: dict[str, dict[bytes, Item]] = {}  # an object never changes

    def root(self, commit: str) -> str | None:
        """The id of the commit's top folder; None when there is no such commit."""
        obj = self._get(commit)
        if obj is not None and obj.kind == "tag":
            obj = self._get(f"{commit}^{{commit}}")
        if obj is None:
            return None
        _require_whole(obj)
        if obj.kind == "tree":
            return obj.oid
        if obj.kind != "commit" or not obj.data.startswith(b"tree "):
            raise Damaged(f"{commit} is no commit")
        return obj.data[5:].partition(b"\n")[0].decode("ascii", "replace")

    def items(self, oid: str) -> dict[bytes, Item]:
        """What is in the folder ``oid``, by name, in git's order."""
        if oid not in self._kept:
            obj = self._get(oid)
            if obj is None or obj.kind != "tree":
                raise Damaged(f"the folder {oid} cannot be read")
            _require_whole(obj)
            if len(self._kept) >= _MAX_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[oid] = dict(_entries(obj))
        return self._kept[oid]

    def files(self, oid: str, wanted: Sequence[bytes] = ()) -> dict[bytes, tuple[str, str]]:
        """Every file below the folder ``oid``, or those of ``wanted``: path to (mode, blob id)."""
        left = [MAX_FOLDERS]
        return {path: (item.mode, item.oid) for path, item in self._walk(oid, b"", wanted, left)}

    def find(self, oid: str, path: bytes) -> Item | None:
        """The entry at ``path`` below the folder ``oid``."""
        *folders, name = path.split(b"/")
        for folder in folders:
            item = self.items(oid).get(folder)
            if item is None or not item.is_folder:
                return None
            oid = item.oid
        return self.items(oid).get(name)

    def _walk(
        self, oid: str, above: bytes, wanted: Sequence[bytes], left: list[int]
    ) -> Iterator[tuple[bytes, Item]]:
        left[0] -= 1
        if left[0] < 0:
            raise TooLarge
        for name, item in self.items(oid).items():
            path = above + name
            if item.is_folder and _may_hold(path + b"/", wanted):
                yield from self._walk(item.oid, path + b"/", wanted, left)
            elif item.is_file and _is_wanted(path, wanted):
                yield path, item


def _may_hold(folder: bytes, wanted: Sequence[bytes]) -> bool:
    return not wanted or any(path.startswith(folder) or _is_wanted(folder, [path]) for path in wanted)


def _is_wanted(path: bytes, wanted: Sequence[bytes]) -> bool:
    """It is one of ``wanted``, or below one."""
    return not wanted or any(
        path == prefix or path.startswith(prefix.rstrip(b"/") + b"/") for prefix in wanted
    )


def _require_whole(obj: GitObject) -> None:
    digest = hashlib.sha1 if len(obj.oid) == 40 else hashlib.sha256
    head = b"%s %d\0" % (obj.kind.encode(), len(obj.data))
    if digest(head + obj.data).hexdigest() != obj.oid:
        raise Damaged(f"{obj.oid} is damaged")


def _entries(obj: GitObject) -> Iterator[tuple[bytes, Item]]:
    data, size, at = obj.data, len(obj.oid) // 2, 0
    while at < len(data):
        space, end = data.find(b" ", at), data.find(b"\0", at)
        if not at < space < end or end + 1 + size > len(data):
            raise Damaged(f"the folder {obj.oid} cannot be read")
        oid = data[end + 1 : end + 1 + size].hex()
        yield data[space + 1 : end], Item(_mode(data[at:space]), oid)
        at = end + 1 + size


def _mode(text: bytes) -> str:
    """As git lists it: earlier versions stored other permissions."""
    try:
        mode = int(text, 8)
    except ValueError:
        raise Damaged(f"a folder names {text!r} as a mode") from None
    if stat.S_ISREG(mode):
        return "100755" if mode & 0o100 else "100644"
    return {0o120000: "120000", 0o040000: _FOLDER}.get(stat.S_IFMT(mode), _SUBMODULE)
