"""How much the model may keep in its workspace: a count and a size, looked at from outside.

A walk that follows no link and stops as soon as the answer is known. The kernel calls it while a cell runs
and after it; between two looks a cell can write more than the limit, so the limit is for what is kept.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

MAX_FILES = 20_000
MAX_BYTES = 2 * 1024**3
_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Usage:
    """What a workspace holds: entries of any kind, and bytes on disk (a sparse file counts what it fills)."""

    files: int
    bytes: int


class Quota:
    """The limits of one workspace."""

    def __init__(self, workspace: Path, max_files: int = MAX_FILES, max_bytes: int = MAX_BYTES) -> None:
        self._workspace = workspace
        self._max_files = max_files
        self._max_bytes = max_bytes

    def usage(self) -> Usage:
        """Count, but not much further than the limits."""
        files = size = 0
        pending = [os.fspath(self._workspace)]
        while pending and files <= self._max_files and size <= self._max_bytes:
            folder = pending.pop()
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        files += 1
                        if files > self._max_files or size > self._max_bytes:
                            break
                        size += _disk_bytes(entry)
                        if entry.is_dir(follow_symlinks=False):
                            pending.append(entry.path)
            except OSError:
                continue  # removed or closed to us while we looked; what is in it cannot be kept either
        return Usage(files, size)

    def check(self) -> str | None:
        """Why the workspace is over its quota, as a sentence for the model; None while it is not."""
        usage = self.usage()
        if usage.files > self._max_files:
            return f"the workspace holds more than {self._max_files:,} files"
        if usage.bytes > self._max_bytes:
            return f"the workspace holds more than {self._max_bytes / 1024**2:,.0f} MiB"
        return None


def _disk_bytes(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_blocks * _BLOCK
    except OSError:
        return 0
