"""How much one output shows. Runs inside the kernel process.

A helper's output must fit into the part of a cell's output that the model sees, or its middle is cut out.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_MARGIN_CHARS = 200  # for the line about what was left out
_limit = 8000


def set_limit(max_output_chars: int) -> None:
    """Set the number of characters that a model sees of a cell. Once per kernel process, at its start."""
    global _limit  # noqa: PLW0603 - a process has one model, and the classes that print are pickled without it
    _limit = max_output_chars


def max_chars() -> int:
    """The most that a helper prints at once."""
    return max(_limit - _MARGIN_CHARS, _MARGIN_CHARS)


def cut(text: str) -> str:
    """``text``; a long one up to the last line that fits, and how much is left out."""
    lines = [line[: max_chars()] for line in text.split("\n")]
    return cut_lines(lines, lambda _: "fix what is shown first")


def cut_lines(lines: Sequence[str], rest: Callable[[int], str], at_most: int | None = None) -> str:
    """As many ``lines`` as fit. A last line says how many are left out and, by ``rest``, what to do."""
    room, count = max_chars(), 0
    for line in lines[:at_most]:
        room -= len(line) + 1
        if room < 0 and count:
            break
        count += 1
    printed = list(lines[:count])
    if count < len(lines):
        printed.append(f"… {len(lines) - count:,} more: {rest(count)}")
    return "\n".join(printed)
