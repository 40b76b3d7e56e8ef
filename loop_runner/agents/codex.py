"""Codex: the command of a pass, and where its login is. Starts nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

# The files are a copy of the user's commit, in a run folder: it may write there, and nowhere else.
PASS = ("codex", "exec", "--skip-git-repo-check", "--sandbox", "workspace-write", "--json", "-")
_KEYS = ("OPENAI_API_KEY", "CODEX_API_KEY")


def is_logged_in(env: Mapping[str, str]) -> bool:
    """Whether it has a key in the environment, or an account. Does not read a secret."""
    home = Path(env.get("CODEX_HOME") or Path(env.get("HOME") or "~").expanduser() / ".codex")
    return any(env.get(key) for key in _KEYS) or (home / "auth.json").is_file()
