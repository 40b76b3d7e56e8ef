"""A user's settings and a project's: which values there are, where each comes from, and which may count.

Owns ``~/.config/loop-runner/config.toml`` (the user's own) and ``.loop-runner.toml`` in the current folder or
one above it (the project's). A project's file comes with a checkout, perhaps a stranger's: what starts
programs, sends data or raises a limit counts only in the user's file, or after ``loop-runner config trust``.
Reads files, starts nothing.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loop_runner.errors import ConfigError
from loop_runner.runs import notify, trust
from loop_runner.text import one_line, shell
from loop_runner.workspace import durable

PROJECT_FILE = ".loop-runner.toml"
DISPLAYS = ("auto", "plain", "json", "quiet")
_MAX_BYTES = 100_000
_REFERENCE = "docs/settings.md lists the settings"
# Models that a project may choose: they answer from a service whose key the user set, or from a fetched file.
_PROJECT_PROVIDERS = frozenset({"anthropic", "anthropic-batch", "openai", "local"})


@dataclass(frozen=True, slots=True)
class Value:
    """One setting: its value, the file that it comes from, and why it does not count ("" when it does)."""

    value: Any
    origin: str
    ignored: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings that count, by dotted name; ``ignored`` are those of a project that do not."""

    values: Mapping[str, Value] = field(default_factory=dict)
    ignored: Mapping[str, Value] = field(default_factory=dict)
    user_file: Path | None = None
    project_file: Path | None = None

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a setting; ``default`` where no file has it."""
        result = self.values.get(name)
        return default if result is None else result.value


def _text(value: Any) -> Any:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a text")
    return value


def _display(value: Any) -> Any:
    if value not in DISPLAYS:
        raise ValueError(f"one of {', '.join(DISPLAYS)}")
    return value


def _amount(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError("a number of US dollars over 0")
    return float(value)


def _targets(value: Any) -> Any:
    try:
        return notify.parsed(value if isinstance(value, list) else [value], is_own=True)
    except ConfigError as error:
        raise ValueError(f"a list of targets: {error.message}") from error


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "model": _text,
    "sub_model": _text,
    "display": _display,
    "runs": _text,
    "notify": _targets,
    "spend.usd_per_day": _amount,
}


def user_file(env: Mapping[str, str]) -> Path | None:
    """Where the user's settings are: ``LOOP_RUNNER_CONFIG``, else ``~/.config/loop-runner/config.toml``."""
    if named := env.get("LOOP_RUNNER_CONFIG"):
        return Path(named).expanduser().absolute()
    base = env.get("XDG_CONFIG_HOME") or (f"{env['HOME']}/.config" if env.get("HOME") else "")
    return Path(base) / "loop-runner" / "config.toml" if base.startswith("/") else None


def project_file(folder: Path, env: Mapping[str, str]) -> Path | None:
    """The nearest ``.loop-runner.toml``: in ``folder`` or above it, up to the top of its repository."""
    home = env.get("HOME", "")
    for place in (folder, *folder.parents):
        if (result := place / PROJECT_FILE).is_file():
            return result
        if (place / ".git").exists() or str(place) == home:
            return None
    return None


def of_user(env: Mapping[str, str]) -> Settings:
    """The user's settings alone, as every run has them whichever folder it was started in."""
    path = user_file(env)
    if path is None or not path.is_file():
        return Settings(user_file=path)
    return Settings({name: Value(value, str(path)) for name, value in _read(path).items()}, user_file=path)


def read(env: Mapping[str, str], folder: Path) -> Settings:
    """The settings that hold in ``folder``. A project's value wins over the user's, where it counts.

    Raises ``ConfigError`` that names the file and the setting.
    """
    own = of_user(env)
    path = project_file(folder.absolute(), env)
    if path is None:
        return own
    is_trusted = _is_trusted(path, env)
    values, ignored = dict(own.values), {}
    for name, value in _read(path).items():
        why = _why_not(name, value, path, is_trusted=is_trusted)
        if why:
            ignored[name] = Value(value, str(path), why)
        else:
            values[name] = Value(_placed(name, value, path), str(path))
    return Settings(values, ignored, own.user_file, path)


def _why_not(name: str, value: Any, path: Path, *, is_trusted: bool) -> str:
    """Why a project's setting does not count; "" when it does."""
    if name == "spend.usd_per_day":
        return "a limit on your money is yours to set: it counts in your own file only"
    if is_trusted:
        return ""
    command = shell("loop-runner", "config", "trust", path)
    if name == "notify":
        return f"it sends data or starts programs; if you agree: {command}"
    if name in ("model", "sub_model") and not _is_plain_model(str(value)):
        return f"it starts a program or reads a file of the project; if you agree: {command}"
    if name == "runs" and not _is_inside(path.parent, str(value)):
        return f"it is outside of the project; if you agree: {command}"
    return ""


def _is_plain_model(model: str) -> bool:
    provider, _, name = model.partition(":")
    return provider in _PROJECT_PROVIDERS and not (provider == "local" and ("/" in name or "." in name))


def _is_inside(folder: Path, value: str) -> bool:
    place = Path(value)
    if place.is_absolute() or value.startswith("~"):
        return False
    root = folder.resolve()
    return (root / place).resolve().is_relative_to(root)


def _placed(name: str, value: Any, path: Path) -> Any:
    """A project's folder of runs is relative to its file."""
    return str(path.parent / Path(value).expanduser()) if name == "runs" else value


# ── trusting a project ──────────────────────────────────────────────────────────────────────────────


def trust_project(path: Path, env: Mapping[str, str]) -> None:
    """Let everything in the project's file count, as the file is now; a changed file is asked about again."""
    place = _mark(path, env)
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    durable.replace(place, json.dumps({"sha256": _sha256(path), "path": str(path)}).encode())


def _is_trusted(path: Path, env: Mapping[str, str]) -> bool:
    try:
        return bool(json.loads(_mark(path, env).read_bytes())["sha256"] == _sha256(path))
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _mark(path: Path, env: Mapping[str, str]) -> Path:
    name = hashlib.sha256(str(path.resolve()).encode("utf-8", "surrogateescape")).hexdigest()
    return trust.state_folder(env) / "projects" / f"{name}.json"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.sha256(file.read(_MAX_BYTES + 1)).hexdigest()


# ── reading a file ──────────────────────────────────────────────────────────────────────────────────


def _read(path: Path) -> dict[str, Any]:
    """The settings in a file, each checked, by dotted name."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise ConfigError(
                f"{path} is larger than 100 kB", why="settings are a few lines", hint=_REFERENCE
            )
        content = tomllib.loads(data.decode())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path} cannot be read: {one_line(str(error), 200)}",
            why="it says how runs are started and who is notified",
            hint=f"settings are TOML in UTF-8; {_REFERENCE}",
        ) from error
    return {name: _checked(path, name, value) for name, value in _flat(content)}


def _flat(content: Mapping[str, Any]) -> list[tuple[str, Any]]:
    result = []
    for name, value in content.items():
        if isinstance(value, dict) and any(known.startswith(f"{name}.") for known in _READERS):
            result += [(f"{name}.{key}", item) for key, item in value.items()]
        else:
            result.append((name, value))
    return result


def _checked(path: Path, name: str, value: Any) -> Any:
    if name not in _READERS:
        near = difflib.get_close_matches(name, _READERS, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"settings: {', '.join(_READERS)}"
        raise ConfigError(
            f"{path}: there is no setting `{one_line(name)}`", why="it would have no effect", hint=hint
        )
    try:
        return _READERS[name](value)
    except ValueError as error:
        raise ConfigError(
            f"{path}: `{name}` takes {error}", why="the setting cannot be used as it is", hint=_REFERENCE
        ) from error
