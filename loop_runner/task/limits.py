"""The limits of a run, in words for the model that works under them."""

from __future__ import annotations

from loop_runner.budget import Budget, amount
from loop_runner.text import plural


def describe_limits(budget: Budget) -> str:
    """Every limit, in a sentence for the model that works under them."""
    further = [
        (budget.tokens, f"{plural(budget.tokens or 0, 'token')} in and out"),
        (budget.tokens_in, f"{plural(budget.tokens_in or 0, 'token')} in"),
        (budget.tokens_out, f"{plural(budget.tokens_out or 0, 'token')} out"),
        (budget.usd, amount(budget.usd or 0, "US dollar")),
        (budget.wall_s, amount(budget.wall_s or 0, "second")),
        (budget.subcalls, plural(budget.subcalls or 0, "sub-call")),
        (budget.tool_calls, plural(budget.tool_calls or 0, "tool call")),
    ]
    given = [words for limit, words in further if limit is not None]
    children = (
        f"child sessions of {plural(budget.child_turns, 'turn')}" if budget.depth else "no child sessions"
    )
    passes = plural(budget.passes, "pass", "passes")
    limits = f"; the run may use {', '.join(given)}" if given else "; there is no limit on tokens or time"
    return f"A pass has {plural(budget.turns, 'turn')}, the run {passes}, with {children}{limits}."
