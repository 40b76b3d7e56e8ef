"""``Excerpt``: the lines of an input around a citation or a finding, for a reader.

An input is shown only when its bytes have the hash that the run recorded: a run folder from a stranger cannot
show what else is on this machine. Reads files, and starts nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from loop_runner.errors import LoopRunnerError
from loop_runner.inputs import content
from loop_runner.records import Inputs
from loop_runner.verify.located import Lines

CONTEXT_LINES = 5
_MAX_LINE_CHARS = 600
_MAX_LINES = 60
_MAX_KEPT = 4  # inputs in memory at a time


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Lines ``first`` and on of an input. Lines ``start`` to ``end`` are those that are meant.

    ``why`` says why nothing can be shown; then ``lines`` is empty. Long lines are cut.
    """

    name: str
    start: int
    end: int
    first: int = 0
    lines: tuple[str, ...] = ()
    why: str = ""


class Excerpts:
    """Cuts excerpts out of the inputs of a run, with few of them in memory at a time."""

    def __init__(self, texts: Inputs) -> None:
        self._texts = {text.name: text for text in texts.texts}
        self._kept: dict[str, Lines | str] = {}

    def around(self, name: str, start: int, end: int = 0) -> Excerpt:
        """The lines ``start`` to ``end`` of the input ``name``, with five lines before and after."""
        end = max(end, start)
        lines = self._lines(name)
        if isinstance(lines, str):
            return Excerpt(name, start, end, why=lines)
        first = max(start - CONTEXT_LINES, 1)
        last = min(end + CONTEXT_LINES, first + _MAX_LINES, lines.total)
        shown = tuple((lines.get(number) or "")[:_MAX_LINE_CHARS] for number in range(first, last + 1))
        why = "" if shown and start <= lines.total else f"it has {lines.total} lines"
        return Excerpt(name, start, end, first, () if why else shown, why)

    def _lines(self, name: str) -> Lines | str:
        if name not in self._kept:
            while len(self._kept) >= _MAX_KEPT:
                self._kept.pop(next(iter(self._kept)))
            self._kept[name] = self._read(name)
        return self._kept[name]

    def _read(self, name: str) -> Lines | str:
        text = self._texts.get(name)
        if text is None:
            return "no input of the run has that name"
        try:
            return Lines(content(text))
        except LoopRunnerError as error:
            return error.message
