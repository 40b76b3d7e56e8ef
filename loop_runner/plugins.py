"""What other installed packages add: providers, verifiers, loaders and reporters, by entry point.

Owns the names of the groups (docs/models.md, docs/verifiers.md, docs/inputs.md, docs/reporters.md). Relies on
the metadata of installed packages; imports one only when a task names what it adds. None can take the place
of what loop-runner brings.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from loop_runner.errors import ConfigError

PROVIDERS = "loop_runner.providers"
VERIFIERS = "loop_runner.verifiers"
LOADERS = "loop_runner.loaders"
REPORTERS = "loop_runner.reporters"


@cache
def find(group: str) -> dict[str, EntryPoint]:
    """What installed packages add to ``group``, by name."""
    return {entry.name: entry for entry in entry_points(group=group)}


def load(group: str, name: str) -> Any:
    """The object behind ``name``. Raises ``ConfigError`` when its package does not import."""
    entry = find(group)[name]
    try:
        return entry.load()
    except Exception as error:
        package = entry.dist.name if entry.dist else "a package"
        raise ConfigError(
            f"{name!r}, which {package} adds, cannot be loaded: {type(error).__name__}: {error}",
            why=f"the package says that it stands in {entry.value}",
            hint=f"mend or uninstall {package}",
        ) from error


def folders(entry: EntryPoint) -> list[str]:
    """The folders that must be on the path for ``entry`` to be imported elsewhere; imports nothing."""
    found = [] if entry.dist is None else [str(entry.dist.locate_file(""))]
    try:
        spec = find_spec(entry.module.partition(".")[0])  # of a top-level name: looks, and runs nothing
    except (ImportError, ValueError):
        spec = None
    if spec is not None and spec.origin is not None:
        at = Path(spec.origin).parent
        found.append(str(at.parent if spec.submodule_search_locations else at))
    return list(dict.fromkeys(found))
