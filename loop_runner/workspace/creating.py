"""Makes a run folder: its repository is built beside its place and moved there when it is complete."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from loop_runner import failpoints
from loop_runner.errors import WorkspaceError
from loop_runner.records import (
    Checkpoint,
)
from loop_runner.text import shell
from loop_runner.workspace import (
    durable,
    faults,
    layout,
)
from loop_runner.workspace.git import fast_import
from loop_runner.workspace.git.fast_import import NewCommit
from loop_runner.workspace.git.git import Git, GitFailed
from loop_runner.workspace.history import History
from loop_runner.workspace.lock import Lock
from loop_runner.workspace.openable import damaged

PRIVATE = "loop-runner"


BRANCH = "refs/heads/main"


_COPY_TIMEOUT_S = 3600.0


# Written by hand: the same repository with any version of git, with no template and no hooks.
CONFIG = """\
[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = false
\tlogallrefupdates = false
\tautocrlf = false
\tfsync = all
[gc]
\tauto = 0
[maintenance]
\tauto = false
"""


# Takes precedence over any .gitattributes of the model's: a person's git must not change the bytes either.
ATTRIBUTES = "* -text -ident -filter -working-tree-encoding\n"


@contextlib.contextmanager
def translated(folder: Path, doing: str) -> Iterator[None]:
    """``faults.translated``, for a failing git too."""
    try:
        with faults.translated(folder, doing):
            yield
    except GitFailed as error:
        raise error.fault(folder, doing) from error


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Within it, no other process makes a run folder in ``folder``, which exists."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    folder.mkdir(parents=True, exist_ok=True)
    durable.sync_chain(folder, there)  # else a power cut takes the run by taking the folder above it
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def refuse_contents(folder: Path) -> None:
    """Raise ``WorkspaceError`` if the folder holds anything that a run would overwrite."""
    names = {path.name for path in folder.iterdir() if not _is_left_over(path)}
    if not names:
        return
    if ".git" in names and (layout.FORMAT_FILE in names or (folder / ".git" / PRIVATE).is_dir()):
        with History(folder) as history:
            raise _is_there(folder, history.head())
    shown = ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    raise WorkspaceError(
        f"{folder} is not empty and is not a run folder: it holds {shown}",
        why="a run restores and removes files in its folder, and these are not its own",
        hint="choose another folder with --run-dir (run_dir= in a program), or empty this one",
    )


def _is_there(folder: Path, head: Checkpoint) -> WorkspaceError:
    if head.outcome == "accepted":
        return WorkspaceError(
            f"{folder} holds a finished run (pass {head.pass_number} was accepted)",
            why="a run folder holds one run, and its history is the proof of it",
            hint=f"see it with `loop-runner show {shell(folder)}`, or choose another folder with"
            " --run-dir (run_dir= in a program)",
        )
    return WorkspaceError(
        f"{folder} holds an unfinished run (pass {head.pass_number}, turn {head.turn})",
        why="starting over would leave paid work behind",
        hint=f"resume it with `loop-runner resume {shell(folder)}`, or choose another folder with"
        " --run-dir (run_dir= in a program)",
    )


def branch_off(git: Git, source: History, commit: NewCommit) -> str:
    """Copy everything that ``commit``'s parents reach into one pack of the new repository, and commit."""
    pack = git.git_dir / "objects" / "pack" / "pack"
    wanted = "".join(f"{parent}\n" for parent in commit.parents).encode()
    try:
        Git(source.git_dir).run(
            "pack-objects", "-q", "--revs", str(pack), stdin=wanted, timeout_s=_COPY_TIMEOUT_S
        )
    except GitFailed as error:
        raise damaged(source.folder, commit.parents[-1], error.stderr) from error
    return fast_import.write(git, commit)


def lay_out(folder: Path, make: Callable[[Git], str], before_placing: Callable[[Path], None] | None) -> Lock:
    """Make the repository beside its place and move it there; returns its lock.

    ``make`` puts the objects into it and returns the branch's first commit.
    """
    failpoints.passing("create.lay_out")
    new = folder / ".git.new"
    shutil.rmtree(new, ignore_errors=True)  # left by a runner that was killed here: it held no commit
    for part in ("objects/pack", "objects/info", "refs/heads", "refs/tags", "info", PRIVATE):
        (new / part).mkdir(parents=True)
    (new / "HEAD").write_text(f"ref: {BRANCH}\n")
    (new / "config").write_text(CONFIG)
    (new / "info" / "attributes").write_text(ATTRIBUTES)
    held = Lock.take(new / PRIVATE / "lock", folder)
    try:
        git = Git(new, held.fd)
        failpoints.passing("create.first_commit")
        fast_import.point(git, BRANCH, make(git), was=None)
        failpoints.passing("create.sync")
        durable.sync_tree(new)
        if before_placing is not None:
            before_placing(new)
        failpoints.passing("create.rename")
        new.rename(folder / ".git")
        failpoints.passing("create.renamed")
        durable.sync(folder)
        durable.sync(folder.parent)
    except GitFailed as error:
        held.release()
        raise error.fault(folder, "making the run folder") from error
    except BaseException:
        held.release()
        raise
    return held


def _is_left_over(path: Path) -> bool:
    """Whether these are leftovers of a runner that was killed while making a run folder."""
    if path.name == layout.MODEL_FOLDER and not path.is_symlink() and path.is_dir():
        return next(path.iterdir(), None) is None
    return path.name == ".git.new"
