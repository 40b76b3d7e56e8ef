"""Tracebacks of the model's code, as a notebook would show them. Runs inside the kernel process.

They show the cells' own lines with their numbers, and files of libraries; the runner's frames are removed.
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
        summary = TracebackException.from_exception(error, limit=None)
        _cut_own_frames(summary, set())
        text = "".join(summary.format())
        last = _last_line(summary)
    except Exception as failure:  # noqa: BLE001 - a hostile exception may break its own display
        name = type.__dict__["__name__"].__get__(type(error))
        last = f"{name}: (its message could not be shown: {type(failure).__name__})"
        text = last + "\n"
    return text, last


def _last_line(summary: TracebackException) -> str:
    lines = list(summary.format_exception_only())
    return (lines[-1] if lines else "").strip()[:_MAX_LINE_CHARS]


def _is_around_cells(frame: FrameSummary) -> bool:
    """Whether the frame is the runner's, or the event loop's that a cell runs on."""
    return frame.filename.startswith((_OUR_FOLDER, _EVENT_LOOPS))


def _cut_own_frames(summary: TracebackException | None, seen: set[int]) -> None:
    """Drop the runner's frames here and in the exceptions that led here."""
    if summary is None or id(summary) in seen:
        return
    seen.add(id(summary))
    frames = dropwhile(_is_around_cells, summary.stack)
    summary.stack[:] = [frame for frame in frames if not frame.filename.startswith(_OUR_FOLDER)]
    _cut_own_frames(summary.__cause__, seen)
    _cut_own_frames(summary.__context__, seen)
    for nested in getattr(summary, "exceptions", None) or ():
        _cut_own_frames(nested, seen)
