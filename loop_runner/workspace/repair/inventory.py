"""Finds the intact objects of a repository, and what is still readable in the damaged part.

Owns the answer to "is this checkpoint whole?": the commit, every commit before it, and everything in its
tree can be read, each with the bytes that its name promises. Every pack and loose object is read to its end;
a name in git's index proves nothing. Reads only.
"""

from __future__ import annotations

import contextlib
import heapq
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from loop_runner.workspace.commits import Commit, commit_from
from loop_runner.workspace.git import objects
from loop_runner.workspace.git.git import Git, GitFailed, ObjectReader

_FSCK_S = 3600.0
_FOLDER = b"40000"
_SUBMODULE = b"160000"


@dataclass(frozen=True, slots=True)
class Broken:
    """A damaged file of git's. ``is_index``: it can be rebuilt from its pack."""

    path: Path
    reason: str
    is_index: bool = False


@dataclass(slots=True)
class _Seen:
    good: set[str] = field(default_factory=set)
    salvaged: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    unindexed: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # in whole packs
    broken: list[Broken] = field(default_factory=list)
    packs: int = 0
    loose: int = 0


class Inventory:
    """Every object of a repository, read once. Ends with ``close``."""

    def __init__(self, git_dir: Path) -> None:
        self.git_dir = git_dir
        self._git = Git(git_dir)
        self._reader = ObjectReader(git_dir)
        self._seen = _Seen()
        self._whole_trees: set[str] = set()
        self._shallow = _lines(git_dir / "shallow")  # commits that git takes to have no parents
        self._look()

    @property
    def broken(self) -> Sequence[Broken]:
        """The damaged files."""
        return self._seen.broken

    @property
    def salvaged(self) -> objects.Objects:
        """The objects that are only readable in damaged packs."""
        seen = self._seen
        return {
            oid: obj
            for oid, obj in seen.salvaged.items()
            if oid not in seen.good and oid not in seen.unindexed
        }

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many objects are whole, in how many packs, and how many of them are loose."""
        return len(self._seen.good), self._seen.packs, self._seen.loose

    def __contains__(self, oid: str) -> bool:
        seen = self._seen
        return oid in seen.good or oid in seen.salvaged or oid in seen.unindexed

    def get(self, oid: str) -> tuple[str, bytes] | None:
        """The kind and bytes of a whole object; None when it is missing or damaged."""
        if obj := self._seen.salvaged.get(oid) or self._seen.unindexed.get(oid):
            return obj
        if oid not in self._seen.good:
            return None
        try:
            read = self._reader.get(oid)
        except GitFailed:
            return None
        return (read.kind, read.data) if read is not None else None

    def commit(self, oid: str) -> Commit | None:
        """The commit ``oid``; None when it is missing, damaged or something else."""
        obj = self.get(oid)
        return commit_from(oid, obj[1]) if obj and obj[0] == "commit" else None

    def commits(self) -> Iterator[Commit]:
        """Every commit that can be read, in no order."""
        for oid, (kind, data) in {**self._seen.unindexed, **self._seen.salvaged}.items():
            if kind == "commit":
                yield commit_from(oid, data)
        with contextlib.suppress(GitFailed):
            listed = self._git.run(
                "cat-file", "--batch-all-objects", "--batch-check=%(objecttype) %(objectname)"
            )
            for line in listed.decode().splitlines():
                kind, _, oid = line.partition(" ")
                if kind == "commit" and oid in self._seen.good and (commit := self.commit(oid)):
                    yield commit

    def ancestors(self, tip: str) -> tuple[list[Commit], list[str]]:
        """``tip`` and its ancestors, the newest first, as far as they can be read; and the unreadable ids."""
        commits, lost = self._reachable(tip)
        children = Counter(parent for commit in commits.values() for parent in self._parents(commit))
        order: list[Commit] = []
        queue = [(-commits[tip].time, 0, tip)] if tip in commits else []
        while queue:  # every commit after all of its descendants
            order.append(commits[heapq.heappop(queue)[2]])
            for parent in self._parents(order[-1]):
                children[parent] -= 1
                if parent in commits and not children[parent]:
                    heapq.heappush(queue, (-commits[parent].time, len(order), parent))
        return order, lost

    def _reachable(self, tip: str) -> tuple[dict[str, Commit], list[str]]:
        commits: dict[str, Commit] = {}
        lost: list[str] = []
        waiting, known = [tip], {tip}
        while waiting:
            oid = waiting.pop()
            commit = self.commit(oid)
            if commit is None:
                lost.append(oid)
                continue
            commits[oid] = commit
            new = [parent for parent in self._parents(commit) if parent not in known]
            waiting += new
            known |= set(new)
        return commits, lost

    def _parents(self, commit: Commit) -> tuple[str, ...]:
        return () if commit.oid in self._shallow else commit.parents

    def files(self, tree: str) -> tuple[dict[str, tuple[str, str]], dict[str, str]]:
        """Path → (mode, blob id) of all files of a tree; path → id of what is missing or damaged in it."""
        files: dict[str, tuple[str, str]] = {}
        missing: dict[str, str] = {}
        self._walk(tree, "", files, missing)
        return files, missing

    def is_whole_tree(self, tree: str) -> bool:
        """The whole tree can be read. Cached: trees share most of their content."""
        if tree in self._whole_trees:
            return True
        obj = self.get(tree)
        if obj is None or obj[0] != "tree":
            return False
        for mode, _, oid in objects.tree_entries(obj[1]):
            if mode == _FOLDER:
                if not self.is_whole_tree(oid):
                    return False
            elif mode != _SUBMODULE and oid not in self:
                return False
        self._whole_trees.add(tree)
        return True

    def add(self, salvaged: objects.Objects) -> None:
        """Add objects that were found elsewhere, so that they count as present."""
        self._seen.salvaged.update(salvaged)

    def close(self) -> None:
        """End the reading git."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ── looking ─────────────────────────────────────────────────────────────────────────────────────

    def _look(self) -> None:
        folder = self.git_dir / "objects"
        for path in sorted(folder.glob("[0-9a-f][0-9a-f]/" + "[0-9a-f]" * 38)):
            self._look_at_loose(path)
        damaged = [path for path in sorted(folder.glob("pack/*.pack")) if not self._look_at_pack(path)]
        for path in damaged:
            with contextlib.suppress(FileNotFoundError):
                self._salvage(path)

    def _look_at_loose(self, path: Path) -> None:
        try:
            whole = objects.loose(path)
        except FileNotFoundError:
            return  # packed meanwhile
        if whole is None:
            self._seen.broken.append(Broken(path, "the object is not what its name says"))
        else:
            self._seen.good.add(path.parent.name + path.name)
            self._seen.loose += 1

    def _look_at_pack(self, pack: Path) -> bool:
        index = pack.with_suffix(".idx")
        if index.exists():
            try:
                self._git.run("verify-pack", str(index), timeout_s=_FSCK_S)
            except GitFailed:
                return False
            with contextlib.suppress(FileNotFoundError):
                self._seen.good |= objects.ids_in(index)
                self._seen.packs += 1
            return True
        return False

    def _salvage(self, pack: Path) -> None:
        data = pack.read_bytes()
        index = pack.with_suffix(".idx")
        if objects.is_whole_pack(data):
            reason = "is not whole" if index.exists() else "is missing"
            self._seen.broken.append(Broken(index, f"the index {reason}; its pack is whole", is_index=True))
            self._seen.unindexed |= objects.salvage(data, self.get)
        else:
            self._seen.broken.append(Broken(pack, "the pack is not whole"))
            self._seen.salvaged |= objects.salvage(data, self.get)

    def _walk(
        self, tree: str, above: str, files: dict[str, tuple[str, str]], missing: dict[str, str]
    ) -> None:
        obj = self.get(tree)
        if obj is None or obj[0] != "tree":
            missing[above or "/"] = tree
            return
        for mode, name, oid in objects.tree_entries(obj[1]):
            path = above + os.fsdecode(name)
            if mode == _FOLDER:
                self._walk(oid, path + "/", files, missing)
            elif mode != _SUBMODULE:
                if oid in self:
                    files[path] = (mode.decode(), oid)
                else:
                    missing[path] = oid


def _lines(path: Path) -> frozenset[str]:
    try:
        return frozenset(path.read_text(encoding="ascii", errors="replace").split())
    except OSError:
        return frozenset()
