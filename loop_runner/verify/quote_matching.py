"""Compares one quotation with the lines it cites.

Owns what counts as the same text: an exact copy; a copy with other typography (curly quote marks, dashes,
white space, line breaks); one with Markdown around it; or one with an ellipsis, its parts in order. Also
owns the limits: a quotation may not begin or end inside a word, or leave out a word such as ``not``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from loop_runner.verify.one_line import exact_line
from loop_runner.verify.visible import alike, unmarked
from loop_runner.verify.wording import Span, cuts_a_word, is_prose, left_out, limiting, sentence, words_of

MAX_RANGE = 200  # lines of one citation
_MORE_LINES = 4  # a quotation may continue for this many lines after the named one
_OCCURRENCES = 50
_MAX_QUOTE_CHARS = 20_000  # of a quotation that is not an exact copy
_MAX_MARKED_CHARS = 50_000  # of lines that are read without their markup
_MAX_PARTS = 12
_SHOWN_CHARS = 160  # of a line, on each side of what is quoted
_ELLIPSIS = re.compile(
    r"\s*(?:\[ ?(?:\.\.\.|\u2026) ?\]|\( ?(?:\.\.\.|\u2026) ?\)|\.{3,4}|\. \. \.|\u2026)\s*"
)
_LEADER = re.compile(r"^\s*(?:#+|//+|\*|--|;+|>+)\s+")  # of a comment that continues
_WRAPPINGS = {
    '"': '"',
    "'": "'",
    "`": "`",
    "\u201c": "\u201d",
    "\u2018": "\u2019",
    "\u00ab": "\u00bb",
    "\u300c": "\u300d",
}


class Numbered(Protocol):
    """Lines by their numbers, counted from 1."""

    total: int

    def get(self, number: int) -> str | None:
        """The line; None when there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Match:
    """Where a quotation is, how it was read, and the whole line with the quoted part marked."""

    first: int
    last: int
    how: str  # "" for a copy; else what was ignored
    marked: str  # "" when it is the whole line
    is_partial: bool = False
    ends_openly: bool = False  # the sentence continues after the quotation
    nearby: tuple[
        tuple[int, str, str], ...
    ] = ()  # limiting words of its sentence on other lines: (line, word, text)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Why a quotation does not match its lines. ``is_found``: the words match, but in a forbidden form."""

    reason: str
    is_found: bool = False


@dataclass(frozen=True, slots=True)
class _Window:
    text: str
    first_chars: int  # of the first line
    how: str


def compare(quote: str, lines: Numbered, first: int, last: int) -> Match | Mismatch:
    """Look for ``quote`` on the lines ``first`` to ``last``; after a single line it may continue."""
    line = lines.get(first)
    if line is None or last > max(lines.total, first):
        return Mismatch("")
    if first == last and (problem := _copied(quote, line, first)) is not None:
        return problem if isinstance(problem, Mismatch) else _with_neighbours(problem, lines)
    ends = (last,) if last > first else range(first, min(first + _MORE_LINES, lines.total) + 1)
    problem = Mismatch("")
    for end in ends:
        texts = [lines.get(number) or "" for number in range(first, end + 1)]
        result = _read(quote, texts, first, is_range=last > first)
        if isinstance(result, Match):
            return _with_neighbours(result, lines)
        problem = result if result.is_found and not problem.is_found else problem
    return problem


def _copied(quote: str, line: str, number: int) -> Match | Mismatch | None:
    """A quotation that matches part of the line character for character; None when it does not."""
    if quote not in line:
        return None
    if not quote:
        return Match(number, number, "", "")
    spans, why = _spans(line, (quote,))
    if not spans:
        return Mismatch(why.format(line=f"line {number}"), is_found=True)
    return _match(line, spans, number, number, "")


def _read(quote: str, texts: Sequence[str], first: int, *, is_range: bool) -> Match | Mismatch:
    problem = Mismatch("")
    if len(quote) > _MAX_QUOTE_CHARS:
        return problem
    for window in _windows(texts):
        for parts, how in _readings(quote, is_unmarked="markup" in window.how):
            spans, why = _spans(window.text, parts)
            if spans and (is_range or len(texts) == 1 or spans[0][0] < window.first_chars):
                used = first + _lines_used(texts, window, spans[-1][1])
                aside = "; ".join(dict.fromkeys(filter(None, [*window.how.split("; "), *how.split("; ")])))
                return _match(window.text, spans, first, used, aside or _TYPOGRAPHY)
            if why and not problem.is_found:
                problem = Mismatch(why.format(line=f"line {first}"), is_found=True)
    return problem


_TYPOGRAPHY = "typography and white space aside"
_MARKUP = "markup aside"


def _windows(texts: Sequence[str]) -> Iterator[_Window]:
    """The lines as one text: unchanged; without the marks of a continued comment; without markup."""
    over = f"over {len(texts)} lines" if len(texts) > 1 else ""
    plain = [_alike(text) for text in texts]
    yield _Window(" ".join(filter(None, plain)), len(plain[0]), over)
    if len(texts) > 1:
        led = [plain[0], *(_alike(_LEADER.sub("", text)) for text in texts[1:])]
        if led != plain:
            yield _Window(" ".join(filter(None, led)), len(led[0]), f"{over}; comment marks aside")
    if sum(map(len, texts)) > _MAX_MARKED_CHARS:
        return
    bare = [alike(unmarked(text)) for text in texts]
    if bare != plain:
        yield _Window(" ".join(filter(None, bare)), len(bare[0]), "; ".join(filter(None, (over, _MARKUP))))


@functools.lru_cache(maxsize=64)
def _alike(line: str) -> str:
    return alike(line)


def _readings(quote: str, *, is_unmarked: bool) -> Iterator[tuple[tuple[str, ...], str]]:
    """Possible readings of the quotation, the most exact first: (parts, what was ignored)."""
    plain = alike(quote)
    inside = alike(_unwrapped(quote))
    bare = alike(_unwrapped(unmarked(quote)))
    asides = (
        ((bare, _MARKUP),)
        if is_unmarked
        else ((plain, ""), (inside, "quote marks around it aside"), (bare, _MARKUP))
    )
    seen = set()
    for text, how in asides:
        if text and text not in seen:
            seen.add(text)
            yield (text,), how
            parts = tuple(filter(None, _ELLIPSIS.split(text)))
            if (
                parts != (text,)
                and 0 < len(parts) <= _MAX_PARTS
                and (len(parts) == 1 or all(map(_is_enough, parts)))
            ):
                yield parts, "; ".join(filter(None, (how, "an ellipsis, its parts in order")))


def _is_enough(part: str) -> bool:
    """A part of a quotation with an ellipsis: single words could be combined into any sentence."""
    return words_of(part) > 1 or len(part) >= 8


def _unwrapped(quote: str) -> str:
    quote = quote.strip()
    for _ in range(3):
        inner = quote.rstrip(".,;") if quote[-2:-1] in _WRAPPINGS.values() else quote
        if len(inner) < 2 or _WRAPPINGS.get(inner[0]) != inner[-1]:
            break
        quote = inner[1:-1].strip()
    return quote


def _spans(text: str, parts: Sequence[str]) -> tuple[list[Span], str]:
    """Where the parts are in ``text``, in order; else nothing, and why not if only the form is wrong."""
    why = ""
    at = text.find(parts[0])
    for _ in range(_OCCURRENCES):
        if at < 0:
            break
        spans = _from(text, parts, at)
        if spans is not None and not (cut := _cut(text, spans)):
            if not (words := left_out(text, spans)):
                return spans, ""
            why = _omits(words)
        elif spans is not None:
            why = why or cut
        at = text.find(parts[0], at + 1)
    return [], why.replace("{", "{{").replace("}", "}}").replace("{{line}}", "{line}")


def _from(text: str, parts: Sequence[str], at: int) -> list[Span] | None:
    spans = [(at, at + len(parts[0]))]
    for part in parts[1:]:
        at = text.find(part, spans[-1][1])
        while at >= 0 and (cuts_a_word(text, at) or cuts_a_word(text, at + len(part))):
            at = text.find(part, at + 1)
        if at < 0:
            return None
        spans.append((at, at + len(part)))
    return spans


def _cut(text: str, spans: Sequence[Span]) -> str:
    for start, end in spans:
        for at, verb in ((start, "begins"), (end, "ends")):
            if cuts_a_word(text, at):
                around = exact_line(text[max(at - 20, 0) : at + 20].strip(), 60)
                return f"the quote {verb} inside a word or a number of {{line}} ({around}): quote whole words"
    return ""


def _omits(words: Sequence[str]) -> str:
    listed = ", ".join(f"`{word}`" for word in words[:3])
    return f"the quote leaves {listed} out of its sentence on {{line}}: quote the whole sentence"


def _lines_used(texts: Sequence[str], window: _Window, end: int) -> int:
    """How many lines after the first one the text up to ``end`` takes; lines are joined by one blank."""
    reached = window.first_chars
    for number, text in enumerate(texts[1:], 1):
        if end <= reached:
            return number - 1
        reached += len(_alike(text)) + 1
    return len(texts) - 1


def _match(text: str, spans: Sequence[Span], first: int, last: int, how: str) -> Match:
    start, end = spans[0][0], spans[-1][1]
    is_partial = len(spans) > 1 or bool(text[:start].strip() or text[end:].strip())
    rest = text[end : sentence(text, start, end)[1]]
    return Match(
        first, last, how, _marked(text, spans) if is_partial else "", is_partial, any(map(str.isalnum, rest))
    )


def _marked(text: str, spans: Sequence[Span]) -> str:
    """The whole line (of a very long one, the surroundings) with the quoted part in brackets."""
    start, end = max(spans[0][0] - _SHOWN_CHARS, 0), min(spans[-1][1] + _SHOWN_CHARS, len(text))
    pieces = ["[\u2026] " if start else "", text[start : spans[0][0]]]
    for number, (low, high) in enumerate(spans):
        after = spans[number + 1][0] if number + 1 < len(spans) else end
        pieces += ["\u27e6", text[low:high], "\u27e7", text[high:after]]
    return "".join([*pieces, " [\u2026]" if end < len(text) else ""]).strip()


def _with_neighbours(match: Match, lines: Numbered) -> Match:
    """The match, with the limiting words that its sentence has on the lines before and after it."""
    nearby = [*_before(match.first, lines), *_after(match.last, lines)]
    if not nearby:
        return match
    return Match(
        match.first, match.last, match.how, match.marked, match.is_partial, match.ends_openly, tuple(nearby)
    )


def _before(number: int, lines: Numbered) -> Iterator[tuple[int, str, str]]:
    for above in range(number - 1, max(number - 4, 0), -1):
        line, below = alike(lines.get(above) or ""), alike(lines.get(above + 1) or "")
        if not (below[:1].islower() and is_prose(line) and is_prose(below)) or line[-1:] in ".!?:;":
            return
        start = sentence(line, len(line), len(line))[0]
        yield from ((above, word, line) for word in limiting(line, start))
        if start:
            return


def _after(number: int, lines: Numbered) -> Iterator[tuple[int, str, str]]:
    for below in range(number + 1, min(number + 4, lines.total + 1)):
        line, above = alike(lines.get(below) or ""), alike(lines.get(below - 1) or "")
        if not (line[:1].islower() and is_prose(line) and is_prose(above)) or above[-1:] in ".!?:;":
            return
        end = sentence(line, 0, 0)[1]
        yield from ((below, word, line) for word in limiting(line, 0, end))
        if end < len(line):
            return
