"""Lists which of the model's files differ between two commits.

Read through GitPython, with the runner's environment and settings: ``GIT_*`` variables, the user's
configuration and the model's attributes have no effect, and no file outside git is read. GitPython's own
reader of diffs expects names to be lines of UTF-8, but a model's names need not be. So names are split here,
at NUL, which no name can contain.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from loop_runner.workspace import layout
from loop_runner.workspace.git.git import GitFailed, isolated, settings

Kind = Literal["added", "changed", "deleted"]
Change = tuple[Kind, str]

_KINDS: dict[bytes, Kind] = {b"A": "added", b"M": "changed", b"T": "changed", b"D": "deleted"}
_TIMEOUT_S = 120.0


def between(git_dir: Path, old: str, new: str) -> tuple[Change, ...]:
    """(kind, path) of each file below ``workspace/`` that differs from commit ``old`` to ``new``, by path.

    A renamed file is one deleted and one added; another mode is a change. Raises ``GitFailed``.
    """
    options = ["-r", "-z", "--name-status", "--no-renames", "--no-ext-diff", "--no-textconv"]
    output = _git(git_dir, "diff-tree", *options, "--end-of-options", old, new, "--", layout.MODEL_FOLDER)
    fields = output.split(b"\0")
    return tuple(
        (_KINDS[status], os.fsdecode(path)) for status, path in zip(fields[::2], fields[1::2], strict=False)
    )


def _git(git_dir: Path, command: str, *args: str) -> bytes:
    import git

    # GitPython adds its own environment; `env -i` makes sure that none of it arrives.
    variables = [f"{name}={value}" for name, value in isolated(git_dir).items()]
    try:
        output = git.Git(git_dir).execute(
            ["env", "-i", *variables, "git", *settings(), command, *args],
            stdout_as_string=False,
            strip_newline_in_stdout=False,
            kill_after_timeout=_TIMEOUT_S,
            start_new_session=True,
        )
    except git.GitCommandError as error:
        exit_code = error.status if isinstance(error.status, int) else -1
        raise GitFailed(command, exit_code, str(error.stderr)) from error
    assert isinstance(output, bytes)
    return output
