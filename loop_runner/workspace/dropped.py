"""What a run has spent on turns that a rewind dropped: sums, and how a commit message says them.

A rewind makes a commit with the trailer ``Loop-Dropped-Spend`` on top of where it goes back to. The newest of
a history says all that the run folder ever spent and that history does not hold. Plain data; no git.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace

from loop_runner.records import Spend, Usage

NOTHING = Spend()
_DOLLAR_DIGITS = 9


def plus(one: Spend, other: Spend) -> Spend:
    """Both together; dollars are unknown when those of one are."""
    return _each(one, other, 1)


def rest(total: Spend, part: Spend) -> Spend:
    """``total`` without ``part``; never less than nothing, and dollars are unknown when those of one are."""
    left = _each(total, part, -1)
    usage = Usage(**{name: max(value, 0) for name, value in asdict(left.usage).items()})
    counts = {name: max(getattr(left, name), 0) for name in _COUNTS}
    usd = None if left.usd is None else max(left.usd, 0.0)
    if not counts["requests"]:
        usd = 0.0  # a price that nobody knows of nothing
    return replace(left, usage=usage, usd=usd, **counts)


def to_text(spend: Spend) -> str:
    """One line of JSON, without what is 0."""
    usage = {name: value for name, value in asdict(spend.usage).items() if value}
    found = {**asdict(spend), "usage": usage}
    return json.dumps(
        {name: value for name, value in found.items() if value or value is None}, sort_keys=True
    )


def from_text(text: str) -> Spend:
    """What ``to_text`` was given; nothing for a text that says something else."""
    try:
        found = json.loads(text)
        usd = found.get("usd", 0.0)
        return Spend(
            usage=Usage(**{name: int(value) for name, value in found.get("usage", {}).items()}),
            seconds=float(found.get("seconds", 0.0)),
            usd=None if usd is None else float(usd),
            **{name: int(found.get(name, 0)) for name in _COUNTS if name != "seconds"},
        )
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return NOTHING


_COUNTS = ("passes", "turns", "requests", "subcalls", "seconds", "unanswered", "tool_calls")


def _each(one: Spend, other: Spend, sign: int) -> Spend:
    usage = {name: value + sign * getattr(other.usage, name) for name, value in asdict(one.usage).items()}
    counts = {name: getattr(one, name) + sign * getattr(other, name) for name in _COUNTS}
    counts["seconds"] = round(counts["seconds"], 3)
    usd = None
    if one.usd is not None and other.usd is not None:
        usd = round(one.usd + sign * other.usd, _DOLLAR_DIGITS)
    return Spend(usage=Usage(**usage), usd=usd, **counts)
