"""What a cell may try: contained, reported, and the loop continues."""

import pytest

from tests.escapes.cases import CASES
from tests.escapes.harness import Room, report_of

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_way_out_is_closed_and_the_loop_goes_on(case, tier, tell):
    report = report_of(tier)
    assert not isinstance(report, str)
    if tier in case.untried:
        tell(case.number, case.title, case.code, "not tried", "it could leave this machine or harm it")
        pytest.skip(f"not tried in tier {tier}")
    missing = "" if tier in case.tiers else f"only {' and '.join(case.tiers)} can contain it"
    missing = missing or case.needs(report)
    with Room(tier, report, case.settings) as room:
        if case.before is not None:
            case.before(room)
        result = room.run(case.code)
        try:
            happened, outcome = case.contained(room, result), "contained"
        except AssertionError as error:
            if not missing:
                tell(case.number, case.title, case.code, "escaped", str(error)[:200])
                raise
            happened, outcome = str(error).splitlines()[0][:100], "not enforced"
        went_on = room.goes_on()
        tell(case.number, case.title, case.code, outcome, f"{happened}; {went_on}")
