"""Files that the runner itself writes into a run folder: where they may be, and how they are committed."""

from __future__ import annotations

import os
from collections.abc import Mapping

from loop_runner.workspace import (
    layout,
)
from loop_runner.workspace.git import fast_import
from loop_runner.workspace.git.fast_import import Blob


def checked(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """``files`` without secrets, if every path is one that the runner may write."""
    for path in files:
        parts = path.split("/")
        if not all(parts) or {".", "..", ".git"} & set(parts) or parts[0] == layout.MODEL_FOLDER:
            msg = f"the runner does not write {path!r}"
            raise ValueError(msg)
    return {path: fast_import.shown(os.fsencode(path), data) for path, data in files.items()}


def blobs(files: Mapping[str, bytes]) -> dict[bytes, Blob]:
    """``files`` as a commit takes them."""
    return {os.fsencode(path): Blob(data) for path, data in files.items()}
