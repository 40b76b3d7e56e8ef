"""The rows of a text that is a table: CSV, JSON lines, Markdown."""

from __future__ import annotations

import csv
import json
import re

from . import structure
from .names import plural
from .places import find_place
from .reading import Row, Rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any


_DELIMITERS = ",;\t|"


def rows(name: str, text: str, place: str | None = None, places: Sequence[tuple[int, str]] = ()) -> Rows:
    """See ``Helpers.rows``."""
    if place is not None:
        first, last = find_place(name, place, places, text.count("\n") + 1)
        table = rows(name, text)
        skipped = [entry for entry in table.skipped if first <= entry[0] <= last]
        return Rows([row for row in table if first <= row.line <= last], name, skipped)
    kind = structure.kind_of(name, text)
    if kind == "jsonl":
        return Rows(*_json_lines(name, text))
    if kind == "json":
        return _json_items(name, text)
    if kind == "prose" and (drawn := _markdown_tables(text)):
        return Rows(drawn, name)
    return _delimited(name, text)


_RULE = re.compile(r"\s*\|?(?:\s*:?-+:?\s*\|)+\s*(?::?-+:?\s*)?")


_CELL = re.compile(r"(?<!\\)\|")


def _markdown_tables(text: str) -> list[Row]:
    """The rows of all tables that are drawn with ``|``, which is also how sheets are converted."""
    lines = text.split("\n")
    result: list[Row] = []
    for at in (at for at, line in enumerate(lines) if at and "-" in line and _RULE.fullmatch(line)):
        head = _columns(_cells(lines[at - 1]))
        body = []
        for number, line in enumerate(lines[at + 1 :], at + 2):
            if "|" not in line:
                break
            body.append((number, (_cells(line) + [""] * len(head))[: len(head)]))
        columns = [_guessed([values[column] for _, values in body]) for column in range(len(head))]
        for (number, _), values in zip(body, zip(*columns, strict=True), strict=True):
            result.append(Row(dict(zip(head, values, strict=True)), number))
    return result


def _cells(line: str) -> list[str]:
    cells = [cell.strip().replace("\\|", "|") for cell in _CELL.split(line.strip())]
    start = 1 if line.lstrip().startswith("|") else 0
    return cells[start : -1 if line.rstrip().endswith("|") and len(cells) > 1 else None]


def _json_lines(name: str, text: str) -> tuple[list[Row], str, list[tuple[int, str]]]:
    result: list[Row] = []
    skipped = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                result.append(_as_row(json.loads(line), number))
            except (ValueError, RecursionError) as error:
                skipped.append((number, f"no JSON: {error}"))
    return result, name, skipped


def _json_items(name: str, text: str) -> Rows:
    items, line, at = [], 1, 0
    for start, key, value in structure.members(text):
        line, at = line + text.count("\n", at, start), start
        items.append(_as_row(value, line) if key is None else Row({"key": key, "value": value}, line))
    return Rows(items, name)


def _as_row(value: object, line: int) -> Row:
    return Row(value if isinstance(value, dict) else {"value": value}, line)


def _delimited(name: str, text: str) -> Rows:
    text = text.removeprefix("\ufeff")
    delimiter = "\t" if name.lower().endswith((".tsv", ".tab")) else _delimiter(text)
    csv.field_size_limit(1 << 30)
    head: list[str] | None = None
    records: list[tuple[int, list[str]]] = []
    skipped: list[tuple[int, str]] = []
    for number, values in _records(text, delimiter, skipped):
        if head is None:
            head = _columns(values)
        elif len(values) == len(head):
            records.append((number, values))
        else:
            skipped.append((number, f"{plural(len(values), 'value')} for {plural(len(head), 'column')}"))
    columns = [_guessed([values[at] for _, values in records]) for at in range(len(head or ()))]
    ready = zip(records, zip(*columns, strict=True), strict=True) if records else ()
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
    """The delimiter that the first lines hold equally often, and most often."""
    lines = [line for line in text[:20_000].split("\n")[:20] if line.strip()]

    def worth(delimiter: str) -> tuple[int, int]:
        counts = [line.count(delimiter) for line in lines]
        usual = max(counts, key=counts.count, default=0)
        return (counts.count(usual) if usual else 0, usual)

    return max(_DELIMITERS, key=worth)


def _columns(values: Sequence[str]) -> list[str]:
    """The names in the first row; empty and duplicate ones get their position."""
    names: list[str] = []
    for at, value in enumerate(values, 1):
        name = value.strip() or f"column {at}"
        names.append(name if name not in names else f"{name} ({at})")
    return names


_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")


_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")


def _guessed(values: list[str]) -> list[Any]:
    """Numbers if each value of the column is a plain number or empty (then None); else the texts."""
    filled = [value for value in values if value]
    for form, make in ((_INTEGER, int), (_NUMBER, float)):
        if filled and all(map(form.fullmatch, filled)):
            return [make(value) if value else None for value in values]
    return list(values)
