"""Keeps the number of pack files small.

Every checkpoint is a pack of its own: cheap to make durable, but a git that must search a thousand packs is
slow. Joining follows a geometric rule (a pack is left alone once it is twice as large as all smaller ones
together), so each object is copied only a few times, however long the run. New packs are on disk, with their
names, before the old ones are removed; the repository is complete at any moment.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from loop_runner import failpoints
from loop_runner.errors import LoopRunnerError
from loop_runner.process import kill_group
from loop_runner.workspace import durable
from loop_runner.workspace.commits import Commit, commit_from
from loop_runner.workspace.git import objects
from loop_runner.workspace.git.git import Git, ObjectReader

MANY = 25
_NICENESS = 10
_SETTINGS = ("-c", "pack.threads=1", "-c", "pack.compression=9")  # made once, kept forever
_OPTIONS = ("--delta-base-offset", "--window=20")
_OWN = {".pack", ".idx", ".rev"}  # a pack with other files (.keep, .promisor) belongs to another program


@dataclass(frozen=True, slots=True)
class _Pack:
    name: str
    size: int


class Joiner:
    """Joins packs in the background, at low priority, once there are many of them."""

    def __init__(self, git_dir: Path, *, at_least: int = MANY) -> None:
        # Without the run folder's lock: a killed runner's orphan can at most write one more pack.
        self._git = Git(git_dir)
        self._at_least = at_least
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._guard = threading.Lock()
        self._is_stopping = False

    def start(self) -> None:
        """Check whether there is anything to join, and join it, in a thread; at most one at a time."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="packs", daemon=True)
            self._thread.start()

    def wait(self) -> None:
        """Wait until the current joining is done."""
        if self._thread is not None:
            self._thread.join()

    def stop(self) -> None:
        """Stop it: unfinished work is discarded, and the next start begins again."""
        with self._guard:
            self._is_stopping = True
            if self._process is not None:
                kill_group(self._process.pid)
        if self._thread is not None:
            self._thread.join()

    def join(self) -> int:
        """Join the small packs now if there are many packs; returns how many were joined."""
        folder = self._git.git_dir / "objects" / "pack"
        packs = _packs(folder)
        small = _small(packs)
        if len(packs) < self._at_least or len(small) < 2:
            return 0
        failpoints.passing("packs.make")
        made = self._make(small)
        if not made:
            return 0
        failpoints.passing("packs.sync")
        for name in made:
            durable.sync(folder / f"{name}.pack")
            durable.sync(folder / f"{name}.idx")
        durable.sync(folder)
        gone = [pack for pack in small if pack.name not in made]
        for pack in gone:
            failpoints.passing("packs.remove")
            _remove(folder / f"{pack.name}.pack")
        return len(gone)

    def _run(self) -> None:
        # Housekeeping: if it fails (a full disk, for example) nothing is lost, and the next pass tries again.
        with contextlib.suppress(OSError, LoopRunnerError):
            self.join()

    def _make(self, small: list[_Pack]) -> set[str]:
        """Write the packs that contain all of ``small``; empty when that was stopped or failed."""
        names = "".join(f"{pack.name}.pack\n" for pack in small).encode()
        with self._guard:
            if self._is_stopping:
                return set()
            self._process = self._git.start(
                [*_SETTINGS, "pack-objects", "-q", "--stdin-packs", *_OPTIONS, "objects/pack/pack"]
            )
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, self._process.pid, _NICENESS)
        output, _ = self._process.communicate(names)
        with self._guard:
            exit_code, self._process = self._process.returncode, None
        return set() if exit_code else {f"pack-{line}" for line in output.decode().split()}


def lost(git_dir: Path) -> list[Path]:
    """The packs of commits on top of HEAD that no ref has: a runner died between pack and branch.

    Their content was never acknowledged, and nothing that is kept needs it.
    """
    candidates = _unnamed(git_dir) if _has_more_than_head(git_dir) else []
    if not candidates:
        return []
    listed = Git(git_dir).run("rev-list", "--objects", "--no-object-names", "--all", "HEAD", timeout_s=600.0)
    needed = frozenset(listed.decode().split())
    return [pack for pack in candidates if needed.isdisjoint(objects.ids_in(pack.with_suffix(".idx")))]


def _has_more_than_head(git_dir: Path) -> bool:
    """Whether there is more than one pack, or anything outside packs: HEAD itself is in one of them."""
    objects_dir = git_dir / "objects"
    return len(list((objects_dir / "pack").glob("*.pack"))) > 1 or any(objects_dir.glob("[0-9a-f][0-9a-f]"))


def collect_lost(git_dir: Path) -> None:
    """Remove them; under the run folder's lock only, before anything is built on what they hold."""
    for pack in lost(git_dir):
        _remove(pack)


def _remove(pack: Path) -> None:
    # The index first, durably: a pack without one is ignored, an index without its pack causes complaints,
    # and after a power cut the later of two removals may be the one that survives.
    for suffix in (".idx", ".rev"):
        pack.with_suffix(suffix).unlink(missing_ok=True)
    durable.sync(pack.parent)
    pack.unlink(missing_ok=True)


def _unnamed(git_dir: Path) -> list[Path]:
    """Small packs of one of our commits, whose parent is HEAD, and which no ref names."""
    named = frozenset(Git(git_dir).run("for-each-ref", "--format=%(objectname)").decode().split())
    unnamed = []
    with contextlib.closing(ObjectReader(git_dir)) as reader:
        head = reader.get("HEAD")
        newest = _since(git_dir, head.oid) if head else []
        for pack in newest:
            commits = list(_commits(reader, objects.ids_in(pack.with_suffix(".idx"))))
            if len(commits) == 1 and head and head.oid in commits[0].parents and commits[0].trailers.runner:
                unnamed += [pack] if commits[0].oid not in named else []
    return unnamed


def _since(git_dir: Path, head: str) -> list[Path]:
    """The packs that are no older than the one with the commit ``head``, without it and those kept."""
    folder = git_dir / "objects" / "pack"
    made = {
        folder / f"{pack.name}.pack": (folder / f"{pack.name}.pack").stat().st_mtime_ns
        for pack in _packs(folder)
    }
    newest: list[Path] = []
    for pack in sorted(made, key=lambda name: made[name], reverse=True):
        if head in objects.ids_in(pack.with_suffix(".idx")):
            return newest + [
                name for name in made if made[name] == made[pack] and name not in (*newest, pack)
            ]
        newest.append(pack)
    return []


def _commits(reader: ObjectReader, ids: Iterable[str]) -> Iterator[Commit]:
    for oid in ids:
        obj = reader.get(oid)
        if obj is not None and obj.kind == "commit":
            yield commit_from(oid, obj.data)


def _packs(folder: Path) -> list[_Pack]:
    files: dict[str, dict[str, int]] = {}
    for path in folder.glob("pack-*"):
        files.setdefault(path.stem, {})[path.suffix] = path.stat().st_size
    return [
        _Pack(name, suffixes[".pack"])
        for name, suffixes in files.items()
        if {".pack", ".idx"} <= suffixes.keys() <= _OWN
    ]


def _small(packs: list[_Pack]) -> list[_Pack]:
    """The packs to join: all up to the largest that is not twice as large as the smaller ones together."""
    ordered = sorted(packs, key=lambda pack: (pack.size, pack.name))
    last, below = 0, 0
    for index, pack in enumerate(ordered):
        if pack.size < 2 * below:
            last = index + 1
        below += pack.size
    return ordered[:last]
