"""Finds the places that an answer names: an input and a line, a range of lines or a place of the original.

Owns the syntax of places and which input a name means. The canonical form is ``name:line``; ``name:12-14``,
``name#L12``, ``name, line 12``, ``line 12 of name`` and, of a converted text, ``name:page 12`` are read too.
Works on text as a reader sees it (``visible.py``); never reads an input.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

from loop_runner.inputs.original_places import lines_of
from loop_runner.records import Inputs, InputText
from loop_runner.verify.one_line import exact_line
from loop_runner.verify.visible import alike, fold

MAX_PLACES = 5000  # of one answer; more are not read
_NAMES_SHOWN = 3
_NAME_CHARS = 300
_MARKS = "`*_\"'[](){}<>~"  # what models put around a place; ignored in comparisons
_RANGE = r"([0-9]{1,9})(?:[ \t]*(?:-|to)[ \t]*L?([0-9]{1,9}))?"
# What stands before the number of a line: `line 12`, `ln. 12`, `line: 12`, `line="12"`.
_LINE_WORD = (
    r"(?:(?:line[_ ]?(?:number|no)?s?|lns?|zeilen?|lignes?)\b\.?[\"']?[ \t]*[:=]?[ \t]*[\"']?"
    r"|ll?\.[ \t]*|L(?=[0-9])|[\u00a7\u00b6]{1,2}[ \t]*)"
)
# For a line that begins with a place. The last colon may begin the next one.
_PLACE = re.compile(
    rf":[ \t]*(?:lines?[ \t]+|L)?{_RANGE}[`*\"'\])]*(?:[ \t]*\((?:[^()]|\([^()]*\)){{1,100}}\))?[ \t]*(?=:)"
)
_BARE_PLACE = re.compile(rf"[`*\[(]*(?:lines?[ \t]+|L)?{_RANGE}[`*\])]*[ \t]*(?=:)")
# Anywhere: the part after a name.
_AFTER_NAME = re.compile(
    r"(?:[`*\"'\])]{0,3}[ \t]?(?:[:#@][ \t]*(?:lines?[ \t]*|L)?"
    rf"|[,;(\[]?[ \t]*(?:(?:at|on|in)[ \t]+)?{_LINE_WORD}))"
    rf"{_RANGE}(?![0-9])",
    re.IGNORECASE,
)
# Anywhere after the name of an input: a number as in a table (which may count something) ...
_AFTER_CELL = re.compile(
    rf"[`*\"'\])]{{0,3}}(?:[ \t]*\|[ \t]*{_RANGE}(?=[ \t]*\|)|\t[ \t]*{_RANGE}(?=\t)"
    rf"|[,;]{_RANGE}(?=[,;]))"
)
# ... or as in a listing or a bibliography.
_AFTER_INPUT = re.compile(
    r"[`*\"'\])]{0,3}(?:"
    rf"::{_RANGE}(?=:)|-{_RANGE}(?=[-:])"
    rf"|[ \t]+{_RANGE}(?=[ \t]*:)|\({_RANGE}(?=\))|[,;]?[ \t]+{_RANGE}(?=[\])])"
    rf"|,?[ \t]+(?:the[ \t]+)?([0-9]{{1,9}})(?:st|nd|rd|th)[ \t]+line\b)",
    re.IGNORECASE,
)
_LINE_OF = re.compile(
    rf"\b(?:(?:lines?|ll?\.)[ \t]*{_RANGE}|([0-9]{{1,9}})(?:st|nd|rd|th)[ \t]+line)[ \t]+"
    r"(?:of|in|from)[ \t]+(?:the[ \t]+)?(?:file[ \t]+|input[ \t]+)?"
    r"[`*\"'(\[]*",
    re.IGNORECASE,
)
_LINE_ALONE = re.compile(rf"\blines?[ \t]+{_RANGE}(?![0-9])", re.IGNORECASE)
_LABEL = re.compile(
    r"[`*\"'\])]{0,3}[,:;(]?[ \t]*(?:(?:at|on|in)[ \t]+)?"
    r"\b(pages?|pp?\.|sheet|slide|message|row)[ \t]*(\w{1,40})",
    re.IGNORECASE,
)
_FILE_NAME = re.compile(r"[\w./\\+-]*[\w-]\.[A-Za-z][A-Za-z0-9]{0,7}$")
_HOST_ENDINGS = {"com", "org", "net", "edu", "gov", "mil", "int", "local", "localhost", "internal", "arpa"}
# A name as Python's repr shows it: prompts do so for names with invisible characters.
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U(000[0-9a-f]{5}|0010[0-9a-f]{4}))")
_NAME_END = re.compile(r"[\s(\[{<>}|,;\"'`=\u201c\u201d\u2018\u2019\u300c\u300d\u00ab\u00bb]")


@dataclass(frozen=True, slots=True)
class Place:
    """A place between ``start`` and ``end`` of a text; its ``text`` is None when no input has that name."""

    start: int
    end: int
    name: str
    text: InputText | None
    first: int
    last: int
    within: tuple[int, int | None] | None = None  # the lines of ``label``, which was named instead of a line
    label: str = ""
    is_count: bool = False  # whether the number may as well count something: ``| name | 12 |``

    def covers(self, name: str, line: int) -> bool:
        """Whether it covers ``line`` of the input ``name``."""
        if self.text is None or self.text.name != name:
            return False
        if self.within is None:
            return self.first <= line <= self.last
        return self.within[0] <= line and (self.within[1] is None or line <= self.within[1])


class Catalogue:
    """The inputs by name, and by the ends of their names."""

    def __init__(self, inputs: Inputs) -> None:
        self._by_name = {text.name: text for text in inputs.texts}
        self._by_last: dict[str, list[InputText]] = {}
        for text in inputs.texts:
            self._by_last.setdefault(text.name.rsplit("/", 1)[-1], []).append(text)
        self._by_spelling: dict[str, list[InputText]] = {}
        for text in inputs.texts:
            self._by_spelling.setdefault(_spelled(text.name.rsplit("/", 1)[-1]), []).append(text)
        self._only = inputs.texts[0] if len(inputs.texts) == 1 else None
        self._longest = max((len(name) for name in self._by_name), default=0) + 16
        self._odd = _odd_names(self._by_name)

    def begins(self, body: str) -> Place | None:
        """The place that ``body`` begins with, up to the colon before the quote; None when there is none.

        The place is the longest one that names an input: names may hold ``:`` and digits themselves.
        """
        folded = fold(body)
        places = [place for place in islice(_PLACE.finditer(folded), 50) if place.start() <= self._longest]
        for place in reversed(places):
            if (text := self.meant(body[: place.start()])) is not None:
                return _numbered(place, text.name, text)
        if (labelled := self._by_label(body)) is not None:
            return labelled
        if self._only is not None and (bare := _BARE_PLACE.match(folded)):
            return _numbered(bare, self._only.name, self._only)
        for first in islice(self.mentioned(body), 1):
            if not body[: first.start].strip(_MARKS + " \t"):
                return first
        unknown = _PLACE.search(folded)
        return unknown and _numbered(unknown, body[: unknown.start()].strip(_MARKS), None)

    def mentioned(self, line: str) -> Iterator[Place]:
        """Every place that ``line`` names, from left to right."""
        folded = fold(line)
        spans = [*self._after_names(line, folded), *self._lines_of(line, folded), *self._labels(line, folded)]
        if self._only is not None:
            spans += (_numbered(match, self._only.name, self._only) for match in _LINE_ALONE.finditer(folded))
        end = 0
        for place in sorted(spans, key=lambda place: (place.start, -place.end)):
            if place.start >= end:
                yield place
                end = place.end

    def meant(self, name: str) -> InputText | None:
        """The input with this name, or the only one whose name ends with it."""
        for wanted in (name, name.strip(_MARKS + " \t").removeprefix("./")):
            if wanted in self._by_name:
                return self._by_name[wanted]
            ending = [
                text
                for text in self._by_last.get(wanted.rsplit("/", 1)[-1], ())
                if text.name.endswith(f"/{wanted}")
            ]
            if len(ending) == 1:
                return ending[0]
        return self._spelled_so(name)

    def _spelled_so(self, name: str) -> InputText | None:
        """The only input whose name, or its end, looks like ``name`` (blanks, accents, escapes aside)."""
        wanted = _spelled(name.strip(_MARKS + " \t").removeprefix("./"))
        alike_at_end = self._by_spelling.get(wanted.rsplit("/", 1)[-1], ())
        whole = [text for text in alike_at_end if _spelled(text.name) == wanted]
        ending = [text for text in alike_at_end if _spelled(text.name).endswith(f"/{wanted}")]
        return next((names[0] for names in (whole, ending) if len(names) == 1), None)

    def why_unknown(self, name: str) -> str:
        """Why ``name`` is not an input, and which input may be meant."""
        same = [text.name for text in self._by_last.get(name.rsplit("/", 1)[-1], ())]
        near = same or difflib.get_close_matches(name[:200], self._by_name, _NAMES_SHOWN)
        hint = f"; did you mean {' or '.join(near[:_NAMES_SHOWN])}?" if near else ""
        return f"no input has the name {exact_line(name, 80)!r}{hint}"

    def _by_label(self, body: str) -> Place | None:
        """``name:page 12: quote``: a place in the original; no name is needed if there is one input."""
        colons = [match.start() for match in islice(re.finditer(":", fold(body)), 50)]
        for at in (colon for colon in colons if colon <= self._longest):
            text = self.meant(body[:at])
            if text is not None and text.origin is not None:
                place = _labelled(text, body, at + 1, [colon for colon in colons if colon > at])
                if place is not None:
                    return place
        if self._only is not None and self._only.origin is not None:
            return _labelled(self._only, body, 0, colons)
        return None

    def _after_names(self, line: str, folded: str) -> Iterator[Place]:
        for match in islice(_AFTER_NAME.finditer(folded), MAX_PLACES):
            start, text = self._name_before(line, folded, match.start())
            name = line[start : match.start()]
            if text is not None or _is_file_name(name, line[max(start - 3, 0) : start]):
                yield replace(_numbered(match, name.strip(_MARKS), text), start=start)
        for pattern in (_AFTER_INPUT, _AFTER_CELL):
            for match in islice(pattern.finditer(folded), MAX_PLACES):
                start, text = self._name_before(line, folded, match.start())
                if text is not None and start < match.start():
                    place = _numbered(match, text.name, text)
                    yield replace(place, start=start, is_count=pattern is _AFTER_CELL)

    def _lines_of(self, line: str, folded: str) -> Iterator[Place]:
        for match in islice(_LINE_OF.finditer(folded), MAX_PLACES):
            rest = line[match.end() : match.end() + _NAME_CHARS]
            rest_folded = folded[match.end() : match.end() + _NAME_CHARS]
            odd = next((name for known, name in self._odd if rest_folded.startswith(known)), "")
            stop = _NAME_END.search(rest)
            name = odd or (rest[: stop.start()] if stop else rest).rstrip(".:!?")
            text = self.meant(name) if name else None
            if text is not None or _is_file_name(name, ""):
                yield replace(_numbered(match, name, text), end=match.end() + len(name))

    def _labels(self, line: str, folded: str) -> Iterator[Place]:
        for match in islice(_LABEL.finditer(folded), MAX_PLACES):
            start, text = self._name_before(line, folded, match.start())
            if text is not None and (start < match.start()):
                word = "page" if match[1].lower().startswith("p") else match[1]
                label = f"{word} {match[2]}"
                within = lines_of(text.origin, label)
                lines = (within or (0, 0))[0]
                yield Place(start, match.end(), text.name, text, lines, lines, within, label)

    def _name_before(self, line: str, folded: str, end: int) -> tuple[int, InputText | None]:
        """Where the name that ends at ``end`` begins, and the input it refers to."""
        floor = max(end - _NAME_CHARS, 0)
        for known, name in self._odd:
            if folded.endswith(known, floor, end):
                return end - len(name), self._by_name[name]
        before = line[floor:end]
        start = floor + max((match.end() for match in _NAME_END.finditer(before)), default=0)
        name = line[start:end]
        # `policy.txt:12:5`, `File:policy.txt`: the name may follow a colon.
        for at in (start, *(start + match.end() for match in islice(re.finditer(":", name), 5))):
            if line[at:end] and (text := self.meant(line[at:end])) is not None:
                return at, text
        return start, None


def _odd_names(names: Iterator[str] | dict[str, InputText]) -> tuple[tuple[str, str], ...]:
    """Names that contain usual end characters, the longest first, each with its ``fold`` form."""
    odd = [name for name in names if _NAME_END.search(name) or ":" in name]
    return tuple((fold(name), name) for name in sorted(odd, key=len, reverse=True)[:200])


def _spelled(name: str) -> str:
    """``name`` in a form for comparing: all kinds of blanks are the same, and all spellings of an accent."""
    return alike(_ESCAPE.sub(lambda match: chr(int(match[1] or match[2] or match[3], 16)), name))


def _numbered(match: re.Match[str], name: str, text: InputText | None) -> Place:
    numbers = [int(number) for number in match.groups() if number]
    return Place(match.start(), match.end(), name, text, numbers[0], max(numbers[0], numbers[-1]))


def _labelled(text: InputText, body: str, start: int, colons: list[int]) -> Place | None:
    for colon in colons:
        label = body[start:colon].strip(_MARKS + " \t")
        if label and (within := lines_of(text.origin, label)) is not None:
            return Place(0, colon, text.name, text, within[0], within[0], within, label)
    return None


def _is_file_name(name: str, before: str) -> bool:
    """Whether a reader would take ``name`` for a file name: it has an extension and is not a host."""
    name = name.strip(_MARKS)
    if not _FILE_NAME.search(name) or "//" in before + name or "@" in name:
        return False
    return name.rsplit(".", 1)[-1].lower() not in _HOST_ENDINGS
