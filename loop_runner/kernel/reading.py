"""What a model reads a text with: lines by number, outline, pieces, rows. Runs inside the kernel process.

What is returned prints as a person would want to read it, each line as ``name:line: text``, the form of a
citation; and is still a plain ``str``, ``list`` or ``dict`` to code. Relies on ``structure`` for what a text
is made of.
"""

from __future__ import annotations

import csv
import json
import re
from bisect import bisect_right

from loop_runner.kernel.inside import shown, structure
from loop_runner.kernel.inside.names import plural
from loop_runner.kernel.inside.structure import Mark

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

_LINES = 200  # of a reading whose end is not given
_MAX_LINE_CHARS = 2000
_BLOCK_CHARS = 1 << 20
_SHOWN_ROWS = 20
_SHOWN_PLACES = 8
_HEAD_LINES = 2  # at the top and at the foot of a page
_PAGE_NUMBER = re.compile(
    r"(?:page|seite|p\.)\s*\d+(?:\s*(?:of|von|/)\s*\d+)?|^\W*\d+\b\W*|\W*\b\d+\W*$", re.IGNORECASE
)
_DELIMITERS = ",;\t|"


class Passage(str):
    """Lines as they are read: prints as its text also where Python would show a text's ``repr``."""

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
        found = list.__getitem__(self, key)
        return Outline(self.name, found) if isinstance(key, slice) else found

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
    """The rows in order; ``columns`` are their names, ``skipped`` what was no row, as (line, why)."""

    def __init__(self, rows: Iterable[Row], name: str, skipped: Iterable[tuple[int, str]] = ()) -> None:
        super().__init__(rows)
        self.name = name
        self.skipped = list(skipped)

    @property
    def columns(self) -> list[str]:
        """The keys of all rows, in the order in which they come."""
        return list(dict.fromkeys(column for row in self for column in row))

    def __getitem__(self, key: Any) -> Any:
        found = list.__getitem__(self, key)
        return Rows(found, self.name) if isinstance(key, slice) else found

    def __reduce__(self) -> tuple[object, ...]:
        return Rows, (list(self), self.name, self.skipped)

    def __str__(self) -> str:
        rows = [f"{self.name}:{row.line}: {str(dict(row))[:300]}" for row in self]
        return (
            shown.cut_lines(rows, lambda count: f"print the result sliced as [{count}:]", at_most=_SHOWN_ROWS)
            or f"{self.name}: no rows"
        )

    __repr__ = __str__


# ── lines ───────────────────────────────────────────────────────────────────────────────────────────


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
    """The lines as they are shown, as many as one output holds, and the number of the last."""
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
    """The lines of ``text`` from line ``first`` on; those before it are only counted, many at a time."""
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


def place_of(places: Sequence[tuple[int, str]], line: int) -> str:
    """The label of the place that ``line`` belongs to; "" when it has none."""
    at = bisect_right(places, line, key=lambda place: place[0])
    return places[at - 1][1] if at else ""


def _place(name: str, label: str, places: Sequence[tuple[int, str]], count: int) -> tuple[int, int]:
    """The lines of a place (page, sheet, message) of a converted text."""
    wanted = _folded(label)
    for at, (first, known) in enumerate(places):
        if _folded(known) == wanted:
            return first, places[at + 1][0] - 1 if at + 1 < len(places) else count
    raise ValueError(f"{name} has no place called {label!r:.80}: {_some_places(places)}")


def _part(
    name: str,
    text: str,
    label: str,
    places: Sequence[tuple[int, str]],
    count: int,
    headings: Sequence[tuple[int, int, str]],
) -> tuple[int, int]:
    """The lines of a place, or of a part that the outline shows."""
    if any(_folded(known) == _folded(label) for _, known in places):
        return _place(name, label, places, count)
    marks = outline(name, text, places, headings)
    wanted = _folded(label)
    found = [at for at, mark in enumerate(marks) if _folded(mark.text) == wanted]
    found = found or [at for at, mark in enumerate(marks) if wanted in _folded(mark.text)]
    if len(found) == 1:
        at = found[0]
        ends = (mark.line - 1 for mark in marks[at + 1 :] if mark.level <= marks[at].level)
        return marks[at].line, max(next(ends, count), marks[at].line)
    if found:
        lines = ", ".join(str(marks[at].line) for at in found[:_SHOWN_PLACES])
        raise ValueError(
            f"{name} has {len(found):,} parts like {label!r:.80}, on lines {lines}: read one by its line"
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
    """From the line that is ``label`` to the next part: what an outline misses is often a heading too."""
    wanted = _folded(label)
    found = [number for number, line in enumerate(text.split("\n"), 1) if wanted and _folded(line) == wanted]
    if len(found) == 1:
        return found[0], next((mark.line - 1 for mark in marks if mark.line > found[0]), count)
    known = _some_places(places or [(mark.line, mark.text) for mark in marks])
    lines = f"; lines {', '.join(map(str, found[:_SHOWN_PLACES]))} are this text" if found else ""
    raise ValueError(f"{name} has no part called {label!r:.80}{lines}: {known}")


def _some_places(places: Sequence[tuple[int, str]]) -> str:
    if not places:
        return "its lines have numbers only"
    return f"it has parts such as {places[0][1]!r:.80} and {places[-1][1]!r:.80}; outline() shows all"


def _folded(label: str) -> str:
    return " ".join(label.split()).casefold()


def _cut(line: str) -> str:
    line = line.rstrip("\r")
    return line if len(line) <= _MAX_LINE_CHARS else line[: _MAX_LINE_CHARS - 1] + "…"


# ── the outline ─────────────────────────────────────────────────────────────────────────────────────


def outline(
    name: str,
    text: str,
    places: Sequence[tuple[int, str]],
    headings: Sequence[tuple[int, int, str]] = (),
) -> Outline:
    """See ``Helpers.outline``. ``headings`` that the document itself lists come before any guess."""
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


# ── pieces ──────────────────────────────────────────────────────────────────────────────────────────


def cut_by(
    by: str, name: str, text: str, size: int, headings: Sequence[tuple[int, int, str]] = ()
) -> list[Chunk]:
    """``text`` in pieces that begin where its parts do; those over ``size`` characters are cut further."""
    if size < 1:
        raise ValueError("chunks needs size >= 1")
    if by == "row":
        return _cut_rows(name, text, size, quoted=structure.kind_of(name, text) in ("csv", "tsv"))
    if by == "heading":
        marks = [Mark(*heading) for heading in headings] or structure.headings(text)
    elif by == "function":
        marks = [mark for mark in structure.definitions(name or "text.py", text) if mark.level == 1]
    else:
        raise ValueError(f"chunks takes by='size', 'heading', 'function' or 'row', not {by!r:.40}")
    lines = text.split("\n")
    firsts = sorted(
        {
            0,
            *(
                _with_what_is_above(lines, mark.line - 1) if by == "function" else mark.line - 1
                for mark in marks
            ),
        }
    )
    pieces: list[Chunk] = []
    for first, end in zip(firsts, [*firsts[1:], len(lines)], strict=True):
        piece = "\n".join(lines[first:end]) + ("\n" if end < len(lines) else "")
        pieces += cut_chunks(piece, size, 0, name=name, line=first + 1)
    return pieces


def _with_what_is_above(lines: Sequence[str], index: int) -> int:
    """The first line of the decorators and comments that stand directly above a definition."""
    while index and lines[index - 1].startswith(("@", "#", "//", "/*", " *", "*/", "--", "[", "template")):
        index -= 1
    return index


def _cut_rows(name: str, text: str, size: int, *, quoted: bool) -> list[Chunk]:
    """As many whole rows as fit; of CSV, each piece begins with the row that names the columns."""
    starts = structure.row_starts(text, quoted=quoted)
    ends = [*starts[1:], len(text)]
    head = text[: ends[0]] if quoted and len(starts) > 1 else ""
    pieces, first, line = [], 1 if head else 0, 1 + head.count("\n")
    while first < len(starts):
        last = max(bisect_right(ends, starts[first] + size - len(head)) - 1, first)
        rows = text[starts[first] : ends[last]]
        pieces.append(Chunk(head + rows, name, line))
        first, line = last + 1, line + rows.count("\n")
    return [piece for piece in pieces if piece]


def cut_chunks(text: str, size: int, overlap: int, *, name: str = "", line: int = 1) -> list[Chunk]:
    """``text`` in pieces of at most ``size`` characters, cut between lines where a line ends in time.

    Without ``overlap`` the pieces joined are the text; with it, each begins up to so many characters early.
    ``line``: the number of the first line of ``text`` in the text ``name``.
    """
    if size < 1 or not 0 <= overlap < size:
        raise ValueError("chunks needs size >= 1 and 0 <= overlap < size")
    pieces, start = [], 0
    while start < len(text):
        end = min(start + size, len(text))
        if end < len(text):
            end = text.rfind("\n", start + overlap, end) + 1 or end
        pieces.append(Chunk(text[start:end], name, line))
        if end == len(text):
            break
        back = max(end - overlap, start + 1)
        after = end if not overlap else (text.find("\n", back - 1, end - 1) + 1 or back)
        line += text.count("\n", start, after)
        start = after
    return pieces


# ── rows ────────────────────────────────────────────────────────────────────────────────────────────


def rows(name: str, text: str, place: str | None = None, places: Sequence[tuple[int, str]] = ()) -> Rows:
    """See ``Helpers.rows``."""
    if place is not None:
        first, last = _place(name, place, places, text.count("\n") + 1)
        table = rows(name, text)
        skipped = [each for each in table.skipped if first <= each[0] <= last]
        return Rows([row for row in table if first <= row.line <= last], name, skipped)
    kind = structure.kind_of(name, text)
    if kind == "jsonl":
        return Rows(*_json_lines(name, text))
    if kind == "json":
        return _json_items(name, text)
    if kind == "prose" and (found := _markdown_tables(text)):
        return Rows(found, name)
    return _delimited(name, text)


_RULE = re.compile(r"\s*\|?(?:\s*:?-+:?\s*\|)+\s*(?::?-+:?\s*)?")
_CELL = re.compile(r"(?<!\\)\|")


def _markdown_tables(text: str) -> list[Row]:
    """The rows of all tables that are drawn with ``|``, which is also how sheets are converted."""
    lines = text.split("\n")
    found: list[Row] = []
    for at in (at for at, line in enumerate(lines) if at and "-" in line and _RULE.fullmatch(line)):
        head = _columns(_cells(lines[at - 1]))
        body = []
        for number, line in enumerate(lines[at + 1 :], at + 2):
            if "|" not in line:
                break
            body.append((number, (_cells(line) + [""] * len(head))[: len(head)]))
        columns = [_guessed([values[each] for _, values in body]) for each in range(len(head))]
        for (number, _), values in zip(body, zip(*columns, strict=True), strict=True):
            found.append(Row(dict(zip(head, values, strict=True)), number))
    return found


def _cells(line: str) -> list[str]:
    cells = [cell.strip().replace("\\|", "|") for cell in _CELL.split(line.strip())]
    start = 1 if line.lstrip().startswith("|") else 0
    return cells[start : -1 if line.rstrip().endswith("|") and len(cells) > 1 else None]


def _json_lines(name: str, text: str) -> tuple[list[Row], str, list[tuple[int, str]]]:
    found: list[Row] = []
    skipped = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                found.append(_as_row(json.loads(line), number))
            except (ValueError, RecursionError) as error:
                skipped.append((number, f"no JSON: {error}"))
    return found, name, skipped


def _json_items(name: str, text: str) -> Rows:
    found, line, at = [], 1, 0
    for start, key, value in structure.members(text):
        line, at = line + text.count("\n", at, start), start
        found.append(_as_row(value, line) if key is None else Row({"key": key, "value": value}, line))
    return Rows(found, name)


def _as_row(value: object, line: int) -> Row:
    return Row(value if isinstance(value, dict) else {"value": value}, line)


def _delimited(name: str, text: str) -> Rows:
    text = text.removeprefix("\ufeff")
    delimiter = "\t" if name.lower().endswith((".tsv", ".tab")) else _delimiter(text)
    csv.field_size_limit(1 << 30)
    head: list[str] | None = None
    found: list[tuple[int, list[str]]] = []
    skipped: list[tuple[int, str]] = []
    for number, values in _records(text, delimiter, skipped):
        if head is None:
            head = _columns(values)
        elif len(values) == len(head):
            found.append((number, values))
        else:
            skipped.append((number, f"{plural(len(values), 'value')} for {plural(len(head), 'column')}"))
    columns = [_guessed([values[at] for _, values in found]) for at in range(len(head or ()))]
    ready = zip(found, zip(*columns, strict=True), strict=True) if found else ()
    return Rows(
        (Row(dict(zip(head or (), values, strict=True)), number) for (number, _), values in ready),
        name,
        skipped,
    )


def _records(text: str, delimiter: str, skipped: list[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
    """(first line, values) of each record."""
    reader = csv.reader((line + "\n" for line in text.split("\n")), delimiter=delimiter)
    while True:
        number = reader.line_num + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            skipped.append((number, str(error)))
            continue
        if any(values):
            yield number, values


def _delimiter(text: str) -> str:
    """The one that the first lines hold equally often, and most often."""
    lines = [line for line in text[:20_000].split("\n")[:20] if line.strip()]

    def worth(delimiter: str) -> tuple[int, int]:
        counts = [line.count(delimiter) for line in lines]
        usual = max(counts, key=counts.count, default=0)
        return (counts.count(usual) if usual else 0, usual)

    return max(_DELIMITERS, key=worth)


def _columns(values: Sequence[str]) -> list[str]:
    """The names in the first row; those that are empty or there already get their position."""
    names: list[str] = []
    for at, value in enumerate(values, 1):
        name = value.strip() or f"column {at}"
        names.append(name if name not in names else f"{name} ({at})")
    return names


_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")


def _guessed(values: list[str]) -> list[Any]:
    """Numbers where each value of the column is a plain one or empty (then None); else the texts."""
    said = [value for value in values if value]
    for form, make in ((_INTEGER, int), (_NUMBER, float)):
        if said and all(map(form.fullmatch, said)):
            return [make(value) if value else None for value in values]
    return list(values)
