"""Keeps git's index at the last commit, so that a person's ``git status`` shows their own changes.

Nothing in a run depends on it. Writing it takes longer the more files there are, so between passes it happens
in the background, by a git that holds the run folder's lock as others do. Reads only git's files.
"""

from __future__ import annotations

import contextlib
import threading

from loop_runner import failpoints
from loop_runner.errors import LoopRunnerError
from loop_runner.workspace.git.git import Git, GitFailed


class Index:
    """The index of one run folder. For one thread."""

    def __init__(self, git: Git) -> None:
        self._git = git
        self._thread: threading.Thread | None = None
        self._at = ""  # the commit that it was made from

    def set(self, commit: str) -> None:
        """Set it to ``commit`` now."""
        self.wait()
        if self._at != commit:
            self._read(commit)

    def start(self, commit: str) -> None:
        """Set it to ``commit`` in the background."""
        self.wait()
        self._thread = threading.Thread(target=self._read, args=(commit,), name="index", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until background work is done."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _read(self, commit: str) -> None:
        # A user's own git may hold the index; the next pass tries again.
        with contextlib.suppress(GitFailed, LoopRunnerError, OSError):
            failpoints.passing("index.set")
            self._at = ""
            self._git.run("read-tree", commit)
            self._at = commit
