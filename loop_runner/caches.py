"""The user's cache folder. Everything in it can be recreated, so it may be removed at any time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def cache_dir(env: Mapping[str, str]) -> Path:
    """``$LOOP_RUNNER_CACHE``, else ``loop-runner`` in the user's cache folder."""
    if chosen := env.get("LOOP_RUNNER_CACHE"):
        return Path(chosen).expanduser().absolute()
    # As in the XDG base directory specification: what is not absolute is to be ignored.
    users = Path(env.get("XDG_CACHE_HOME") or os.environ.get("XDG_CACHE_HOME", ""))
    return (users if users.is_absolute() else Path("~/.cache").expanduser()) / "loop-runner"
