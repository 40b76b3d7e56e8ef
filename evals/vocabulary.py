"""The words of questions and filler. Each half of the seeds takes every other pair of a list."""

from __future__ import annotations

import random
from collections.abc import Iterator


def _split(text: str, mark: str | None = None) -> list[str]:
    return text.split(mark)


FIRST_NAMES = _split(
    "Mara Tobias Ines Edwin Petra Oscar Lena Hugo Anja Felix Rosa Viktor Clara Jonas Edith Marek Nora"
    " Silas Greta Anton Vera Kaspar Ida Ruben Selma Linus Elsa Bruno Tilda Magnus Frida Otto"
)
LAST_NAMES = _split(
    "Ellison Ellerson Brandt Brandes Okafor Okoro Lindgren Lindqvist Moreau Morel Castell Castillo"
    " Novak Nowak Harmon Harman Pereira Perreira Sandoval Sandberg Whitlock Whitlow Takeda Takeuchi"
    " Duarte Duval Kessler Keppler Rowan Rowland Stroud Strand"
)
PLACES = _split(
    "Harwick Harwich Dunmore Dunmere Westfold Westford Calder Caldor Ashby Ashley Thornton Thornbury"
    " Milbrook Milbourne Redfern Redford Stanwick Stanwell Oakham Oakhurst Fenwick Fenwood Granby"
    " Granley Hollin Hollis Kirkby Kirkley Lowick Lowell"
)
TEAMS = _split(
    "Heron Kestrel Otter Badger Marten Plover Curlew Falcon Lynx Beaver Stoat Osprey Dipper Wren Swift Magpie"
)
LABELS = _split(
    "billing delivery returns warranty login outage refund upgrade hardware roaming invoice contract"
    " shipping payment network account"
)
REGIONS = _split("north south east west central coastal island upland")
WEEKDAYS = _split("Monday Tuesday Wednesday Thursday Friday Saturday")

_SUBJECTS = _split(
    "The survey team|A visiting engineer|The night crew|The archive|The committee|The new supplier"
    "|The gardener|The caretaker|A local reporter|The accounts office|The training group|The museum"
    "|The ferry company|The choir",
    "|",
)
_VERBS = _split(
    "reviewed|described|photographed|repaired|moved|catalogued|praised|postponed|inspected|replaced"
    "|measured|sorted",
    "|",
)
_OBJECTS = _split(
    "the old staircase|a box of drawings|the eastern fence|the visitor book|the notice board"
    "|the tool shed|the map room|a set of lanterns|the reading hall|the stone bridge"
    "|the spare windows|the kitchen garden|the long bench",
    "|",
)
_ENDINGS = _split(
    "before the rain began|without much discussion|as the season required|with two helpers"
    "|for the second time|after a long wait|during the open day|at the request of the neighbours"
    "|and left a short note|on the way home",
    "|",
)


def neighbour(place: str) -> str:
    """The place with the most similar name: the other one of its pair."""
    at = PLACES.index(place)
    return PLACES[at + 1 if at % 2 == 0 else at - 1]


def filler(rng: random.Random) -> Iterator[str]:
    """Sentences without numbers or names, without end."""
    while True:
        parts = map(rng.choice, (_SUBJECTS, _VERBS, _OBJECTS, _ENDINGS))
        yield " ".join(parts) + "."
