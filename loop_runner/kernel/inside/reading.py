"""A model's tools for reading a text: lines by number, outline, pieces, rows. Inside the kernel process.

The results print as a person would want to read them, each line as ``name:line: text``, the form of a
citation; to code they are still plain ``str``, ``list`` or ``dict``. Relies on ``structure`` for the
structure of a text.
"""

from __future__ import annotations

from . import shown
from .structure import Mark

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

_SHOWN_ROWS = 20


class Passage(str):
    """Lines of a text: prints as its text even where Python would show a text's ``repr``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str.__str__(self)


class Chunk(str):
    """A piece of a text; ``name`` ("" if unknown) is the text's, ``line`` and ``last_line`` count from 1."""

    __slots__ = ("last_line", "line", "name")
    name: str
    line: int
    last_line: int

    def __new__(cls, text: str, name: str = "", line: int = 1) -> Chunk:  # noqa: D102, PYI034
        chunk = super().__new__(cls, text)
        chunk.name, chunk.line = name, line
        chunk.last_line = line + text.removesuffix("\n").count("\n")
        return chunk

    def __reduce__(self) -> tuple[object, ...]:
        return Chunk, (str.__str__(self), self.name, self.line)


class Outline(list):  # type: ignore[type-arg]
    """The parts of a text in order: each has ``line``, ``level`` (from 1) and ``text``."""

    def __init__(self, name: str, marks: Iterable[Mark] = ()) -> None:
        super().__init__(marks)
        self.name = name

    def __getitem__(self, key: Any) -> Any:
        item = list.__getitem__(self, key)
        return Outline(self.name, item) if isinstance(key, slice) else item

    def __reduce__(self) -> tuple[object, ...]:
        return Outline, (self.name, list(self))

    def __str__(self) -> str:
        marks = [f"{self.name}:{mark.line}: {'  ' * (mark.level - 1)}{mark.text}" for mark in self]
        return (
            shown.cut_lines(marks, lambda count: f"print them with print(outline({self.name!r})[{count}:])")
            or f"{self.name}: nothing in it looks like a heading; read it with read() or chunks()"
        )

    __repr__ = __str__


class Row(dict):  # type: ignore[type-arg]
    """One row of a table, value by column; ``line`` is where it begins in the text, counted from 1."""

    __slots__ = ("line",)

    def __init__(self, values: Mapping[str, Any], line: int) -> None:
        super().__init__(values)
        self.line = line

    def __reduce__(self) -> tuple[object, ...]:
        return Row, (dict(self), self.line)


class Rows(list):  # type: ignore[type-arg]
    """The rows in order; ``columns`` are their names, ``skipped`` the lines without a row, as (line, why)."""

    def __init__(self, rows: Iterable[Row], name: str, skipped: Iterable[tuple[int, str]] = ()) -> None:
        super().__init__(rows)
        self.name = name
        self.skipped = list(skipped)

    @property
    def columns(self) -> list[str]:
        """The keys of all rows, in the order of their first occurrence."""
        return list(dict.fromkeys(column for row in self for column in row))

    def __getitem__(self, key: Any) -> Any:
        item = list.__getitem__(self, key)
        return Rows(item, self.name) if isinstance(key, slice) else item

    def __reduce__(self) -> tuple[object, ...]:
        return Rows, (list(self), self.name, self.skipped)

    def __str__(self) -> str:
        rows = [f"{self.name}:{row.line}: {str(dict(row))[:300]}" for row in self]
        return (
            shown.cut_lines(rows, lambda count: f"print the result sliced as [{count}:]", at_most=_SHOWN_ROWS)
            or f"{self.name}: no rows"
        )

    __repr__ = __str__
