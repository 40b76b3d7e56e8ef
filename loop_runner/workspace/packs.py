"""Keeps the number of pack files small.

Every checkpoint is a pack of its own: cheap to make durable, but a git that must look into a thousand
packs is slow. Joining follows a geometric rule (a pack is left alone once it is twice as large as all
smaller ones together), so each object is copied a few times only, however long the run. New packs are on
disk, with their names, before the old ones go; any moment in between is a whole repository.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from loop_runner.workspace import durable
from loop_runner.workspace.git import Git

MANY = 50
_OURS = {".pack", ".idx", ".rev"}  # a pack with other files (.keep, .promisor) belongs to somebody else


@dataclass(frozen=True, slots=True)
class _Pack:
    name: str
    size: int


def join(git: Git, *, at_least: int = MANY) -> int:
    """Join the small packs when there are ``at_least`` of them; returns how many went.

    Raises ``GitFailed``; then nothing is lost and nothing is gone.
    """
    folder = git.git_dir / "objects" / "pack"
    packs = _packs(folder)
    small = _small(packs)
    if len(packs) < at_least or len(small) < 2:
        return 0
    names = "".join(f"{pack.name}.pack\n" for pack in small).encode()
    output = git.run(
        "-c", "pack.threads=1", "pack-objects", "-q", "--stdin-packs", "objects/pack/pack", stdin=names
    )
    made = {f"pack-{line}" for line in output.decode().split()}
    for name in made:
        durable.sync(folder / f"{name}.pack")
        durable.sync(folder / f"{name}.idx")
    durable.sync(folder)
    gone = [pack for pack in small if pack.name not in made]
    for pack in gone:
        # The index first: a pack without one is ignored, an index without its pack is complained about.
        for suffix in (".idx", ".rev", ".pack"):
            (folder / f"{pack.name}{suffix}").unlink(missing_ok=True)
    return len(gone)


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
