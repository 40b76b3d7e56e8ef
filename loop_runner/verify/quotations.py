"""Finds everything in an answer that a reader would take for a quotation or a citation.

Owns the recognised forms: lines with a quotation mark before them (``>`` and its look-alikes, in lists,
tables, fences, HTML), text before or after a place (``name:line: text``, ``"text" (name:line)``), longer
texts in quote marks, and places alone. Works on what a reader sees (``visible.py``); never reads an input.
"""

from __future__ import annotations

import ast
import bisect
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from loop_runner.verify.named_places import Catalogue, Place
from loop_runner.verify.visible import BARS, fold, visible
from loop_runner.verify.wording import words_of

MIN_LOOSE_WORDS = 4  # in quote marks without a place: shorter ones may be names, terms and words in doubt
_MAX_QUOTED_CHARS = 2000
_MAX_BETWEEN_CHARS = 200  # between a quotation and its place
_MARK = rf"(?:>|\u00bb|[{BARS}](?![^\n]*[{BARS}]))"
_LIST = (
    r"(?:[-*+\u2022\u25e6\u2043\u2219\u00b7\u25cf\u25cb\u25a0\u25a1\u25aa\u25ab\u2192\u21d2\u279c\u27a4\u25ba\u25b6\u25b8\u2023\u2713\u2714]"
    r"|[-\u2013\u2014]{1,3}|\(?\w{1,3}[.)])(?=\s)"
)
_BESIDE = r"\s+|[*_`~|]+|\#{1,6}(?=\s)|\[[ xX^\d]{0,5}\]:?(?=\s)"
_PREFIX = re.compile(rf"(?:{_BESIDE}|{_LIST})")
_MARKED = re.compile(_MARK)
_OPENED = re.compile(_MARK.replace("|\u00bb", "").replace(r"|\u00bb", ""))
_BLOCK_START = re.compile(rf"\s*(?:{_LIST}|\#{{1,6}}\s|```|~~~|\||\[\^?\w{{1,10}}\])")
_PAIRS = (
    ("\u201c\u201f\u201e\uff02\u301d", "\u201d\u201c\u301e\u301f\uff02"),
    ("\u00ab", "\u00bb"),
    ("\u00bb", "\u00ab"),
    ("\u300c", "\u300d"),
    ("\u300e", "\u300f"),
    ("\u300a", "\u300b"),
)
_SINGLE = (  # an apostrophe inside a word ends nothing
    r"(?<![A-Za-z0-9])['\u2018\u201a\u2039](?=\S)"
    r"((?:[^'\u2018\u2019\u201b\u203a]|(?<=[A-Za-z])['\u2019](?=[A-Za-z])){1,2000})"
    r"(?<=\S)['\u2019\u2018\u203a](?![A-Za-z0-9])"
)
_PAIRED = re.compile(
    "|".join(
        [r'(?<![A-Za-z0-9"])"(?=[^\s"])([^"]{1,2000})(?<=\S)"(?![A-Za-z0-9])']
        + [
            f"[{opening}]([^{opening}{closing}]{{1,{_MAX_QUOTED_CHARS}}})[{closing}]"
            for opening, closing in _PAIRS
        ]
        + [_SINGLE]
    )
)
_ANY_PAIR = re.compile(
    rf'["\u201c\u201d\u201e]([^"\u201c\u201d\u201e]{{1,{_MAX_QUOTED_CHARS}}})["\u201c\u201d\u201e]'
)
_SET_OFF = re.compile(  # emphasis and code count as quotations only beside a place
    r"(?<!\w)(?:[*_]{1,3})(?=[^\s*_])([^*_\n]{1,400})(?<=[^\s*_])[*_]{1,3}(?!\w)|(?<!`)`{1,3}([^`]{1,400})`{1,3}"
)
_BETWEEN = re.compile(
    r"[\s.,;:()\[\]{}*_`~|/-]*(?:(?:see|at|in|from|on|per|cf|source|quoted|line|found|as|of|and|also)\b[\s.,:;()\[\]*_`-]*){0,4}",
    re.IGNORECASE,
)
_INTRODUCED = re.compile(r"[^.!?\n]{0,60}")
_SEPARATOR = re.compile(
    r"[`*_\"'\])}]*\s*(?::{1,2}|-{1,3}|\||=>?)[*_`]*\s+|[`*_\])}]*::?[*_`]*(?=\S)"
    # Records: `line: 12 quote: ...`, `line="12">...</quote>`, and what `grep -n` prints beside a match.
    r"|[\"']?[,;]?\s*(?:[\"']?(?:quote|quotation|text|excerpt|content)[\"']?\s*[:=]|>)\s*|-(?=\S)",
    re.IGNORECASE,
)
_RECORD = re.compile(
    r"\W*(?:(?:quote|q|cite|citation|blockquote)\W+)?(?:file|source|src|name|path|document|doc|input)\W*",
    re.IGNORECASE,
)
_RECORD_START = re.compile(
    r"[<{-]?\s*(?:\w{1,12}\s+)?(?:file|source|src|document|doc|input)[\"']?\s*[:=]", re.IGNORECASE
)
_END_TAG = re.compile(r"</\w{1,40}>\s*$")
_COLUMN = re.compile(r"[ \t]*[\t,;][ \t]*[\"']?(?=(?:\S+[ \t]+){3})")
_CLOSERS = " \t*_`~\"'\u201d\u2019\u00bb)]}.,;|"
_OPENERS = " \t*_`~\"'\u201c\u2018\u00ab([{-\u2013\u2014|:"

Kind = Literal["cited", "pointer", "loose"]


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing that looks like a quotation or a citation."""

    kind: Kind  # a text that must have a place; a place alone; a text in quote marks
    quote: str
    place: Place | None
    choices: tuple[str, ...] = ()  # alternatives to ``quote``, where its end is not certain
    is_line: bool = False  # a line in the canonical form, as it was typed
    below: str = ""  # the running text right under it, which a viewer shows as part of it
    seen: str = ""  # the line's other parts, if it contains line ends that are not line feeds


def claims(answer: str, catalogue: Catalogue) -> list[Claim]:
    """Everything in ``answer`` that must be checked, in order."""
    return _Reader(catalogue).read(list(_rows(answer)))


@dataclass(frozen=True, slots=True)
class _Row:
    text: str  # without marks and list signs before it
    is_quote: bool = False
    is_raw: bool = False
    starts_block: bool = False
    line: str = ""  # as a reader sees it


def is_canonical(line: str) -> bool:
    """A line that starts with one ``>``."""
    start = line.lstrip(" \t")
    return start.startswith(">") and not start.startswith(">>")


def _rows(answer: str) -> Iterator[_Row]:
    chunk: list[str] = []
    for line in answer.split("\n"):
        if is_canonical(line):
            yield from _seen_rows(chunk)
            chunk = []
            yield _Row(line.lstrip(" \t")[1:].rstrip("\r").strip(" "), is_quote=True, is_raw=True, line=line)
        else:
            chunk.append(line)
    yield from _seen_rows(chunk)


def _seen_rows(lines: Sequence[str]) -> Iterator[_Row]:
    if lines:
        for line in visible("\n".join(lines)).split("\n"):
            yield from _cells(line)


def _cells(line: str) -> Iterator[_Row]:
    """The row or rows of a line: a table may have a quotation in one cell, or be a row as a whole."""
    parts = line.split("|") if line.count("|") > 1 else []
    marked = [cell for part in parts if (cell := _stripped(part)).is_quote]
    yield from marked or (_stripped(line),)


def _stripped(line: str) -> _Row:
    folded, at, is_quote = fold(line), 0, False
    marked = _OPENED if "\u00ab" in line else _MARKED  # »so« is a text in quote marks
    while at < len(line):
        if mark := _MARKED.match(folded, at) or marked.match(line, at):
            is_quote, at = True, mark.end()
        elif prefix := _PREFIX.match(line, at):
            at = prefix.end()
        else:
            break
    if is_quote and _is_prompt(line):
        is_quote, at = False, 0
    text = line[at:].strip()
    return _Row(text if is_quote else line.strip(), is_quote, False, bool(_BLOCK_START.match(line)), line)


def _is_prompt(line: str) -> bool:
    """A Python prompt followed by code."""
    code = line.strip(" \t`")
    if not code.startswith(">>> ") or len(code) > 500:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ast.parse(code[4:].rstrip(":") if code.endswith(":") else code[4:])
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return False
    return True


class _Reader:
    """Combines rows into claims."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def read(self, rows: list[_Row]) -> list[Claim]:
        result: list[Claim] = []
        at = 0
        while at < len(rows):
            end = at + 1
            if rows[at].is_quote:
                while end < len(rows) and rows[end].is_quote:
                    end += 1
                above = next((row.text for row in reversed(rows[max(at - 2, 0) : at]) if row.text), "")
                below = rows[end].text if end < len(rows) and not rows[end].starts_block else ""
                result += self._quoted(rows[at:end], above, below)
            elif rows[at].text:
                while end < len(rows) and self._goes_on(rows[end]):
                    end += 1
                result += self._plain(rows[at:end])
            at = end
        return result

    def _goes_on(self, row: _Row) -> bool:
        """Whether a row continues the paragraph before it."""
        if not row.text or row.is_quote or row.starts_block or _RECORD_START.match(row.text):
            return False
        place = next(self._catalogue.mentioned(row.text), None)
        if place is None or row.text[: place.start].strip(_OPENERS):
            return True
        return _separator(row.text, place) is None

    # ── lines with a quotation mark ─────────────────────────────────────────────────────────────────

    def _quoted(self, rows: Sequence[_Row], above: str, below: str) -> Iterator[Claim]:
        """The citations of quoted lines in a row; a line without a place belongs to the one before it."""
        run: list[Claim] = []
        loose: list[str] = []
        for row in rows:
            claim = self._cited(row)
            if claim.place is not None and not claim.quote and loose and not claim.choices:
                run.append(replace(claim, quote=" ".join(loose)))
                loose = []
            elif claim.place is not None:
                run.append(claim)
            elif run and not loose and row.text:
                run[-1] = _continued(run[-1], claim.quote)
            elif row.text:
                loose.append(row.text)
        if loose:
            run.append(self._attributed(" ".join(loose), above, below))
        if run and below[:1].islower():
            run[-1] = replace(run[-1], below=below)
        yield from run

    def _cited(self, row: _Row) -> Claim:
        place = self._catalogue.begins(row.text)
        text = row.text
        if place is None and row.is_raw and (inner := _stripped(visible(row.line)).text) != text:
            place, text = self._catalogue.begins(inner), inner
        seen = visible(row.line) if row.is_raw else ""
        quote = text if place is None else _after_place(text, place, is_raw=row.is_raw)
        return Claim("cited", quote, place, is_line=row.is_raw, seen=seen if "\n" in seen.strip("\n") else "")

    def _attributed(self, text: str, above: str, below: str) -> Claim:
        """A quotation whose place is after it, or on the line before or after it."""
        places = list(self._catalogue.mentioned(text))
        if places and not text[places[-1].end :].strip(_CLOSERS):
            return Claim("cited", text[: places[-1].start].rstrip(_OPENERS), places[-1])
        for line, only in ((below, True), (above, False)):
            places = list(self._catalogue.mentioned(line))
            if not places or line[places[-1].end :].strip(_CLOSERS + ":"):
                continue
            if not only or not line[: places[0].start].strip(_OPENERS):
                return Claim("cited", text, places[-1])
        return Claim("cited", text, None)

    # ── running text ────────────────────────────────────────────────────────────────────────────────

    def _plain(self, rows: Sequence[_Row]) -> Iterator[Claim]:
        text = " ".join(row.text for row in rows)
        places = list(self._catalogue.mentioned(text))
        used: set[int] = set()
        placed: list[tuple[int, Claim]] = []
        for match, is_quote in _quotations(text):
            claim, number = _in_marks(match, text, places, is_quote=is_quote)
            if claim is not None:
                placed.append((match.start(), claim))
                used |= {number} if number is not None else set()
        if places and 0 not in used and (claim := _beside(text, rows[0].text, places)) is not None:
            placed.append((places[0].start, claim))
            used.add(0)
        last = len(places) - 1
        if places and last not in used and (claim := _before_dash(text, places[last])) is not None:
            placed.append((places[last].start, claim))
            used.add(last)
        placed += [
            (place.start, Claim("pointer", "", place))
            for number, place in enumerate(places)
            if number not in used and not place.is_count
        ]
        yield from (claim for _, claim in sorted(placed, key=lambda item: item[0]))


def _quotations(text: str) -> Iterator[tuple[re.Match[str], bool]]:
    """Texts in quote marks, and (False) texts set off by emphasis or as code."""
    pieces: list[str] = []
    end = 0
    for match in _PAIRED.finditer(text):
        yield match, True
        pieces += [text[end : match.start()], " " * (match.end() - match.start())]
        end = match.end()
    rest = "".join([*pieces, text[end:]])
    yield from ((match, True) for match in _ANY_PAIR.finditer(rest))
    yield from ((match, False) for match in _SET_OFF.finditer(rest))


def _in_marks(
    match: re.Match[str], text: str, places: Sequence[Place], *, is_quote: bool
) -> tuple[Claim | None, int | None]:
    """The claim made by a text in quote marks, with the place it belongs to."""
    quote = next(group for group in match.groups() if group is not None).strip()
    number = _adjacent(match, text, places)
    is_long = words_of(quote) >= MIN_LOOSE_WORDS
    if number is not None and quote and (is_quote or is_long):
        return Claim("cited", quote, places[number], (quote.rstrip(".,;:!?"),)), number
    if not is_quote or not is_long:
        return None, None
    return Claim("loose", quote, None, (quote.rstrip(".,;:!?"),)), None


def _continued(claim: Claim, text: str) -> Claim:
    return replace(claim, quote=f"{claim.quote} {text}".strip(), is_line=False, seen="")


def _after_place(text: str, place: Place, *, is_raw: bool) -> str:
    rest = text[place.end :]
    if rest.startswith(":") or fold(rest[:1]) == ":":
        return rest[1:].strip(" ") if is_raw else rest[1:].strip()
    return rest.lstrip(" \t)]}*_`:-\u2013\u2014|")


def _adjacent(match: re.Match[str], text: str, places: Sequence[Place]) -> int | None:
    """The place that a text in quote marks belongs to: right after it, else the one that introduces it."""
    after = bisect.bisect_left(places, match.end(), key=_start)
    if after < len(places) and _fits(_BETWEEN, text, match.end(), places[after].start):
        return after
    before = bisect.bisect_right(places, match.start(), key=_end) - 1
    if before >= 0 and _fits(_INTRODUCED, text, places[before].end, match.start()):
        return before
    return None


def _fits(pattern: re.Pattern[str], text: str, start: int, end: int) -> bool:
    return end - start <= _MAX_BETWEEN_CHARS and pattern.fullmatch(text, start, end) is not None


def _start(place: Place) -> int:
    return place.start


def _end(place: Place) -> int:
    return place.end


def _beside(text: str, first_line: str, places: Sequence[Place]) -> Claim | None:
    """``name:line: text`` without a mark before it; in a table row, any other cell may be the text."""
    place = places[0]
    if "|" in text and text.count("|") > 1:
        cells = [cell.strip() for cell in text.split("|")]
        others = [cell for cell in cells if cell and not re.fullmatch(r"[\W\d]*", cell)]
        mine = text[place.start : place.end]
        others = [cell for cell in others if mine not in cell]
        if place.is_count:  # a row of counts quotes nothing
            others = [cell for cell in others if cell not in mine and words_of(cell) >= MIN_LOOSE_WORDS]
        return Claim("cited", others[0], place, tuple(others[1:])) if others else None
    before = text[: place.start]
    if _stripped(before).text.strip(_OPENERS) and not _RECORD.fullmatch(before):
        return None
    separator = _separator(text, place)
    if separator is None or not text[separator.end() :].strip(_CLOSERS):
        return None
    whole = _END_TAG.sub("", text[separator.end() :]).strip()
    first = _END_TAG.sub("", first_line[separator.end() :]).strip()
    return Claim("cited", first or whole, place, (whole,))


def _separator(text: str, place: Place) -> re.Match[str] | None:
    """What is between a place at the beginning and the text quoted from it."""
    return (_COLUMN if place.is_count else _SEPARATOR).match(fold(text), place.end)


def _before_dash(text: str, place: Place) -> Claim | None:
    """``text — name:line`` at the end: an attribution."""
    if text[place.end :].strip(_CLOSERS):
        return None
    dash = re.search(r"(?:^|\s)(?:-{1,3}|[\u2013\u2014])\s*[(\[`*]*$", text[: place.start])
    if dash is None or not (quote := text[: dash.start()].strip()):
        return None
    bare = _stripped(quote).text
    prefix = _PREFIX.match(bare)
    return Claim("cited", bare[prefix.end() :] if prefix else bare, place, (quote,))
