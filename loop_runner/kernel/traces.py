"""Tracebacks of the model's code, as it would see them in a notebook. Runs inside the kernel process.

Shown are the cells' own lines with their numbers, and files of libraries; frames of ours are cut away.
Imported when a cell first raises: ``traceback`` costs a few milliseconds.
"""

from __future__ import annotations

import linecache
import os
from traceback import TracebackException

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_OUR_FOLDER = os.path.dirname(__file__) + os.sep  # noqa: PTH120 - no pathlib in the kernel's start
_MAX_LINE_CHARS = 500


def describe(error: BaseException, sources: Mapping[str, str]) -> tuple[str, str]:
    """The traceback's text, and its last line."""
    for filename, source in sources.items():
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    try:
        told = TracebackException.from_exception(error, limit=None)
        _cut_ours(told, set())
        text = "".join(told.format())
        last = _last_line(told)
    except Exception as failure:  # noqa: BLE001 - a hostile exception may break its own display
        name = type.__dict__["__name__"].__get__(type(error))
        last = f"{name}: (its message could not be shown: {type(failure).__name__})"
        text = last + "\n"
    return text, last


def _last_line(told: TracebackException) -> str:
    lines = list(told.format_exception_only())
    return (lines[-1] if lines else "").strip()[:_MAX_LINE_CHARS]


def _cut_ours(told: TracebackException | None, seen: set[int]) -> None:
    """Drop our frames here and in the exceptions that led here."""
    if told is None or id(told) in seen:
        return
    seen.add(id(told))
    told.stack[:] = [frame for frame in told.stack if not frame.filename.startswith(_OUR_FOLDER)]
    _cut_ours(told.__cause__, seen)
    _cut_ours(told.__context__, seen)
    for nested in getattr(told, "exceptions", None) or ():
        _cut_ours(nested, seen)
