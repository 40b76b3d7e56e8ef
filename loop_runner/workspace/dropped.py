"""The cost of turns that rewinds dropped: the sums, and their form in a commit message.

A rewind makes a commit with the trailer ``Loop-Dropped-Spend`` on top of its target. The newest one in a
history covers everything that the run folder ever spent outside of that history. Plain data; no git.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace

from loop_runner.records import Spend, Usage

NOTHING = Spend()
_DOLLAR_DIGITS = 9


def plus(spend: Spend, other: Spend) -> Spend:
    """Both together; dollars are unknown if either's are."""
    return _combined(spend, other, 1)


def rest(total: Spend, part: Spend) -> Spend:
    """``total`` without ``part``; never less than nothing. Dollars are unknown if either's are."""
    left = _combined(total, part, -1)
    usage = Usage(**{name: max(value, 0) for name, value in asdict(left.usage).items()})
    counts = {name: max(getattr(left, name), 0) for name in _COUNTS}
    usd = None if left.usd is None else max(left.usd, 0.0)
    if not counts["requests"]:
        usd = 0.0  # nothing costs nothing, even if prices are unknown
    return replace(left, usage=usage, usd=usd, **counts)


def to_text(spend: Spend) -> str:
    """One line of JSON, without what is 0."""
    usage = {name: value for name, value in asdict(spend.usage).items() if value}
    values = {**asdict(spend), "usage": usage}
    return json.dumps(
        {name: value for name, value in values.items() if value or value is None}, sort_keys=True
    )


def from_text(text: str) -> Spend:
    """The inverse of ``to_text``; nothing for an unreadable text."""
    try:
        values = json.loads(text)
        usd = values.get("usd", 0.0)
        return Spend(
            usage=Usage(**{name: int(value) for name, value in values.get("usage", {}).items()}),
            seconds=float(values.get("seconds", 0.0)),
            usd=None if usd is None else float(usd),
            **{name: int(values.get(name, 0)) for name in _COUNTS if name != "seconds"},
        )
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return NOTHING


_COUNTS = ("passes", "turns", "requests", "subcalls", "seconds", "unanswered", "tool_calls")


def _combined(spend: Spend, other: Spend, sign: int) -> Spend:
    usage = {name: value + sign * getattr(other.usage, name) for name, value in asdict(spend.usage).items()}
    counts = {name: getattr(spend, name) + sign * getattr(other, name) for name in _COUNTS}
    counts["seconds"] = round(counts["seconds"], 3)
    usd = None
    if spend.usd is not None and other.usd is not None:
        usd = round(spend.usd + sign * other.usd, _DOLLAR_DIGITS)
    return Spend(usage=Usage(**usage), usd=usd, **counts)
