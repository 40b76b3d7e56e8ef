"""Keeps converted texts in the user's cache folder, so that nothing is converted twice.

An entry is a folder named by its key, moved into place by one rename. Every byte is checked against its
hash when an entry is read, so a damaged or partly deleted entry counts as missing.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loop_runner.errors import EnvironmentFault

_MANIFEST = "manifest.json"


class Cache:
    """Entries by key (64 hex digits): a manifest, and files named by their SHA-256."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()

    def get(self, key: str) -> tuple[Path, dict[str, Any]] | None:
        """Folder and manifest of the entry; None when it is missing or incomplete."""
        folder = self._folder / key
        try:
            manifest: dict[str, Any] = json.loads((folder / _MANIFEST).read_bytes())
            is_whole = all(_is_whole(folder / piece["sha256"]) for piece in manifest["pieces"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return (folder, manifest) if is_whole else None

    def put(self, key: str, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> Path:
        """Add an entry and return its folder. If another process has just added it, that one is used."""
        target = self._folder / key
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            new = Path(tempfile.mkdtemp(prefix="new-", dir=self._folder))
            try:
                self._fill(new, manifest, files)
                self._place(new, target, key)
            finally:
                shutil.rmtree(new, ignore_errors=True)
        except OSError as error:
            raise EnvironmentFault(
                f"converted texts cannot be kept in {self._folder}: {(error.strerror or str(error)).lower()}",
                why="the model reads them from there",
                hint="name another folder with LOOP_RUNNER_CACHE",
            ) from error
        return target

    def _fill(self, new: Path, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        # Open to everyone: where the runner is root, the model's code runs as another user.
        for name, data in (*files.items(), (_MANIFEST, json.dumps(manifest).encode())):
            (new / name).write_bytes(data)
            (new / name).chmod(0o644)
        new.chmod(0o755)

    def _place(self, new: Path, target: Path, key: str) -> None:
        try:
            new.rename(target)
        except OSError:  # one exists already
            if self.get(key) is None:
                shutil.rmtree(target)
                new.rename(target)


def _is_whole(path: Path) -> bool:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == path.name
