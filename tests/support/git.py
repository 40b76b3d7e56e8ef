"""Plain git, as a person types it, with no configuration but what the test says."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.commands import clean_environment

_ENV = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}


def git(folder: Path, *args: object) -> str:
    """Run ``git -C folder ARGS``; what it printed, without the last newline."""
    return subprocess.run(
        ["git", "-C", str(folder), *map(str, args)],
        env=clean_environment(_ENV),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.rstrip("\n")


def tree(folder: Path, commit: str = "HEAD") -> str:
    """The id of the tree of ``commit``."""
    return git(folder, "rev-parse", f"{commit}^{{tree}}")


def subjects(folder: Path, *options: str) -> list[str]:
    """The subjects of the commits, the oldest first."""
    return git(folder, "log", "--reverse", "--topo-order", "--format=%s", *options).splitlines()


def assert_clean(folder: Path) -> None:
    """Files, index and HEAD say the same, and the repository is whole."""
    assert git(folder, "status", "--porcelain") == ""
    git(folder, "fsck", "--strict")
