"""One gate per provider: how many requests are out at once, when the next may go, and who tries again.

Owns the retries of every provider, so that all calls of one share what a single refusal teaches: the pause
that it asks for holds everybody back, and the number at once is halved, then grows again by one for each
round of replies (additive increase, multiplicative decrease). Relies on clients to say what may pass
(``TryAgain``).
Lives on one asyncio loop; never logs: it tells whoever asked to be told.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from loop_runner.errors import ModelError
from loop_runner.model.client import TryAgain
from loop_runner.records import Reply


@dataclass(frozen=True, slots=True)
class Policy:
    """When a request is tried again. Pauses in seconds; a provider's own wish wins over the doubling ones."""

    max_tries: int = 6  # for faults of the network or the service
    max_throttled: int = 20  # times that one request is told to slow down: half an hour of patience
    max_billed: int = 3  # tries that are paid for and give nothing
    first_pause_s: float = 0.5
    longest_pause_s: float = 60.0
    longest_requested_pause_s: float = 3600.0  # who asks for more does not mean a moment's rest


@dataclass(frozen=True, slots=True)
class Retry:
    """One more try that is about to be made."""

    provider: str
    reason: str
    number: int  # of the tries of this request that failed so far
    pause_s: float
    width: int  # how many requests go out at once from now on


class Limiter:
    """The gate of one provider. ``width`` is the most at once, ``retries`` what was tried again so far."""

    def __init__(
        self,
        provider: str,
        width: int,
        *,
        policy: Policy | None = None,
        on_retry: Callable[[Retry], None] | None = None,
    ) -> None:
        self._provider = provider
        self._most = width
        self._limit = float(width)
        self._policy = policy or Policy()
        self._on_retry = on_retry
        self._out = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._closed_until = 0.0  # on the loop's clock
        self._cut_at = 0.0  # when the width was halved last
        self._refusals = 0  # since anybody had a reply
        self._alarm: asyncio.TimerHandle | None = None
        self._stopped: ModelError | None = None
        self._stopping = asyncio.Event()
        self.retries = 0

    @property
    def width(self) -> int:
        """How many requests may be out at once, now."""
        return max(int(self._limit), 1)

    def stop(self, error: ModelError) -> None:
        """Let nobody in from now on: whoever waits, at the gate or between two tries, gets ``error``."""
        self._stopped = error
        self._stopping.set()
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(error)

    async def run(self, attempt: Callable[[], Awaitable[Reply]]) -> Reply:
        """The reply of the first try that works. Raises ``ModelError`` when no further try can help."""
        tally = _Tally()
        while True:
            await self._enter()
            started = asyncio.get_running_loop().time()
            try:
                reply = await attempt()
            except TryAgain as error:
                pause = self._pause_after(error, tally, started)  # raises when it was the last try
            else:
                self._grow()
                return reply
            finally:
                self._leave()
            if pause > 0:
                await self._rest(pause)

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    # ── what a failure teaches ──────────────────────────────────────────────────────────────────────

    def _pause_after(self, error: TryAgain, tally: _Tally, started: float) -> float:
        """Seconds that this request alone waits; a pause that is everybody's is kept at the gate."""
        tally.count(error)
        policy = self._policy
        if tally.is_over(policy) or (error.asked_pause_s or 0.0) > policy.longest_requested_pause_s:
            raise _last(error, tally)
        self.retries += 1
        if error.is_throttle:
            pause = self._close(error.asked_pause_s, started)
            self._tell(error, tally, pause)
            return 0.0
        doubled = _spread(min(policy.first_pause_s * 2 ** (tally.failed - 1), policy.longest_pause_s))
        pause = doubled if error.asked_pause_s is None else error.asked_pause_s
        self._tell(error, tally, pause)
        return pause

    def _close(self, requested_s: float | None, started: float) -> float:
        """Hold all calls back for a while, then continue with half as many at once."""
        now = asyncio.get_running_loop().time()
        # A hundred requests of one burst are refused together: that is one lesson, not a hundred.
        if started >= self._cut_at:
            self._limit = max(min(self._limit, float(self._out)) / 2, 1.0)
            self._cut_at = now
            self._refusals += 1
        if requested_s is None:
            doubled = self._policy.first_pause_s * 2 ** min(self._refusals - 1, 30)
            requested_s = _spread(min(doubled, self._policy.longest_pause_s))
        self._closed_until = max(self._closed_until, now + requested_s)
        return requested_s

    def _grow(self) -> None:
        self._refusals = 0
        if self._limit < self._most:
            self._limit = min(self._limit + 1 / self._limit, float(self._most))

    def _tell(self, error: TryAgain, tally: _Tally, pause: float) -> None:
        if self._on_retry is not None:
            self._on_retry(Retry(self._provider, error.reason, tally.failed, pause, self.width))

    # ── the gate ────────────────────────────────────────────────────────────────────────────────────

    async def _enter(self) -> None:
        if self._stopped is not None:
            raise self._stopped
        if not self._waiting and self._is_open():
            self._out += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # let in and called off in the same moment
                self._leave()
            raise

    def _leave(self) -> None:
        self._out -= 1
        self._admit()

    def _is_open(self) -> bool:
        if self._out >= self.width:
            return False
        return not self._closed_until or self._closed_until <= asyncio.get_running_loop().time()

    def _admit(self) -> None:
        """Let in whoever waits and may go; when it is too early, come back then."""
        while self._waiting and self._is_open():
            turn = self._waiting.popleft()
            if not turn.done():
                self._out += 1
                turn.set_result(None)
        if self._waiting and self._out < self.width and self._alarm is None:
            loop = asyncio.get_running_loop()
            self._alarm = loop.call_at(self._closed_until, self._wake)

    def _wake(self) -> None:
        self._alarm = None
        self._admit()


@dataclass(slots=True)
class _Tally:
    """The failed tries of one request."""

    throttled: int = 0
    faults: int = 0
    billed: int = 0

    @property
    def failed(self) -> int:
        return self.throttled + self.faults

    def count(self, error: TryAgain) -> None:
        self.throttled += error.is_throttle
        self.faults += not error.is_throttle
        self.billed += error.paid

    def is_over(self, policy: Policy) -> bool:
        return (
            self.throttled >= policy.max_throttled
            or self.faults >= policy.max_tries
            or self.billed >= policy.max_billed
        )


def _last(error: TryAgain, tally: _Tally) -> ModelError:
    """``error`` as the user sees it when nobody tries again."""
    tries = f" ({tally.failed} tries)" if tally.failed > 1 else ""
    return ModelError(
        error.message + tries,
        why=error.why,
        hint=error.hint,
        paid=tally.billed > 0,
    )


def _spread(seconds: float) -> float:
    return seconds * random.uniform(0.75, 1.0)  # noqa: S311 - spreads retries, keeps no secret
