"""Checks every part of the kernel's frames, and words them for the model.

Each function takes a frame of the untrusted kernel and returns plain records, or raises ``WireError`` for a
wrong type, a name that is too long, or a number that does not add up. The returned text is escaped and cut.
Pure functions.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, TypeVar

from loop_runner.kernel.inside.wire import Frame, WireError
from loop_runner.records import Answer, CellEnd, Snapshot, Variable
from loop_runner.text import escape_controls
from loop_runner.text import one_line as _one_line

NOTHING_PRINTED = "(nothing was printed)\n"
_MAX_NAMES = 1_000_000
_MAX_NAME_CHARS = 200
_MAX_NOTICES = 50
_MAX_PREVIEW_CHARS = 200
_MAX_LINE_CHARS = 500
_MAX_EXTRA_CHARS = 1_000_000  # as JSON; the kernel itself allows a fifth of it
_MAX_EXTRA_DEPTH = 50  # writing it later recurses
_T = TypeVar("_T")
_OUR_FOLDER = os.path.join(os.path.dirname(__file__), "inside")  # noqa: PTH118, PTH120 - as the interpreter prints it
_PYTHON = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){2}", re.ASCII)
_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class CellReport:
    """One cell as the kernel reports it; texts are still raw."""

    end: CellEnd
    head: str
    tail: str
    missing: int
    trace: str
    error: str | None
    answer: Answer
    notices: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]


# ── a cell ──────────────────────────────────────────────────────────────────────────────────────────


def read_done(frame: Frame, number: int) -> CellReport:
    """The report of cell ``number``."""
    header = frame.header
    if header.get("type") != "done" or header.get("number") != number or frame.payload:
        raise WireError(f"the kernel did not report on cell {number}")
    end = _get(header, "end", str)
    error = header.get("error")
    if end not in {"ok", "raised"} or (error is None) != (end == "ok"):
        raise WireError("the kernel's report contradicts itself")
    return CellReport(
        end="raised" if end == "raised" else "ok",
        head=_get(header, "head", str),
        tail=_get(header, "tail", str),
        missing=_count(header, "missing"),
        trace=_get(header, "trace", str),
        error=None if error is None else one_line(_get(header, "error", str), _MAX_LINE_CHARS),
        answer=_answer(_get(header, "answer", dict)),
        notices=tuple(one_line(text, _MAX_LINE_CHARS) for text in _texts(header, "notices")[:_MAX_NOTICES]),
        added=read_names(header, "added"),
        removed=read_names(header, "removed"),
    )


def _answer(reported: dict[str, Any]) -> Answer:
    content = _SURROGATES.sub("\ufffd", _get(reported, "content", str))
    extra = _get(reported, "extra", dict)
    if _is_deeper(extra, _MAX_EXTRA_DEPTH):
        raise WireError("the kernel's 'extra' is nested too deeply")
    try:
        length = len(json.dumps(extra, allow_nan=False))  # 1e999 is valid JSON, but reads as infinity
    except ValueError:
        raise WireError("the kernel's 'extra' is not JSON") from None
    if length > _MAX_EXTRA_CHARS:
        raise WireError("the kernel's 'extra' is too long")
    return Answer(content, _get(reported, "ready", bool), extra)


def _is_deeper(value: object, depth: int) -> bool:
    """Whether lists and objects are nested more than ``depth`` levels deep; without recursion."""
    level = [value]
    for _ in range(depth):
        boxes = [element for element in level if isinstance(element, dict | list)]
        level = [item for box in boxes for item in (box.values() if isinstance(box, dict) else box)]
    return any(isinstance(element, dict | list) for element in level)


def read_names(header: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """A list of variable names."""
    names = _texts(header, key)
    if len(names) > _MAX_NAMES:
        raise WireError(f"the kernel's {key!r} is too long")
    return tuple(_name(name) for name in names)


def compose_output(report: CellReport, raw: tuple[str, int], limit: int) -> tuple[str, int]:
    """What the model sees of a cell, in about ``limit`` characters; and how many are missing.

    The traceback goes last and keeps half of the room, because it is what the model must react to.
    """
    # Cut before escaping, too: the texts are as long as the kernel likes.
    first_cut = 4 * limit + 1000
    trace, cut_early = _cut(report.trace, first_cut)
    trace, cut_trace = _cut(escape_controls(trace), limit // 2)
    cut_trace += cut_early
    raw_text, cut_raw = _cut(escape_controls(raw[0]), (limit - len(trace)) // (2 if report.head else 1))
    head, tail = escape_controls(report.head[:first_cut]), escape_controls(report.tail[-first_cut:])
    room = max(limit - len(trace) - len(raw_text), 2)
    missing = report.missing + max(len(report.head) - first_cut, 0) + max(len(report.tail) - first_cut, 0)
    if missing or len(head) + len(tail) > room:
        if not report.tail:
            head, tail = head[: len(head) // 2], head[len(head) // 2 :]
        first, last = head[: room // 2], tail[-(room // 2) :]
        missing += len(head) - len(first) + len(tail) - len(last)
        head, tail = first, last
    printed = (
        head + (_gap(missing, "the whole text is in the variable last_output") if missing else "") + tail
    )
    text = "".join(_ended(part) for part in (printed, raw_text, trace))
    return text or NOTHING_PRINTED, missing + cut_trace + cut_raw + raw[1]


def without_our_frames(raw: str) -> str:
    """A crashing interpreter's output, without the lines about our own code."""
    prefixes = (f'  File "{_OUR_FOLDER}', '  File "<string>"')
    return "".join(line for line in raw.splitlines(keepends=True) if not line.startswith(prefixes))


def _gap(missing: int, where: str) -> str:
    return f"\n[… {missing:,} characters left out here{'; ' + where if where else ''} …]\n"


def _cut(text: str, limit: int) -> tuple[str, int]:
    missing = len(text) - limit
    if missing <= 0:
        return text, 0
    half = limit // 2
    return text[:half] + _gap(missing, "") + text[len(text) - (limit - half) :], missing


def _ended(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"


# ── variables ───────────────────────────────────────────────────────────────────────────────────────


def read_snapshot(frame: Frame, max_bytes: int, before: Snapshot) -> Snapshot:
    """The variables, with their blobs named by the hash of the received bytes.

    ``before``: the last snapshot; the kernel refers to its blobs and to rows that have not changed.
    """
    header = frame.header
    if header.get("type") != "snapshot":
        raise WireError("the kernel's reply is not a snapshot")
    blobs = _blobs(_get(header, "blobs", list), frame.payload, max_bytes, list(before.blobs.values()))
    names = _hashes(blobs, before)
    variables = [_variable(row, names) for row in _get(header, "variables", list)]
    variables += _unchanged(_get(header, "unchanged", list), names, before)
    if len({variable.name for variable in variables}) != len(variables):
        raise WireError("the kernel's snapshot has a name twice")
    variables.sort(key=attrgetter("name"))
    return Snapshot(tuple(variables), dict(zip(names, blobs, strict=True)), _python(header))


def _python(header: Mapping[str, Any]) -> str:
    """The version of Python that the kernel runs under."""
    version = _get(header, "python", str)
    if not _PYTHON.fullmatch(version):
        raise WireError("the kernel does not name its version of Python")
    return version


def _hashes(blobs: Sequence[bytes], before: Snapshot) -> list[str]:
    known = {id(blob): name for name, blob in before.blobs.items()}  # a large one takes long to hash again
    return [known.get(id(blob)) or hashlib.sha256(blob).hexdigest() for blob in blobs]


def _unchanged(groups: list[Any], blobs: Sequence[str], before: Snapshot) -> list[Variable]:
    """The rows of saved names that have not changed, by blob; the blob may be another one now."""
    if len(groups) > len(blobs):
        raise WireError("the kernel's snapshot names a blob that does not exist")
    known = {variable.name: variable for variable in before.variables if variable.status == "saved"}
    kept: list[Variable] = []
    for names, blob in zip(groups, blobs, strict=False):
        if type(names) is not list or not all(type(name) is str and name in known for name in names):
            raise WireError("the kernel's snapshot leaves out a row that it never sent")
        kept += [_in_blob(known[name], blob) for name in names]
    return kept


def _in_blob(variable: Variable, blob: str) -> Variable:
    if variable.blob == blob:
        return variable
    return Variable(
        variable.name, variable.type, variable.size, variable.preview, variable.status, variable.reason, blob
    )


def _blobs(entries: list[Any], payload: bytes, max_bytes: int, before: Sequence[bytes]) -> list[bytes]:
    blobs = []
    start = 0
    for entry in entries:
        if type(entry) is not dict or len(entry) != 1:
            raise WireError("the kernel's snapshot holds something that is not a blob")
        if "again" in entry:
            position = _count(entry, "again")
            if position >= len(before):
                raise WireError("the kernel's snapshot names an earlier blob that does not exist")
            blobs.append(before[position])
            continue
        size = _count(entry, "bytes")
        blobs.append(payload[start : start + size])
        start += size
    total = sum(map(len, blobs))
    if start != len(payload) or not all(blobs) or total > max_bytes + 64 * 1024 * 1024:
        raise WireError("the kernel's snapshot does not have the size it says")
    return blobs


def _variable(row: object, blobs: Sequence[str]) -> Variable:
    if type(row) is not dict:
        raise WireError("the kernel's snapshot holds something that is not a variable")
    status, position, reason = row.get("status"), _get(row, "blob", int), _get(row, "reason", str)
    if status not in ("saved", "lost") or (status == "saved" and not 0 <= position < len(blobs)):
        raise WireError("the kernel's snapshot has a variable of no known status")
    return Variable(
        name=_name(row.get("name")),
        type=one_line(_get(row, "type", str), 80),
        size=_count(row, "size"),
        preview=one_line(_get(row, "preview", str), _MAX_PREVIEW_CHARS),
        status="saved" if status == "saved" else "lost",
        reason=one_line(reason, _MAX_LINE_CHARS) if reason else "",
        blob=blobs[position] if status == "saved" else "",
    )


def read_ready(frame: Frame) -> tuple[dict[str, str], tuple[str, ...], str]:
    """(names that could not be loaded → why, names that exist, version of Python).

    The name "" stands for all.
    """
    header = frame.header
    if header.get("type") != "ready" or frame.payload:
        raise WireError("the kernel did not say that it is ready")
    return _failures(header), read_names(header, "names"), _python(header)


def read_tried(frame: Frame) -> dict[str, str]:
    """Names that did not load → why. The name "" stands for all."""
    if frame.header.get("type") != "tried" or frame.payload:
        raise WireError("the kernel did not say what loads")
    return _failures(frame.header)


def _failures(header: Mapping[str, Any]) -> dict[str, str]:
    failed = {}
    for pair in _get(header, "failed", list):
        if type(pair) is not list or len(pair) != 2 or type(pair[1]) is not str:
            raise WireError("the kernel's list of failures is malformed")
        failed["" if pair[0] == "" else _name(pair[0])] = one_line(pair[1], _MAX_LINE_CHARS)
    return failed


# ── pieces ──────────────────────────────────────────────────────────────────────────────────────────


def one_line(text: str, max_chars: int) -> str:
    """``text`` as one safe line; anything far past its end is ignored."""
    return _one_line(text[: 4 * max_chars], max_chars)


def _get(header: Mapping[str, Any], key: str, kind: type[_T]) -> _T:
    value = header.get(key)
    if type(value) is not kind:
        raise WireError(f"the kernel's {key!r} is not a {kind.__name__}")
    return value


def _count(header: Mapping[str, Any], key: str) -> int:
    value = _get(header, key, int)
    if not 0 <= value < 1 << 62:
        raise WireError(f"the kernel's {key!r} is not a count")
    return value


def _texts(header: Mapping[str, Any], key: str) -> list[str]:
    values = _get(header, key, list)
    if any(type(value) is not str for value in values):
        raise WireError(f"the kernel's {key!r} is not a list of texts")
    return values


def _name(value: object) -> str:
    if type(value) is not str or not value.isidentifier() or len(value) > _MAX_NAME_CHARS:
        raise WireError("the kernel gave an invalid variable name")
    return value
