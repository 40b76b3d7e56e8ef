"""Looks for a wrong quote in the other inputs, so that the model can correct its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from loop_runner.errors import ConfigError
from loop_runner.inputs import content
from loop_runner.inputs.original_places import place_of
from loop_runner.records import Inputs, InputText
from loop_runner.verify.located import Lines, LocatedCitation, Looked

_EXPLAINED = 5  # this many wrong citations are searched for elsewhere; the model corrects a few at a time


_SEARCHED_BYTES = 256 << 20  # of the inputs, for one wrong quote


_PLACES_SHOWN = 3


def explained(looked: list[Looked], inputs: Inputs) -> list[Looked]:
    """The first few wrong citations, with the places where their quotes are found."""
    left = _EXPLAINED
    for index, item in enumerate(looked):
        citation = item.citation
        if left and not citation.ok and not citation.is_fault and replace(citation, ok=True).counts:
            left -= 1
            where = _elsewhere(citation, inputs)
            looked[index] = Looked(replace(citation, reason=f"{citation.reason}\n  {where}"))
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
        return f"the quote is on {', '.join(places)}"
    is_all = searched == inputs.total_bytes
    return "the quote is nowhere in the inputs" if is_all else "the quote was not found elsewhere"


def _places(wanted: bytes, text: InputText) -> Iterator[str]:
    try:
        data = content(text)
    except ConfigError:
        return  # not the cited input: it does not matter here whether it is intact
    lines, at = None, data.find(wanted)
    while at >= 0:
        lines = lines or Lines(data)
        number = lines.number_at(at)
        place = place_of(text.origin, number)
        yield f"{text.name}:{number}" + (f" ({place})" if place else "")
        at = data.find(wanted, (data.find(b"\n", at) + 1) or len(data))
