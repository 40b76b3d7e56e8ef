"""Writes a page into its file: whole or not at all, and never into a run folder."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

import loop_runner as lr


def write(path: Path, html: str) -> None:
    """Put ``html`` into ``path``, next to which it is written first. Folders above it are created."""
    _refuse_run_folder(path)
    data = html.encode("utf-8", "replace")
    if path.exists() and not path.is_file():  # a device such as /dev/stdout
        path.write_bytes(data)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(temporary).unlink()
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _refuse_run_folder(path: Path) -> None:
    """A file in a run folder would be taken for a change that a person made to the run."""
    place = Path(os.path.realpath(path.parent))
    for folder in (place, *place.parents):
        if (folder / ".git").exists() and (folder / "loop-runner.json").is_file():
            raise lr.ConfigError(
                f"{path} is in the run folder {folder}",
                why="the folder holds what the run committed, and the next start would set the file aside",
                hint="write it somewhere else with -o",
            )
