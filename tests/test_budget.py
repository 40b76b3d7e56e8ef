"""The ledger: what is counted, and which limit ends what."""

from loop_runner.budget import Budget, Ledger
from loop_runner.records import Spend, Usage


def test_requests_turns_and_passes_add_up_on_top_of_what_was_spent_before():
    ledger = Ledger(Budget(), Spend(usage=Usage(10, 1), passes=1, turns=2, requests=3, usd=0.5))
    ledger.charge_request(Usage(100, 20, 5, 6), 0.25, is_subcall=True)
    ledger.charge_turn(2.0)
    ledger.charge_pass(1.5)
    spend = ledger.spend
    assert spend.usage == Usage(110, 21, 5, 6)
    assert (spend.passes, spend.turns, spend.requests, spend.subcalls) == (2, 3, 4, 1)
    assert (spend.seconds, spend.usd) == (3.5, 0.75)


def test_one_request_with_an_unknown_price_makes_the_cost_unknown():
    ledger = Ledger(Budget(usd=1.0))
    ledger.charge_request(Usage(1, 1), None, is_subcall=False)
    ledger.charge_request(Usage(1, 1), 0.5, is_subcall=False)
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
    assert Ledger(Budget(tokens=1), Spend(usage=Usage(1, 0))).reached_within_pass() == "1 tokens"


def test_zero_subcalls_refuses_the_first_one():
    assert Ledger(Budget(subcalls=0)).subcalls_reached() == "0 sub-calls"
    assert Ledger(Budget(subcalls=1)).subcalls_reached() is None


def test_what_is_left_names_only_the_limits_that_are_set():
    line = Ledger(Budget(passes=3, tokens=1000), Spend(passes=1, usage=Usage(400, 0))).describe_left()
    assert line == "2 of 3 passes, 600 tokens"
