"""What a run may use, and the one ledger of what it has used.

Owns the limits and the sums. Relies on ``records`` only; reads no clock of its own: whoever calls says how
many seconds have passed.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

from loop_runner.records import Spend, Usage


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of a run; None means no limit. ``turns`` is per pass, everything else for the whole run."""

    passes: int = 10
    turns: int = 20
    tokens: int | None = None  # input, output and cache together
    usd: float | None = None
    wall_s: float | None = None
    subcalls: int | None = None
    depth: int = 1  # how deep sub-models may start sessions of their own


class Ledger:
    """Counts what a run uses. Safe from any thread; one request is charged once, when its reply is there."""

    def __init__(self, budget: Budget, spent: Spend = Spend()) -> None:  # noqa: B008 - frozen
        self.budget = budget
        self._spend = spent
        self._lock = threading.Lock()

    @property
    def spend(self) -> Spend:
        """The sums so far."""
        with self._lock:
            return self._spend

    def charge_request(self, usage: Usage, usd: float | None, *, is_subcall: bool) -> None:
        """Add one answered request; ``usd`` None (no known price) makes the run's cost unknown."""
        with self._lock:
            old = self._spend
            self._spend = replace(
                old,
                usage=old.usage + usage,
                requests=old.requests + 1,
                subcalls=old.subcalls + is_subcall,
                usd=None if usd is None or old.usd is None else old.usd + usd,
            )

    def charge_turn(self, seconds: float, unanswered: int = 0) -> None:
        """Add one turn that was committed; ``unanswered``: requests for it whose replies never came."""
        with self._lock:
            old = self._spend
            self._spend = replace(
                old,
                turns=old.turns + 1,
                seconds=old.seconds + seconds,
                unanswered=old.unanswered + unanswered,
            )

    def charge_pass(self, seconds: float, unanswered: int = 0) -> None:
        """Add one pass that was committed, with the time that its verifiers took."""
        with self._lock:
            old = self._spend
            self._spend = replace(
                old,
                passes=old.passes + 1,
                seconds=old.seconds + seconds,
                unanswered=old.unanswered + unanswered,
            )

    def reached(self) -> str | None:
        """The limit that is reached, in words, or None. Passes are checked between passes only."""
        return self.reached_within_pass() or (
            f"{self.budget.passes} passes" if self.spend.passes >= self.budget.passes else None
        )

    def reached_within_pass(self) -> str | None:
        """The limit that ends a session early, in words, or None."""
        spend, budget = self.spend, self.budget
        if budget.tokens is not None and spend.usage.total_tokens >= budget.tokens:
            return f"{budget.tokens:,} tokens"
        if budget.usd is not None and spend.usd is not None and spend.usd >= budget.usd:
            return f"{budget.usd:g} US dollars"
        if budget.wall_s is not None and spend.seconds >= budget.wall_s:
            return f"{budget.wall_s:g} seconds"
        return None

    def subcalls_reached(self) -> str | None:
        """The limit that refuses a further sub-call, in words, or None."""
        limit = self.budget.subcalls
        if limit is not None and self.spend.subcalls >= limit:
            return f"{limit} sub-calls"
        return self.reached_within_pass()

    def describe_left(self) -> str:
        """What is left, in one line for the model."""
        spend, budget = self.spend, self.budget
        parts = [f"{max(budget.passes - spend.passes, 0)} of {budget.passes} passes"]
        if budget.tokens is not None:
            parts.append(f"{max(budget.tokens - spend.usage.total_tokens, 0):,} tokens")
        if budget.usd is not None and spend.usd is not None:
            parts.append(f"{max(budget.usd - spend.usd, 0):.2f} US dollars")
        if budget.wall_s is not None:
            parts.append(f"{max(budget.wall_s - spend.seconds, 0):.0f} s")
        if budget.subcalls is not None:
            parts.append(f"{max(budget.subcalls - spend.subcalls, 0)} sub-calls")
        return ", ".join(parts)
