"""Says which of the model's files differ between two commits.

Read through GitPython, with our own environment and settings: nothing of a ``GIT_*`` variable, a user's
configuration or an attribute of the model's has a say, and no file outside git is looked at. GitPython's own
reader of diffs takes names for lines of UTF-8, which a model's need not be; so names are split here, at the
NUL that no name can hold.
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

    # GitPython adds to the environment that it finds; `env -i` sees to it that nothing of that arrives.
    ours = [f"{name}={value}" for name, value in isolated(git_dir).items()]
    try:
        output = git.Git(git_dir).execute(
            ["env", "-i", *ours, "git", *settings(), command, *args],
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
