"""What ``doctor`` looks at beside git, models and the sandbox: the usual reasons why nothing works.

Each check is a function that looks at one thing and names what to type. Connects to the address of the model
that a run would ask, and sends nothing to it.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from loop_runner import linux, plugins
from loop_runner.errors import LoopRunnerError
from loop_runner.text import one_line

_CONNECT_S = 3.0
_MIN_OPEN_FILES = 256
_MIN_MEMORY_MB = 700
_FIRST_YEAR = 2026  # a clock before it is wrong: certificates would look invalid
_ADDRESSES = {
    "anthropic": ("ANTHROPIC_BASE_URL", "https://api.anthropic.com"),
    "openai": ("OPENAI_BASE_URL", "https://api.openai.com/v1"),
}
_EXTRAS = {"docs": "markitdown", "local": "xllamacpp", "notify": "apprise", "otel": "opentelemetry.sdk"}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. ``is_ok`` None: not every run needs it."""

    name: str
    is_ok: bool | None
    state: str
    hint: str = ""


def all_of(env: Mapping[str, str]) -> Iterator[Check]:
    """Every check, in the order in which a run would fail."""
    yield _guarded("settings", lambda: _settings(env))
    yield _folder(
        "runs", _runs_folder(), "runs are created there; change into another folder, or use --run-dir"
    )
    yield _folder("state", _state_folder(env), "set LOOP_RUNNER_STATE to a folder that you can write")
    yield _temporary()
    yield _open_files()
    yield _memory()
    yield _clock()
    yield _encoding()
    yield from _keys(env)
    yield from _address(env)
    yield from _extras()


def _guarded(name: str, look: Callable[[], Check]) -> Check:
    try:
        return look()
    except LoopRunnerError as error:
        return Check(name, False, error.message, error.hint)


def _settings(env: Mapping[str, str]) -> Check:
    from loop_runner.runs import notify, preferences

    result = preferences.read(env, Path.cwd())
    files = [
        str(path) for path in (result.user_file, result.project_file) if path is not None and path.is_file()
    ]
    if absent := notify.missing(result.get("notify", ()), env):
        return Check(
            "settings", False, f"`notify` needs {absent[0]}, which is not set", f"export {absent[0]}=..."
        )
    hints = [f"`{name}` is ignored: {value.ignored}" for name, value in result.ignored.items()]
    return Check("settings", None if hints else True, ", ".join(files) or "none", "\n".join(hints))


def _runs_folder() -> Path:
    from loop_runner.runs import new_folders

    return Path.cwd() / new_folders.runs_folder()


def _state_folder(env: Mapping[str, str]) -> Path:
    from loop_runner.runs import trust

    return trust.state_folder(env)


def _folder(name: str, folder: Path, hint: str) -> Check:
    """Whether files can be written in ``folder``, or in the nearest folder above it that exists."""
    place = next(path for path in (folder, *folder.parents) if path.exists())
    if not place.is_dir():
        return Check(name, False, f"{place} is a file", hint)
    try:
        with tempfile.TemporaryFile(dir=place):
            return Check(name, True, str(folder))
    except OSError as error:
        return Check(name, False, f"{place}: {(error.strerror or str(error)).lower()}", hint)


def _temporary() -> Check:
    try:
        with tempfile.TemporaryFile():
            return Check("temporary", True, tempfile.gettempdir())
    except OSError as error:
        return Check(
            "temporary", False, error.strerror or str(error), "set TMPDIR to a folder that you can write"
        )


def _open_files() -> Check:
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _MIN_OPEN_FILES:
        return Check("open files", True, "unlimited" if soft == resource.RLIM_INFINITY else f"{soft:,}")
    return Check("open files", False, f"{soft:,} at most", f"ulimit -n {4 * _MIN_OPEN_FILES}")


def _memory() -> Check:
    if (free_mb := linux.available_mb()) is not None:
        hint = "" if free_mb >= _MIN_MEMORY_MB else "close something, or lower kernel.memory in the task"
        return Check("memory", free_mb >= _MIN_MEMORY_MB, f"{free_mb:,} MB available", hint)
    return Check("memory", None, "not known on this system")


def _clock() -> Check:
    year = time.gmtime().tm_year
    hint = "" if year >= _FIRST_YEAR else "set the clock; providers' certificates look invalid until then"
    return Check("clock", year >= _FIRST_YEAR, time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), hint)


def _encoding() -> Check:
    name = sys.getfilesystemencoding()
    is_utf8 = name.lower().replace("-", "") == "utf8"
    return Check("encoding", is_utf8, name, "" if is_utf8 else "export LC_ALL=C.UTF-8")


# ── models ──────────────────────────────────────────────────────────────────────────────────────────


def _keys(env: Mapping[str, str]) -> Iterator[Check]:
    """Keys that were pasted with something around them; every request with such a key is refused."""
    from loop_runner.model import catalog

    names = dict.fromkeys(key for provider in catalog.load().providers.values() for key in provider.keys)
    for name in names:
        value = env.get(name, "")
        if value and (value != value.strip() or value[0] in "\"'" or any(char.isspace() for char in value)):
            yield Check(
                name, False, "it has blanks or quotes around the key", f"export {name}=... without them"
            )


def _address(env: Mapping[str, str]) -> Iterator[Check]:
    """Whether the addresses of the models that a run would ask can be reached from here."""
    from loop_runner.model import registry

    default = (registry.default_with_key(env) or "").partition(":")[0]
    for provider in ("anthropic", "openai"):
        variable, usual = _ADDRESSES[provider]
        if provider == default or env.get(variable):
            yield _of_provider(provider, variable, usual, env)


def _of_provider(provider: str, variable: str, usual: str, env: Mapping[str, str]) -> Check:
    address = env.get(variable) or usual
    proxy = env.get("HTTPS_PROXY") or env.get("https_proxy") or env.get("ALL_PROXY") or ""
    is_proxied = proxy and address.startswith("https://")
    target, what = (proxy, "the proxy ") if is_proxied else (address, "")
    return _reached(f"{provider}'s host", target, what, variable if env.get(variable) else "")


def _reached(name: str, address: str, what: str, variable: str) -> Check:
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
    except ValueError:
        return Check(
            name, False, f"{what}{variable or 'its address'} is no address", "it looks like https://host/v1"
        )
    if not host or parts.scheme not in ("http", "https", "socks5", "socks5h"):
        return Check(
            name, False, f"{what}{variable or 'its address'} is no address", "it looks like https://host/v1"
        )
    shown = f"{what}{one_line(host, 80)}:{port}"
    try:
        socket.create_connection((host, port), _CONNECT_S).close()
    except OSError as error:
        why = (error.strerror or str(error) or type(error).__name__).lower()
        hint = f"start the server that {variable} names, or unset {variable}" if variable else ""
        return Check(
            name, False, f"{shown} cannot be reached: {why}", hint or "check the network, or set HTTPS_PROXY"
        )
    return Check(name, True, f"{shown} can be reached")


def _extras() -> Iterator[Check]:
    """Which extras are installed; no run needs all of them."""
    missing = []
    for extra, module in _EXTRAS.items():
        with contextlib.suppress(ImportError):
            if find_spec(module) is not None:
                continue
        missing.append(extra)
    hint = "; ".join(f"{name}: {plugins.command_for(name)}" for name in missing)
    tools = "" if shutil.which("rg") else "; ripgrep (audits of large trees) is not found"
    result = f"not installed: {', '.join(missing)}" if missing else "all installed"
    yield Check("extras", None if missing else True, result + tools, hint if missing else "")
