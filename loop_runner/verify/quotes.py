"""Looks up everything that an answer quotes or cites in the inputs.

``quotations.py`` finds what looks like a quotation or a citation, ``quote_matching.py`` compares a text with
its lines; this module reads the inputs, one at a time, and words the results. Lines end at line feeds only
and are counted from 1, as the kernel's helpers count them. An input's bytes are checked against their hash
when they are read. Nothing is ever corrected on the model's behalf.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from loop_runner.errors import ConfigError
from loop_runner.inputs import content
from loop_runner.inputs.original_places import place_of
from loop_runner.records import Inputs, InputText, Origin
from loop_runner.verify.elsewhere import explained
from loop_runner.verify.followed import followed
from loop_runner.verify.located import Lines, LocatedCitation, Looked
from loop_runner.verify.named_places import Catalogue, Place
from loop_runner.verify.one_line import exact_line
from loop_runner.verify.quotations import Claim, claims
from loop_runner.verify.quote_matching import MAX_RANGE, Match, Mismatch, compare
from loop_runner.verify.visible import alike

MAX_CITATIONS = 1000  # an answer with more of them is not read further
MAX_ANSWER_CHARS = 2_000_000
_MAX_LOOSE = 50  # texts in quote marks without a place, searched for in all inputs
_MAX_CANDIDATES = 2000  # lines that are read for one of them


def locate(answer_text: str, inputs: Inputs) -> list[LocatedCitation]:
    """Every quotation of the answer (the first thousand) and every place that fails. Never raises."""
    return [
        item.citation
        for item in look_up(answer_text, inputs)
        if item.citation.kind != "pointer" or not item.citation.ok
    ]


def quoted_lines(citations: Sequence[LocatedCitation], at_most: int = 50) -> list[str]:
    """The whole line of each quotation, with the quoted part marked and the rest of its sentence."""
    return [
        f"{citation.name}:{citation.line}: {citation.marked or citation.quote}"
        + (f" ({citation.note})" if citation.note else "")
        for citation in citations[:at_most]
    ]


def in_part_words(shown: Sequence[str]) -> str:
    """``quoted_lines`` in the form that a reader sees."""
    return "\n".join(
        ["quoted in part (the whole line, the quoted part in \u27e6 \u27e7):", *map(_line_shown, shown)]
    )


def _line_shown(line: str) -> str:
    return f"  {exact_line(line, 800)}"


def look_up(answer_text: str, inputs: Inputs, within_lines: int = 0, known: str = "") -> list[Looked]:
    """As ``locate``, with the places too, and ``within_lines`` lines before and after each quotation.

    ``known`` is text that may be quoted besides the inputs: the task's own words.
    """
    catalogue = Catalogue(inputs)
    listed = claims(answer_text[:MAX_ANSWER_CHARS], catalogue)[: MAX_CITATIONS + 1]
    looked = [Looked(_unplaced(claim, catalogue)) for claim in listed]
    by_text: dict[str, list[int]] = {}
    for index, claim in enumerate(listed):
        if claim.place is not None and claim.place.text is not None:
            by_text.setdefault(claim.place.text.name, []).append(index)
    # One input in memory at a time, however many are cited.
    for indexes in by_text.values():
        for index, item in zip(
            indexes, _in_one_text([listed[i] for i in indexes], catalogue, within_lines), strict=True
        ):
            looked[index] = item
    _find_loose(listed, looked, inputs, known)
    return followed(explained(_with_pointers(listed, looked), inputs), inputs, look_up)


def _unplaced(claim: Claim, catalogue: Catalogue) -> LocatedCitation:
    """A claim about no known input: its text, and why it fails."""
    place = claim.place
    if place is not None:
        return LocatedCitation(
            place.name,
            place.first,
            claim.quote,
            None,
            ok=False,
            reason=catalogue.why_unknown(place.name),
            kind=claim.kind,
        )
    reason = "it names no place: a citation is written `> name:line: quoted text`"
    return LocatedCitation("", 0, claim.quote, None, ok=False, reason=reason, kind=claim.kind)


# ── looking it up ───────────────────────────────────────────────────────────────────────────────────


def _in_one_text(listed: Sequence[Claim], catalogue: Catalogue, within_lines: int) -> Iterator[Looked]:
    place = listed[0].place
    assert place is not None
    text = place.text
    assert text is not None
    try:
        lines = Lines(content(text))
    except ConfigError as error:
        for claim in listed:
            yield Looked(_located(claim, text, claim.place or place, Mismatch(error.message), is_fault=True))
        return
    for claim in listed:
        mine = claim.place or place
        if claim.kind == "pointer":
            yield Looked(_located(claim, text, mine, _no_such_line(mine, lines)))
            continue
        result = _result(claim, mine, lines)
        if claim.seen and not (isinstance(result, Match) and not result.how):
            result = _as_seen(claim, catalogue, lines) or result
        around = ""
        if isinstance(result, Match):
            near = range(result.first - within_lines, result.last + within_lines + 1)
            around = "\n".join(line for number in near if (line := lines.get(number)) is not None)
        yield Looked(_located(claim, text, mine, result), around)


def _result(claim: Claim, place: Place, lines: Lines) -> Match | Mismatch:
    """The result of comparing the quotation with its lines, and with the text right under it."""
    result = _best(
        [_compare(quote, place, lines) for quote in (claim.quote, *claim.choices) if quote or claim.is_line]
    )
    if claim.below and (isinstance(result, Mismatch) or result.ends_openly):
        joined = _compare(f"{claim.quote} {claim.below}", place, lines)
        if isinstance(joined, Match):
            return joined
        if isinstance(result, Match):
            shown = exact_line(claim.below, 60)
            return Mismatch(
                f"the text under it ({shown}) reads as part of the quote: leave an empty line between them",
                is_found=True,
            )
    if isinstance(result, Match) and result.is_partial and result.nearby:
        number, word, text = result.nearby[0]
        return Mismatch(
            f"the quote leaves `{word}` out of its sentence, which is also on line {number} of {place.name}: "
            f"{exact_line(text)}\n  quote the whole sentence: > {place.name}:{min(number, result.first)}-"
            f"{max(number, result.last)}: its text",
            is_found=True,
        )
    return result if isinstance(result, Match) else _explain(result, claim, place, lines)


def _best(results: Sequence[Match | Mismatch]) -> Match | Mismatch:
    """A match, if there is one; else the most informative mismatch."""
    ranked = sorted(
        results,
        key=lambda result: (
            isinstance(result, Mismatch),
            isinstance(result, Mismatch) and not result.is_found,
        ),
    )
    return ranked[0] if ranked else Mismatch("it quotes nothing")


def _compare(quote: str, place: Place, lines: Lines) -> Match | Mismatch:
    """For a page: on the first of its lines that holds the quotation."""
    if place.within is None:
        if place.last - place.first > MAX_RANGE:
            return Mismatch(f"a citation may span {MAX_RANGE} lines at most", is_found=True)
        return compare(quote, lines, place.first, place.last)
    first, last = place.within
    problem = Mismatch("")
    wanted = alike(quote)[:12]
    for number in range(first, (lines.total if last is None else last) + 1):
        line = lines.get(number) or ""
        if quote in line or wanted in alike(line) or place.text is None:
            result = compare(quote, lines, number, number)
            if isinstance(result, Match):
                return result
            problem = result if result.is_found else problem
    return problem


def _as_seen(claim: Claim, catalogue: Catalogue, lines: Lines) -> Mismatch | None:
    """A line that shows as several: the quotations on its other lines must be right, too."""
    shown = claims(f"\n{claim.seen}\n".replace("\n>", "\n >>"), catalogue)
    for piece in shown:
        if (
            piece.place is None
            or piece.place.text is None
            or piece.place.text.name != (claim.place and claim.place.name)
        ):
            return Mismatch(
                "it contains line ends that are not line feeds, and after one of them: "
                f"{exact_line(piece.quote, 80)}"
            )
        result = _result(piece, piece.place, lines)
        if isinstance(result, Mismatch):
            return result
    return None


def _no_such_line(place: Place, lines: Lines) -> Match | Mismatch:
    if place.label and place.within is None:
        return Mismatch(f"{place.name} has no {place.label}: name a line, as {place.name}:12")
    last = place.within[0] if place.within else place.last
    if not 1 <= place.first <= last <= lines.total:
        return Mismatch(f"{place.name} has {lines.total} lines, no line {last if place.first else 0}")
    line = exact_line((lines.get(place.first) or "").strip())
    return Match(place.first, place.last, "", line)


def _located(
    claim: Claim, text: InputText, place: Place, result: Match | Mismatch, *, is_fault: bool = False
) -> LocatedCitation:
    is_match = isinstance(result, Match)
    first = result.first if isinstance(result, Match) else place.first
    last = result.last if isinstance(result, Match) else place.last
    return LocatedCitation(
        text.name,
        first,
        claim.quote,
        text.path,
        is_match,
        result.reason if isinstance(result, Mismatch) else "",
        is_fault,
        place=place_of(text.origin, first),
        original=_original(text.origin),
        last_line=last if last > first else 0,
        how=result.how if isinstance(result, Match) else "",
        marked=result.marked if isinstance(result, Match) else "",
        note=_note(result) if isinstance(result, Match) else "",
        kind=claim.kind,
    )


def _note(match: Match) -> str:
    """For a whole line whose sentence has limiting words on other lines: a reader must see them."""
    return "; ".join(
        f"line {number} of the same sentence has `{word}`: {exact_line(text)}"
        for number, word, text in match.nearby[:2]
    )


def _original(origin: Origin | None) -> str:
    if origin is None:
        return ""
    if origin.url:
        return f"{origin.url}/{origin.member}" if origin.member else origin.url
    return f"{origin.path}/{origin.member}" if origin.member else str(origin.path)


def _explain(problem: Mismatch, claim: Claim, place: Place, lines: Lines) -> Mismatch:
    """The mismatch, with the actual text of the line."""
    if place.label:
        if place.within is None:
            return Mismatch(f"{place.name} has no {place.label}: name a line, as {place.name}:12")
        first, last = place.within
        shown = f"{first} to {last or lines.total}"
        return Mismatch(
            problem.reason or f"it is on none of the lines of {place.label} of {place.name}: {shown}"
        )
    line = lines.get(place.first)
    if line is None or place.last > max(lines.total, place.first):
        return Mismatch(
            f"{place.name} has {lines.total} lines, no line {place.first if line is None else place.last}"
        )
    shown = exact_line(line.strip()) or "(empty)"
    line_shown = f"line {place.first} of {place.name} is: {shown}"
    if problem.reason:
        return Mismatch(f"{problem.reason}\n  {line_shown}", is_found=problem.is_found)
    return Mismatch(f"{line_shown}{_hint(claim.quote, line)}")


def _hint(quote: str, line: str) -> str:
    if not quote.strip():
        return "\n  the answer quotes no text with this place: copy its line"
    if "".join(quote.split()) in "".join(line.split()):
        return "\n  only the blanks differ: copy the line as it is"
    return ""


# ── places alone, and quotations without a place ────────────────────────────────────────────────────


def _with_pointers(listed: Sequence[Claim], looked: list[Looked]) -> list[Looked]:
    """A place that is named without a quotation is right if the answer quotes it elsewhere."""
    quoted = [item.citation for item in looked if item.citation.counts or _is_whole_line(item.citation)]
    for index, (claim, item) in enumerate(zip(listed, looked, strict=True)):
        place, cited = claim.place, item.citation
        if claim.kind != "pointer" or not cited.ok or place is None:
            continue
        if not any(_is_quoted(place, citation) for citation in quoted):
            looked[index] = Looked(replace(cited, ok=False, reason=_not_quoted(place, cited.marked)))
    return looked


def _not_quoted(place: Place, line: str) -> str:
    where = f"{place.name}:{place.label or place.first}"
    if not line.strip():
        return f"the answer names {where}, which is an empty line: name and quote the line that you mean"
    return (
        f"the answer names {where} and does not quote it: add a line `> {place.name}:{place.first}: {line}`"
    )


def _is_whole_line(citation: LocatedCitation) -> bool:
    """A line that is too short to count, such as ``except:``, is still quoted if all of it is."""
    return citation.ok and citation.kind == "cited" and not citation.marked


def _is_quoted(place: Place, citation: LocatedCitation) -> bool:
    return any(
        place.covers(citation.name, line)
        for line in range(citation.line, max(citation.last_line, citation.line) + 1)
    )


def _find_loose(listed: Sequence[Claim], looked: list[Looked], inputs: Inputs, known: str) -> None:
    """Look for texts in quote marks without a place: in the task, then in the inputs, each read once."""
    left = [index for index, claim in enumerate(listed) if claim.kind == "loose"]
    words = alike(known)
    for index in left:
        reason = (
            "in quote marks, but in none of the inputs: quote word for word, or write it without quote marks"
        )
        if alike(listed[index].choices[0]) in words:
            looked[index] = Looked(
                replace(looked[index].citation, ok=True, reason="", how="the task's own words")
            )
        else:
            looked[index] = Looked(replace(looked[index].citation, reason=reason))
    left = [index for index in left if not looked[index].citation.ok]
    for index in left[_MAX_LOOSE:]:
        more = f"more than {_MAX_LOOSE} texts in quote marks name no place"
        looked[index] = Looked(replace(looked[index].citation, reason=more))
    left = left[:_MAX_LOOSE]
    for text in inputs.texts if left else ():
        if not left:
            return
        for index, item in _loose_in(text, [(index, listed[index]) for index in left]):
            looked[index] = item
            if item.citation.ok:
                left.remove(index)


def _loose_in(text: InputText, wanted: Sequence[tuple[int, Claim]]) -> Iterator[tuple[int, Looked]]:
    """Those of ``wanted`` that ``text`` holds, including those that may not be quoted in this form."""
    try:
        data = content(text)
    except ConfigError:
        return  # not a cited input: it does not matter here whether it is intact
    lines: Lines | None = None
    for index, claim in wanted:
        anchor = max(re.findall(r"\w+", claim.quote) or [""], key=len).encode("utf-8", "replace")
        at = data.find(anchor) if anchor else -1
        for _ in range(_MAX_CANDIDATES):
            if at < 0:
                break
            lines = lines or Lines(data)
            number = lines.number_at(at)
            if (citation := _loose_at(claim, text, lines, number)) is not None:
                yield index, Looked(citation)
                if citation.ok:
                    break
            at = data.find(anchor, (data.find(b"\n", at) + 1) or len(data))


def _loose_at(claim: Claim, text: InputText, lines: Lines, number: int) -> LocatedCitation | None:
    for first in range(number, max(number - 3, 0), -1):
        place = Place(0, 0, text.name, text, first, first)
        result = _best([compare(quote, lines, first, first) for quote in (claim.quote, *claim.choices)])
        if isinstance(result, Match) or result.is_found:
            return _located(claim, text, place, result)
    return None
