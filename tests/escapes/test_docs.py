"""``docs/claims.md`` says what the tests say."""

from tests.escapes.cases import CASES
from tests.escapes.harness import SOURCE, TIERS


def rows():
    lines = (SOURCE / "docs/claims.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return {cell[0]: cell[1:] for cell in cells if len(cell) == 5 and cell[-1].isdigit()}


def test_every_way_out_that_depends_on_the_tier_is_in_the_table():
    shown = rows()
    for case in CASES:
        if case.tiers == "ABC" and case.title not in shown:
            continue
        expected = ["closed" if tier in case.tiers else "open" for tier in TIERS]
        if case.title == "memory bomb in many processes":
            expected = ["group"] * 3
        assert shown[case.title] == [*expected, str(case.number)], case.title


def test_the_table_has_no_way_out_that_is_not_tried():
    tried = {case.title for case in CASES} | {"editing the verifier"}  # in test_runs.py
    assert rows().keys() <= tried
