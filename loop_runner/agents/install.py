"""Writes our stop hook into a client's settings and takes it out again, and nothing else.

Owns where each client keeps its hooks and how an entry looks. What is there stays, byte for byte; a file that
cannot be read for certain is left alone, with an error that says what to add by hand. Doing it twice changes
nothing. Starts nothing.
"""

from __future__ import annotations

import difflib
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loop_runner.agents import json_text
from loop_runner.errors import HookError
from loop_runner.task import resources

MARK = "loop-runner-stop-hook"  # an argument that does nothing: by it our entry is known again
# In a project's settings, which others have too: no path of this user.
SHARED = f"loop-runner hook stop {MARK}"
_HOURS_S = 86_400  # gates may take long; the clients' own limits are a minute


@dataclass(frozen=True, slots=True)
class Change:
    """What an install or uninstall does to one file. ``after`` None: the file goes."""

    path: Path
    before: str | None  # None: there is no such file
    after: str | None

    @property
    def is_needed(self) -> bool:
        """Whether anything changes."""
        return self.before != self.after

    def diff(self) -> str:
        """As ``diff -u`` says it; empty when nothing changes."""
        old, new = ((side or "").splitlines(keepends=True) for side in (self.before, self.after))
        names = [str(self.path) if side is not None else "/dev/null" for side in (self.before, self.after)]
        parts = [
            line if line.endswith("\n") else line + "\n\\ No newline at end of file\n"
            for line in difflib.unified_diff(old, new, names[0], names[1])
        ]
        return "".join(parts)


def command(python: str | None = None) -> str:
    """The command line of the hook: every client but Copilot hands it to a shell of its own choice."""
    words = [python or sys.executable, "-S", "-E", str(resources.folder("hooks") / "stop.py"), MARK]
    if sys.platform == "win32":
        return " ".join(
            f'"{word}"' if " " in word else word for word in (w.replace("\\", "/") for w in words)
        )
    return shlex.join(words)


def install(client: str, project: Path | None, env: Mapping[str, str], *, hook: str | None = None) -> Change:
    """What has to change for ``client`` to ask our hook; nothing is written yet.

    Raises ``HookError`` when its settings cannot be read, or are laid out as no version of it writes them.
    """
    path, before = _read(_file(client, project, env))
    text = before if before is not None and before.strip() else "{}\n"
    for keys, entry in _entries(client, hook or (command() if project is None else SHARED)):
        text = _with(path, text, keys, entry)
    if client in ("cursor", "copilot") and "version" not in json.loads(text):
        text = _with_version(text)
    return Change(path, before, text)


def uninstall(client: str, project: Path | None, env: Mapping[str, str]) -> Change:
    """What has to change for ``client`` to ask our hook no more."""
    path, before = _read(_file(client, project, env))
    if before is None or not before.strip():
        return Change(path, before, before)
    text = before
    for keys, _ in _entries(client, ""):
        text = _without(path, text, keys)
    is_only_own = text != before and json.loads(text) in ({}, {"version": 1})
    return Change(path, before, None if is_only_own and client == "copilot" else text)


def write(change: Change) -> None:
    """Do it: the file is the old one or the new one at every moment, and keeps its permissions."""
    if not change.is_needed:
        return
    target = change.path.resolve()  # a link to a file kept elsewhere stays one
    if change.after is None:
        target.unlink(missing_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".loop-runner-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(change.after.encode("utf-8", "surrogateescape"))
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(target.stat().st_mode & 0o777 if target.exists() else 0o644)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


# ── where and what ──────────────────────────────────────────────────────────────────────────────────


def _file(client: str, project: Path | None, env: Mapping[str, str]) -> Path:
    home = Path(env.get("HOME") or env.get("USERPROFILE") or "~").expanduser()
    own = {
        "claude": (Path(env.get("CLAUDE_CONFIG_DIR") or home / ".claude") / "settings.json"),
        "codex": (Path(env.get("CODEX_HOME") or home / ".codex") / "hooks.json"),
        "gemini": home / ".gemini" / "settings.json",
        "cursor": home / ".cursor" / "hooks.json",
    }
    in_project = {
        "claude": ".claude/settings.json",
        "codex": ".codex/hooks.json",
        "gemini": ".gemini/settings.json",
        "cursor": ".cursor/hooks.json",
        "copilot": ".github/hooks/loop-runner.json",
    }
    if project is not None and not project.is_dir():
        raise HookError(
            f"there is no folder {project}",
            why="a hook in a new folder would never run",
            hint="check --project; it names the folder of an existing project",
        )
    if project is not None:
        return project / in_project[client]
    if client not in own:
        raise HookError(
            "Copilot CLI reads hooks from a project",
            why="there is no file for all projects that every version reads",
            hint="name the project: --project DIR",
        )
    return own[client]


def _entries(client: str, hook: str) -> list[tuple[tuple[str, ...], dict[str, Any]]]:
    """Where each of our entries goes and what it is."""
    if client in ("claude", "codex"):
        entry: dict[str, Any] = {"hooks": [{"type": "command", "command": hook, "timeout": _HOURS_S}]}
        return [(("hooks", event), entry) for event in ("Stop", "SessionStart")]
    if client == "gemini":
        inner = {"name": "loop-runner", "type": "command", "command": hook, "timeout": _HOURS_S * 1000}
        return [(("hooks", "AfterAgent"), {"hooks": [inner]})]
    if client == "cursor":
        return [(("hooks", "stop"), {"command": hook, "loop_limit": 1000})]
    entry = {"type": "command", "bash": hook, "powershell": f"& {hook}", "timeoutSec": _HOURS_S}
    return [(("hooks", "agentStop"), entry)]


def _is_own(entry: Any) -> bool:
    """Whether an entry asks our hook, alone or beside hooks of others."""
    if not isinstance(entry, dict):
        return False
    inner = entry.get("hooks")
    if isinstance(inner, list):
        return any(map(_is_own, inner))
    words = f"{entry.get('command', '')} {entry.get('bash', '')}"
    return MARK in words or "loop-runner hook stop" in words


# ── changing the text ───────────────────────────────────────────────────────────────────────────────


def _read(path: Path) -> tuple[Path, str | None]:
    """The file's text with its line breaks; None when there is no file."""
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return path, None
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, str(error)) from error
    if text.strip():
        try:
            data = json_text.parse(text.removeprefix("\ufeff"))
        except (ValueError, RecursionError, AssertionError, IndexError) as error:
            raise _unreadable(path, _comment(text) or str(error)) from error
        if text.startswith("\ufeff"):
            raise _unreadable(path, "it begins with a byte order mark; save it as UTF-8 without one")
        if data.kind != "object":
            raise _unreadable(path, "it is not one JSON object")
    return path, text


def _comment(text: str) -> str:
    """What to say about the first line that begins with a comment; "" without one."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip("\ufeff \t").startswith(("//", "/*")):
            return f"line {number} is a comment, which JSON does not have; remove the comments"
    return ""


def is_switched_off(change: Change) -> bool:
    """Whether the settings switch all hooks off, ours too."""
    return bool(change.after) and json.loads(change.after or "{}").get("disableAllHooks") is True


def _entries_at(path: Path, text: str, keys: tuple[str, ...]) -> list[Any]:
    data: Any = json.loads(text)
    for key in keys:
        data = data.get(key, {} if key != keys[-1] else []) if isinstance(data, dict) else None
    if not isinstance(data, list):
        raise _unreadable(path, f"{'.'.join(keys)} is not a list")
    return data


def _with(path: Path, text: str, keys: tuple[str, ...], entry: dict[str, Any]) -> str:
    there = _entries_at(path, text, keys)
    present = [hook for settings in there for hook in _own_hooks(settings)]
    if present == (_own_hooks(entry) or [entry]):
        return text
    # An older one, or one from another copy of loop-runner.
    return json_text.add(_without(path, text, keys), keys, entry)


def _without(path: Path, text: str, keys: tuple[str, ...]) -> str:
    for index, entry in reversed(list(enumerate(_entries_at(path, text, keys)))):
        own = _own_hooks(entry)
        if own and len(own) == len(entry.get("hooks", own)):
            text = json_text.remove(text, keys, index)
            continue
        for place in (
            [place for place, hook in enumerate(entry.get("hooks", [])) if hook in own][::-1] if own else []
        ):
            text = json_text.remove(text, (*keys, index, "hooks"), place)
    return text


def _own_hooks(entry: Any) -> list[Any]:
    """Our hooks in an entry, which may also hold those of others."""
    if not _is_own(entry):
        return []
    return [hook for hook in entry.get("hooks", [entry]) if _is_own(hook)]


def _with_version(text: str) -> str:
    start = text.index("{") + 1
    return f'{text[:start]}\n  "version": 1,{text[start:]}'


def _unreadable(path: Path, reason: str) -> HookError:
    return HookError(
        f"{path} cannot be changed safely: {reason}",
        why="it holds your own settings, and a guess could lose them; it was left unchanged",
        hint="fix the file, or add the hook by hand: docs/hooks.md shows each client's entry",
    )
