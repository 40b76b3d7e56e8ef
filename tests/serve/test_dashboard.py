"""The dashboard as a browser without scripts uses it: pages, sessions, forms, and what is refused."""

import asyncio
import html
import re
import time

import httpx2
import pytest

from loop_runner.serve import dashboard
from loop_runner.serve import dashboard_pages as pages
from loop_runner.serve.browser_sessions import COOKIE, Sessions
from loop_runner.serve.fault import Fault
from loop_runner.serve.store import Record, Store
from loop_runner.serve.supervisor import Tracked
from loop_runner.serve.tokens import Tokens
from tests.support.service import ALICE, BOB, parsed

pytestmark = pytest.mark.slow
ATTACK = "<script>alert(1)</script>\u202e{{ 7*7 }}\x1b[31m"


class Browser:
    """Cookies and forms, as a browser has them."""

    def __init__(self, url, token=ALICE):
        self.http = httpx2.Client(base_url=url, timeout=60, trust_env=False)
        self.url = url
        if token:
            self.login(token)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.http.close()

    def login(self, token):
        return self.post("/login", token=token)

    def post(self, path, *, headers=None, **fields):
        headers = {"origin": self.url} if headers is None else headers
        return self.http.post(path, data=fields, headers=headers)

    def mark(self, path="/"):
        match = re.search(r'name="form_mark" value="([0-9a-f]+)"', self.http.get(path).text)
        return match[1] if match else ""

    def act(self, run_id, action, **fields):
        return self.post(f"/runs/{run_id}/{action}", form_mark=self.mark(), **fields)

    def text(self, path):
        done = self.http.get(path)
        assert done.status_code == 200, done.text
        return html.unescape(done.text)


@pytest.fixture
def browser(service):
    with Browser(service.url) as result:
        yield result


@pytest.fixture
def guest(service):
    with Browser(service.url, token=None) as result:
        yield result


@pytest.fixture
def other(service):
    """The holder of another token."""
    with Browser(service.url, BOB) as result:
        yield result


@pytest.fixture(scope="module")
def finished(service):
    """A run that ended verified, of a question with what must never become markup."""
    run_id = service.start("good", f"Which answer? {ATTACK}")
    service.wait(run_id)
    return run_id


# ── pages ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_list_names_the_callers_runs_and_filters_by_state(browser, other, finished):
    page = browser.text("/")
    assert f"/runs/{finished}" in page
    assert f"/runs/{finished}" in browser.text("/?state=verified")
    assert f"/runs/{finished}" not in browser.text("/?state=failed")
    assert f"/runs/{finished}" not in other.text("/")


def test_a_finished_run_shows_its_answer_its_verdicts_and_what_happened(browser, finished):
    page = browser.text(f"/runs/{finished}")
    for text in (
        "It is 42.",
        "accepted",
        "pass 1: verifying",
        "there is nothing to steer",
        "The whole report",
    ):
        assert text in page
    assert "data-live" not in page


def test_nothing_of_a_question_becomes_markup_or_hides_text(browser, finished):
    for path in ("/", f"/runs/{finished}", "/?state=<script>alert(2)</script>"):
        raw = browser.http.get(path).text
        assert "<script>alert" not in raw
        assert "\u202e" not in raw
        assert "\x1b" not in raw
    assert "{{ 7*7 }}" in browser.text(f"/runs/{finished}")


def test_pages_load_from_this_server_only_and_run_no_script_of_their_own(browser, finished):
    for path in ("/", f"/runs/{finished}", "/login"):
        response = browser.http.get(path)
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert response.headers["referrer-policy"] == "same-origin"
        assert not re.search(r"<script>|\son\w+=|style=|https?://", response.text)
    assert browser.http.get("/static/dashboard.js").headers["content-type"].startswith("text/javascript")
    assert browser.http.get("/static/base.html.j2").status_code == 404
    assert browser.http.get("/static/..%2fapp.py").status_code == 404


def test_the_report_is_served_to_both_and_has_no_origin(service, browser, finished):
    for response in (
        browser.http.get(f"/runs/{finished}/report"),
        service.http.get(f"/v1/runs/{finished}/report"),
    ):
        assert response.status_code == 200
        assert "It is 42." in response.text
        assert "<script>alert" not in response.text
        assert response.headers["content-security-policy"].startswith("sandbox allow-scripts;")
    other = {"authorization": f"Bearer {BOB}"}
    assert service.http.get(f"/v1/runs/{finished}/report", headers=other).status_code == 404


def test_a_run_that_waits_in_the_queue_has_a_page_and_no_report_yet(tmp_path):
    store = Store(tmp_path / "service", tmp_path / "runs")
    run = Tracked(Record("queued-run", "alice", "runs", "good", "Queued?", ""), store)
    page = pages.of_run(run, form_mark="0" * 64, owner="alice")
    for text in ("queued", "Load the page again", "/queued-run/pause", "/queued-run/stop", "data-live"):
        assert text in page
    assert "/queued-run/note" not in page
    with pytest.raises(Fault) as caught:
        asyncio.run(dashboard.report(run))
    assert (caught.value.status, caught.value.code) == (409, "no_report_yet")
    store.close()


def test_the_stream_gives_lines_to_show_and_ends(browser, finished):
    with browser.http.stream("GET", f"/runs/{finished}/events?since=0") as response:
        events = list(parsed(response.iter_lines()))
    assert events[0] == ("state", {"state": "verified"})
    assert ("line", {"text": "pass 1: verifying"}) in events
    assert events[-1] == ("end", {"state": "verified"})
    with browser.http.stream(
        "GET", f"/runs/{finished}/events", headers={"last-event-id": "9999"}
    ) as response:
        assert [kind for kind, _ in parsed(response.iter_lines())] == ["state", "end"]


# ── steering ────────────────────────────────────────────────────────────────────────────────────────


def test_a_live_run_is_steered_by_its_forms(service, browser):
    run_id = service.start("slow", "Steered?")
    service.wait(run_id, "running")
    while not (service.runs / run_id / ".git/loop-runner/events.jsonl").exists():
        time.sleep(0.05)
    done = browser.act(run_id, "note", text="look at line 7")
    assert (done.status_code, done.headers["location"]) == (303, f"/runs/{run_id}?done=note")
    assert "The model will see the note" in browser.text(done.headers["location"])
    assert browser.act(run_id, "budget", limit="turns", value="44").status_code == 303
    assert browser.act(run_id, "pause").status_code == 303
    service.wait(run_id, "paused")
    page = browser.text(f"/runs/{run_id}")
    assert 'action="/runs/' in page
    assert "/resume" in page
    assert "/note" not in page, "a form that makes no sense now is not there"
    assert browser.act(run_id, "resume").status_code == 303
    service.wait(run_id, "running", "queued")
    assert browser.act(run_id, "stop").status_code == 303
    assert service.wait(run_id)["state"] == "cancelled"


@pytest.mark.parametrize(
    ("action", "fields", "status", "words"),
    [
        ("pause", {}, 409, "the run has ended"),
        ("stop", {}, 409, "the run has ended"),
        ("resume", {}, 409, "the run is verified"),
        ("note", {}, 400, "the field `text` is empty"),
        ("note", {"text": "  "}, 400, "the field `text` is empty"),
        ("note", {"text": "x"}, 409, "the run has ended"),
        ("budget", {"limit": "usd", "value": "much"}, 400, "is no number"),
        ("budget", {"limit": "usd", "value": "nan"}, 400, "must be a positive number"),
        ("budget", {"limit": "usd", "value": "-1"}, 400, "must be a positive number"),
        ("budget", {"limit": "<b>", "value": "1"}, 400, "a budget has positive numbers"),
        ("approve", {}, 409, "the run has ended"),
        ("reject", {"why": "x"}, 409, "the run has ended"),
    ],
)
def test_what_cannot_be_done_is_said_on_the_page(browser, finished, action, fields, status, words):
    done = browser.act(finished, action, **fields)
    assert done.status_code == status
    assert words in html.unescape(done.text)
    assert 'role="alert"' in done.text


# ── who may ─────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_session_every_page_leads_to_the_login(guest, finished):
    for path in ("/", f"/runs/{finished}", f"/runs/{finished}/report"):
        response = guest.http.get(path)
        assert (response.status_code, response.headers["location"]) == (303, "/login")
    assert guest.http.get(f"/runs/{finished}/events").status_code == 401
    assert guest.post(f"/runs/{finished}/stop").headers["location"] == "/login"
    refused = guest.login("x" * 40)
    assert refused.status_code == 403
    assert "set-cookie" not in refused.headers


def test_a_session_is_for_the_dashboard_only(browser):
    assert browser.http.cookies.get(COOKIE)
    for path in ("/v1/runs", "/v1/models", "/metrics", "/x", "/v1/files"):
        assert browser.http.get(path).status_code == 401, path


def test_a_run_of_another_token_is_not_there(other, finished):
    assert other.http.get(f"/runs/{finished}").status_code == 404
    assert other.http.get(f"/runs/{finished}/report").status_code == 404
    assert other.http.get(f"/runs/{finished}/events").status_code == 404
    assert other.act(finished, "stop").status_code == 404


@pytest.mark.parametrize(
    ("headers", "mark", "status"),
    [
        ({"origin": "https://evil.example"}, "own", 403),
        ({"origin": "null"}, "own", 403),
        ({}, "own", 403),
        ({"sec-fetch-site": "cross-site"}, "own", 403),
        (None, "", 403),
        (None, "0" * 64, 403),
        (None, "of another session", 403),
        ({"sec-fetch-site": "same-origin"}, "own", 409),
        (None, "own", 409),
    ],
)
def test_a_form_that_this_session_did_not_get_changes_nothing(
    service, browser, finished, headers, mark, status
):
    with Browser(service.url) as another:
        given = {"own": browser.mark(), "of another session": another.mark()}.get(mark, mark)
    # 409: the form was accepted, and the run has nothing to stop.
    assert browser.post(f"/runs/{finished}/stop", form_mark=given, headers=headers).status_code == status


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/json", b'{"token": "x"}', 415),
        ("text/plain", b"token=x", 415),
        ("multipart/form-data; boundary=x", b"--x--", 415),
        ("application/x-www-form-urlencoded", "é".encode(), 400),
        ("application/x-www-form-urlencoded", b"token=%ff", 400),
        ("application/x-www-form-urlencoded", b"&".join(b"a=1" for _ in range(50)), 400),
        ("application/x-www-form-urlencoded", b"token=" + b"x" * 200_000, 413),
    ],
)
def test_odd_forms_are_refused(guest, kind, body, status):
    headers = {"content-type": kind, "origin": guest.url}
    assert guest.http.post("/login", content=body, headers=headers).status_code == status


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(guest):
    given = guest.login(ALICE).headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(given.split("; "))
    assert ALICE not in given


def test_logging_out_ends_the_session_in_the_browser(browser):
    done = browser.post("/logout", form_mark=browser.mark())
    assert done.headers["location"] == "/login"
    assert browser.http.get("/").headers["location"] == "/login"


def test_sessions_are_signed_survive_a_restart_and_end_with_their_token():
    tokens = {"alice": ALICE, "bob": BOB}
    sessions = Sessions(Tokens(tokens), is_secure=True)
    given = sessions.cookie("alice")
    assert given.endswith("; Secure")
    cookie = given.partition(";")[0]
    assert Sessions(Tokens(tokens), is_secure=True).name_of([cookie]) == "alice"
    assert Sessions(Tokens({"alice": "another-token-0123456"}), is_secure=True).name_of([cookie]) == ""
    assert Sessions(Tokens({"bob": BOB}), is_secure=True).name_of([cookie]) == ""
    forged = (
        cookie.replace("alice", "bob"),
        cookie[:-1] + ("0" if cookie[-1] != "0" else "1"),
        cookie.replace("~", "~9", 1),
        f"{cookie}; {COOKIE}=x",
        f"{COOKIE}={'~'.join(['alice', '9' * 12, '0' * 32, '0' * 64])}",
        f"{COOKIE}=" + "x" * 9000,
        "a=\x00; b",
        "",
    )
    for text in forged:
        assert sessions.name_of([text]) == "", text
    assert sessions.name_of([cookie, cookie]) == ""


def test_a_session_lasts_half_a_day(monkeypatch):
    sessions = Sessions(Tokens({"alice": ALICE}), is_secure=False)
    cookie = sessions.cookie("alice").partition(";")[0]
    later = time.time() + 12 * 3600 + 1
    monkeypatch.setattr(time, "time", lambda: later)
    assert sessions.name_of([cookie]) == ""
