"""How much the model may keep in its workspace: a count and a size, measured from outside.

The walk follows no link and stops as soon as the result is known. The kernel calls it during and after a
cell; between two checks a cell can write more than the limit, so the limit applies to what is kept.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

MAX_FILES = 20_000
MAX_BYTES = 2 * 1024**3
_BLOCK = 512
_MOST_COUNTED = 50.0


@dataclass(frozen=True, slots=True)
class Usage:
    """The content of a workspace: entries of any kind, and bytes on disk (for sparse files, real size)."""

    files: int
    bytes: int


class Quota:
    """The limits of one workspace."""

    def __init__(self, workspace: Path, max_files: int = MAX_FILES, max_bytes: int = MAX_BYTES) -> None:
        self._workspace = workspace
        self._max_files = max_files
        self._max_bytes = max_bytes

    def usage(self, slack: float = 1.0) -> Usage:
        """Count, but not much further than ``slack`` times the limits."""
        files = size = 0
        max_files, max_bytes = self._max_files * slack, self._max_bytes * slack
        pending = [os.fspath(self._workspace)]
        while pending and files <= max_files and size <= max_bytes:
            folder = pending.pop()
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        files += 1
                        if files > max_files or size > max_bytes:
                            break
                        size += _disk_bytes(entry)
                        if entry.is_dir(follow_symlinks=False):
                            pending.append(entry.path)
            except OSError:
                continue  # removed or closed meanwhile; its content cannot be kept either
        return Usage(files, size)

    def slack(self) -> float:
        """1, or for a workspace that is already over its quota: twice its content, in quotas.

        So a cell can clean up, but cannot continue as before.
        """
        usage = self.usage(_MOST_COUNTED)
        filled = max(usage.files / self._max_files, usage.bytes / self._max_bytes)
        return 2 * filled if filled > 1 else 1.0

    def check(self, slack: float = 1.0) -> str | None:
        """Why the workspace is over its quota, as a sentence for the model; None when it is not.

        ``slack``: how many quotas are allowed.
        """
        usage = self.usage(slack)
        if usage.files > self._max_files * slack:
            return f"the workspace holds more than {self._max_files * slack:,.0f} files"
        if usage.bytes > self._max_bytes * slack:
            return f"the workspace holds more than {self._max_bytes * slack / 1024**2:,.0f} MiB"
        return None


def _disk_bytes(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_blocks * _BLOCK
    except OSError:
        return 0
