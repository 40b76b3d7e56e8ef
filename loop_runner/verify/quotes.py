"""Reads citations out of an answer and looks each one up in the inputs.

Owns the citation syntax (``docs/verifiers.md``): a line ``> name:line: quoted text``; of a converted text, a
place of the original may stand for the line (``> contract.pdf:page 12: text``). A quote stands when
it is on that line of that input, character for character, blanks around it aside. Lines end at line feeds
and nowhere else and are counted from 1, as the kernel's helpers count them. Input bytes are checked
against their hash when they are read; nothing is ever corrected on the model's behalf.
"""

from __future__ import annotations

import bisect
import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from loop_runner.errors import ConfigError
from loop_runner.inputs import read_bytes
from loop_runner.records import Inputs, InputText, Origin, lines_of, place_of
from loop_runner.verify.short_answer import is_citation_line
from loop_runner.verify.shown import exact_line

MAX_CITATIONS = 1000  # an answer with more of them is not read further
_EXPLAINED = 5  # so many wrong citations are looked for elsewhere; the model mends a few at a time
_SEARCHED_BYTES = 256 << 20  # of the inputs, for one wrong quote
_PLACES_SHOWN = 3
_BLOCK = 1 << 16
_MIN_QUOTE_CHARS = 8
_MARKS = "`*\"'[]()"  # what models put around a place; never part of what is compared
_PLACE = re.compile(
    r":[ \t]*(?:line[ \t]+|L)?([0-9]{1,9})[`*\"'\])]*(?:[ \t]*\((?:[^()]|\([^()]*\)){1,100}\))?[ \t]*(?=:)"
)  # the last colon may begin the next
_BARE_PLACE = re.compile(r"[`*\[]*(?:line[ \t]+|L)?([0-9]{1,9})[`*\]]*[ \t]*(?=:)")


@dataclass(frozen=True, slots=True)
class LocatedCitation:
    """One citation of an answer and what became of it. ``reason`` says why it is not ``ok``."""

    name: str  # the input's full name, or what the answer called it
    line: int  # counted from 1; 0 when none could be read
    quote: str
    path: Path | None  # where the input lies; None when no input is meant
    ok: bool
    reason: str = ""
    is_fault: bool = False  # the input could not be read as it was: says nothing about the answer
    place: str = (
        ""  # of the line in the original: "page 12", "sheet Prices"; "" where the input is the original
    )
    original: str = ""  # where that lies, with the member behind it; "" where the input is the original

    @property
    def where(self) -> str:
        """Where a person finds it: the original's path (or the input's), line and place."""
        place = f" ({self.place})" if self.place else ""
        return f"{self.original or self.path or self.name}:{self.line}{place}"

    @property
    def counts(self) -> bool:
        """True when it stands and says something: 8 characters besides blanks, one a letter or digit."""
        solid = [char for char in self.quote if not char.isspace()]
        return self.ok and len(solid) >= _MIN_QUOTE_CHARS and any(char.isalnum() for char in solid)


@dataclass(frozen=True, slots=True)
class Looked:
    """A citation with the lines around it, for checks on what the evidence is about."""

    citation: LocatedCitation
    around: str = ""


def locate(answer_text: str, inputs: Inputs) -> list[LocatedCitation]:
    """Every citation of the answer (the first thousand), in order, each looked up. Never raises."""
    return [one.citation for one in look_up(answer_text, inputs)]


def look_up(answer_text: str, inputs: Inputs, within_lines: int = 0) -> list[Looked]:
    """As ``locate``, each with ``within_lines`` lines of its input before and after it."""
    catalogue = _Catalogue(inputs)
    lines = (line for line in answer_text.split("\n") if is_citation_line(line))
    claims = [catalogue.read(body) for line in islice(lines, MAX_CITATIONS) if (body := _body(line))]
    looked: list[Looked] = [Looked(_unreadable(claim, catalogue)) for claim in claims]
    by_text: dict[str, list[int]] = {}
    for index, claim in enumerate(claims):
        if claim.text is not None:
            by_text.setdefault(claim.text.name, []).append(index)
    # One input in memory at a time, however many are cited.
    for indexes in by_text.values():
        for index, one in zip(indexes, _in_one_text([claims[i] for i in indexes], within_lines), strict=True):
            looked[index] = one
    return _explained(looked, inputs)


# ── reading the syntax ──────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Claim:
    """What one citation line says; ``text`` is the input meant, if it is one."""

    name: str
    line: int
    quote: str
    text: InputText | None
    within: tuple[int, int | None] | None = None  # the lines of the place that was named instead of a line
    place: str = ""


def _body(line: str) -> str:
    return line.lstrip(" \t")[1:].rstrip("\r").strip(" ")


class _Catalogue:
    """The inputs by name, and by the ends of their names."""

    def __init__(self, inputs: Inputs) -> None:
        self._by_name = {text.name: text for text in inputs.texts}
        self._by_last: dict[str, list[InputText]] = {}
        for text in inputs.texts:
            self._by_last.setdefault(text.name.rsplit("/", 1)[-1], []).append(text)
        self._only = inputs.texts[0] if len(inputs.texts) == 1 else None
        self._longest = max((len(name) for name in self._by_name), default=0) + 16

    def read(self, body: str) -> _Claim:
        """The place is the longest one that names an input: names may hold ``:`` and digits themselves."""
        places = [place for place in islice(_PLACE.finditer(body), 50) if place.start() <= self._longest]
        for place in reversed(places):
            if (text := self._meant(body[: place.start()])) is not None:
                return _claim(text.name, place, body, text)
        if (named := self._by_label(body)) is not None:
            return named
        if self._only is not None and (bare := _BARE_PLACE.match(body)):
            return _claim(self._only.name, bare, body, self._only)
        if unknown := _PLACE.search(body):
            return _claim(body[: unknown.start()].strip(_MARKS), unknown, body, None)
        return _Claim("", 0, body, None)

    def _by_label(self, body: str) -> _Claim | None:
        """``name:page 12: quote``: a place of the original instead of a line; of one input, without name."""
        colons = [match.start() for match in islice(re.finditer(":", body), 50)]
        for at in (colon for colon in colons if colon <= self._longest):
            text = self._meant(body[:at])
            if text is not None and text.origin is not None:
                found = _labelled(text, body, at + 1, [colon for colon in colons if colon > at])
                if found is not None:
                    return found
        if self._only is not None and self._only.origin is not None:
            return _labelled(self._only, body, 0, colons)
        return None

    def _meant(self, name: str) -> InputText | None:
        for said in (name, name.strip(_MARKS + " \t").removeprefix("./")):
            if said in self._by_name:
                return self._by_name[said]
            ending = [
                text
                for text in self._by_last.get(said.rsplit("/", 1)[-1], ())
                if text.name.endswith(f"/{said}")
            ]
            if len(ending) == 1:
                return ending[0]
        return None

    def why_unknown(self, name: str) -> str:
        """Why ``name`` is no input, and what it may have meant."""
        same = [text.name for text in self._by_last.get(name.rsplit("/", 1)[-1], ())]
        near = same or difflib.get_close_matches(name[:200], self._by_name, _PLACES_SHOWN)
        hint = f"; did you mean {' or '.join(near[:_PLACES_SHOWN])}?" if near else ""
        return f"no input is called {exact_line(name, 80)!r}{hint}"


def _claim(name: str, place: re.Match[str], body: str, text: InputText | None) -> _Claim:
    return _Claim(name, int(place[1]), body[place.end() + 1 :].strip(" "), text)


def _labelled(text: InputText, body: str, start: int, colons: list[int]) -> _Claim | None:
    for colon in colons:
        label = body[start:colon].strip(_MARKS + " \t")
        if label and (within := lines_of(text.origin, label)) is not None:
            return _Claim(text.name, within[0], body[colon + 1 :].strip(" "), text, within, label)
    return None


def _unreadable(claim: _Claim, catalogue: _Catalogue) -> LocatedCitation:
    if claim.line or claim.name:
        reason = catalogue.why_unknown(claim.name)
    else:
        reason = "it names no place: a citation is written `> name:line: quoted text`"
    return LocatedCitation(claim.name, claim.line, claim.quote, None, ok=False, reason=reason)


# ── looking it up ───────────────────────────────────────────────────────────────────────────────────


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


def _in_one_text(claims: Sequence[_Claim], within_lines: int) -> Iterator[Looked]:
    text = claims[0].text
    assert text is not None
    try:
        lines = Lines(read_bytes(text))
    except ConfigError as error:
        for claim in claims:
            yield Looked(_located(claim, text, error.message, is_fault=True))
        return
    for said in claims:
        claim = _on_a_line(said, lines)
        reason = _why_not(claim, lines)
        near = range(claim.line - within_lines, claim.line + within_lines + 1)
        around = "\n".join(line for number in near if (line := lines.get(number)) is not None)
        yield Looked(_located(claim, text, reason), "" if reason else around)


def _on_a_line(claim: _Claim, lines: Lines) -> _Claim:
    """With the first line of the place that it names that holds the quote; as it is when none does."""
    if claim.within is None:
        return claim
    first, last = claim.within
    for number in range(first, (lines.total if last is None else last) + 1):
        if claim.quote in (lines.get(number) or ""):
            return replace(claim, line=number, within=None)
    return claim


def _located(claim: _Claim, text: InputText, reason: str, *, is_fault: bool = False) -> LocatedCitation:
    place, original = place_of(text.origin, claim.line), _original(text.origin)
    ok = not reason
    return LocatedCitation(
        text.name, claim.line, claim.quote, text.path, ok, reason, is_fault, place=place, original=original
    )


def _original(origin: Origin | None) -> str:
    if origin is None:
        return ""
    if origin.url:
        return f"{origin.url}/{origin.member}" if origin.member else origin.url
    return f"{origin.path}/{origin.member}" if origin.member else str(origin.path)


def _why_not(claim: _Claim, lines: Lines) -> str:
    if claim.within is not None:
        first, last = claim.within
        shown = f"{first} to {last or lines.total}"
        return f"it stands on none of the lines of {claim.place} of {claim.name}: {shown}"
    line = lines.get(claim.line)
    if line is None:
        return f"{claim.name} has {lines.total} lines, no line {claim.line}"
    if claim.quote in line:
        return ""
    shown = exact_line(line.strip()) or "(empty)"
    return f"line {claim.line} of {claim.name} is: {shown}{_hint(claim.quote, line)}"


def _hint(quote: str, line: str) -> str:
    if quote[:1] == quote[-1:] and quote[:1] in {"`", '"', "'"} and quote[1:-1].strip() in line:
        return "\n  leave out the quote marks around the text"
    if "".join(quote.split()) in "".join(line.split()):
        return "\n  only the blanks differ: copy the line as it is, tabs too"
    return ""


# ── where else it stands ────────────────────────────────────────────────────────────────────────────


def _explained(looked: list[Looked], inputs: Inputs) -> list[Looked]:
    """The first few wrong citations with the places where their quotes do stand."""
    left = _EXPLAINED
    for index, one in enumerate(looked):
        citation = one.citation
        if left and not citation.ok and not citation.is_fault and replace(citation, ok=True).counts:
            left -= 1
            said = _elsewhere(citation, inputs)
            looked[index] = Looked(replace(citation, reason=f"{citation.reason}\n  {said}"))
    return looked


def _elsewhere(citation: LocatedCitation, inputs: Inputs) -> str:
    wanted = citation.quote.encode("utf-8", "replace")
    places: list[str] = []
    searched = 0
    # The cited input first: a wrong number is the commonest slip.
    for text in sorted(inputs.texts, key=lambda text: text.name != citation.name):
        if len(places) >= _PLACES_SHOWN:
            break
        if searched + text.size_bytes > _SEARCHED_BYTES:
            continue
        searched += text.size_bytes
        places += islice(_places(wanted, text), _PLACES_SHOWN - len(places))
    if places:
        return f"the quote stands on {', '.join(places)}"
    is_all = searched == inputs.total_bytes
    return "the quote stands nowhere in the inputs" if is_all else "the quote was not found elsewhere"


def _places(wanted: bytes, text: InputText) -> Iterator[str]:
    try:
        data = read_bytes(text)
    except ConfigError:
        return  # not the input that was cited: whether it is whole does not matter here
    lines, at = None, data.find(wanted)
    while at >= 0:
        lines = lines or Lines(data)
        number = lines.number_at(at)
        place = place_of(text.origin, number)
        yield f"{text.name}:{number}" + (f" ({place})" if place else "")
        at = data.find(wanted, (data.find(b"\n", at) + 1) or len(data))
