"""Makes bytes and names survive a power cut: fsync of files, and of the folders that name them.

A file that was renamed into place is safe only after the fsync of its folder. Relies on the disk to honour
fsync; never reports a success that it did not see.
"""

from __future__ import annotations

import os
from pathlib import Path

from loop_runner import failpoints


def sync(path: Path) -> None:
    """Flush the file or folder at ``path``."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_tree(root: Path) -> None:
    """Flush everything below ``root``, files before the folders that name them, ``root`` last."""
    for folder, _, files in os.walk(root, topdown=False):
        for name in files:
            sync(Path(folder, name))
        sync(Path(folder))


def sync_chain(folder: Path, top: Path) -> None:
    """Flush ``folder`` and every folder above it, up to and with ``top``."""
    while True:
        sync(folder)
        if folder == top:
            return
        folder = folder.parent


def replace(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path``: the old bytes or the new ones, whole, whatever happens; durable on return."""
    beside = path.with_name(path.name + ".new")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    failpoints.passing("durable.replace")
    beside.replace(path)
    failpoints.passing("durable.replaced")
    sync(path.parent)
