"""Writes the entry that starts this server into a client's configuration, and nothing else.

What is there stays. A file that cannot be read for certain is left alone, with an error that shows what to
add by hand. Doing it twice changes nothing.
"""

from __future__ import annotations

import difflib
import json
import os
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import loop_runner as lr

CLIENTS = ("claude", "codex", "cursor", "vscode")
NAME = "loop-runner"
_TABLE = {"claude": "mcpServers", "cursor": "mcpServers", "vscode": "servers"}
_FILE = {"claude": ".mcp.json", "cursor": ".cursor/mcp.json", "vscode": ".vscode/mcp.json"}


@dataclass(frozen=True, slots=True)
class Change:
    """What an installation does to one file. ``before`` None: there is no such file."""

    path: Path
    before: str | None
    after: str

    @property
    def is_needed(self) -> bool:
        """Whether anything changes."""
        return self.before != self.after

    def diff(self) -> str:
        """As ``diff -u`` shows it; empty when nothing changes."""
        old, new = (self.before or "").splitlines(keepends=True), self.after.splitlines(keepends=True)
        return "".join(difflib.unified_diff(old, new, str(self.path), str(self.path)))

    def write(self) -> None:
        """Do it: the file is the old one or the new one at every moment, and keeps its permissions."""
        if not self.is_needed:
            return
        target = self.path.resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".loop-runner-")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(self.after)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(target.stat().st_mode & 0o777 if target.exists() else 0o644)
        Path(name).replace(target)


def entry_for(
    client: str, command: str, arguments: Sequence[str], project: Path, env: Mapping[str, str]
) -> Change:
    """What has to change for ``client`` to start ``command``; nothing is written yet."""
    if client == "codex":
        home = Path(env.get("CODEX_HOME") or Path(env.get("HOME") or "~").expanduser() / ".codex")
        return _toml(home / "config.toml", command, arguments)
    entry = {"type": "stdio", "command": command, "args": list(arguments)}
    return _json(project / _FILE[client], _TABLE[client], entry)


def _json(path: Path, table: str, entry: dict[str, Any]) -> Change:
    before = _read(path)
    shown = json.dumps({table: {NAME: entry}}, indent=2)
    try:
        result = json.loads(before) if before and before.strip() else {}
        servers = result.setdefault(table, {}) if isinstance(result, dict) else None
    except ValueError as error:
        raise _unreadable(path, str(error), shown) from error
    if not isinstance(servers, dict):
        raise _unreadable(path, f"`{table}` is not an object", shown)
    if servers.get(NAME) == entry:
        return Change(path, before, before or "")
    servers[NAME] = entry
    return Change(path, before, json.dumps(result, indent=2, ensure_ascii=False) + "\n")


def _toml(path: Path, command: str, arguments: Sequence[str]) -> Change:
    before = _read(path)
    lines = [
        f"[mcp_servers.{NAME}]",
        f"command = {json.dumps(command)}",
        f"args = {json.dumps([*arguments])}",
    ]
    shown = "\n".join([*lines, "startup_timeout_sec = 60", "tool_timeout_sec = 120", ""])
    try:
        result = tomllib.loads(before or "")
    except tomllib.TOMLDecodeError as error:
        raise _unreadable(path, str(error), shown) from error
    known = result.get("mcp_servers", {}).get(NAME)
    if known is None:
        gap = "" if not before else "\n" if before.endswith("\n") else "\n\n"
        return Change(path, before, f"{before or ''}{gap}{shown}")
    if (known.get("command"), known.get("args")) == (command, [*arguments]):
        return Change(path, before, before or "")
    raise _unreadable(path, f"it has another entry for {NAME}", shown)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, str(error), "") from error


def _unreadable(path: Path, what: str, shown: str) -> lr.ConfigError:
    return lr.ConfigError(
        f"{path} was left alone: {what}",
        why="a file that is not understood could be damaged by writing into it",
        hint=f"add this by hand:\n{shown}",
    )
