"""The ledger: what is counted, and which limit ends what."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loop_runner.budget import Budget, BudgetSpentError, Ledger
from loop_runner.errors import ModelError
from loop_runner.model.switchboard import Switchboard
from loop_runner.records import Call, Message, Reply, Request, Spend, Usage
from loop_runner.task.limits import describe_left
from tests.support.call_log import MemoryBatchLog
from tests.support.charging import charge


def test_requests_turns_and_passes_add_up_on_top_of_what_was_spent_before():
    ledger = Ledger(Budget(), Spend(usage=Usage(10, 1), passes=1, turns=2, requests=3, usd=0.5))
    charge(ledger, Usage(100, 20, 5, 6), 0.25, is_subcall=True)
    ledger.charge_turn(2.0)
    ledger.charge_pass(1.5)
    spend = ledger.spend
    assert spend.usage == Usage(110, 21, 5, 6)
    assert (spend.passes, spend.turns, spend.requests, spend.subcalls) == (2, 3, 4, 1)
    assert (spend.seconds, spend.usd) == (3.5, 0.75)


def test_one_request_with_an_unknown_price_makes_the_cost_unknown():
    ledger = Ledger(Budget(usd=1.0))
    charge(ledger, Usage(1, 1), None, is_subcall=False)
    charge(ledger, Usage(1, 1), 0.5, is_subcall=False)
    assert ledger.spend.usd is None


def test_each_limit_is_named_when_it_is_reached():
    def reached(budget, spend):
        return Ledger(budget, spend).reached()

    assert reached(Budget(passes=2), Spend(passes=1)) is None
    assert reached(Budget(passes=2), Spend(passes=2)) == "2 passes"
    assert reached(Budget(tokens=1000), Spend(usage=Usage(900, 100))) == "1,000 tokens"
    assert reached(Budget(usd=1.5), Spend(usd=1.5)) == "1.5 US dollars"
    assert reached(Budget(wall_s=60), Spend(seconds=60)) == "60 seconds"


def test_passes_do_not_end_a_session_but_tokens_do():
    assert Ledger(Budget(passes=1), Spend(passes=1)).reached_within_pass() is None
    assert Ledger(Budget(tokens=1), Spend(usage=Usage(1, 0))).reached_within_pass() == "1 token"


def test_zero_subcalls_refuses_the_first_one():
    assert Ledger(Budget(subcalls=0)).subcalls_reached() == "0 sub-calls"
    assert Ledger(Budget(subcalls=1)).subcalls_reached() is None


def test_what_is_left_names_only_the_limits_that_are_set():
    line = describe_left(Ledger(Budget(passes=3, tokens=1000), Spend(passes=1, usage=Usage(400, 0))))
    assert line == "1 pass after this one, 600 tokens"


def test_what_a_rewind_dropped_weighs_on_every_limit_but_passes_and_is_not_in_the_spend():
    dropped = Spend(usage=Usage(90, 10), passes=5, turns=9, requests=3, subcalls=2, seconds=50.0, usd=1.5)

    def reached(budget, spend):
        return Ledger(budget, spend, dropped=dropped).reached_within_pass()

    assert reached(Budget(usd=2), Spend(usd=0.5)) == "2 US dollars"
    assert reached(Budget(usd=2), Spend(usd=0.25)) is None
    assert reached(Budget(tokens=101), Spend(usage=Usage(1, 0))) == "101 tokens"
    assert reached(Budget(tokens_in=91), Spend(usage=Usage(1, 0))) == "91 input tokens"
    assert reached(Budget(tokens_out=11), Spend(usage=Usage(0, 1))) == "11 output tokens"
    assert reached(Budget(wall_s=60), Spend(seconds=10)) == "60 seconds"
    assert Ledger(Budget(subcalls=2), dropped=dropped).subcalls_reached() == "2 sub-calls"
    ledger = Ledger(Budget(passes=3, tokens=1000, usd=2, wall_s=60, subcalls=5), dropped=dropped)
    assert describe_left(ledger) == "2 passes after this one, 900 tokens, 0.50 US dollars, 10 s, 3 sub-calls"
    left = ledger.left()
    assert (left["usd"], left["tokens"], left["seconds"], left["subcalls"]) == (0.5, 900, 10.0, 3)
    assert ledger.spend == Spend()
    with pytest.raises(BudgetSpentError, match="2 US dollars"):
        Ledger(Budget(usd=2), Spend(usd=0.5), dropped=dropped).reserve(Request("m", ()))


# ── a limit is overrun by at most one request ───────────────────────────────────────────────────────

PLANS = st.lists(
    st.tuples(
        st.sampled_from(["root", "sub", "child", "judge"]),
        st.text(max_size=30),
        st.integers(1, 400),  # max_output_tokens
        st.floats(0, 1),  # how much of what it may use it uses
        st.integers(0, 3),  # steps of the loop that it is out
        st.booleans(),  # it fails
    ),
    min_size=1,
    max_size=40,
)
LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "tokens": st.integers(1, 8000),
        "tokens_in": st.integers(1, 6000),
        "tokens_out": st.integers(1, 2000),
        "usd": st.floats(0.001, 1.0),
        "subcalls": st.integers(0, 12),
    },
)


def dollars(_model, usage):
    return usage.total_tokens / 10_000


class Frugal:
    """Uses a given share of what each request may use, after some steps of the loop; some requests fail."""

    def __init__(self, plans):
        self.plans = plans
        self.used = []

    async def complete(self, request):
        _, _, _, share, steps, fails = self.plans[request.ordinal]
        for _ in range(steps):
            await asyncio.sleep(0)
        if fails:
            raise ModelError("no")
        most_in = len(request.system.encode()) + len(request.messages[0].text.encode())
        usage = Usage(round(share * most_in), round(share * request.max_output_tokens))
        self.used.append((request.kind, usage))
        return Reply("ok", usage=usage)

    async def close(self):
        pass


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plans=PLANS, limits=LIMITS, width=st.integers(1, 20))
def test_whatever_goes_out_side_by_side_a_limit_is_overrun_by_one_request_at_most(plans, limits, width):
    budget = Budget(**limits)
    ledger = Ledger(budget, price=dollars)
    client = Frugal(plans)

    async def ask_all(board):
        requests = [
            Request("m:x", (Message("user", text),), "system" * 20, most, kind, ordinal=number)
            for number, (kind, text, most, *_) in enumerate(plans)
        ]
        return await asyncio.gather(*map(board.complete, requests), return_exceptions=True)

    with Switchboard(lambda _: client, log=MemoryBatchLog(), meter=ledger, width=width) as board:
        results = asyncio.run_coroutine_threadsafe(ask_all(board), board.loop).result(30)

    assert {type(result) for result in results} <= {Reply, ModelError, BudgetSpentError}
    used = [usage for _, usage in client.used]
    sums = {
        "tokens": [usage.total_tokens for usage in used],
        "tokens_in": [usage.input_tokens for usage in used],
        "tokens_out": [usage.output_tokens for usage in used],
        "usd": [dollars("", usage) for usage in used],
        "subcalls": [int(kind in ("sub", "child")) for kind, _ in client.used],
    }
    for name, amounts in sums.items():
        limit = getattr(budget, name)
        if limit is not None:
            assert sum(amounts) - max(amounts, default=0) <= limit + 1e-9, name
    assert budget.subcalls is None or sum(sums["subcalls"]) <= budget.subcalls
    assert ledger.spend.usage == sum(used, Usage())
    refused = [result for result in results if isinstance(result, BudgetSpentError)]
    assert not refused or ledger.subcalls_reached(), "what fits is not refused"


def test_what_the_journal_holds_weighs_on_new_requests_and_not_on_a_turn_that_is_run_again():
    """The turn began below the limit; after a crash it has to be able to begin again."""
    paid = Call("sub", "m:x", "f", 0, "", Reply("", usage=Usage(900, 0)))
    ledger = Ledger(Budget(tokens=800), unmet=[paid])
    assert ledger.reached_within_pass() is None
    with pytest.raises(BudgetSpentError, match="800 tokens"):
        ledger.reserve(Request("m:x", ()))
    ledger.replayed(paid)
    assert (ledger.spend.usage.input_tokens, ledger.spend.subcalls) == (900, 1)
    ledger.replayed(paid)
    ledger.charge_turn(0)
    assert ledger.spend.requests == 1


def test_what_a_turn_that_is_run_again_did_not_ask_for_is_charged_with_its_commit():
    ledger = Ledger(Budget(), unmet=[Call("sub", "m:x", "f", 0, "", Reply("", usage=Usage(9, 1)))])
    ledger.charge_turn(0)
    assert (ledger.spend.usage.total_tokens, ledger.spend.requests) == (10, 1)


def test_time_counts_while_a_turn_is_at_work():
    now = [100.0]
    ledger = Ledger(Budget(wall_s=60), Spend(seconds=50), clock=lambda: now[0])
    ledger.begin_turn(3)
    now[0] += 9
    assert ledger.reserve(Request("m:x", ())) is not None
    assert ledger.left()["seconds"] == 1.0
    now[0] += 2
    with pytest.raises(BudgetSpentError, match="60 seconds"):
        ledger.reserve(Request("m:x", ()))
    ledger.charge_turn(11)
    assert ledger.spend.seconds == 61


def test_what_is_left_goes_by_name_and_none_is_no_limit():
    ledger = Ledger(Budget(passes=3, usd=2.0, subcalls=5, depth=2), Spend(passes=1, subcalls=2, usd=0.5))
    ledger.begin_turn(7)
    assert ledger.left(depth=1) == {
        "passes": 1,
        "turns": 7,
        "tokens": None,
        "tokens_in": None,
        "tokens_out": None,
        "usd": 1.5,
        "seconds": None,
        "subcalls": 3,
        "tool_calls": None,
        "depth": 1,
    }
