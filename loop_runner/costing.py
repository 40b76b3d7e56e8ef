"""What a run cost: by pass, model and kind of request, from the committed replies.

Plain data. A price that nobody knows is None and makes the sums None too; what is known is kept apart. What a
rewind dropped was paid all the same: it is told, and not in the sums, which are those of the budget.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from loop_runner.model import prices
from loop_runner.records import Call, Usage
from loop_runner.workspace import layout
from loop_runner.workspace.history import Entry, History, parsing
from loop_runner.workspace.rewinding import REWOUND

_Name = TypeVar("_Name", int, str)


@dataclass(frozen=True, slots=True)
class Line:
    """Requests of one kind to one model in one pass."""

    pass_number: int
    model: str
    kind: str
    requests: int
    usage: Usage
    usd: float | None  # None: at least one of them has no known price
    known_usd: float  # of those that have one


@dataclass(frozen=True, slots=True)
class Cost:
    """All lines by pass, model and kind; and those of what rewinds dropped."""

    lines: tuple[Line, ...]
    dropped: tuple[Line, ...]


def of_run(history: History, at: str | None = None) -> Cost:
    """What the run cost up to the commit ``at`` (None: where it stands)."""
    return Cost(tuple(_lines(_calls(history, at))), tuple(_lines(_dropped_calls(history))))


def total(lines: Iterable[Line]) -> Line:
    """All ``lines`` as one; its pass, model and kind mean nothing."""
    found = list(lines)
    known = [line.usd for line in found]
    return Line(
        0,
        "",
        "",
        sum(line.requests for line in found),
        sum((line.usage for line in found), Usage()),
        None if None in known else sum(usd for usd in known if usd is not None),
        sum(line.known_usd for line in found),
    )


def by(name: Callable[[Line], _Name], lines: Iterable[Line]) -> dict[_Name, Line]:
    """The sums of ``lines`` by what ``name`` says of each, in order."""
    found = list(lines)
    return {each: total(line for line in found if name(line) == each) for each in sorted(map(name, found))}


def _lines(calls: Iterable[tuple[int, Call]]) -> Iterator[Line]:
    grouped: dict[tuple[int, str, str], list[Call]] = {}
    for number, call in calls:
        grouped.setdefault((number, call.model, call.kind), []).append(call)
    for (number, model, kind), group in sorted(grouped.items()):
        dollars = [prices.price(model, call.reply.usage) for call in group]  # it may depend on the length
        known = [usd for usd in dollars if usd is not None]
        usage = sum((call.reply.usage for call in group), Usage())
        is_known = len(known) == len(dollars)
        yield Line(number, model, kind, len(group), usage, sum(known) if is_known else None, sum(known))


def _calls(history: History, at: str | None) -> Iterator[tuple[int, Call]]:
    for path in history.files("passes/", at):
        if path.endswith("/calls.jsonl"):
            yield from _calls_in(history, path, at)


def _calls_in(history: History, path: str, at: str | None) -> Iterator[tuple[int, Call]]:
    with parsing(history.folder, path):
        number = int(path.split("/")[1])
        calls = layout.calls_from_jsonl(history.read(path, at) or b"")
    yield from ((number, call) for call in calls)


def _dropped_calls(history: History) -> Iterator[tuple[int, Call]]:
    """The replies of the commits that are reached from what rewinds left, and not from HEAD."""
    seen = {entry.checkpoint.commit for entry in history.commits()}
    for tip in history.refs(REWOUND).values():
        for entry in history.commits(at=tip):
            if entry.checkpoint.commit not in seen:
                seen.add(entry.checkpoint.commit)
                yield from _own_calls(history, entry)


def _own_calls(history: History, entry: Entry) -> Iterator[tuple[int, Call]]:
    """The replies that this commit brought."""
    point = entry.checkpoint
    folder = layout.pass_folder(point.pass_number)
    if point.turn:
        folder = layout.turn_folder(point.pass_number, point.turn)
    elif not entry.runner:  # made by a rewind, of replies that no turn held
        below = history.files("passes/", point.commit)
        folder = next((path.rpartition("/")[0] for path in below if "/rewound/" in path), folder)
    yield from _calls_in(history, f"{folder}/calls.jsonl", point.commit)
