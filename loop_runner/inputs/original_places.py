"""Places of the original of a converted text: pages, sheets, messages, by line and by label."""

from __future__ import annotations

from bisect import bisect_right

from loop_runner.records import Origin


def place_of(origin: Origin | None, line: int) -> str:
    """The label of the place that ``line`` (of the text, counted from 1) comes from; "" when it has none."""
    if origin is None or line < 1:
        return ""
    at = bisect_right(origin.places, line, key=_first_line)
    return origin.places[at - 1][1] if at else ""


def lines_of(origin: Origin | None, label: str) -> tuple[int, int | None] | None:
    """First and last line of the place ``label`` (None: to the end of the text); None: no such place.

    Case does not matter. If places share a label, the first one counts.
    """
    wanted = label.casefold()
    places = origin.places if origin is not None else ()
    for at, (first, label_here) in enumerate(places):
        if label_here.casefold() == wanted:
            return first, places[at + 1][0] - 1 if at + 1 < len(places) else None
    return None


def _first_line(place: tuple[int, str]) -> int:
    return place[0]
