"""Where the command lines of Claude Code and Codex keep their login. Reads no secret and starts nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_CLAUDE_KEYS = (
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_USE_BEDROCK",
)
_CODEX_KEYS = ("OPENAI_API_KEY", "CODEX_API_KEY")
_MAX_BYTES = 10_000_000


def has_claude(env: Mapping[str, str]) -> bool:
    """Whether Claude Code has a key in the environment, or an account."""
    if any(env.get(key) for key in _CLAUDE_KEYS):
        return True
    folder = Path(env.get("CLAUDE_CONFIG_DIR") or _home(env) / ".claude")
    if (folder / ".credentials.json").is_file():
        return True
    with suppress(OSError, ValueError, RecursionError, AttributeError):
        settings = (folder if env.get("CLAUDE_CONFIG_DIR") else _home(env)) / ".claude.json"
        with settings.open("rb") as file:
            return bool(json.loads(file.read(_MAX_BYTES)).get("oauthAccount"))
    return False


def has_codex(env: Mapping[str, str]) -> bool:
    """Whether Codex has a key in the environment, or an account."""
    return any(env.get(key) for key in _CODEX_KEYS) or (codex_home(env) / "auth.json").is_file()


def codex_home(env: Mapping[str, str]) -> Path:
    """Where Codex keeps its settings and its login."""
    return Path(env.get("CODEX_HOME") or _home(env) / ".codex")


def provider(env: Mapping[str, str]) -> str | None:
    """The provider of the first client that is installed and logged in; None when there is none."""
    for name, program, is_logged_in in _CLIENTS:
        if shutil.which(program, path=env.get("PATH", "")) and is_logged_in(env):
            return name
    return None


_CLIENTS = (("claude-cli", "claude", has_claude), ("codex-cli", "codex", has_codex))


def _home(env: Mapping[str, str]) -> Path:
    return Path(env.get("HOME") or "~").expanduser()
