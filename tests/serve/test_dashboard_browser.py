"""The dashboard in a real browser: axe, wide and narrow, light and dark, live, and without scripts.

``make test`` runs a sample, ``make test-dashboard`` (LOOP_RUNNER_EVERY_PAGE=1) all of it.
"""

import os

import pytest

from tests.support.service import ALICE

axe = pytest.importorskip(
    "axe_playwright_python.sync_playwright", reason="axe is not installed (extra `browser`)"
)
every_page = pytest.mark.skipif(not os.environ.get("LOOP_RUNNER_EVERY_PAGE"), reason="make test-dashboard")
pytestmark = pytest.mark.slow


def logged_in(browser, service, **keys):
    """A page of a new context, after the login form was filled in; and what the console printed."""
    page = browser.new_context(**keys).new_page()
    messages = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.goto(f"{service.url}/")
    assert page.url == f"{service.url}/login"
    page.fill("#token", ALICE)
    page.click("text=Log in")
    page.wait_for_url(f"{service.url}/")
    return page, messages


@every_page
def test_axe_finds_nothing_wrong_and_nothing_is_wider_than_a_phone(browser, service):
    finished = service.start("good", "Which answer? " + "x" * 300)
    live = service.start("slow", "Live?")
    service.wait(finished)
    for width, scheme in ((1280, "light"), (390, "dark")):
        page, _ = logged_in(
            browser,
            service,
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            bypass_csp=True,
        )
        for path in ("/", f"/runs/{finished}", f"/runs/{live}", "/login"):
            page.goto(f"{service.url}{path}")
            violations = [entry["id"] for entry in axe.Axe().run(page).response["violations"]]
            assert violations == [], (path, width, scheme)
            assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, (path, width)
        page.context.close()
    service.http.post(f"/v1/runs/{live}/stop", json={})


def test_a_live_page_shows_new_events_and_the_end_without_a_reload(browser, service):
    run_id = service.start("slow", "Watched?")
    service.wait(run_id, "running")
    page, messages = logged_in(browser, service)
    page.goto(f"{service.url}/runs/{run_id}")
    before = page.locator("#log li").count()
    page.locator("#log li").nth(before + 2).wait_for(timeout=60_000)
    assert not page.is_visible("text=Load the page again")
    page.fill("input[name=text]", "look at line 7")
    page.click("text=Leave the note")
    page.wait_for_selector("text=The model will see the note")
    page.click("button:has-text('Stop')")
    page.wait_for_selector("#state:has-text('cancelled')", timeout=60_000)
    assert page.is_visible("button:has-text('Continue')"), "the page was loaded again at the end"
    assert messages == [], "the policy refuses nothing of the page"
    page.context.close()


@every_page
def test_without_scripts_a_run_is_read_and_stopped(browser, service):
    run_id = service.start("slow", "Without scripts?")
    service.wait(run_id, "running")
    page, _ = logged_in(browser, service, java_script_enabled=False)
    page.goto(f"{service.url}/runs/{run_id}")
    assert page.is_visible("text=Load the page again")
    page.click("button:has-text('Stop')")
    page.wait_for_selector("text=The run will stop.")
    service.wait(run_id)
    page.click("nav >> text=Log out")
    assert page.url == f"{service.url}/login"
    page.context.close()


@every_page
def test_a_report_in_the_dashboard_has_no_session(browser, service):
    run_id = service.start("good", "Reported?")
    service.wait(run_id)
    page, messages = logged_in(browser, service)
    page.goto(f"{service.url}/runs/{run_id}/report")
    assert page.is_visible("text=It is 42.")
    assert page.evaluate("window.origin") == "null"
    page.click("text=Open all passes")
    assert page.evaluate("[...document.querySelectorAll('details.pass')].every((part) => part.open)")
    assert messages == []
    page.context.close()
