"""The parts of a text, with their lines: headings, classes, functions, columns, the beginnings of pages."""

from __future__ import annotations

import re

from . import structure
from .names import plural
from .reading import Outline, Rows
from .structure import Mark
from .tables import rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


_HEAD_LINES = 2  # at the top and at the foot of a page


_PAGE_NUMBER = re.compile(
    r"(?:page|seite|p\.)\s*\d+(?:\s*(?:of|von|/)\s*\d+)?|^\W*\d+\b\W*|\W*\b\d+\W*$", re.IGNORECASE
)


def outline(
    name: str,
    text: str,
    places: Sequence[tuple[int, str]],
    headings: Sequence[tuple[int, int, str]] = (),
) -> Outline:
    """See ``Helpers.outline``. Headings from the document itself take precedence over guesses."""
    if headings:
        return Outline(name, [Mark(*heading) for heading in headings])
    kind = structure.kind_of(name, text)
    try:
        marks = _marks(kind, name, text)
    except (ValueError, RecursionError) as error:
        marks = [Mark(1, 1, f"not the {kind.upper()} that its name says: {error}"), *structure.headings(text)]
    if not places:
        return Outline(name, marks)
    lines = text.split("\n")
    inside = [Mark(mark.line, mark.level + 1, mark.text) for mark in marks]
    running = _running_heads(lines, places)
    inside = [mark for mark in inside if _without_page_number(mark.text) not in running]
    parts = [Mark(first, 1, label + _begins(lines, first, running)) for first, label in places]
    return Outline(name, sorted([*parts, *inside], key=lambda mark: (mark.line, mark.level)))


def _marks(kind: str, name: str, text: str) -> list[Mark]:
    if kind == "code":
        return structure.definitions(name, text)
    if kind == "json":
        return structure.keys(text)
    if kind in ("csv", "tsv", "jsonl"):
        table = rows(name, text)
        columns = [Mark(1, 2, f"{column}: {_example(table, column)}") for column in table.columns]
        return [Mark(1, 1, f"{plural(len(table), 'row')} of {plural(len(columns), 'column')}"), *columns]
    return structure.headings(text)


def _example(table: Rows, column: str) -> str:
    values = [row[column] for row in table if row.get(column) not in (None, "")]
    kinds = sorted({type(value).__name__ for value in values})
    return f"{' or '.join(kinds)}, such as {str(values[0])[:60]!r}" if values else "empty"


def _begins(lines: Sequence[str], first: int, running: set[str]) -> str:
    """The first words of a place that are its own."""
    own = (
        line.strip()
        for line in lines[first - 1 : first + 19]
        if any(map(str.isalnum, line)) and _without_page_number(line) not in running
    )
    words = next(own, "")
    return f": {' '.join(words.split())[:60]}" if words else ""


def _running_heads(lines: Sequence[str], places: Sequence[tuple[int, str]]) -> set[str]:
    """The lines, without page numbers, that many pages begin or end with."""
    counts: dict[str, int] = {}
    firsts = [first for first, _ in places]
    for first, end in zip(firsts, [*(first - 1 for first in firsts[1:]), len(lines)], strict=True):
        filled = [line for line in lines[first - 1 : end] if line.strip()]
        for line in {_without_page_number(line) for line in (*filled[:_HEAD_LINES], *filled[-_HEAD_LINES:])}:
            counts[line] = counts.get(line, 0) + 1
    often = max(3, len(places) // 8)
    return {line for line, count in counts.items() if count >= often}


def _without_page_number(line: str) -> str:
    return " ".join(_PAGE_NUMBER.sub("", line).split()).casefold()
