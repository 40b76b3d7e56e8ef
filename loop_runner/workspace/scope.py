"""The files that are committed as the run's ``workspace/``: all files there, or a user's folder.

For agents that are user programs. A user's folder is only ever read, by descriptor and without following a
link; names in ``skip`` (``.git``, ``node_modules``) are ignored wherever they are, both when files are
committed and when they are restored.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from loop_runner.workspace import layout
from loop_runner.workspace.git.fast_import import Blob
from loop_runner.workspace.walk import Limits, Walked, Walker


@dataclass(frozen=True, slots=True)
class Scope:
    """``source`` None: the run folder's own ``workspace/``, in which the agent works."""

    source: Path | None = None
    skip: tuple[bytes, ...] = ()

    def walk(self, walker: Walker, run_fd: int, known: Mapping[bytes, str]) -> Walked:
        """The current content, under the names that it has in the run folder."""
        top = os.fsencode(layout.MODEL_FOLDER)
        if self.source is None:
            return walker.walk(run_fd, top, known)
        fd = os.open(self.source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return walker.walk_folder(fd, top, known)
        finally:
            os.close(fd)

    def files(self, limits: Limits = Limits()) -> dict[bytes, Blob]:  # noqa: B008 - frozen
        """Everything in ``source``, for the first commit."""
        walked = self.walk(Walker(limits, skip=self.skip), -1, {})
        return {path: Blob(entry.data or b"", entry.mode) for path, entry in walked.files.items()}


EVERYTHING = Scope()
