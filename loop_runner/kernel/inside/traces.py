"""Tracebacks of the model's code, as it would see them in a notebook. Runs inside the kernel process.

Shown are the cells' own lines with their numbers, and files of libraries; frames of ours are cut away.
Imported when a cell first raises: ``traceback`` costs a few milliseconds.
"""

from __future__ import annotations

import os
from itertools import dropwhile
from traceback import TracebackException

from .cell_sources import register

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from traceback import FrameSummary

_OUR_FOLDER = os.path.dirname(__file__) + os.sep  # noqa: PTH120 - no pathlib in the kernel's start
_EVENT_LOOPS = os.path.dirname(os.__file__) + f"{os.sep}asyncio{os.sep}"  # noqa: PTH120
_MAX_LINE_CHARS = 500


def describe(error: BaseException, sources: Mapping[str, str]) -> tuple[str, str]:
    """The traceback's text, and its last line."""
    register(sources)
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


def _is_around_cells(frame: FrameSummary) -> bool:
    """Whether the frame is ours, or of the event loop that we run a cell on."""
    return frame.filename.startswith((_OUR_FOLDER, _EVENT_LOOPS))


def _cut_ours(told: TracebackException | None, seen: set[int]) -> None:
    """Drop our frames here and in the exceptions that led here."""
    if told is None or id(told) in seen:
        return
    seen.add(id(told))
    frames = dropwhile(_is_around_cells, told.stack)
    told.stack[:] = [frame for frame in frames if not frame.filename.startswith(_OUR_FOLDER)]
    _cut_ours(told.__cause__, seen)
    _cut_ours(told.__context__, seen)
    for nested in getattr(told, "exceptions", None) or ():
        _cut_ours(nested, seen)
