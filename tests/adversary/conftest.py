"""Prints "held" or "failed" for each attack, and skips all in a tier other than the one asked for."""

import pytest

from loop_runner.sandbox.probe import probe


def pytest_addoption(parser):
    parser.addoption("--attacks", action="store_true", help="print held or failed for each attack")
    parser.addoption("--expect-tier", help="skip every attack if this machine gives another tier")
    parser.addoption(
        "--sample", metavar="FIRST/STEP", help="of each attack's rows, FIRST and each STEP-th after"
    )


def pytest_collection_modifyitems(config, items):
    """Leave out the rows that ``--sample`` does not ask for; an attack with few rows keeps one."""
    if not (sample := config.getoption("--sample", None)):
        return
    first, step = map(int, sample.split("/"))
    rows: dict[str, list[pytest.Item]] = {}
    for item in items:
        rows.setdefault(item.nodeid.partition("[")[0], []).append(item)
    kept = {id(item) for group in rows.values() for item in group[first % min(step, len(group)) :: step]}
    config.hook.pytest_deselected(items=[item for item in items if id(item) not in kept])
    items[:] = [item for item in items if id(item) in kept]


@pytest.fixture(scope="session")
def tier(request):
    """The sandbox tier of this run."""
    here, expected = probe().tier, request.config.getoption("--expect-tier", None)
    if expected and here != expected:
        pytest.skip(f"TIER {expected} UNTESTED: this machine gives tier {here}")
    return here


@pytest.fixture(autouse=True)
def _in_the_expected_tier(tier):
    """No attack counts as held in a tier that it was not run in."""


def pytest_terminal_summary(terminalreporter, config):
    if not config.getoption("--attacks", False):
        return
    terminalreporter.section("attacks")
    for outcome, word in (
        ("passed", "held"),
        ("failed", "FAILED"),
        ("error", "FAILED"),
        ("skipped", "untested"),
    ):
        for report in terminalreporter.stats.get(outcome, ()):
            if outcome != "passed" or report.when == "call":
                terminalreporter.write_line(f"{word:8} {report.nodeid.split('::', 1)[-1]}")
