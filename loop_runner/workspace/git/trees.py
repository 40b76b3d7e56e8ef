"""Reads the folders of a commit, object by object, through the git that is running already.

A git of its own for each listing cost a run more than everything else that it does with git. Each object that
is read here is checked against its id, so a damaged one is never taken for another.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from loop_runner.workspace.git.git import GitObject

MAX_FOLDERS = 64  # more of them are listed quicker by a git of its own
_MAX_KEPT = 128
_FOLDER, _SUBMODULE = "040000", "160000"


class Damaged(Exception):  # noqa: N818 - says what happened; becomes one of our errors further up
    """An object that a commit names is missing, or is not what its id says."""


class TooLarge(Exception):  # noqa: N818 - as above
    """More than ``MAX_FOLDERS`` folders would have to be read."""


@dataclass(frozen=True, slots=True)
class Item:
    """A name in a folder; ``mode`` as git writes it in a listing, with six digits."""

    mode: str
    oid: str

    @property
    def is_folder(self) -> bool:
        """It has a listing of its own."""
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
        found = self._get(commit)
        if found is not None and found.kind == "tag":
            found = self._get(f"{commit}^{{commit}}")
        if found is None:
            return None
        _require_whole(found)
        if found.kind == "tree":
            return found.oid
        if found.kind != "commit" or not found.data.startswith(b"tree "):
            raise Damaged(f"{commit} is no commit")
        return found.data[5:].partition(b"\n")[0].decode("ascii", "replace")

    def items(self, oid: str) -> dict[bytes, Item]:
        """What is in the folder ``oid``, by name, in git's order."""
        if oid not in self._kept:
            found = self._get(oid)
            if found is None or found.kind != "tree":
                raise Damaged(f"the folder {oid} cannot be read")
            _require_whole(found)
            if len(self._kept) >= _MAX_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[oid] = dict(_entries(found))
        return self._kept[oid]

    def files(self, oid: str, wanted: Sequence[bytes] = ()) -> dict[bytes, tuple[str, str]]:
        """Every file below the folder ``oid``, or those of ``wanted``: path to (mode, blob id)."""
        left = [MAX_FOLDERS]
        return {path: (item.mode, item.oid) for path, item in self._walk(oid, b"", wanted, left)}

    def find(self, oid: str, path: bytes) -> Item | None:
        """What is at ``path`` below the folder ``oid``."""
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
    """It is one of ``wanted``, or lies below one."""
    return not wanted or any(path == each or path.startswith(each.rstrip(b"/") + b"/") for each in wanted)


def _require_whole(found: GitObject) -> None:
    digest = hashlib.sha1 if len(found.oid) == 40 else hashlib.sha256
    head = b"%s %d\0" % (found.kind.encode(), len(found.data))
    if digest(head + found.data).hexdigest() != found.oid:
        raise Damaged(f"{found.oid} is damaged")


def _entries(found: GitObject) -> Iterator[tuple[bytes, Item]]:
    data, size, at = found.data, len(found.oid) // 2, 0
    while at < len(data):
        space, end = data.find(b" ", at), data.find(b"\0", at)
        if not at < space < end or end + 1 + size > len(data):
            raise Damaged(f"the folder {found.oid} cannot be read")
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
