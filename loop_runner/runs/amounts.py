"""What is used of each limit, as events carry it and as ``Spend`` counts it; and changed limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from loop_runner.budget import Budget, Ledger
from loop_runner.events import Amounts
from loop_runner.records import Spend, Usage
from loop_runner.task import limits
from loop_runner.workspace.openable import parsing

LIMITS = ("passes", "turns", "tokens", "tokens_in", "tokens_out", "usd", "wall", "subcalls")
"""The limits of a run, by their keys in a task file; ``turns`` is of one pass."""
UNPRICED = "unpriced"


def amounts(ledger: Ledger) -> Amounts:
    """What is used of each limit, committed or not, and what else an event shows of the spend."""
    spent, turns = ledger.everything()
    usage = spent.usage
    further = {
        "requests": spent.requests,
        "turns_so_far": spent.turns,
        "cache_read": usage.cache_read_tokens,
        "cache_write": usage.cache_write_tokens,
        **({UNPRICED: 1} if spent.usd is None else {}),
    }
    return {
        **of_limits(spent, turns, ledger.budget),
        **{name: (value, None) for name, value in further.items()},
    }


def of_limits(spent: Spend, turns: int, budget: Budget) -> dict[str, tuple[float, float | None]]:
    """What is used of each limit, and the limit."""
    tokens, tokens_out = spent.usage.total_tokens, spent.usage.output_tokens
    return {
        "passes": (spent.passes, budget.passes),
        "turns": (turns, budget.turns),
        "tokens": (tokens, budget.tokens),
        "tokens_in": (tokens - tokens_out, budget.tokens_in),
        "tokens_out": (tokens_out, budget.tokens_out),
        "usd": (round(spent.known_usd or spent.usd or 0.0, 6), budget.usd),
        "wall": (round(spent.seconds, 1), budget.wall_s),
        "subcalls": (spent.subcalls, budget.subcalls),
    }


def spend_from(used: Amounts) -> Spend:
    """The spend that an event carries."""
    amount: Mapping[str, float] = {name: value for name, (value, _) in used.items()}

    def count(name: str) -> int:
        return int(amount.get(name, 0))

    cached = count("cache_read") + count("cache_write")
    tokens_in = max(count("tokens_in") - cached, 0)
    return Spend(
        Usage(tokens_in, count("tokens_out"), count("cache_read"), count("cache_write")),
        passes=count("passes"),
        turns=count("turns_so_far"),
        requests=count("requests"),
        subcalls=count("subcalls"),
        seconds=amount.get("wall", 0.0),
        usd=None if UNPRICED in amount else amount.get("usd", 0.0),
        known_usd=amount.get("usd", 0.0),
    )


def frozen_limits(folder: Path, read: Callable[[str], bytes | None]) -> tuple[tuple[str, object], ...]:
    """The limits that the operator changed, as (dotted key, value): they win over the task file's."""
    with parsing(folder, limits.PATH):
        return limits.overrides(read(limits.PATH))
