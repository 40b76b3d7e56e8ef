"""What a run may use, and the one ledger of what it has used.

Owns the limits, the sums and the rule by which a request is let out: what it may cost at most is set aside
before it is sent, so that a limit is overrun by at most one request, however many go out side by side. Relies
on ``records``, and on the clock and the prices that it is given.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from loop_runner.errors import ModelError
from loop_runner.records import SUBCALL_KINDS, Call, Request, Spend, Usage

Price = Callable[[str, Usage], float | None]
"""US dollars for a model's usage; None when the price is not known."""

# What a provider adds to a request that we do not see: roles, a schema's own instructions.
_HIDDEN_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of a run; None means no limit. ``turns`` is per pass, everything else for the whole run."""

    passes: int = 10
    turns: int = 20
    tokens: int | None = None  # input, output and cache together
    tokens_in: int | None = None  # input, cached or not
    tokens_out: int | None = None
    usd: float | None = None
    wall_s: float | None = None
    subcalls: int | None = None  # requests of llm_query, llm_batch and child sessions
    depth: int = 1  # how deep sub-models may start sessions of their own
    child_turns: int = 8  # of one child session


class BudgetSpentError(ModelError):
    """A request was not sent because ``limit`` is reached. Not a fault: whoever asked ends or says so."""

    def __init__(self, limit: str) -> None:
        super().__init__(
            f"the budget of {limit} is used up",
            why="a limit that is spent stops every further request",
            hint="loop-runner resume RUN --set budget.KEY=MORE goes on",
        )
        self.limit = limit


@dataclass(frozen=True, slots=True, eq=False)
class Hold:
    """What is set aside for a request that is out: the most that it can use."""

    usage: Usage
    usd: float
    subcalls: int


_NO_USAGE = Usage()
_USAGE_NAMES = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")


class Ledger:
    """Counts what a run uses. Safe from any thread; one request is charged once, when its reply is there.

    ``unmet`` are replies in the journal that no turn has been served yet: they are paid for and weigh on
    every new request, but a turn that is run again after a crash is judged without them, as it was before.
    """

    def __init__(
        self,
        budget: Budget,
        spent: Spend = Spend(),  # noqa: B008 - frozen
        *,
        price: Price = lambda _model, _usage: None,
        unmet: Iterable[Call] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.budget = budget
        self._spend = spent
        self._price = price
        self._clock = clock
        self._lock = threading.Lock()
        self._unmet = {(call.fingerprint, call.occurrence): call for call in unmet}
        self._owed = Spend()  # the sum of ``_unmet``
        for call in self._unmet.values():
            self._owed = self._with(self._owed, call)
        self._out: set[Hold] = set()
        self._held = Spend()  # the sum of ``_out``
        self._turn_since: float | None = None
        self._turns_left = budget.turns
        limits = (budget.usd, budget.tokens, budget.tokens_in, budget.tokens_out)
        self._is_metered = any(limit is not None for limit in limits)

    @property
    def spend(self) -> Spend:
        """The sums so far."""
        with self._lock:
            return self._spend

    # ── before a request ────────────────────────────────────────────────────────────────────────────

    def reserve(self, request: Request) -> Hold | None:
        """Set aside what ``request`` can cost at most. None: only when others have ended can that be said.

        Raises ``BudgetSpentError`` when a limit is reached. A request that may overrun a limit goes out alone.
        """
        hold = self._most(request)
        with self._lock:
            used = _sum(self._spend, self._owed)
            if limit := self._spent_limit(used, is_subcall=bool(hold.subcalls)):
                raise BudgetSpentError(limit)
            if self._out and self._may_overrun(_sum(used, self._held), hold):
                return None
            self._out.add(hold)
            self._held = _plus(self._held, hold, 1)
            return hold

    def settle(self, hold: Hold, call: Call | None) -> None:
        """The request of ``hold`` has ended: with the reply in ``call``, which is charged, or without one."""
        with self._lock:
            if hold not in self._out:
                return
            self._out.discard(hold)
            self._held = _plus(self._held, hold, -1) if self._out else Spend()
            if call is not None:
                self._spend = self._with(self._spend, call)

    def replayed(self, call: Call) -> None:
        """A reply of the journal was served again: from now on it counts as the turn's."""
        with self._lock:
            if self._unmet.pop((call.fingerprint, call.occurrence), None) is None:
                return  # charged when it came in
            self._spend = self._with(self._spend, call)
            self._owed = self._without(self._owed, call) if self._unmet else Spend()

    def _most(self, request: Request) -> Hold:
        """The most that ``request`` can use. No token is shorter than one byte."""
        subcalls = int(request.kind in SUBCALL_KINDS)
        if not self._is_metered:
            return Hold(_NO_USAGE, 0.0, subcalls)
        size = len(request.system.encode("utf-8", "replace")) + _HIDDEN_TOKENS
        size += sum(len(message.text.encode("utf-8", "replace")) for message in request.messages)
        if request.schema is not None:
            size += 2 * len(str(request.schema))
        usage = Usage(input_tokens=size, output_tokens=request.max_output_tokens)
        usd = 0.0
        if self.budget.usd is not None:
            written = Usage(cache_write_tokens=size, output_tokens=request.max_output_tokens)
            usd = max(self._price(request.model, each) or 0.0 for each in (usage, written))
        return Hold(usage, usd, subcalls)

    def _may_overrun(self, used: Spend, hold: Hold) -> bool:
        """Whether some limit could be passed if everything that is out, and ``hold``, uses all it may."""
        budget, usage = self.budget, used.usage + hold.usage
        return (
            _is_over(budget.tokens, usage.total_tokens)
            or _is_over(budget.tokens_in, _tokens_in(usage))
            or _is_over(budget.tokens_out, usage.output_tokens)
            or _is_over(budget.usd, (used.usd or 0.0) + hold.usd)
            or (hold.subcalls > 0 and _is_over(budget.subcalls, used.subcalls + hold.subcalls))
        )

    # ── charging ────────────────────────────────────────────────────────────────────────────────────

    def charge_request(self, usage: Usage, usd: float | None, *, is_subcall: bool) -> None:
        """Add one answered request; ``usd`` None (no known price) makes the run's cost unknown."""
        with self._lock:
            self._spend = _charged(self._spend, usage, usd, is_subcall)

    def begin_turn(self, turns_left: int) -> None:
        """A turn begins: its time counts from now on. ``turns_left``: of this pass, this one not counted."""
        with self._lock:
            self._turn_since = self._clock()
            self._turns_left = turns_left

    def charge_turn(self, seconds: float) -> None:
        """Add one turn that was committed, and with it every reply that the journal still held."""
        with self._lock:
            self._committed()
            old = self._spend
            self._spend = replace(old, turns=old.turns + 1, seconds=old.seconds + seconds)

    def charge_pass(self, seconds: float) -> None:
        """Add one pass that was committed, with the time that its verifiers took."""
        with self._lock:
            self._committed()
            old = self._spend
            self._spend = replace(old, passes=old.passes + 1, seconds=old.seconds + seconds)
            self._turns_left = self.budget.turns

    def _committed(self) -> None:
        for call in self._unmet.values():
            self._spend = self._with(self._spend, call)
        self._unmet.clear()
        self._owed = Spend()
        self._turn_since = None

    def _with(self, spend: Spend, call: Call) -> Spend:
        usage = call.reply.usage
        return _charged(spend, usage, self._price(call.model, usage), call.kind in SUBCALL_KINDS)

    def _without(self, spend: Spend, call: Call) -> Spend:
        usage = call.reply.usage
        usd = self._price(call.model, usage)
        return replace(
            spend,
            usage=Usage(*(getattr(spend.usage, name) - getattr(usage, name) for name in _USAGE_NAMES)),
            subcalls=spend.subcalls - (call.kind in SUBCALL_KINDS),
            usd=None if spend.usd is None or usd is None else spend.usd - usd,
        )

    # ── limits ──────────────────────────────────────────────────────────────────────────────────────

    def reached(self) -> str | None:
        """The limit that is reached, in words, or None. Passes are checked between passes only."""
        return self.reached_within_pass() or (
            f"{self.budget.passes} passes" if self.spend.passes >= self.budget.passes else None
        )

    def reached_within_pass(self) -> str | None:
        """The limit that ends a session early, in words, or None."""
        with self._lock:
            return self._spent_limit(self._spend, is_subcall=False)

    def subcalls_reached(self) -> str | None:
        """The limit that refuses a further sub-call, in words, or None."""
        with self._lock:
            return self._spent_limit(self._spend, is_subcall=True)

    def _spent_limit(self, used: Spend, *, is_subcall: bool) -> str | None:
        budget, usage = self.budget, used.usage
        if is_subcall and _is_reached(budget.subcalls, used.subcalls):
            return f"{budget.subcalls} sub-calls"
        if _is_reached(budget.tokens, usage.total_tokens):
            return f"{budget.tokens:,} tokens"
        if _is_reached(budget.tokens_in, _tokens_in(usage)):
            return f"{budget.tokens_in:,} input tokens"
        if _is_reached(budget.tokens_out, usage.output_tokens):
            return f"{budget.tokens_out:,} output tokens"
        if used.usd is not None and _is_reached(budget.usd, used.usd):
            return f"{budget.usd:g} US dollars"
        if _is_reached(budget.wall_s, used.seconds + self._turn_seconds()):
            return f"{budget.wall_s:g} seconds"
        return None

    def _turn_seconds(self) -> float:
        return 0.0 if self._turn_since is None else self._clock() - self._turn_since

    # ── what is left ────────────────────────────────────────────────────────────────────────────────

    def left(self, depth: int = 0) -> dict[str, int | float | None]:
        """What is left, by name, for code that runs ``depth`` sessions down; None where there is no limit."""
        with self._lock:
            spend, budget = _sum(self._spend, self._owed), self.budget
            seconds = spend.seconds + self._turn_seconds()
            turns = self._turns_left
        usd = None if budget.usd is None else round(max(budget.usd - (spend.usd or 0.0), 0.0), 6)
        return {
            "passes": max(budget.passes - spend.passes - 1, 0),  # the one that runs is not left
            "turns": turns,
            "tokens": _left(budget.tokens, spend.usage.total_tokens),
            "tokens_in": _left(budget.tokens_in, _tokens_in(spend.usage)),
            "tokens_out": _left(budget.tokens_out, spend.usage.output_tokens),
            "usd": usd,
            "seconds": None if budget.wall_s is None else round(max(budget.wall_s - seconds, 0.0), 1),
            "subcalls": _left(budget.subcalls, spend.subcalls),
            "depth": max(budget.depth - depth, 0),
        }

    def describe_left(self) -> str:
        """What is left, in one line for the model."""
        spend, budget = self.spend, self.budget
        parts = [f"{max(budget.passes - spend.passes, 0)} of {budget.passes} passes"]
        tokens = (
            (budget.tokens, spend.usage.total_tokens, "tokens"),
            (budget.tokens_in, _tokens_in(spend.usage), "input tokens"),
            (budget.tokens_out, spend.usage.output_tokens, "output tokens"),
        )
        parts += [f"{_left(limit, used):,} {what}" for limit, used, what in tokens if limit is not None]
        if budget.usd is not None and spend.usd is not None:
            parts.append(f"{max(budget.usd - spend.usd, 0):.2f} US dollars")
        if budget.wall_s is not None:
            parts.append(f"{max(budget.wall_s - spend.seconds, 0):.0f} s")
        if budget.subcalls is not None:
            parts.append(f"{max(budget.subcalls - spend.subcalls, 0)} sub-calls")
        return ", ".join(parts)


def _tokens_in(usage: Usage) -> int:
    return usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens


def _left(limit: int | None, used: int) -> int | None:
    return None if limit is None else max(limit - used, 0)


def _is_reached(limit: float | None, used: float) -> bool:
    return limit is not None and used >= limit


def _is_over(limit: float | None, used: float) -> bool:
    return limit is not None and used > limit


def _charged(spend: Spend, usage: Usage, usd: float | None, is_subcall: bool) -> Spend:
    return replace(
        spend,
        usage=spend.usage + usage,
        requests=spend.requests + 1,
        subcalls=spend.subcalls + is_subcall,
        usd=None if usd is None or spend.usd is None else spend.usd + usd,
    )


def _plus(spend: Spend, hold: Hold, sign: int) -> Spend:
    usage = hold.usage
    return replace(
        spend,
        usage=spend.usage + Usage(sign * usage.input_tokens, sign * usage.output_tokens),
        subcalls=spend.subcalls + sign * hold.subcalls,
        usd=(spend.usd or 0.0) + sign * hold.usd,
    )


def _sum(one: Spend, other: Spend) -> Spend:
    return replace(
        one,
        usage=one.usage + other.usage,
        subcalls=one.subcalls + other.subcalls,
        usd=None if one.usd is None or other.usd is None else one.usd + other.usd,
    )
