"""Whether the quotations of an answer support its short answer, as far as words can show it.

Owns when a match proves something: ``no`` is in many lines, and ``3`` is in ``3,14``. Owns the two forms
for an honest answer that no quotation can show: ``Derived:`` (it follows from the quotations) and
``Searched:`` (the answer is "none"). The text after them is not judged, and the gate's statement says so.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from loop_runner.records import InputText
from loop_runner.verify.one_line import exact_line
from loop_runner.verify.short_answer import is_citation_line, places, short_answer, spellings, stands_in
from loop_runner.verify.visible import alike, visible
from loop_runner.verify.wording import words_of

DERIVED_FORM = "`Derived: how it follows from the quotes`"
SEARCHED_FORM = "`Searched: the names of the texts`"
_MAX_ITEMS = 200
_SCANNED_CHARS = 200_000
_WEAK_WORDS = """
a an the this that these those it its he she they we you i is are was were be been do does did
has have had of in on at to for from by with as and or so than then there here what which who
when where why how all any some yes no not never true false none null nil maybe y n ok okay off
ja nein oui non si sí sim não da nee
"""
_WEAK = frozenset(_WEAK_WORDS.split())
_BULLET = re.compile(r"\s*(?:[-*+\u2022]|\d{1,3}[.)])\s+")
_ITEMS = re.compile(r"\s*;\s*|,\s+|(?<=\D),(?=\D)|\s+(?:and|und|et|y|&)\s+")
_LABEL_ALONE = re.compile(r"(?i)^[\W_]*(?:the\s+)?(?:final\s+|short\s+)?answers?[\W_]*$")
_DERIVED = re.compile(r"(?im)^[ \t*_>#-]*derived[*_]*[ \t]*:[*_]*[ \t]*(\S.*)$")
_SEARCHED = re.compile(r"(?im)^[ \t*_#-]*searched[*_]*[ \t]*:[*_]*[ \t]*((?:\S.*\n?)+)")
_NONE = re.compile(r"(?i)^(?:none|nothing|no)\b[^.;:]{0,80}$")
_ALL_TEXTS = re.compile(
    r"(?i)\ball\s+(?:of\s+)?(?:the\s+)?([0-9]{1,9})\s+(?:texts?|inputs?|files?|documents?)\b"
)
_QUOTE_MARKS = "\"'`"


@dataclass(frozen=True, slots=True)
class Bearing:
    """The result for an answer and its quotations: ``problem`` if it is rejected, else the statement."""

    statement: str = ""
    problem: str = ""
    advice: str = ""


def bearing(
    answer: str, quotes: Sequence[str], *, ignore_case: bool, may_derive: bool, cited: Collection[str] = ()
) -> Bearing:
    """Whether a quotation contains the short answer or each of its items, or the answer is derived.

    ``cited``: the names of the texts that the quotations are from. An answer may be such a name.
    """
    short = short_answer(answer)
    if not short:
        return Bearing(
            problem="there is no short answer",
            advice="write the answer itself on the first line, then the citations",
        )
    quotes = [quote for text in quotes for quote in dict.fromkeys((text, alike(text)))]
    listed = _items(answer)
    if not listed and _is_shown(short, quotes, ignore_case=ignore_case):
        return Bearing("the short answer is in a quote")
    if not listed and _is_name(short, cited):
        return Bearing("the short answer is the name of the text that a quote is from")
    listed = listed or [item for item in _ITEMS.split(short) if item][:_MAX_ITEMS]
    if len(listed) > 1:
        missing = [item for item in listed if not _is_shown(item, quotes, ignore_case=ignore_case)]
        if not missing:
            return Bearing(f"each of the {len(listed)} items of the short answer is in a quote")
        if len(missing) < len(listed) and not (may_derive and _derived(answer)):
            return _lacking(missing, short)
    return _derivation(answer, short, quotes, may_derive=may_derive)


def _is_name(short: str, cited: Collection[str]) -> bool:
    """Whether it is a cited text's name, whole or without the folders before it."""
    return any(
        spelling == name or name.endswith(f"/{spelling}") for spelling in spellings(short) for name in cited
    )


def _lacking(missing: Sequence[str], short: str) -> Bearing:
    shown = ", ".join(repr(exact_line(item, 60)) for item in missing[:5])
    return Bearing(
        problem=f"the short answer {exact_line(short, 100)!r} is a list, and no quote has {shown}",
        advice="quote a line for each item of the list, spelled as in the line",
    )


def _derivation(answer: str, short: str, quotes: Sequence[str], *, may_derive: bool) -> Bearing:
    """For an answer that no quotation states: it may explain how it follows from them."""
    how = _derived(answer)
    shown = exact_line(short, 100)
    if may_derive and how:
        if (counted := _counted(short, how, quotes)) is not None:
            return counted
        return Bearing(
            f"the answer {shown!r} is derived ({exact_line(how, 120)}): "
            "that the quotes prove it was not checked"
        )
    if _is_weak(short) or any(
        stands_in(spelling, quote) for spelling in spellings(short) for quote in quotes
    ):
        problem = f"that a quote has {shown!r} proves nothing: {_why_nothing(short)}"
    else:
        problem = f"the short answer {shown!r} is in none of its quotes as whole words"
    advice = "the first line must be the answer alone, spelled as in the line that proves it"
    if may_derive:
        advice += (
            f"\nif no line states it (yes or no, a count, a computed value), add a line {DERIVED_FORM}, "
            "and quote the lines"
        )
    return Bearing(problem=problem, advice=advice)


def _why_nothing(short: str) -> str:
    if short[:1].isdigit():
        return "it numbers a line or is part of another number"
    if len(short) == 1:
        return "a single character is in many lines"
    return "such a word is in many lines"


def _derived(answer: str) -> str:
    match = _DERIVED.search(visible(answer[:_SCANNED_CHARS]))
    return match[1].strip() if match and words_of(match[1]) > 2 else ""


def _counted(short: str, how: str, quotes: Sequence[str]) -> Bearing | None:
    """An answer that is the count of its quotations can be checked."""
    if not (how.lower().startswith("count of the quote") and short.isdigit()):
        return None
    count = len(dict.fromkeys(map(alike, quotes)))
    if int(short) == count:
        return Bearing(f"the answer is the count of its {count} quotes; that these are all was not checked")
    return Bearing(
        problem=f"the short answer is {short}, the count of its quotes, and it has {count}",
        advice="quote one line for each thing that is counted",
    )


def _items(answer: str) -> list[str]:
    """The items of a short answer that is a list with one line per item; empty for any other answer."""
    items: list[str] = []
    for line in answer[:_SCANNED_CHARS].split("\n"):
        if not line.strip() or is_citation_line(line) or (not items and _LABEL_ALONE.match(line)):
            continue
        if not (bullet := _BULLET.match(line)):
            break
        items.append(short_answer(line[bullet.end() :]) or line[bullet.end() :].strip())
    return [item for item in items if item][:_MAX_ITEMS]


# ── one text in one quotation ───────────────────────────────────────────────────────────────────────


def _is_shown(short: str, quotes: Sequence[str], *, ignore_case: bool) -> bool:
    """Whether a quotation contains it as whole words, in a way that proves something."""
    wanted = dict.fromkeys((*spellings(short), *spellings(alike(short))))
    return any(_proves(text, quote, ignore_case=ignore_case) for text in wanted for quote in quotes)


def _proves(short: str, quote: str, *, ignore_case: bool) -> bool:
    if not stands_in(short, quote, ignore_case=ignore_case):
        return False
    if not (_is_weak(short) or short[:1].isdigit()):
        return True
    starts = places(short.casefold(), quote.casefold()) if ignore_case else places(short, quote)
    if _is_weak(short):
        return any(_is_value(quote, at, at + len(short)) for at in starts)
    return any(not _is_numbering(quote, at, at + len(short)) for at in starts)


def _is_weak(short: str) -> bool:
    """Whether finding it proves nothing by itself: a word that every text contains, a single character."""
    words = re.findall(r"\w+", short.casefold())
    if not words:
        return len(short) < 2
    return all(word in _WEAK or (len(word) == 1 and not word.isdigit() and word.isascii()) for word in words)


def _is_value(quote: str, start: int, end: int) -> bool:
    """Whether it is a whole value: ``key=no``, ``key: no`` at the end of a line, or between quote marks."""
    before, after = quote[:start].rstrip(), quote[end:].strip()
    if (
        before[-1:]
        and before[-1] in _QUOTE_MARKS
        and after[:1] == before[-1]
        and quote[start - 1] == before[-1]
    ):
        return bool(re.search(r"[=:(,\[]\s*$", before[:-1]))
    if before[-1:] == "=":
        return not after or after[0] in ",;)]}#"
    return before[-1:] == ":" and not after


def _is_numbering(quote: str, start: int, end: int) -> bool:
    """Whether it only numbers the line: ``3. Payment``."""
    return not quote[:start].strip("([ ") and bool(re.match(r"[.)\]]\s", quote[end : end + 2]))


# ── the answer is "none" ────────────────────────────────────────────────────────────────────────────


def is_none(answer: str) -> bool:
    """Whether the short answer is "none"."""
    return bool(_NONE.match(short_answer(answer)))


def searched(answer: str, texts: Sequence[InputText]) -> Bearing:
    """Whether an answer of "none" lists all ``texts`` as searched."""
    match = _SEARCHED.search(visible(answer[:_SCANNED_CHARS]))
    if match is None:
        return Bearing(
            problem='an answer of "none" must name the texts that were searched',
            advice=f"add a line {SEARCHED_FORM}; folder/* and `all {len(texts)} texts` are names, too",
        )
    missing = [text.name for text in texts if not _is_named(text.name, match[1])]
    every = _ALL_TEXTS.search(match[1])
    if missing and not (every and int(every[1]) == len(texts)):
        shown = ", ".join(exact_line(name, 80) for name in missing[:5])
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        return Bearing(
            problem=f'the answer is "none", and it does not list as searched: {shown}{more}',
            advice=f"search every text, then write {SEARCHED_FORM}",
        )
    return Bearing(f'the answer is "none", and lists all {len(texts)} texts as searched: neither was checked')


def _is_named(name: str, listing: str) -> bool:
    return any(
        given == name
        or name.endswith(f"/{given}")
        or name.startswith(given.rstrip("/") + "/")
        or fnmatch.fnmatchcase(name, given)
        for given in _names(listing)
    )


def _names(listing: str) -> Iterator[str]:
    for part in re.split(r"[,;\n]|\s+and\s+", listing[:_SCANNED_CHARS]):
        given = part.strip(" \t*_`\"'()-.").removeprefix("./")
        if given.strip("*?/"):  # `*` alone would list texts that were never searched
            yield given
