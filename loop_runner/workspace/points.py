"""Names a point of a run: ``3`` the end of pass 3, ``3.7`` its turn 7, ``0`` the start, ``rewound/2`` a tip.

Owns the syntax and how a name becomes a commit. Relies on ``History``; never writes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from loop_runner.errors import ConfigError
from loop_runner.records import Checkpoint
from loop_runner.text import shell
from loop_runner.workspace.commits import Entry
from loop_runner.workspace.history import History

REWOUND = "refs/loop-runner/rewound"
_POINT = re.compile(r"(?:([0-9]{1,9})(?:\.([1-9][0-9]{0,8}))?|rewound/([1-9][0-9]{0,8}))")


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a run, not looked up yet. ``turn`` None: the end of the pass."""

    pass_number: int = 0
    turn: int | None = None
    rewound: int | None = None  # the number of a tip that a rewind left; the others are unused then

    def __str__(self) -> str:
        if self.rewound is not None:
            return f"rewound/{self.rewound}"
        return str(self.pass_number) if self.turn is None else f"{self.pass_number}.{self.turn}"


def parse(text: str) -> Point | None:
    """The point that ``text`` names; None when it is invalid."""
    match = _POINT.fullmatch(text)
    if match is None or (match[1] == "0" and match[2]):
        return None
    if match[3]:
        return Point(rewound=int(match[3]))
    return Point(int(match[1]), int(match[2]) if match[2] else None)


def named(text: str) -> Point:
    """The point that ``text`` names. Raises ``ConfigError`` when it names none."""
    if (point := parse(text)) is not None:
        return point
    raise ConfigError(
        f"{text!r} names no moment of a run",
        why="a run has a commit for the end of each pass and for each turn",
        hint='for example "3" (the end of pass 3), "3.7" (its turn 7), "0" (the start) or "rewound/1"',
    )


def find(history: History, point: Point) -> Checkpoint:
    """The commit to continue from at ``point``, after a fork's or a person's own commits that follow it.

    Raises ``ConfigError`` for a point that the run's history does not have.
    """
    if point.rewound is not None:
        kept = history.refs(REWOUND)
        if point.rewound not in kept:
            raise _missing(
                history, point, f"it keeps {', '.join(f'rewound/{number}' for number in kept) or 'none'}"
            )
        return history.checkpoint(kept[point.rewound])
    entries = history.commits()
    entry_at = next((entry for entry in entries if _is_at(entry, point)), None)
    if entry_at is None:
        raise _missing(history, point, _what_there_is(entries))
    by_parent = {entry.parents[0]: entry for entry in entries if entry.parents and not entry.runner}
    last = entry_at
    while (later := by_parent.get(last.checkpoint.commit)) is not None:
        last = later
    return history.checkpoint(last.checkpoint.commit)


def _is_at(entry: Entry, point: Point) -> bool:
    if point.pass_number == 0:
        return not entry.parents
    there = entry.checkpoint
    if there.pass_number != point.pass_number or not entry.runner:
        return False
    return entry.is_pass if point.turn is None else there.turn == point.turn


def _what_there_is(entries: list[Entry]) -> str:
    ended = max((entry.checkpoint.pass_number for entry in entries if entry.is_pass), default=0)
    head = next((entry.checkpoint for entry in entries if entry.runner), None)
    open_pass = f"; it stands at pass {head.pass_number} turn {head.turn}" if head and head.turn else ""
    passes = "1 of its passes has" if ended == 1 else f"{ended or 'none'} of its passes have"
    return f"{passes} ended{open_pass}"


def _missing(history: History, point: Point, there_is: str) -> ConfigError:
    return ConfigError(
        f"{history.folder} has no point {point}",
        why=there_is,
        hint="PASS is the end of a pass, PASS.TURN a turn; "
        f"`loop-runner log {shell(history.folder)}` lists them",
    )
