"""What other installed packages add: providers and verifiers, by entry point.

Owns the names of the groups (docs/models.md, docs/verifiers.md). Relies on the metadata of installed
packages; imports one only when a task names what it adds. None can take the place of what loop-runner brings.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from loop_runner.errors import ConfigError

PROVIDERS = "loop_runner.providers"
VERIFIERS = "loop_runner.verifiers"


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
