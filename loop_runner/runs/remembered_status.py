"""Remembers the status of runs that no process runs, so that a list of hundreds is shown at once.

What is remembered is in the user's cache folder, which nobody who sends a run folder can write. It holds for
the commit at HEAD and for the size and times of every file that a status depends on; anything else is read
from the history again. A clone and a read-only folder are remembered in the same way.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import operator
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import loop_runner

_FORMAT = 1
_MAX_BYTES = 1_000_000
_MAX_FILES = 20_000  # of a run folder; one with more is read from its history each time
_PRIVATE = ("lock", "journal", "sent", "events.jsonl", "batches", "control", "launch.log", "damaged")
_NAME = operator.attrgetter("name")
_LOOP = ("HEAD", "packed-refs", "shallow")


def fingerprint(folder: Path) -> str:
    """What the status of the run in ``folder`` depends on, in one word; "" where that cannot be known."""
    git_dir = f"{folder}/.git"  # text: paths as objects cost more here than all the calls of the system
    try:
        head = head_of(folder / ".git")
        paths = [f"{git_dir}/{name}" for name in _LOOP]
        paths += [f"{git_dir}/loop-runner/{name}" for name in _PRIVATE]
        parts = [*map(_stamp, paths), *_stamps_below(str(folder))]
    except (OSError, ValueError):
        return ""
    if not head or len(parts) > _MAX_FILES:
        return ""
    text = json.dumps([_FORMAT, loop_runner.__version__, str(folder), head, parts])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def head_of(git_dir: Path) -> str:
    """The commit that HEAD names, without git; "" where it cannot be told this way."""
    named = (git_dir / "HEAD").read_text(encoding="ascii").strip()
    if not named.startswith("ref: "):
        return named if len(named) == 40 else ""
    ref = named.removeprefix("ref: ")
    if not ref.startswith("refs/") or ".." in ref:
        return ""
    with contextlib.suppress(OSError):
        return (git_dir / ref).read_text(encoding="ascii").strip()
    with contextlib.suppress(OSError):
        for line in (git_dir / "packed-refs").read_text(encoding="utf-8", errors="replace").splitlines():
            oid, _, name = line.partition(" ")
            if name == ref:
                return oid
    return ""


def _stamps_below(folder: str) -> Iterator[str]:
    """A stamp for every file beside the history, in a fixed order."""
    left, top = [folder], len(folder)
    count = 0
    while left:
        with os.scandir(left.pop()) as entries:
            for entry in sorted(entries, key=_NAME):
                if entry.name == ".git":
                    continue
                if (count := count + 1) > _MAX_FILES:
                    raise ValueError("too many files")
                yield f"{entry.path[top:]}:{_of_stat(entry.stat(follow_symlinks=False))}"
                if entry.is_dir(follow_symlinks=False):
                    left.append(entry.path)


def _stamp(path: str) -> str:
    try:
        return _of_stat(os.lstat(path))
    except FileNotFoundError:
        return ""


def _of_stat(status: os.stat_result) -> str:
    return f"{status.st_mode} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


# ── what is remembered ──────────────────────────────────────────────────────────────────────────────


def load(cache: Path, folder: Path, mark: str) -> dict[str, Any] | None:
    """What was remembered of the run in ``folder`` as it is now; None for nothing."""
    try:
        with _place(cache, folder).open("rb") as file:
            data = json.loads(file.read(_MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    is_whole = isinstance(data, dict) and data.get("mark") == mark and isinstance(data.get("status"), dict)
    return data["status"] if is_whole else None


def keep(cache: Path, folder: Path, mark: str, status: dict[str, Any]) -> None:
    """Remember ``status``. A cache that cannot be written costs time and nothing else."""
    place = _place(cache, folder)
    beside = place.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        beside.write_text(json.dumps({"mark": mark, "status": status}), encoding="utf-8")
        beside.replace(place)


def _place(cache: Path, folder: Path) -> Path:
    name = hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:32]
    return cache / "status" / f"{name}.json"
