"""The steps before a run continues: clear a killed git's leftovers, set changed files aside, restore.

Runs under the run folder's lock only. Nothing is ever lost: files that differ from HEAD are first committed
under ``refs/loop-runner/set-aside/N``, and files that git cannot hold are moved into
``.git/loop-runner/displaced/``. Never runs git on the files themselves.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from loop_runner import __version__, failpoints
from loop_runner.errors import WorkspaceError
from loop_runner.text import plural
from loop_runner.workspace import control_files, layout
from loop_runner.workspace.commits import Commit
from loop_runner.workspace.folder import Folder
from loop_runner.workspace.git import fast_import
from loop_runner.workspace.git.fast_import import Blob, NewCommit
from loop_runner.workspace.git.git import Git
from loop_runner.workspace.history import History
from loop_runner.workspace.walk import NO_LIMITS, TEMPORARY, Limits, Walked, WalkedFile, Walker, file_at

SET_ASIDE = "refs/loop-runner/set-aside"
_OWNED = tuple(os.fsencode(name) for name in (layout.MODEL_FOLDER, *layout.RUNNER_FOLDERS))
_STALE = ("*.lock", "refs/**/*.lock", "objects/**/tmp_obj_*", "objects/pack/tmp_*", "fast_import_crash_*")
_GITS_KEEP = b"fast-import"  # git's mark on a pack that it has not finished

Tree = Mapping[bytes, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Recovered:
    """The result of recovery. ``set_aside`` says where changed files went; None when there were none."""

    tree: Tree
    set_aside: str | None


def stale(git_dir: Path) -> Iterator[Path]:
    """A killed git's leftovers: locks, unfinished objects, marks and indexes of lost packs."""
    for pattern in _STALE:
        yield from git_dir.glob(pattern)
    packs = git_dir / "objects" / "pack"
    for index in (*packs.glob("pack-*.idx"), *packs.glob("pack-*.rev")):
        # A power cut may keep an index and lose its pack. A missing pack shows up as missing objects;
        # an index can always be rebuilt from its pack.
        if not index.with_suffix(".pack").exists():
            yield index
    for keep in packs.glob("*.keep"):
        # A person's mark has other content, or none; git's own mark that it could not fill has no pack yet.
        content = keep.read_bytes()
        is_unfinished = _GITS_KEEP.startswith(content) and not keep.with_suffix(".idx").exists()
        if content.startswith(_GITS_KEEP) or is_unfinished:
            yield keep


def clear_stale(git_dir: Path) -> None:
    """Remove a killed git's leftovers."""
    failpoints.passing("recovery.clear")
    for path in list(stale(git_dir)):
        path.unlink(missing_ok=True)


def put_back(
    folder: Folder, history: History, git: Git, head: Commit, limits: Limits, skip: tuple[bytes, ...] = ()
) -> Recovered:
    """Make the files match ``head``, after setting aside everything that could not be recovered otherwise.

    Files and folders of the model's with a name in ``skip`` are left as they are.
    """
    expected = history.tree(head.oid)
    folder.remove_unfinished({path.rpartition(b"/")[0] for path in expected if not _is_walked(path)})
    failpoints.passing("recovery.look")
    there = look(folder, expected, limits, skip)
    before = [_readable_tree(history, parent) for parent in head.parents]
    edits = {path: entry for path, entry in there.files.items() if _is_edit(path, entry, expected, before)}
    ref = _set_aside(git, history, head, edits) if edits else None
    failpoints.passing("recovery.restore")
    kept = {path for name, _ in there.unstored if _is_as_stored(folder, path := os.fsencode(name), expected)}
    for path in (os.fsencode(name) for name, _ in there.unstored):
        if path not in kept:
            folder.move_aside(path)
            folder.remove_empty(path.rpartition(b"/")[0])
    _restore(folder, history, {path: at for path, at in expected.items() if path not in kept}, there)
    moved = [f"{path} is now {where}" for path, where in folder.moved_aside]
    head_is = history.checkpoint(head.oid)
    control_files.forget_committed(git.git_dir / "loop-runner", history.read, head_is)
    words = ([f"git ref {ref}"] if ref else []) + moved
    return Recovered(expected, "; ".join(words) or None)


def _is_as_stored(folder: Folder, path: bytes, expected: Tree) -> bool:
    """Whether a file that a walk leaves out (its size, its name) is nevertheless what HEAD has there."""
    if path not in expected:
        return False
    with contextlib.suppress(OSError), folder.existing(path.rpartition(b"/")[0]) as fd:
        return file_at(fd, path.rpartition(b"/")[2]) == expected[path]
    return False


def _readable_tree(history: History, commit: str) -> dict[bytes, tuple[str, str]]:
    """A commit's files; none when it cannot be read: then a file that only it explains is set aside."""
    try:
        return history.tree(commit)
    except WorkspaceError:
        return {}


def look(folder: Folder, expected: Tree, limits: Limits, skip: tuple[bytes, ...] = ()) -> Walked:
    """The current files: the runner's folders whole, and the rest as far as HEAD has it."""
    known = {path: blob for path, (_, blob) in expected.items()}
    walkers = [Walker(limits, skip=skip), *(Walker(NO_LIMITS) for _ in _OWNED[1:])]
    walks = [walker.walk(folder.fd, top, known) for walker, top in zip(walkers, _OWNED, strict=True)]
    files = {path: entry for walked in walks for path, entry in walked.files.items()}
    walker = Walker(NO_LIMITS)
    for path in (path for path in expected if not _is_walked(path)):
        with contextlib.suppress(OSError), folder.existing(path.rpartition(b"/")[0]) as fd:
            if entry_found := walker.look_at(fd, path, known):
                files[path] = entry_found
    unstored = tuple(entry for walked in walks for entry in walked.unstored)
    return Walked(files, unstored, tuple(path for walked in walks for path in walked.empty_folders))


def _is_walked(path: bytes) -> bool:
    return path.partition(b"/")[0] in _OWNED


def _is_edit(
    path: bytes, file: WalkedFile, expected: Tree, before: list[dict[bytes, tuple[str, str]]]
) -> bool:
    """The file matches neither HEAD nor its parents: a crash between commit and files."""
    if path.rpartition(b"/")[2].startswith(TEMPORARY):
        return False
    now = (file.mode, file.blob)
    return now != expected.get(path) and all(now != tree.get(path) for tree in before)


def _set_aside(git: Git, history: History, head: Commit, edits: Mapping[bytes, WalkedFile]) -> str:
    taken = git.run("for-each-ref", "--format=%(refname)", SET_ASIDE).decode().split()
    number = max((int(name.rpartition("/")[2]) for name in taken), default=0) + 1
    ref = f"{SET_ASIDE}/{number}"
    subject = f"set aside: {plural(len(edits), 'file')} that no turn committed"
    failpoints.passing("recovery.set_aside")
    commit = fast_import.write(
        git,
        NewCommit(
            message=layout.message(subject, layout.Trailers(runner=__version__)),
            time=int(time.time()),
            parents=[head.oid],
            set_paths={path: _blob(history, entry) for path, entry in edits.items()},
        ),
    )
    failpoints.passing("recovery.point")
    fast_import.point(git, ref, commit, was=None)
    return ref


def _blob(history: History, file: WalkedFile) -> Blob:
    # Without bytes only the mode differs: the blob itself is stored.
    return Blob(history.blob(file.blob) if file.data is None else file.data, file.mode)


def _restore(folder: Folder, history: History, expected: Tree, there: Walked) -> None:
    for path in there.files:
        if path not in expected:
            folder.remove(path)
    for name in there.empty_folders:
        folder.remove_empty(os.fsencode(name))
    for path, (mode, oid) in expected.items():
        entry = there.files.get(path)
        if entry is None or (entry.mode, entry.blob) != (mode, oid):
            folder.write(path, Blob(history.blob(oid), mode))
    _, empty_folders = layout.walk_report_from(history.read(layout.WALK_FILE))
    for name in (layout.NOTES_FOLDER, *empty_folders):
        folder.make_folder(os.fsencode(name))
