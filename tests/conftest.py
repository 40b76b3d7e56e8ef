"""For every test: the environment is the suite's own, and skipped tests are counted by reason at the end."""

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from tests.support.isolation import isolate

isolate(os.environ)

from tests.support.model_server import model_server  # noqa: E402 - what it imports must see the isolated environment

__all__ = ["model_server"]


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium, driven by playwright; tests with it are skipped where one of them is missing."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed (extra `browser`)"
    )
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as started:
        result = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield result
        result.close()


_SLOW = Path(__file__).with_name("slow.txt")


def pytest_collection_modifyitems(items):
    """Mark what ``slow.txt`` lists: a file, or a test with all its parameters."""
    slow = {line for line in _SLOW.read_text(encoding="utf-8").splitlines() if not line.startswith("#")}
    for item in items:
        name = item.nodeid.partition("[")[0]
        if name in slow or name.partition("::")[0] in slow:
            item.add_marker(pytest.mark.slow)


def pytest_terminal_summary(terminalreporter):
    """Print each reason for which tests were skipped, with how many were."""
    reasons = Counter(reason(report) for report in terminalreporter.stats.get("skipped", ()))
    for text, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0])):
        terminalreporter.write_line(f"skipped: {count}: {text}")


def reason(report):
    """Why a test was skipped; the reports of tests hold the place and the reason."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return " ".join(text.removeprefix("Skipped: ").split())


def pytest_configure():
    """Marks of run folders that tests create are kept apart from the user's own."""
    os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="loop-runner-tests-state-")


def pytest_unconfigure():
    shutil.rmtree(os.environ["XDG_STATE_HOME"], ignore_errors=True)
