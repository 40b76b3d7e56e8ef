"""Whether a folder is a readable run folder, and the errors that explain why not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from loop_runner import plugins
from loop_runner.errors import ConfigError, EnvironmentFault, WorkspaceError
from loop_runner.text import one_line, shell
from loop_runner.workspace import contained, layout
from loop_runner.workspace.git.git import git_works


def require_git_dir(folder: Path) -> None:
    """Raise ``WorkspaceError`` unless ``folder`` looks like a run folder from outside."""
    git_dir = folder / ".git"
    contained.require_plain(folder)
    try:
        if (git_dir / "shallow").exists() and not (git_dir / "loop-runner" / "damaged").is_dir():
            raise _is_shallow(folder)  # after a repair, the loss has been reported already
        is_marked = (git_dir / "loop-runner").is_dir() or (folder / layout.FORMAT_FILE).is_file()
        if git_dir.is_dir() and (is_marked or _has_commits(git_dir)):
            return  # a run folder without its HEAD is damaged, not something else
        if not git_dir.is_dir() and (folder / ".git.new").is_dir():
            raise WorkspaceError(
                f"{folder} is a run folder whose making was interrupted",
                why="it holds no commit yet, so there is nothing to continue from",
                hint="start the run again; it takes the folder over",
            )
    except PermissionError as error:
        raise WorkspaceError(
            f"{folder} cannot be read ({(error.strerror or '').lower()})",
            why="the state of the run is in its git history",
            hint="give yourself permission to read the folder and its contents",
            exit_code=4,
        ) from error
    raise not_a_run(folder)


def _has_commits(git_dir: Path) -> bool:
    """Whether a repository that no runner has marked may hold a run: a clone with nothing checked out."""
    return (git_dir / "HEAD").is_file() and (
        (git_dir / "packed-refs").is_file()
        or any(path.is_file() for path in (git_dir / "refs" / "heads").rglob("*"))
    )


def _is_shallow(folder: Path) -> WorkspaceError:
    return WorkspaceError(
        f"{folder} is a shallow clone",
        why="the run's spend and progress are computed from its whole history",
        hint=f"`git -C {shell(folder)} fetch --unshallow`",
    )


def not_a_run(folder: Path) -> WorkspaceError:
    """``folder`` is something else."""
    what = "is not a run folder" if folder.exists() else "does not exist"
    return WorkspaceError(
        f"{folder} {what}",
        why="a run folder is a git repository with a loop-runner.json in it",
        hint="start a run with `loop-runner run TASK.yaml`",
    )


def require_format(folder: Path, format_file: bytes | None) -> None:
    """Raise ``WorkspaceError`` unless this version can read the run folder."""
    if format_file is None:
        raise not_a_run(folder)
    version = layout.format_of(format_file)
    if version is None:
        raise damaged(folder, layout.FORMAT_FILE)
    if version > layout.FORMAT:
        raise WorkspaceError(
            f"{folder} has format {version}; this loop-runner knows formats up to {layout.FORMAT}",
            why="a newer version made it, and this one would misread it",
            hint=plugins.newer(),
        )


def damaged(folder: Path, what: str, output: str = "") -> WorkspaceError | EnvironmentFault:
    """The error for an unreadable history: it is damaged, or git does not work."""
    if not git_works():
        return EnvironmentFault(
            "git does not work: `git --version` fails, or names a version that is too old",
            why="a run folder is a git repository: every turn is a commit",
            hint="see which git is first on PATH (`command -v git`); install 2.32 or later",
        )
    detail = f" ({output.strip().splitlines()[-1]})" if output.strip() else ""
    return WorkspaceError(
        f"{folder} is damaged: {what} cannot be read{detail}",
        why="the run continues from its commits, and this commit is not whole",
        hint=f"nothing was changed; `loop-runner fsck {shell(folder)}` says what is damaged, and with "
        "--repair it goes back to the newest checkpoint that is whole",
        exit_code=4,
    )


@contextlib.contextmanager
def parsing(folder: Path, path: str) -> Iterator[None]:
    """Within it, a file with wrong content raises ``WorkspaceError``: it was changed from outside."""
    try:
        yield
    except ConfigError as error:
        raise WorkspaceError(
            f"{folder} is damaged: {path} is not one that the runner wrote: {error.message}",
            why="the run cannot be read or continued by it",
            hint=f"`loop-runner log {shell(folder)}` lists the commits; take the file from one of them",
            exit_code=4,
        ) from error
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise WorkspaceError(
            f"{folder} is damaged: {path} does not hold what it should ({one_line(str(error), 300)})",
            why="the run continues from its commits, and the content of this file cannot be recovered",
            hint=f"nothing was changed; `loop-runner log {shell(folder)}` lists the commits, and "
            f"`loop-runner fsck {shell(folder)}` says what is damaged",
            exit_code=4,
        ) from error
