"""What is installed beside loop-runner: plug-ins, found by entry point, and the commands that add an extra.

Owns the names of the groups (docs/models.md, docs/verifiers.md, docs/inputs.md, docs/reporters.md). Relies on
the metadata of installed packages; imports one only when a task names what it adds. None can take the place
of what loop-runner brings. loop-runner is on no package index, so a hint never names ``loop-runner[EXTRA]``:
it names the packages of the extra, and the Python that runs this copy.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loop_runner.errors import ConfigError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

PROVIDERS = "loop_runner.providers"
VERIFIERS = "loop_runner.verifiers"
LOADERS = "loop_runner.loaders"
REPORTERS = "loop_runner.reporters"
_NAME = "loop-runner"
_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")
_METADATA = (".dist-info", ".egg-info")


@cache
def find(group: str) -> dict[str, EntryPoint]:
    """What installed packages add to ``group``, by name."""
    if not _may_be_any(group):
        return {}
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group=group)}


def _may_be_any(group: str) -> bool:
    """False if surely no package adds anything: found out without the standard library's reader.

    Importing that takes longer than everything else that a short run does with packages.
    """
    finders = [finder for finder in sys.meta_path if finder is not PathFinder]
    if any(hasattr(finder, "find_distributions") for finder in finders):
        return True
    heading = f"[{group}]".encode()
    return any(_may_add(Path(folder or "."), heading) for folder in dict.fromkeys(sys.path))


def _may_add(folder: Path, heading: bytes) -> bool:
    """Whether a package in this place of ``sys.path`` has that heading; True for what is no folder."""
    try:
        names = [name for name in os.listdir(folder) if name.endswith(_METADATA)]  # noqa: PTH208 - at each start
        return any(heading in _entry_points(folder / name) for name in names)
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _entry_points(metadata: Path) -> bytes:
    try:
        return (metadata / "entry_points.txt").read_bytes()
    except FileNotFoundError:
        return b""


def load(group: str, name: str) -> Any:
    """The object behind ``name``. Raises ``ConfigError`` when its package does not import."""
    entry = find(group)[name]
    try:
        return entry.load()
    except Exception as error:
        package = entry.dist.name if entry.dist else "a package"
        raise ConfigError(
            f"{name!r}, which {package} adds, cannot be loaded: {type(error).__name__}: {error}",
            why=f"its package says that it is in {entry.value}",
            hint=f"fix or uninstall {package}",
        ) from error


def folders(entry: EntryPoint) -> list[str]:
    """The folders that must be on the path for ``entry`` to be imported elsewhere; imports nothing."""
    paths = [] if entry.dist is None else [str(entry.dist.locate_file(""))]
    try:
        spec = find_spec(entry.module.partition(".")[0])  # of a top-level name: looks, and runs nothing
    except (ImportError, ValueError):
        spec = None
    if spec is not None and spec.origin is not None:
        at = Path(spec.origin).parent
        paths.append(str(at.parent if spec.submodule_search_locations else at))
    return list(dict.fromkeys(paths))


# ── how to install what is missing ──


def command_for(name: str) -> str:
    """The command that installs the packages of the extra ``name``, for this Python."""
    requirements = _requirements(name)
    checkout = Path(__file__).parents[1]
    if not requirements and (checkout / "pyproject.toml").is_file():
        requirements = [f"{checkout}[{name}]"]  # a checkout that runs without being installed
    return _install(*requirements)


def newer() -> str:
    """How to get a newer version, from where this one was installed."""
    import urllib.parse

    origin = _origin()
    address = str(origin.get("url", ""))
    system = (origin.get("vcs_info") or {}).get("vcs")
    if system:
        return f"update with: {_install('--upgrade', f'{_NAME} @ {system}+{address}')}"
    if "dir_info" in origin:
        folder = urllib.parse.unquote(urllib.parse.urlsplit(address).path)
        pull = shlex.join(["git", "-C", folder, "pull"])
        return f"update the checkout and install it again: {pull} && {_install('--upgrade', folder)}"
    return f"get a newer checkout or wheel, and install it: {_install('--upgrade')} PATH"


def _install(*words: str) -> str:
    """``words`` behind the installer that this Python has: pip, or uv where an environment is without it."""
    if find_spec("pip") is None:
        return shlex.join(["uv", "pip", "install", "--python", sys.executable, *words])
    return shlex.join([sys.executable, "-m", "pip", "install", *words])


def _requirements(name: str) -> list[str]:
    import importlib.metadata  # takes longer to load than all the rest of a short run's modules

    try:
        listed = importlib.metadata.requires(_NAME) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    pairs = (entry.partition(";") for entry in listed)
    return [
        requirement.strip()
        for requirement, _, marker in pairs
        if (match := _EXTRA.search(marker)) and match[1] == name
    ]


def _origin() -> dict[str, Any]:
    """What the installer recorded about where this copy came from (PEP 610); empty for none."""
    import importlib.metadata

    try:
        record = importlib.metadata.distribution(_NAME).read_text("direct_url.json")
        origin = json.loads(record or "{}")
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return {}
    return origin if isinstance(origin, dict) else {}
