"""Writes down which task file a run was started from, so that a changed one can be noticed and taken.

Owns ``origin.json`` of the run folder. Plain data; the task file itself is read only when it is asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loop_runner.errors import ConfigError
from loop_runner.task import config
from loop_runner.task.config import Task

PATH = "origin.json"
_MAX_BYTES = 1 << 26  # of a task file that is compared


@dataclass(frozen=True, slots=True)
class Origin:
    """The task file of a run, its hash when the run began, and the flags that won over it."""

    file: Path
    sha256: str
    overrides: tuple[tuple[str, Any], ...] = ()

    def has_changed(self) -> bool:
        """Whether the file is no longer what the run began with; a file that is gone has not changed."""
        try:
            if not self.file.is_file():
                return False
            with self.file.open("rb") as file:
                return hashlib.sha256(file.read(_MAX_BYTES)).hexdigest() != self.sha256
        except OSError:
            return False

    def read(self) -> Task:
        """The task as the file has it now, under the flags of the run's start."""
        return config.read_task(self.file, self.overrides)


def to_files(task: Task) -> dict[str, bytes]:
    """What the run folder keeps; nothing for a task that was read from no file."""
    if task.file is None:
        return {}
    about = {
        "task_file": str(task.file),
        "sha256": task.file_sha256,
        # The folder of a run is no part of its task: two runs of one task begin with the same files.
        "overrides": [[key, value] for key, value in task.overrides if key != "run_dir"],
    }
    return {PATH: (json.dumps(about, indent=1, default=str) + "\n").encode()}


def of_run(folder: Path, read: Callable[[str], bytes | None]) -> Origin | None:
    """The origin of the run in ``folder``; None where none is recorded. ``read`` gives committed files."""
    data = read(PATH)
    if data is None:
        return None
    try:
        body = json.loads(data)
        overrides = tuple((str(key), value) for key, value in body["overrides"])
        return Origin(Path(str(body["task_file"])), str(body["sha256"]), overrides)
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ConfigError(
            f"{PATH} of {folder} cannot be read: {error}",
            why="it names the task file that the run was started from",
            hint="give the changes as settings instead: --set KEY=VALUE (settings= in a program)",
        ) from error
