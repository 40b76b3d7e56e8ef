"""What the system prompt says of the tools: whole descriptions of a few, one line for each of many."""

from __future__ import annotations

from collections.abc import Sequence

from loop_runner.text import one_line
from loop_runner.tools.spec import ToolSpec

_MOST_WHOLE = 12  # tools whose whole descriptions are in the prompt
_MOST_CHARS = 6000  # of these
_LINE_CHARS = 160


def lines(specs: Sequence[ToolSpec]) -> tuple[str, ...]:
    """A line for each tool, as data: what a description holds cannot pose as a part of the prompt."""
    whole = tuple(
        f"`{spec.signature}`: {one_line(spec.description, _MOST_CHARS)}".rstrip(": ") for spec in specs
    )
    if len(specs) <= _MOST_WHOLE and sum(map(len, whole)) <= _MOST_CHARS:
        return whole
    return tuple(f"`{spec.name}`: {one_line(spec.summary, _LINE_CHARS)}".rstrip(": ") for spec in specs)
