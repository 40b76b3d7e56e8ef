"""The report in a real browser: axe finds nothing wrong, light and dark, wide and narrow, open and closed."""

import shutil

import pytest

from loop_runner.report import all_runs
from tests.report.test_report import ANSWER, ATTACKS, audit_answer, make_run

axe = pytest.importorskip(
    "axe_playwright_python.sync_playwright", reason="axe is not installed (extra `browser`)"
)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    task = {"verifiers": [{"findings": {"rules": {"no-port": "error"}}}]}
    attack = " ".join(ATTACKS)
    scenes = {
        "verified": make_run(folder / "verified", answers=["no idea", ANSWER]),
        "audit": make_run(folder / "audit", answers=[audit_answer()], task=task),
        "attacked": make_run(folder / "attacked", answers=[attack, attack], attack=attack, accepted=False),
    }
    for name, run in scenes.items():
        shutil.copytree(run, folder / "runs" / name)
    all_runs.write(folder / "runs", folder / "out")
    return folder / "out"


@pytest.mark.parametrize("name", ["index", "runs/verified", "runs/audit", "runs/attacked"])
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "light"), (1280, "dark")])
def test_axe_finds_nothing_wrong(browser, pages, name, width, scheme):
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True
    )
    page = context.new_page()
    page.goto((pages / f"{name}.html").as_uri())
    closed = axe.Axe().run(page)
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    opened = axe.Axe().run(page)
    width_over = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    context.close()
    for result in (closed, opened):
        assert [entry["id"] for entry in result.response["violations"]] == []
    assert width_over <= 0


def test_the_browser_refuses_nothing_of_the_page_and_runs_nothing_of_others(browser, pages):
    context = browser.new_context()
    page = context.new_page()
    messages, requests = [], []
    page.on("console", lambda message: messages.append(message.text))
    page.on("dialog", lambda dialog: messages.append(dialog.message))
    page.on("request", lambda request: requests.append(request.url))
    address = (pages / "runs/attacked.html").as_uri()
    page.goto(address)
    page.click("text=Open all passes")
    opened = page.evaluate("[...document.querySelectorAll('details.pass')].every((part) => part.open)")
    context.close()
    assert messages == []
    assert requests == [address]
    assert opened


def test_without_scripts_the_answer_the_proof_and_each_pass_are_readable(browser, pages):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((pages / "runs/verified.html").as_uri())
    page.click("summary:has-text('The port is 8080.')")
    assert page.is_visible("text=line 20 of the text")
    assert page.is_visible("text=loop-runner verify")
    page.click("#pass-1 > summary")
    assert page.is_visible("#pass-1 .verdict")
    context.close()


@pytest.mark.parametrize("name", ["runs/verified", "runs/audit"])
def test_no_short_word_of_a_table_is_broken_on_a_phone(browser, pages, name):
    context = browser.new_context(viewport={"width": 390, "height": 900})
    page = context.new_page()
    page.goto((pages / f"{name}.html").as_uri())
    broken = page.evaluate(
        """() => [...document.querySelectorAll('td')]
            .filter(cell => cell.children.length === 0 && /^\\S{1,10}$/.test(cell.textContent.trim()))
            .filter(cell => {
                const range = document.createRange();
                range.selectNodeContents(cell);
                return new Set([...range.getClientRects()].map(box => box.top)).size > 1;
            }).map(cell => cell.textContent)"""
    )
    context.close()
    assert broken == []
