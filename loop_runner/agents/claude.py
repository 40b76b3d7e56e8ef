"""Claude Code: the command of a pass, and where its login is. Starts nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

# ``{settings}`` has this run's stop hook; edits need no confirmation, other tools follow the user's settings.
PASS = (
    "claude",
    "-p",
    "--settings",
    "{settings}",
    "--permission-mode",
    "acceptEdits",
    "--output-format",
    "json",
)
_KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CODE_USE_BEDROCK")
_MAX_BYTES = 10_000_000


def is_logged_in(env: Mapping[str, str]) -> bool:
    """Whether it has a key in the environment, or an account. Does not read a secret."""
    if any(env.get(key) for key in _KEYS):
        return True
    home = Path(env.get("HOME") or "~").expanduser()
    folder = Path(env.get("CLAUDE_CONFIG_DIR") or home / ".claude")
    if (folder / ".credentials.json").is_file():
        return True
    with suppress(OSError, ValueError, RecursionError):
        settings = folder / ".claude.json" if env.get("CLAUDE_CONFIG_DIR") else home / ".claude.json"
        with settings.open("rb") as file:
            return bool(json.loads(file.read(_MAX_BYTES)).get("oauthAccount"))
    return False
