"""What is committed as the run's ``workspace/``: all that lies there, or a folder of the user's.

For agents that are programs of the user's. A folder of the user's is only ever read, by descriptor and
without following a link; names in ``skip`` (``.git``, ``node_modules``) are passed over wherever they are,
when files are committed and when they are put back.
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
        """What is there now, under the names that it has in the run folder."""
        top = os.fsencode(layout.MODEL_FOLDER)
        if self.source is None:
            return walker.walk(run_fd, top, known)
        fd = os.open(self.source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return walker.walk_folder(fd, top, known)
        finally:
            os.close(fd)

    def files(self, limits: Limits = Limits()) -> dict[bytes, Blob]:  # noqa: B008 - frozen
        """All that is in ``source``, for the first commit."""
        walked = self.walk(Walker(limits, skip=self.skip), -1, {})
        return {path: Blob(each.data or b"", each.mode) for path, each in walked.files.items()}


EVERYTHING = Scope()
