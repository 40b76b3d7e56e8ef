"""Lines of a text by number, or a part of it by name."""

from __future__ import annotations

from . import shown
from .names import plural
from .outlines import outline
from .places import find_place, folded, place_of, some_places
from .reading import Passage
from .structure import Mark

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


_LINES = 200  # to read if no end is given


_MAX_LINE_CHARS = 2000


_BLOCK_CHARS = 1 << 20


_SHOWN_PLACES = 8


def read(
    name: str,
    text: str,
    start: int | str,
    end: int | None,
    places: Sequence[tuple[int, str]],
    headings: Sequence[tuple[int, int, str]] = (),
) -> Passage:
    """See ``Helpers.read``."""
    count = max(text.count("\n") + (not text.endswith("\n")), 1)
    if isinstance(start, str):
        first, last = _part(name, text, start, places, count, headings)
        last = last if end is None else min(last, end)
    else:
        first = max(start if start > 0 else count + 1 + start, 1) if start else 1
        last = min(first + _LINES - 1 if end is None else end, count)
    if first > last:
        return Passage(f"{name} has {count:,} lines: there is none from {first:,} to {last:,}")
    printed, printed_to = _printed(name, text, first, last, places)
    goal = count if end is None and not isinstance(start, str) else last
    if printed_to < goal:
        stop = "" if goal == count else f", {goal}"
        printed.append(f"… {plural(goal - printed_to, 'more line')}: read({name!r}, {printed_to + 1}{stop})")
    return Passage("\n".join(printed))


def _printed(
    name: str, text: str, first: int, last: int, places: Sequence[tuple[int, str]]
) -> tuple[list[str], int]:
    """The lines as shown, as many as fit into one output, and the number of the last."""
    labels = dict(places)
    if first not in labels and (label := place_of(places, first)):
        labels[first] = label
    printed: list[str] = []
    room = shown.max_chars()
    number = first
    for number, line in zip(range(first, last + 1), _lines_from(text, first), strict=False):
        part = [f"-- {labels[number]} --"] if number in labels else []
        part.append(f"{name}:{number}: {_cut(line)}")
        room -= sum(map(len, part)) + len(part)
        if room < 0 and printed:
            return printed, number - 1
        printed += part
    return printed, number


def _lines_from(text: str, first: int) -> Iterator[str]:
    """The lines of ``text`` from line ``first``; earlier ones are only counted, many at a time."""
    at, line = 0, 1
    while at + _BLOCK_CHARS < len(text):
        ends = text.count("\n", at, at + _BLOCK_CHARS)
        if line + ends >= first:
            break
        at, line = at + _BLOCK_CHARS, line + ends
    for _ in range(first - line):
        at = text.find("\n", at) + 1
        if not at:
            return
    while at <= len(text):
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        yield text[at:end]
        at = end + 1


def _part(
    name: str,
    text: str,
    label: str,
    places: Sequence[tuple[int, str]],
    count: int,
    headings: Sequence[tuple[int, int, str]],
) -> tuple[int, int]:
    """The lines of a place, or of a part that the outline shows."""
    if any(folded(known) == folded(label) for _, known in places):
        return find_place(name, label, places, count)
    marks = outline(name, text, places, headings)
    wanted = folded(label)
    matches = [at for at, mark in enumerate(marks) if folded(mark.text) == wanted]
    matches = matches or [at for at, mark in enumerate(marks) if wanted in folded(mark.text)]
    if len(matches) == 1:
        at = matches[0]
        ends = (mark.line - 1 for mark in marks[at + 1 :] if mark.level <= marks[at].level)
        return marks[at].line, max(next(ends, count), marks[at].line)
    if matches:
        lines = ", ".join(str(marks[at].line) for at in matches[:_SHOWN_PLACES])
        raise ValueError(
            f"{name} has {len(matches):,} parts like {label!r:.80}, on lines {lines}: read one by its line"
        )
    return _line(name, text, label, marks, count, places)


def _line(
    name: str,
    text: str,
    label: str,
    marks: Sequence[Mark],
    count: int,
    places: Sequence[tuple[int, str]],
) -> tuple[int, int]:
    """From the line that equals ``label`` to the next part: outlines often miss such headings."""
    wanted = folded(label)
    numbers = [number for number, line in enumerate(text.split("\n"), 1) if wanted and folded(line) == wanted]
    if len(numbers) == 1:
        return numbers[0], next((mark.line - 1 for mark in marks if mark.line > numbers[0]), count)
    known = some_places(places or [(mark.line, mark.text) for mark in marks])
    lines = f"; lines {', '.join(map(str, numbers[:_SHOWN_PLACES]))} are this text" if numbers else ""
    raise ValueError(f"{name} has no part called {label!r:.80}{lines}: {known}")


def _cut(line: str) -> str:
    line = line.rstrip("\r")
    return line if len(line) <= _MAX_LINE_CHARS else line[: _MAX_LINE_CHARS - 1] + "…"
