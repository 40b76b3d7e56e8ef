"""All calls of a provider share one gate: pauses, width, retries."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from loop_runner.errors import ModelError
from loop_runner.model.client import TryAgain, asked_pause_s
from loop_runner.model.limiter import Limiter, Policy, Retry
from loop_runner.records import Reply, Usage

QUICK = Policy(first_pause_s=0.001, longest_pause_s=0.004)
DONE = Reply("done", usage=Usage(10, 1))


def throttled(after_s: float | None = None, usage: Usage | None = None) -> TryAgain:
    return TryAgain("slow down", reason="429", is_throttle=True, asked_pause_s=after_s, usage=usage)


def fault(usage: Usage | None = None, *, paid: bool = False) -> TryAgain:
    return TryAgain("it broke", reason="broke", usage=usage, paid=paid)


class Provider:
    """Answers what ``outcome`` says of the number of the request; keeps when and how many at once."""

    def __init__(self, outcome: Callable[[int], Reply | ModelError], seconds: float = 0.0) -> None:
        self.times: list[float] = []
        self.at_once: list[int] = []
        self._out = 0
        self._outcome = outcome
        self._seconds = seconds

    async def ask(self) -> Reply:
        self._out += 1
        number = len(self.times)
        self.times.append(asyncio.get_running_loop().time())
        self.at_once.append(self._out)
        try:
            await asyncio.sleep(self._seconds)
        finally:
            self._out -= 1
        outcome = self._outcome(number)
        if isinstance(outcome, ModelError):
            raise outcome
        return outcome


def run(scenario: Callable[[], Awaitable[object]]) -> None:
    async def main() -> None:
        await scenario()

    asyncio.run(main())


def test_no_more_go_out_at_once_than_the_width() -> None:
    provider = Provider(lambda _: DONE, seconds=0.001)

    async def scenario() -> None:
        limiter = Limiter("p", 7)
        replies = await asyncio.gather(*(limiter.run(provider.ask) for _ in range(50)))
        assert len(replies) == 50

    run(scenario)
    assert max(provider.at_once) == 7


def test_a_pause_that_one_call_is_asked_for_holds_everybody_back() -> None:
    provider = Provider(lambda number: throttled(0.2) if number == 0 else DONE)

    async def scenario() -> None:
        limiter = Limiter("p", 1)
        await asyncio.gather(*(limiter.run(provider.ask) for _ in range(5)))

    run(scenario)
    first, *others = provider.times
    assert all(other - first >= 0.199 for other in others)
    assert len(others) == 5


def test_one_refused_burst_halves_the_width_once_and_replies_let_it_grow_again() -> None:
    provider = Provider(lambda number: throttled(0.0) if number < 16 else DONE, seconds=0.001)
    shown: list[Retry] = []

    async def scenario() -> None:
        limiter = Limiter("p", 16, policy=QUICK, on_retry=shown.append)
        await asyncio.gather(*(limiter.run(provider.ask) for _ in range(16)))
        assert 8 <= limiter.width <= 10
        for _ in range(200):
            await limiter.run(provider.ask)
        assert limiter.width == 16
        assert limiter.retries == 16

    run(scenario)
    assert {retry.width for retry in shown} == {8}
    assert max(provider.at_once[16:32]) <= 10


def test_a_provider_that_goes_on_refusing_is_asked_one_at_a_time_and_ever_more_rarely() -> None:
    provider = Provider(lambda number: throttled() if number < 40 else DONE)
    shown: list[Retry] = []

    async def scenario() -> None:
        limiter = Limiter("p", 8, policy=QUICK, on_retry=shown.append)
        await asyncio.gather(*(limiter.run(provider.ask) for _ in range(4)))

    run(scenario)
    assert shown[-1].width == 1
    assert max(retry.pause_s for retry in shown) > 0.002


def test_a_fault_of_one_call_holds_nobody_else_back() -> None:
    provider = Provider(lambda number: fault() if number == 0 else DONE)

    async def scenario() -> None:
        limiter = Limiter("p", 1, policy=Policy(first_pause_s=30))
        first = asyncio.create_task(limiter.run(provider.ask))
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            assert await limiter.run(provider.ask) == DONE
        first.cancel()
        assert limiter.width == 1

    run(scenario)


def test_an_error_that_waiting_cannot_mend_is_raised_at_once() -> None:
    provider = Provider(lambda n: fault() if n == 0 else ModelError("no", ends_run=True))

    async def scenario() -> None:
        with pytest.raises(ModelError, match="no") as caught:
            await Limiter("p", 4, policy=QUICK).run(provider.ask)
        assert caught.value.ends_run

    run(scenario)
    assert len(provider.times) == 2


@pytest.mark.parametrize(("error", "tries"), [(throttled(0.0), 20), (fault(), 6), (fault(paid=True), 3)])
def test_patience_ends(error: TryAgain, tries: int) -> None:
    provider = Provider(lambda _: error)

    async def scenario() -> None:
        with pytest.raises(ModelError, match=f"{tries} tries"):
            await Limiter("p", 4, policy=QUICK).run(provider.ask)

    run(scenario)
    assert len(provider.times) == tries


def test_who_asks_for_a_pause_of_a_day_is_not_waited_for() -> None:
    provider = Provider(lambda _: throttled(86_400.0))

    async def scenario() -> None:
        with pytest.raises(ModelError, match="slow down"):
            await Limiter("p", 4).run(provider.ask)

    run(scenario)
    assert len(provider.times) == 1


def test_calls_that_are_called_off_leave_their_places_to_others() -> None:
    provider = Provider(lambda _: DONE, seconds=0.01)

    async def scenario() -> None:
        limiter = Limiter("p", 2)
        tasks = [asyncio.create_task(limiter.run(provider.ask)) for _ in range(20)]
        await asyncio.sleep(0.005)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert results[1::2] == [DONE] * 10
        async with asyncio.timeout(5):
            await asyncio.gather(*(limiter.run(provider.ask) for _ in range(2)))

    run(scenario)
    assert max(provider.at_once) == 2


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "7", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, 0.0),
        ({}, None),
    ],
)
def test_a_pause_is_read_in_every_form_that_servers_write_it(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert asked_pause_s(headers) == seconds
