"""Turns a Jupyter notebook into Markdown: each cell is a place, its outputs follow its source.

Text outputs and errors are kept, without the codes that color them in a terminal. Images and other data
are named with their size and left out. Reads format 3 and later; the code is never run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from loop_runner.inputs.inside.mail import without_tags
from loop_runner.inputs.inside.sink import Refused, Sink

_COLORS = re.compile(r"\x1b(?:\[[0-9;:?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?)")
_OVERWRITTEN = re.compile(r"^.*\r(?!$)", re.MULTILINE)  # progress bars: a terminal shows only the last state
_DATA_URI = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,([A-Za-z0-9+/=\s]{64,}?)(?=[)\"'>]|$)")
_TICKS = re.compile(r"`{3,}")
_TEXTS = ("text/plain", "text/markdown", "text/latex", "application/json", "text/html")
_OLD_KEYS = {"text": "text/plain", "html": "text/html", "latex": "text/latex", "json": "application/json"}
_OLD_KEYS |= {"png": "image/png", "jpeg": "image/jpeg", "svg": "image/svg+xml", "pdf": "application/pdf"}
_BESIDE = {"output_type", "metadata", "prompt_number", "execution_count", "data", "stream", "name"}


class _DamagedError(Exception):
    """Why a part of a notebook cannot be read."""


def read(data: bytes, sink: Sink, member: str) -> None:
    """Add the text of the notebook; a damaged cell is reported and only that cell is lost."""
    try:
        notebook = json.loads(data)
    except ValueError as error:
        raise Refused(f"broken: it is not a notebook: {error}") from None
    cells = _cells(notebook)
    language = _language(notebook)
    sections = []
    for number, cell in enumerate(cells, 1):
        label = f"cell {number}"
        try:
            sections.append((label, _text_of(cell, language)))
        except _DamagedError as error:
            sink.skip(f"{member}:{label}".lstrip(":"), f"broken: {error}")
            sections.append((label, ""))
    sink.sections(member, "ipynb", sections)


def _cells(notebook: object) -> list[Any]:
    if not isinstance(notebook, dict):
        raise Refused("broken: it is not a notebook: it is JSON, but not an object")
    sheets = notebook.get("worksheets")  # up to format 3
    if isinstance(sheets, list) and "cells" not in notebook:
        parts = [sheet.get("cells") for sheet in sheets if isinstance(sheet, dict)]
    else:
        parts = [notebook.get("cells")]
    if not all(isinstance(part, list) for part in parts):
        raise Refused("broken: it is not a notebook: it has no list of cells")
    return [cell for part in parts if part is not None for cell in part]


def _language(notebook: Mapping[str, Any]) -> str:
    metadata = notebook.get("metadata")
    for key, name in (("language_info", "name"), ("kernelspec", "language")):
        value = metadata.get(key) if isinstance(metadata, dict) else None
        language = value.get(name) if isinstance(value, dict) else None
        if isinstance(language, str) and re.fullmatch(r"[\w+#.-]{1,40}", language):
            return language.lower()
    return "python"


# ── cells ───────────────────────────────────────────────────────────────────────────────────────────


def _text_of(cell: object, language: str) -> str:
    if not isinstance(cell, dict):
        raise _DamagedError("it is not an object")
    source = _joined(cell.get("source", cell.get("input")), "source")
    kind = cell.get("cell_type")
    if kind == "code":
        spoken = cell.get("language", language)
        parts = [_fenced(source, spoken if isinstance(spoken, str) else language)] if source.strip() else []
        return "\n".join([*parts, *_outputs(cell)])
    if kind == "heading":  # up to format 3
        level = cell.get("level")
        return f"{'#' * (level if isinstance(level, int) and 1 <= level <= 6 else 1)} {source}"
    if kind not in ("markdown", "raw", "html"):
        raise _DamagedError("its kind is neither code nor markdown nor raw")
    attached = cell.get("attachments")
    named = [f"[attachment {name}, left out]" for name in attached] if isinstance(attached, dict) else []
    return "\n".join([_DATA_URI.sub(_without_data, source), *named])


def _outputs(cell: Mapping[str, Any]) -> Iterator[str]:
    outputs = cell.get("outputs", [])
    if not isinstance(outputs, list):
        raise _DamagedError("its outputs are not a list")
    for output in outputs:
        if not isinstance(output, dict):
            raise _DamagedError("an output of it is not an object")
        kind = output.get("output_type")
        if kind == "stream":
            name = output.get("name", output.get("stream"))
            text = _joined(output.get("text"), "output")
            yield _fenced(text, "stderr" if name == "stderr" else "output")
        elif kind in ("error", "pyerr"):
            yield _fenced(_error(output), "error")
        else:
            yield from _shown(output)


def _error(output: Mapping[str, Any]) -> str:
    """The traceback, with its last line added if it is missing."""
    lines = output.get("traceback")
    trace = "\n".join(map(str, lines)) if isinstance(lines, list) else ""
    last = f"{output.get('ename', 'Error')}: {output.get('evalue', '')}"
    return trace if last in _plain(trace) else f"{trace}\n{last}".lstrip("\n")


def _shown(output: Mapping[str, Any]) -> Iterator[str]:
    """A cell's display output: its best text, and the names of other data."""
    data = output.get("data")
    if not isinstance(data, dict):
        data = {_OLD_KEYS.get(key, key): value for key, value in output.items() if key not in _BESIDE}
    kind = next((kind for kind in _TEXTS if data.get(kind)), None)
    if kind is not None:
        yield _fenced(_as_text(kind, data[kind]), "output")
    for other, value in data.items():
        if other not in _TEXTS:
            yield f"[{other}, {_size(value)} bytes, left out]"


def _as_text(kind: str, value: object) -> str:
    if kind == "application/json" and not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False, indent=1)
    text = _joined(value, "output")
    return without_tags(text) if kind == "text/html" else text


def _size(value: object) -> str:
    text = "".join(map(str, value)) if isinstance(value, list) else str(value)
    is_packed = re.fullmatch(r"[A-Za-z0-9+/=\s]+", text) is not None
    return f"{len(text.rstrip('=')) * 3 // 4 if is_packed else len(text):,}"


# ── text ────────────────────────────────────────────────────────────────────────────────────────────


def _joined(value: object, what: str) -> str:
    """A text, or a list of its lines: the format allows both."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "".join(value)
    raise _DamagedError(f"its {what} is not text")


def _plain(text: str) -> str:
    return _OVERWRITTEN.sub("", _COLORS.sub("", text).replace("\r\n", "\n"))


def _fenced(text: str, language: str) -> str:
    """In a fence that nothing inside can close, so that a comment does not become a heading."""
    plain = _plain(text).rstrip("\n")
    ticks = "`" * (max((len(run) for run in _TICKS.findall(plain)), default=2) + 1)
    return f"{ticks}{language}\n{plain}\n{ticks}"


def _without_data(match: re.Match[str]) -> str:
    return f"{match[1]}, {_size(match[2])} bytes, left out"
