"""Describes a table or a JSON file: rows, columns, keys, their types. The text itself is unchanged."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable
from typing import Any

from loop_runner.inputs.inside.sink import Limits

_COLUMNS = 12
_SAMPLED = 2000  # rows whose values determine a column's type
_NAME_CHARS = 40
_PLAIN = re.compile(r"[\w@$+-][\w./@+:-]*")


def describe(kind: str, data: bytes, limits: Limits) -> tuple[str, list[tuple[int, str]]]:
    """One line about ``data``, and its places where line numbers are not enough. Never fails."""
    text = data.decode("utf-8-sig", "replace")
    try:
        if kind in ("CSV", "TSV"):
            return _table(kind, text, limits)
        if kind == "JSONL":
            return _records(text), []
        return f"JSON: {_shape(json.loads(text))}", []
    except RecursionError:
        return f"{kind}, nested too deeply to be described", []
    except (ValueError, csv.Error) as error:
        return f"not valid {kind}: {str(error)[:120]}", []


def _table(kind: str, text: str, limits: Limits) -> tuple[str, list[tuple[int, str]]]:
    csv.field_size_limit(limits.text_bytes)
    delimiter = "\t" if kind == "TSV" else _delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header = next(reader, [])
    types: list[set[str]] = [set() for _ in header]
    places: list[tuple[int, str]] = []
    rows, line, is_shifted = 0, reader.line_num + 1, reader.line_num > 1
    for row in reader:
        rows += 1
        if is_shifted and len(places) < limits.places:
            places.append((line, f"row {rows} on"))
        # Where a field contains line breaks, line numbers no longer count rows.
        is_shifted = reader.line_num > line
        line = reader.line_num + 1
        if rows <= _SAMPLED:
            for kinds, value in zip(types, row, strict=False):
                kinds.add(_type_of_text(value))
    columns = [f"{_short(name)} ({_joined(kinds)})" for name, kinds in zip(header, types, strict=True)]
    more = f" and {len(columns) - _COLUMNS:,} more" if len(columns) > _COLUMNS else ""
    summary = f"{kind}: {_count(rows, 'row')} below the header; columns {', '.join(columns[:_COLUMNS])}{more}"
    return summary, places


def _delimiter(text: str) -> str:
    first = text[: text.find("\n")] if "\n" in text else text
    return max(",;\t|", key=first[:100_000].count)


def _type_of_text(value: str) -> str:
    value = value.strip()
    if not value:
        return ""
    for kind, read in (("integer", int), ("number", float)):
        try:
            read(value)
        except ValueError:
            continue
        return kind
    return "text"


def _records(text: str) -> str:
    rows, bad, kinds, lines = 0, 0, [], text.split("\n")
    for line in lines:
        if not line.strip():
            continue
        rows += 1
        if rows <= _SAMPLED:
            try:
                kinds.append(json.loads(line))
            except (ValueError, RecursionError):
                bad += 1
    wrong = f"; {_count(bad, 'line')} of the first {min(rows, _SAMPLED):,} not valid JSON" if bad else ""
    return f"JSONL: {_count(rows, 'row')}; {_members(kinds)}{wrong}"


def _shape(value: Any) -> str:
    if isinstance(value, dict):
        return f"an object; keys {_keys([value])}"
    if isinstance(value, list):
        return f"a list of {len(value):,}; {_members(value)}"
    return f"one {_type_of(value)}"


def _members(values: list[Any]) -> str:
    objects = [item for item in values[:_SAMPLED] if isinstance(item, dict)]
    others = {_type_of(item) for item in values[:_SAMPLED] if not isinstance(item, dict)}
    parts = [f"objects with keys {_keys(objects)}"] if objects else []
    return " and ".join([*parts, *(f"{item}s" for item in sorted(others))]) or "nothing in it"


def _keys(objects: Iterable[dict[str, Any]]) -> str:
    types: dict[str, set[str]] = {}
    for item in objects:
        for key, value in item.items():
            if key in types or len(types) < 1000:
                types.setdefault(key, set()).add(_type_of(value))
    columns = [f"{_short(key)} ({_joined(kinds)})" for key, kinds in types.items()]
    more = f" and {len(columns) - _COLUMNS:,} more" if len(columns) > _COLUMNS else ""
    return ", ".join(columns[:_COLUMNS]) + more


def _type_of(value: Any) -> str:
    for kind, name in ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "text"), (list, "list")):
        if isinstance(value, kind):
            return name
    return "nothing" if value is None else "object"


def _joined(kinds: set[str]) -> str:
    names = kinds - {"", "nothing"}
    if names == {"integer", "number"}:
        names = {"number"}
    return " or ".join(sorted(names)) or "empty"


def _short(name: str) -> str:
    """The name of a column or key, quoted unless it is plain: a model reads it outside of any fence."""
    flat = " ".join(name.split())
    if len(flat) > _NAME_CHARS:
        flat = flat[: _NAME_CHARS - 1] + "…"
    return flat if _PLAIN.fullmatch(flat) else repr(flat)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
