"""Puts the committed answer and the model's files into an empty folder, for the verifiers.

Every byte comes from git. Links are kept only if, by the commit's own paths, they lead to something inside
the checkout, so nothing in it leads out, whatever the model wrote. Never follows a link itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from loop_runner.errors import WorkspaceError
from loop_runner.workspace.folder import Folder
from loop_runner.workspace.git.fast_import import EXECUTABLE, LINK, Blob
from loop_runner.workspace.history import History

_MAX_LINKS = 20


def write(history: History, commit: str, into: Path) -> None:
    """Check ``commit`` out into ``into``, which must be empty or missing."""
    into.mkdir(parents=True, exist_ok=True)
    if any(into.iterdir()):
        raise WorkspaceError(f"{into} is not empty", why="a verifier would see files that no commit holds")
    tree = history.tree(commit, "answer.md", "answer.json", "workspace/")
    write_files({path: (mode, history.blob(oid)) for path, (mode, oid) in tree.items()}, into)


def write_files(files: Mapping[bytes, tuple[str, bytes]], into: Path) -> None:
    """Write ``files`` (path to mode and bytes) into the folder ``into``."""
    links = {path: data for path, (mode, data) in files.items() if mode == LINK}
    folder = Folder(into, into)
    try:
        folder.make_folder(b"workspace")
        for path, (mode, data) in files.items():
            if mode != LINK:
                folder.write(path, Blob(data, mode), permissions=0o555 if mode == EXECUTABLE else 0o444)
        for path, target in links.items():
            if _stays_inside(path, target, links, files):
                folder.write(path, Blob(target, LINK))
    finally:
        folder.close()


def _stays_inside(
    path: bytes, target: bytes, links: Mapping[bytes, bytes], files: Mapping[bytes, object]
) -> bool:
    """The link leads, step by step through the commit's own paths, to a file or folder in ``workspace/``."""
    folders = {parent for file in files for parent in _parents(file)}
    at = path.split(b"/")[:-1]
    todo = target.split(b"/")
    followed = 0
    if target.startswith(b"/") or not target:
        return False
    while todo:
        part = todo.pop(0)
        if part in (b"", b"."):
            continue
        if part == b"..":
            at = at[:-1]
        else:
            at = [*at, part]
            if b"/".join(at) in links:
                followed += 1
                onward = links[b"/".join(at)]
                if followed > _MAX_LINKS or onward.startswith(b"/"):
                    return False
                at, todo = at[:-1], onward.split(b"/") + todo
        if not at or at[0] != b"workspace":
            return False
        if todo and b"/".join(at) not in folders:
            return False
    here = b"/".join(at)
    return here in folders or here in files


def _parents(path: bytes) -> list[bytes]:
    parts = path.split(b"/")
    return [b"/".join(parts[:count]) for count in range(1, len(parts))]
