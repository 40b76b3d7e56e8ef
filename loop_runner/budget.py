"""What a run may use, and the one ledger of what it has used.

Owns the limits, the sums and the rule by which a request is let out: what it may cost at most is set aside
before it is sent, so that a limit is overrun by at most one request, however many go out side by side. Relies
on ``records``, and on the clock and the prices that it is given.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from loop_runner import keys
from loop_runner.errors import ModelError
from loop_runner.keys import key
from loop_runner.records import SUBCALL_KINDS, Call, Request, Spend, Usage
from loop_runner.text import plural

Price = Callable[[str, Usage], float | None]
"""US dollars for a model's usage; None when the price is not known."""

_HIDDEN_TOKENS = 512  # that a provider adds to a request: roles, a schema's own instructions


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of a run; None means no limit. ``turns`` is per pass, everything else for the whole run."""

    passes: int = key(keys.count, "passes of the run", default=10)
    turns: int = key(keys.count, "turns of one pass", default=20)
    tokens: int | None = key(
        keys.count, "input and output tokens of the run, including cached ones", default=None
    )
    tokens_in: int | None = key(keys.count, "input tokens of the run, including cached ones", default=None)
    tokens_out: int | None = key(keys.count, "output tokens of the run", default=None)
    usd: float | None = key(
        keys.positive,
        "dollars of the run; a model without a known price is refused unless `prices` sets one",
        default=None,
    )
    wall_s: float | None = key(
        keys.duration,
        "working time of the run: `90s`, `30m`, `2h`, `1d` or seconds",
        name="wall",
        default=None,
    )
    subcalls: int | None = key(
        keys.whole(0),
        "requests of the model's code: sub-calls, and the turns of child sessions",
        default=None,
    )
    tool_calls: int | None = key(
        keys.whole(0),
        "calls of the task's `tools` that the model's code makes",
        default=None,
    )
    depth: int = key(
        keys.whole(0),
        "levels of child sessions; at 0, `rlm_query` is one plain sub-call",
        default=1,
    )
    child_turns: int = key(keys.count, "turns of one child session", default=8)


class BudgetSpentError(ModelError):
    """A request was not sent because ``limit`` is reached. Not a fault: whoever asked ends or says so."""

    def __init__(self, limit: str) -> None:
        super().__init__(
            f"the budget of {limit} is used up",
            why="no request is sent once a limit is reached",
            hint="loop-runner resume RUN --set budget.KEY=MORE continues it",
        )
        self.limit = limit


@dataclass(frozen=True, slots=True, eq=False)
class Hold:
    """What is set aside for a request that is out: the most that it can use."""

    usage: Usage
    usd: float
    subcalls: int
    tool_calls: int = 0


_USAGE_NAMES = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
_IN_AND_OUT = ("tokens_in", "tokens_out")
_NAMES = {
    "tokens": "tokens",
    "tokens_in": "input tokens",
    "tokens_out": "output tokens",
    "usd": "US dollars",
    "wall_s": "seconds",
    "subcalls": "sub-calls",
    "tool_calls": "tool calls",
}
_LAST_SHARE = 0.1  # of a limit: when no more is left, a warning says so, however slowly it is used
_NO_USAGE = Usage()
# Of runs that limit neither tokens nor dollars, by the number of sub-calls.
_FREE, _TOOL_CALL = (Hold(_NO_USAGE, 0.0, 0), Hold(_NO_USAGE, 0.0, 1)), Hold(_NO_USAGE, 0.0, 0, 1)


class Sums:
    """Running sums, changed in place: there can be ten thousand requests in a second."""

    __slots__ = (
        *("known_usd", "requests", "subcalls", "tokens_in", "tokens_out", "tool_calls", "usage", "usd"),
    )

    def __init__(self, spent: Spend = Spend()) -> None:  # noqa: B008 - frozen
        usage = spent.usage
        self.usage = [getattr(usage, name) for name in _USAGE_NAMES]
        self.tokens_in = sum(self.usage) - usage.output_tokens
        self.tokens_out = usage.output_tokens
        self.usd = spent.usd
        self.known_usd = spent.usd or spent.known_usd or 0.0  # what limits are compared with
        self.requests = spent.requests
        self.subcalls = spent.subcalls
        self.tool_calls = spent.tool_calls

    def add(self, usage: Usage, usd: float | None, subcalls: int, sign: int = 1) -> None:
        """Add a request, or with ``sign`` -1 take it away. A tool call is none: it has a count of its own."""
        sums = self.usage
        sums[0] += sign * usage.input_tokens
        sums[1] += sign * usage.output_tokens
        sums[2] += sign * usage.cache_read_tokens
        sums[3] += sign * usage.cache_write_tokens
        self.tokens_out = sums[1]
        self.tokens_in = sums[0] + sums[2] + sums[3]
        self.usd = None if usd is None or self.usd is None else self.usd + sign * usd
        self.known_usd += sign * (usd or 0.0)
        self.requests += sign
        self.subcalls += sign * subcalls


class SharedLimit(Protocol):
    """A limit in dollars that several runs share; safe to ask from several processes."""

    @property
    def words(self) -> str:
        """The limit, for messages."""

    def admits(self, usd: float, held: float) -> bool | None:
        """Set aside ``usd`` beside this run's own ``held``. False: it is reached; None: not now."""

    def settle(self, usd: float, held: float) -> None:
        """A request cost ``usd``; ``held`` is what this run's other requests may still cost."""

    def is_reached(self) -> bool:
        """Whether nothing more may be spent now."""


class Ledger:
    """Counts what a run uses. Safe from any thread; one request is charged once, when its reply is there.

    ``unmet`` are replies in the journal that no turn has been served yet: they are paid for and weigh on
    every new request, but a turn that is run again after a crash is judged without them, as it was before.
    ``dropped`` is what a rewind took out of the history: it weighs on every limit but passes and turns, which
    count where the run stands, and is no part of ``spend``.
    """

    def __init__(
        self,
        budget: Budget,
        spent: Spend = Spend(),  # noqa: B008 - frozen
        *,
        price: Price = lambda _model, _usage: None,
        unmet: Iterable[Call] = (),
        dropped: Spend = Spend(),  # noqa: B008 - frozen
        clock: Callable[[], float] = time.monotonic,
        shared: SharedLimit | None = None,
    ) -> None:
        self._price, self._clock, self._shared, self._lock = price, clock, shared, threading.Lock()
        self._passes, self._turns, self._seconds = spent.passes, spent.turns, spent.seconds
        self._unanswered = spent.unanswered
        self._used, self._dropped, self._dropped_s = Sums(spent), Sums(dropped), dropped.seconds
        self._unmet: dict[tuple[str, int], Call] = {}
        self._owed = Sums()  # the sum of ``_unmet``
        self.owe(unmet)
        self._out, self._held = 0, Sums()  # requests, and the most that they can use
        self._turn_since: float | None = None
        self._turns_left = budget.turns
        self._before_turn: Mapping[str, float] = {}
        self._committed_amounts: Mapping[str, float] = self._amounts()
        self.change(budget)

    def change(self, budget: Budget) -> None:
        """Work under ``budget`` from now on: the operator changed it, or it is the first."""
        self.budget = budget
        limits = (budget.usd, budget.tokens, budget.tokens_in, budget.tokens_out)  # tokens or dollars
        self.is_metered = any(limit is not None for limit in limits) or self._shared is not None
        self._is_limited = {budget.wall_s, budget.subcalls, budget.tool_calls} != {None} or self.is_metered

    def used(self) -> dict[str, float]:
        """What is used of each limit of the run, by its field."""
        with self._lock:
            return {**self._amounts(), "passes": float(self._passes)}

    @property
    def spend(self) -> Spend:
        """The sums so far."""
        with self._lock:
            return self._total((self._used,), self._seconds)

    def everything(self) -> tuple[Spend, int]:
        """What limits are compared with, also what no commit holds yet; and the turns of this pass."""
        with self._lock:
            spent = self._total((self._dropped, self._used, self._owed), self._seconds_so_far())
            return spent, max(self.budget.turns - self._turns_left, 0)

    def _total(self, parts: Sequence[Sums], seconds: float) -> Spend:
        dollars = [part.usd for part in parts]
        return Spend(
            Usage(*(sum(counts) for counts in zip(*(part.usage for part in parts), strict=True))),
            passes=self._passes,
            turns=self._turns,
            requests=sum(part.requests for part in parts),
            subcalls=sum(part.subcalls for part in parts),
            tool_calls=sum(part.tool_calls for part in parts),
            seconds=seconds,
            usd=None if None in dollars else sum(amount or 0.0 for amount in dollars),
            unanswered=self._unanswered,
            known_usd=sum(part.known_usd for part in parts),
        )

    # ── before a request ────────────────────────────────────────────────────────────────────────────

    def reserve(self, request: Request) -> Hold | None:
        """Set aside what ``request`` can cost at most. None: what others use must be known first.

        Raises ``BudgetSpentError`` when a limit is reached. What may overrun a limit goes out alone.
        """
        hold = self._most(request)
        with self._lock:
            if self._is_limited:
                if limit := self._spent_limit(self._used, self._owed, hold=hold):
                    raise BudgetSpentError(limit)
                if self._out and self._may_overrun(hold):
                    return None
            if self._shared is not None:
                admitted = self._shared.admits(hold.usd, self._held.known_usd if self._out else 0.0)
                if admitted is None:
                    return None
                if not admitted:
                    raise BudgetSpentError(self._shared.words)
            self._out += 1
            self._hold(hold)
            return hold

    def settle(self, hold: Hold, call: Call | None) -> None:
        """The request of ``hold`` has ended: with the reply in ``call``, which is charged, or without one."""
        with self._lock:
            self._out -= 1
            self._hold(hold, -1)
            if not self._out:
                self._held = Sums()  # no remainder of adding and taking away dollars
            if call is not None:
                self._charge(self._used, call)
            if self._shared is not None:
                self._shared.settle(0.0 if call is None else self._usd(call) or 0.0, self._held.known_usd)

    def replayed(self, call: Call) -> None:
        """A reply of the journal was served again: from now on it counts as the turn's."""
        with self._lock:
            if self._unmet.pop((call.fingerprint, call.occurrence), None) is None:
                return  # charged when it came in
            self._charge(self._used, call)
            self._charge(self._owed, call, -1)

    def _hold(self, hold: Hold, sign: int = 1) -> None:
        if hold.tool_calls:
            self._held.tool_calls += sign
        else:
            self._held.add(hold.usage, hold.usd, hold.subcalls, sign)

    def _most(self, request: Request) -> Hold:
        """The most that ``request`` can use. No token is shorter than one byte."""
        if request.kind == "tool":
            return _TOOL_CALL
        subcalls = int(request.kind in SUBCALL_KINDS)
        if not self.is_metered:
            return _FREE[subcalls]
        size = len(request.system.encode("utf-8", "replace")) + _HIDDEN_TOKENS
        size += sum(len(message.text.encode("utf-8", "replace")) for message in request.messages)
        if request.schema is not None:
            size += 2 * len(str(request.schema))
        usage = Usage(input_tokens=size, output_tokens=request.max_output_tokens)
        usd = 0.0
        if self.budget.usd is not None or self._shared is not None:
            written = Usage(cache_write_tokens=size, output_tokens=request.max_output_tokens)
            usd = max(self._price(request.model, counted) or 0.0 for counted in (usage, written))
        return Hold(usage, usd, subcalls)

    def _may_overrun(self, hold: Hold) -> bool:
        """Whether some limit could be passed if everything that is out, and ``hold``, uses all it may."""
        budget, usage = self.budget, hold.usage
        parts = (self._dropped, self._used, self._owed, self._held)
        if hold.tool_calls:
            return _is_over(budget.tool_calls, sum(part.tool_calls for part in parts) + 1)
        tokens_in = sum(part.tokens_in for part in parts) + usage.input_tokens
        tokens_out = sum(part.tokens_out for part in parts) + usage.output_tokens
        return (
            _is_over(budget.tokens, tokens_in + tokens_out)
            or _is_over(budget.tokens_in, tokens_in)
            or _is_over(budget.tokens_out, tokens_out)
            or _is_over(budget.usd, sum(part.known_usd for part in parts) + hold.usd)
            or (hold.subcalls > 0 and _is_over(budget.subcalls, sum(part.subcalls for part in parts) + 1))
        )

    def begin_turn(self, turns_left: int) -> None:
        """A turn begins: its time counts from now on. ``turns_left``: of this pass, this one not counted."""
        with self._lock:
            self._turn_since = self._clock()
            self._turns_left = turns_left
            self._before_turn = self._amounts()

    def charge_turn(self, seconds: float, unanswered: int = 0) -> None:
        """Add one turn that was committed, and with it every reply that the journal still held.

        ``unanswered``: requests for it whose replies never came.
        """
        with self._lock:
            self._committed(seconds, unanswered)
            self._turns += 1

    def charge_pass(self, seconds: float, unanswered: int = 0) -> None:
        """Add one pass that was committed, with the time that its verifiers took."""
        with self._lock:
            self._committed(seconds, unanswered)
            self._passes += 1
            self._turns_left = self.budget.turns

    def owe(self, calls: Iterable[Call]) -> None:
        """Take note of ``calls``: replies in the journal that no turn has been served yet."""
        with self._lock:
            for call in calls:
                self._unmet[call.fingerprint, call.occurrence] = call
                self._charge(self._owed, call)

    def _committed(self, seconds: float, unanswered: int) -> None:
        for call in self._unmet.values():
            self._charge(self._used, call)
        self._unmet.clear()
        self._owed = Sums()
        self._turn_since = None
        self._seconds += seconds
        self._unanswered += unanswered
        self._committed_amounts = self._amounts()

    def _charge(self, sums: Sums, call: Call, sign: int = 1) -> None:
        if call.kind == "tool":
            sums.tool_calls += 0 if call.is_lost else sign
            return
        sums.add(call.reply.usage, self._usd(call), int(call.kind in SUBCALL_KINDS), sign)

    def _usd(self, call: Call) -> float | None:
        return self._price(call.model, call.reply.usage) if call.usd is None else call.usd

    # ── limits ──────────────────────────────────────────────────────────────────────────────────────

    def reached(self) -> str | None:
        """The limit that is reached, in words, or None. Passes are checked between passes only."""
        return self.reached_within_pass() or (
            plural(self.budget.passes, "pass", "passes") if self._passes >= self.budget.passes else None
        )

    def reached_within_pass(self) -> str | None:
        """The limit that ends a session early, in words, or None."""
        with self._lock:
            return self._spent_limit(self._used, hold=_FREE[0]) or self._shared_limit()

    def subcalls_reached(self) -> str | None:
        """The limit that refuses a further sub-call, in words, or None."""
        with self._lock:
            return self._spent_limit(self._used, hold=_FREE[1]) or self._shared_limit()

    def _shared_limit(self) -> str | None:
        return self._shared.words if self._shared is not None and self._shared.is_reached() else None

    def _spent_limit(self, *sums: Sums, hold: Hold) -> str | None:
        budget, parts = self.budget, (self._dropped, *sums)
        if hold.tool_calls and _is_reached(budget.tool_calls, sum(part.tool_calls for part in parts)):
            return plural(budget.tool_calls or 0, "tool call")
        if hold.subcalls and _is_reached(budget.subcalls, sum(part.subcalls for part in parts)):
            return plural(budget.subcalls or 0, "sub-call")
        if _is_reached(budget.wall_s, self._seconds_so_far()):
            return _amount(budget.wall_s or 0, "second")
        if not self.is_metered:
            return None
        tokens_in = sum(part.tokens_in for part in parts)
        tokens_out = sum(part.tokens_out for part in parts)
        if _is_reached(budget.tokens, tokens_in + tokens_out):
            return plural(budget.tokens or 0, "token")
        if _is_reached(budget.tokens_in, tokens_in):
            return plural(budget.tokens_in or 0, "input token")
        if _is_reached(budget.tokens_out, tokens_out):
            return plural(budget.tokens_out or 0, "output token")
        if _is_reached(budget.usd, sum(part.known_usd for part in parts)):
            return _amount(budget.usd or 0, "US dollar")
        return None

    def _seconds_so_far(self) -> float:
        of_turn = 0.0 if self._turn_since is None else self._clock() - self._turn_since
        return self._dropped_s + self._seconds + of_turn

    def nearly_reached(self) -> dict[str, str]:
        """Limits, by name, that two more turns like the one that began last would reach, each in words.

        Depends on what was charged, and of time on what is committed, so a repeated turn says the same.
        """
        with self._lock:
            return nearly_reached(self.budget, self._amounts(), self._before_turn)

    def beginning(self) -> tuple[Price, dict[str, float]]:
        """The prices, and what was committed when the run's turn began: where a child session counts from."""
        with self._lock:
            return self._price, dict(self._committed_amounts)

    def _amounts(self) -> dict[str, float]:
        """What is used of each limit that a turn can reach."""
        return amounts([self._dropped, self._used], self._dropped_s + self._seconds)

    def left(self, depth: int = 0) -> dict[str, int | float | None]:
        """What is left, by name, for code that runs ``depth`` sessions down; None where there is no limit."""
        budget = self.budget
        with self._lock:
            spent, turns = (
                self._total((self._dropped, self._used, self._owed), self._seconds_so_far()),
                self._turns_left,
            )
        tokens_out = spent.usage.output_tokens
        tokens_in, usd = spent.usage.total_tokens - tokens_out, spent.known_usd or 0.0
        seconds, passes = spent.seconds, spent.passes
        return {
            "passes": max(budget.passes - passes - 1, 0),  # the one that runs is not left
            "turns": turns,
            "tokens": _left(budget.tokens, tokens_in + tokens_out),
            "tokens_in": _left(budget.tokens_in, tokens_in),
            "tokens_out": _left(budget.tokens_out, tokens_out),
            "usd": None if budget.usd is None else round(max(budget.usd - usd, 0.0), 6),
            "seconds": None if budget.wall_s is None else round(max(budget.wall_s - seconds, 0.0), 1),
            "subcalls": _left(budget.subcalls, spent.subcalls),
            "tool_calls": _left(budget.tool_calls, spent.tool_calls),
            "depth": max(budget.depth - depth, 0),
        }

    def settled(self) -> Spend:
        """What limits are compared with, apart from what no turn was served yet."""
        with self._lock:
            return self._total((self._dropped, self._used), self._dropped_s + self._seconds)


def _amount(number: float, noun: str) -> str:
    """``1 second``; ``0.5 seconds``."""
    return f"{number:g} {noun if number == 1 else noun + 's'}"


def amounts(parts: Sequence[Sums], seconds: float = 0.0) -> dict[str, float]:
    """What ``parts`` use of each limit that a turn can reach."""
    tokens_in, tokens_out = (sum(getattr(part, name) for part in parts) for name in _IN_AND_OUT)
    return {
        "tokens": tokens_in + tokens_out,
        "tokens_in": tokens_in,
        "tokens_out": tokens_out,
        "usd": sum(part.known_usd for part in parts),
        "wall_s": seconds,
        "subcalls": sum(part.subcalls for part in parts),
        "tool_calls": sum(part.tool_calls for part in parts),
    }


def nearly_reached(budget: Budget, now: Mapping[str, float], before: Mapping[str, float]) -> dict[str, str]:
    """See ``Ledger.nearly_reached``; ``before`` and ``now`` are amounts around one turn."""
    warnings = {}
    for name, amount in now.items():
        limit, used = getattr(budget, name), amount - before.get(name, amount)
        if limit is not None and used >= 0 and limit - amount <= max(2 * used, _LAST_SHARE * limit):
            left = max(limit - amount, 0)
            warnings[name] = f"{_shown(name, left)} of {_shown(name, limit)} {_NAMES[name]} are left"
    return warnings


def _shown(key: str, amount: float) -> str:
    return f"{amount:.2f}" if key == "usd" else f"{amount:,.0f}"


def _left(limit: int | None, used: int) -> int | None:
    return None if limit is None else max(limit - used, 0)


def _is_reached(limit: float | None, used: float) -> bool:
    return limit is not None and used >= limit


def _is_over(limit: float | None, used: float) -> bool:
    return limit is not None and used > limit
