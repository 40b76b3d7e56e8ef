"""Tools of a task that are functions of the program that begins the run: ``lr.ask(..., tools=[lookup])``.

Such a function runs in the program's own process. The run folder holds its name and the hash of its source,
and a run that continues needs the same function again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from loop_runner.errors import ConfigError
from loop_runner.verify import bound_values
from loop_runner.verify.function import sha256_of

Tool: TypeAlias = Mapping[str, Any] | Callable[..., Any]


def collected(tools: Iterable[Tool]) -> tuple[list[dict[str, Any]], dict[str, Callable[..., Any]]]:
    """Entries of ``tools:`` as a task file has them, and the functions that some of them were, by name."""
    entries: list[dict[str, Any]] = []
    functions: dict[str, Callable[..., Any]] = {}
    for tool in tools:
        if isinstance(tool, Mapping):
            entries.append(dict(tool))
            continue
        name = getattr(tool, "__name__", "")
        if not callable(tool) or not name.isidentifier():
            raise ConfigError(
                f"{tool!r:.200} cannot be a tool",
                why="the model's code calls a tool by the name of its function",
                hint="define it with `def`, and pass the function",
            )
        if name in functions:
            raise ConfigError(
                f"two tools are called `{name}`",
                why="the model's code could call only one of them",
                hint="give one of them another name",
            )
        functions[name] = tool
        about = {"name": name, "sha256": sha256_of(tool), "values": bound_values.of(tool)}
        entries.append({"callable": about})
    return entries, functions
