"""A citation of an answer with the place that was found for it, and the lines of a text."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from pathlib import Path

from loop_runner.verify.wording import is_unspaced

_BLOCK = 1 << 16
_MIN_QUOTE_CHARS = 8


@dataclass(frozen=True, slots=True)
class LocatedCitation:
    """One citation of an answer with its result. ``reason`` says why it is not ``ok``."""

    name: str  # the input's full name, or the name that the answer used
    line: int  # counted from 1; 0 when none could be read
    quote: str
    path: Path | None  # the input's file; None when no input has this name
    ok: bool
    reason: str = ""
    is_fault: bool = False  # the input could not be read intact: no verdict on the answer
    place: str = (
        ""  # of the line in the original: "page 12", "sheet Prices"; "" where the input is the original
    )
    original: str = ""  # the original's path, with the archive member; "" where the input is the original
    last_line: int = 0  # of a quotation over several lines; 0 for one line
    how: str = ""  # how it was read: "" for an exact copy, else what was ignored
    marked: str = ""  # the whole line with the quoted part marked; "" when all of it is quoted
    note: str = ""  # words of its sentence that are on other lines
    kind: str = "cited"  # or "pointer", a place alone; "loose", a text in quote marks without a place
    rests_on: tuple[str, ...] = ()  # of a line of a job's answer: where its own evidence was found

    @property
    def where(self) -> str:
        """Where a person can find it: the original's path (or the input's), line and place."""
        place = f" ({self.place})" if self.place else ""
        last = f"-{self.last_line}" if self.last_line > self.line else ""
        return f"{self.original or self.path or self.name}:{self.line}{last}{place}"

    @property
    def counts(self) -> bool:
        """True when it is cited, found and has content: 8 characters besides blanks, at least one of a word.

        A character of a script without spaces counts twice.
        """
        solid = [char for char in self.quote if not char.isspace()]
        size = len(solid) + sum(map(is_unspaced, solid))
        is_cited = self.ok and self.kind == "cited"
        return is_cited and size >= _MIN_QUOTE_CHARS and any(char.isalnum() for char in solid)


@dataclass(frozen=True, slots=True)
class Looked:
    """A citation with the lines around it, for checks of what the evidence is about."""

    citation: LocatedCitation
    around: str = ""


class Lines:
    """The lines of a text as bytes, found by number without holding each as an object."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._before = [0]  # newlines before each block
        for start in range(0, len(data), _BLOCK):
            self._before.append(self._before[-1] + data.count(b"\n", start, start + _BLOCK))
        self.total = self._before[-1] + (not data.endswith(b"\n"))

    def get(self, number: int) -> str | None:
        """Line ``number``, counted from 1, without its end; None when there is none."""
        if not 1 <= number <= self._before[-1] + 1:
            return None
        start = self._start(number)
        end = self._data.find(b"\n", start)
        return self._data[start : len(self._data) if end < 0 else end].decode("utf-8", "replace")

    def number_at(self, offset: int) -> int:
        """The number of the line that byte ``offset`` is in."""
        block = offset // _BLOCK
        return self._before[block] + self._data.count(b"\n", block * _BLOCK, offset) + 1

    def _start(self, number: int) -> int:
        if number == 1:
            return 0
        block = bisect.bisect_left(self._before, number - 1) - 1
        at = block * _BLOCK - 1
        for _ in range(number - 1 - self._before[block]):
            at = self._data.index(b"\n", at + 1)
        return at + 1
