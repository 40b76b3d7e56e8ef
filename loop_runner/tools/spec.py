"""What a run keeps of each of its tools: how it is called, what it does, and the limits of its calls.

``tools.json`` of a run folder holds these, so that the system prompt, the REPL and a replay know the tools
without starting any of them. It holds names of environment variables, and never a value of one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from loop_runner.errors import WorkspaceError
from loop_runner.tools import value_schema
from loop_runner.workspace.called_tools import TOOLS_FILE

_FORMAT = 1
PREFIX = "tool:"  # of the "model" that a request to a tool names


@dataclass(frozen=True, slots=True)
class Settings:
    """The limits of a tool's calls. Durations in seconds."""

    timeout_s: float = 60.0
    max_output_chars: int = 4000  # of the printed form of one result; the value is whole
    idempotent: bool = False  # a call that a crash interrupted may be repeated
    approve: str = "never"  # "first", "always"
    calls: int = 200  # in the whole run
    width: int = 8  # at once


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """One tool as the model's code sees it. ``name`` is what is called: ``lookup``, ``github.get_issue``."""

    name: str
    kind: str  # "python", "command", "mcp", "fetch", "search"
    target: Mapping[str, Any]  # what of the machine is called; see ``entries``
    description: str
    parameters: Mapping[str, Any]  # a JSON Schema of an object
    returns: Mapping[str, Any] | None = None  # a JSON Schema; None: anything
    settings: Settings = field(default_factory=Settings)

    @property
    def signature(self) -> str:
        """How it is called, in the words of Python."""
        returned = "" if self.returns is None else f" -> {value_schema.in_words(self.returns)}"
        return f"{self.name}({', '.join(value_schema.parameters(self.parameters))}){returned}"

    @property
    def summary(self) -> str:
        """The first sentence or line of its description."""
        return self.description.strip().split("\n", 1)[0].strip()

    def for_kernel(self) -> dict[str, Any]:
        """What the model's process is given of it."""
        return {
            "name": self.name,
            "signature": self.signature,
            "doc": self.description,
            "parameters": value_schema.names(self.parameters),
            "required": sorted(self.parameters.get("required", ())),
            "is_open": self.parameters.get("additionalProperties", True) is not False,
            "max_output_chars": self.settings.max_output_chars,
        }


def specs_to_json(specs: Sequence[ToolSpec]) -> bytes:
    """``tools.json``."""
    return (json.dumps({"format": _FORMAT, "tools": list(map(asdict, specs))}, indent=1) + "\n").encode()


def specs_from_json(data: bytes | None) -> tuple[ToolSpec, ...]:
    """The inverse of ``specs_to_json``; none where there is no file. ``WorkspaceError`` when damaged."""
    if data is None:
        return ()
    try:
        body = json.loads(data)
        if body["format"] != _FORMAT:
            raise WorkspaceError(
                f"{TOOLS_FILE} has format {body['format']!r}, this program reads {_FORMAT}",
                why="a newer loop-runner wrote it",
                hint="upgrade loop-runner",
            )
        return tuple(ToolSpec(**{**tool, "settings": Settings(**tool["settings"])}) for tool in body["tools"])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise WorkspaceError(
            f"{TOOLS_FILE} cannot be read ({type(error).__name__}: {str(error)[:200]})",
            why="the run does not know which tools its model may call",
            hint="`loop-runner fsck RUN` says what is damaged",
            exit_code=4,
        ) from error
