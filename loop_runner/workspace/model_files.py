"""The files that the model's code makes: those in the newest commit, and the changes of a turn.

Remembers, from commit to commit, what changes from turn to turn; ``passes/`` only grows. Reads and writes
bytes through ``walk`` and ``folder``, which follow no link. Commits nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from loop_runner.errors import WorkspaceError
from loop_runner.records import TurnRecord
from loop_runner.workspace import layout
from loop_runner.workspace.folder import Folder
from loop_runner.workspace.git.fast_import import Blob
from loop_runner.workspace.history import History
from loop_runner.workspace.scope import Scope
from loop_runner.workspace.walk import Walked, Walker

_PREFIX = os.fsencode(layout.MODEL_FOLDER) + b"/"
_OTHERS = ("answer.md", "answer.json", layout.WALK_FILE)


class ModelFiles:
    """The model's files and variables. ``know`` must be called with the tree of the newest commit first.

    ``unstored`` are the files that the last turn's commit does not hold: (path, reason); ``newly_unstored``
    are those among them that the turn before did hold.
    """

    def __init__(self, history: History, folder: Folder, walker: Walker, scope: Scope) -> None:
        self._history = history
        self._folder = folder
        self._walker = walker
        self._scope = scope
        self._known: dict[bytes, tuple[str, str]] = {}  # path -> (mode, blob id)
        self._stored: layout.Stored = {}  # the variables' blobs
        self._has_report = False  # ``workspace.json`` exists
        self.unstored: tuple[tuple[str, str], ...] = ()
        self.newly_unstored: tuple[tuple[str, str], ...] = ()

    def know(self, tree: Mapping[bytes, tuple[str, str]]) -> None:
        """Start from ``tree``, the tree of the newest commit."""
        self._known = {path: at for path, at in tree.items() if path.startswith(_PREFIX)}
        self._stored = layout.stored_from(map(os.fsdecode, tree), self._readable)
        self._has_report = os.fsencode(layout.WALK_FILE) in tree
        self.unstored = self._history.unstored()

    def walk(self) -> Walked:
        """Walk the current files on disk."""
        blobs = {path: blob for path, (_, blob) in self._known.items()}
        return self._scope.walk(self._walker, self._folder.fd, blobs)

    def changes(self, walked: Walked) -> tuple[dict[bytes, Blob], list[bytes]]:
        """Files to write and files to remove, to get from the newest commit to the walked state."""
        changed = {}
        for path, entry in walked.files.items():
            if self._known.get(path) != (entry.mode, entry.blob):
                data = self._history.blob(entry.blob) if entry.data is None else entry.data
                changed[path] = Blob(data, entry.mode)
        return changed, walked.removed(self._known)

    def of_variables(
        self, turn: TurnRecord, walked: Walked
    ) -> tuple[dict[str, bytes], list[str], layout.Stored]:
        """The variables and the report on the walk: files to write, paths to remove, and the stored blobs."""
        files, stored = layout.snapshot_files(turn.snapshot, self._stored)
        gone = sorted(layout.paths_of(self._stored) - layout.paths_of(stored))
        report = layout.walk_report(walked.unstored, walked.empty_folders)
        if report:
            files[layout.WALK_FILE] = report
        elif self._has_report:
            gone.append(layout.WALK_FILE)
        return files, gone, stored

    def keep(self, walked: Walked, removed: list[bytes], stored: layout.Stored, *, has_report: bool) -> None:
        """Record what a turn commit now holds."""
        gone = set(removed)
        walked_files = {path: (entry.mode, entry.blob) for path, entry in walked.files.items()}
        self._known = {path: at for path, at in self._known.items() if path not in gone} | walked_files
        self.newly_unstored = tuple(pair for pair in walked.unstored if pair not in self.unstored)
        self.unstored = walked.unstored
        self._stored, self._has_report = stored, has_report

    def differences(self, commit: str) -> tuple[dict[bytes, Blob], list[bytes]]:
        """The changes from the model's part of the newest commit to that of ``commit``."""
        now = self._history.tree(self._history.tip)
        then = {path: at for path, at in self._history.tree(commit).items() if _is_models(path)}
        changed = {
            path: Blob(self._history.blob(blob), mode)
            for path, (mode, blob) in then.items()
            if now.get(path) != (mode, blob)
        }
        return changed, [path for path in now if _is_models(path) and path not in then]

    def put(self, changed: Mapping[bytes, Blob], removed: list[bytes]) -> None:
        """Write and remove files of the run folder."""
        for path in removed:
            self._folder.remove(path)
        for path, blob in changed.items():
            self._folder.write(path, blob)

    def _readable(self, path: str) -> bytes | None:
        try:
            return self._history.read(path)
        except WorkspaceError:
            return None  # damaged: what it lists is stored again


def _is_models(path: bytes) -> bool:
    """Everything that the model's code made: its files, its variables and the answer."""
    return path.startswith((_PREFIX, b"variables/")) or os.fsdecode(path) in _OTHERS
