"""What a tool returned, where it is too long to be printed whole. Runs inside the kernel process.

The value is whole to all code: only what a cell shows of it is cut. ``str()`` and formatting give the whole
text, so that nothing that is made of it, such as a prompt, silently lacks a part.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class ToolText(str):
    """A long text; ``printed_form`` is what a cell shows of it."""

    __slots__ = ("limit",)
    limit: int

    def __new__(cls, text: str, limit: int) -> ToolText:  # noqa: D102, PYI034
        whole = super().__new__(cls, text)
        whole.limit = limit
        return whole

    def printed_form(self) -> str:
        """Its beginning and its end."""
        half = max(self.limit // 2, 1)
        left_out = len(self) - 2 * half
        if left_out <= 0:
            return str.__str__(self)
        gap = f"[… {left_out:,} characters are not printed; the value is whole …]"
        return f"{self[:half]}\n{gap}\n{self[-half:]}"

    def __str__(self) -> str:
        return self  # the stream that a cell prints to finds ``printed_form``

    def __reduce__(self) -> tuple[object, ...]:
        return ToolText, (str.__str__(self), self.limit)


class ToolList(list):  # type: ignore[type-arg]
    """A list whose printed form is long."""

    limit = 0

    def printed_form(self) -> str:
        """As that of its text."""
        return ToolText(list.__repr__(self), self.limit).printed_form()

    def __str__(self) -> str:
        return ToolText(list.__repr__(self), self.limit)

    def __reduce__(self) -> tuple[object, ...]:
        return shortened, (list(self), self.limit)


class ToolDict(dict):  # type: ignore[type-arg]
    """A dict whose printed form is long."""

    limit = 0

    def printed_form(self) -> str:
        """As that of its text."""
        return ToolText(dict.__repr__(self), self.limit).printed_form()

    def __str__(self) -> str:
        return ToolText(dict.__repr__(self), self.limit)

    def __reduce__(self) -> tuple[object, ...]:
        return shortened, (dict(self), self.limit)


def shortened(value: Any, limit: int) -> Any:
    """``value``, which prints no more than ``limit`` characters of itself; a short one as it is."""
    if type(value) is str:
        return ToolText(value, limit) if len(value) > limit else value
    if type(value) not in (list, dict) or len(repr(value)) <= limit:
        return value
    made: Any = ToolList(value) if type(value) is list else ToolDict(value)
    made.limit = limit
    return made
