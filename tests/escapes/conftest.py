"""Counts what was contained, tier by tier, and prints it at the end."""

from collections import defaultdict

import pytest

from loop_runner.kernel import kernel as kernel_module
from tests.escapes.harness import SECRET, TIERS, report_of

# What part F asks for and no test here expresses, with the reason.
NOT_EXPRESSIBLE = {
    "45b recursion depth": "tests/session/test_subcalls.py tries it; no sandbox is involved",
    "65b an orphan git process": "tests/workspace/test_orphans.py; no sandbox is involved",
}


def pytest_addoption(parser):
    parser.addoption(
        "--ways-out", action="store_true", help="print every way out that was tried, and its end"
    )


@pytest.fixture(params=TIERS)
def tier(request, monkeypatch):
    """Every kernel that is started is confined as this tier says."""
    report = report_of(request.param)
    if isinstance(report, str):
        request.node.user_properties.append(("untested", (request.param, report)))
        pytest.skip(f"TIER {request.param} UNTESTED: {report}")
    monkeypatch.setattr(kernel_module, "probe", lambda _python=None: report)
    monkeypatch.setenv("LOOP_RUNNER_BAIT", SECRET)
    return request.param


@pytest.fixture
def tell(request, tier):
    """Records one way out: (number, title, tried, outcome, what happened)."""

    def record(number, title, tried, outcome, happened):
        shown = (tier, number, title, " ".join(tried.split())[:120], outcome, happened)
        request.node.user_properties.append(("way out", shown))

    return record


def pytest_terminal_summary(terminalreporter, config):
    ways = defaultdict(list)
    for reports in terminalreporter.stats.values():
        for report in reports:
            for kind, shown in getattr(report, "user_properties", ()):
                if kind == "way out" and getattr(report, "when", "") == "call":
                    ways[shown[0]].append(shown[1:])
    if not ways:
        return
    terminalreporter.section("ways out of the sandbox")
    if config.getoption("--ways-out"):
        for tier, shown in ways.items():
            for number, title, tried, outcome, happened in sorted(shown):
                terminalreporter.write_line(
                    f"{tier} {number:2} {title}: {outcome.upper()}\n       tried: {tried}"
                )
                terminalreporter.write_line(f"       what happened: {happened}")
    for tier, shown in sorted(ways.items()):
        outcomes = [outcome for *_, outcome, _ in shown]
        counts = ", ".join(
            f"{outcomes.count(item)} {item}" for item in ("contained", "escaped", "not enforced", "not tried")
        )
        reasons = "; ".join(f"{what}: {why}" for what, why in NOT_EXPRESSIBLE.items())
        terminalreporter.write_line(
            f"tier {tier}: {counts}, {len(NOT_EXPRESSIBLE)} not expressible ({reasons})"
        )
        if open_ways := sorted(title for _, title, _, outcome, _ in shown if outcome == "not enforced"):
            terminalreporter.write_line(f"        not enforced: {'; '.join(open_ways)}")
