"""Places of the original in a text: pages, sheets, cells, by their label and by line."""

from __future__ import annotations

from bisect import bisect_right

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def place_of(places: Sequence[tuple[int, str]], line: int) -> str:
    """The label of the place that ``line`` belongs to; "" when it has none."""
    at = bisect_right(places, line, key=lambda place: place[0])
    return places[at - 1][1] if at else ""


def find_place(name: str, label: str, places: Sequence[tuple[int, str]], count: int) -> tuple[int, int]:
    """The lines of a place (page, sheet, message) of a converted text."""
    wanted = folded(label)
    for at, (first, known) in enumerate(places):
        if folded(known) == wanted:
            return first, places[at + 1][0] - 1 if at + 1 < len(places) else count
    raise ValueError(f"{name} has no place called {label!r:.80}: {some_places(places)}")


def some_places(places: Sequence[tuple[int, str]]) -> str:
    """The first and the last place, worded for a message."""
    if not places:
        return "its lines have numbers only"
    return f"it has parts such as {places[0][1]!r:.80} and {places[-1][1]!r:.80}; outline() shows all"


def folded(label: str) -> str:
    """``label`` in a form for comparing: lower case, single spaces."""
    return " ".join(label.split()).casefold()
