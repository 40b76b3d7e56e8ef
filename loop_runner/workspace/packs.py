"""Keeps the number of pack files small.

Every checkpoint is a pack of its own: cheap to make durable, but a git that must look into a thousand
packs is slow. Joining follows a geometric rule (a pack is left alone once it is twice as large as all
smaller ones together), so each object is copied a few times only, however long the run. New packs are on
disk, with their names, before the old ones go; any moment in between is a whole repository.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

from loop_runner import failpoints
from loop_runner.errors import LoopRunnerError
from loop_runner.process import kill_group
from loop_runner.workspace import durable
from loop_runner.workspace.git import Git

MANY = 50
_NICENESS = 10
_OURS = {".pack", ".idx", ".rev"}  # a pack with other files (.keep, .promisor) belongs to somebody else


@dataclass(frozen=True, slots=True)
class _Pack:
    name: str
    size: int


class Joiner:
    """Joins packs in the background, at low priority, once there are many of them."""

    def __init__(self, git_dir: Path, *, at_least: int = MANY) -> None:
        # Without the run folder's lock: what an orphan of a killed runner may still write is one more pack.
        self._git = Git(git_dir)
        self._at_least = at_least
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._guard = threading.Lock()
        self._is_stopping = False

    def start(self) -> None:
        """Look whether there is anything to join, and join it, in a thread; at most one at a time."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="packs", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End it: what is half done is thrown away, and the next start begins again."""
        with self._guard:
            self._is_stopping = True
            if self._process is not None:
                kill_group(self._process.pid)
        if self._thread is not None:
            self._thread.join()

    def join(self) -> int:
        """Join the small packs if there are many packs, here and now; returns how many went."""
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
            # The index first: a pack without one is ignored, an index without its pack is complained about.
            for suffix in (".idx", ".rev", ".pack"):
                (folder / f"{pack.name}{suffix}").unlink(missing_ok=True)
        return len(gone)

    def _run(self) -> None:
        # Housekeeping: when it fails (a full disk, say) nothing is lost, and the next pass tries again.
        with contextlib.suppress(OSError, LoopRunnerError):
            self.join()

    def _make(self, small: list[_Pack]) -> set[str]:
        """Write the packs that hold all of ``small``; empty when that was stopped or failed."""
        names = "".join(f"{pack.name}.pack\n" for pack in small).encode()
        with self._guard:
            if self._is_stopping:
                return set()
            self._process = self._git.start(
                ["-c", "pack.threads=1", "pack-objects", "-q", "--stdin-packs", "objects/pack/pack"]
            )
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, self._process.pid, _NICENESS)
        output, _ = self._process.communicate(names)
        with self._guard:
            exit_code, self._process = self._process.returncode, None
        return set() if exit_code else {f"pack-{line}" for line in output.decode().split()}


def _packs(folder: Path) -> list[_Pack]:
    files: dict[str, dict[str, int]] = {}
    for path in folder.glob("pack-*"):
        files.setdefault(path.stem, {})[path.suffix] = path.stat().st_size
    return [
        _Pack(name, found[".pack"])
        for name, found in files.items()
        if {".pack", ".idx"} <= found.keys() <= _OURS
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
