"""Notifications: which events are sent, to whom, signed how, and that a run never pays for them."""

import hashlib
import hmac
import http.server
import json
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from loop_runner import redaction
from loop_runner.errors import ConfigError
from loop_runner.events import Event
from loop_runner.runs import notify
from loop_runner.runs.notify import Message, Notifier, Target

SECRET = "a-long-secret-of-the-receiver"
MESSAGE = Message("verified", "runs/x", "all accepted")


@pytest.fixture(autouse=True)
def _own_secrets(monkeypatch):
    monkeypatch.setattr(redaction, "_known", redaction._Known())


@pytest.fixture
def receiver():
    """A server on loopback that keeps the requests it is sent."""
    kept = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept.append((self.path, dict(self.headers), body))
            self.send_response(302 if self.path == "/moved" else 204)
            self.send_header("Location", "/stolen")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", kept
    server.shutdown()
    server.server_close()


def sent(target, message=MESSAGE, **env):
    """The exit code of the process that sends it."""
    return notify.start(target, message, {"PATH": "/usr/bin:/bin", **env}).wait(40)


# ── targets ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "spec",
    [
        "${ADDRESS}",
        "slack://${TOKEN}/x",
        {"apprise": "${ADDRESS}"},
        {"command": ["notify-send", "x"]},
        {"command": "true"},
        {"webhook": "https://example.org/hook", "secret": "HOOK_SECRET"},
        {"webhook": "${HOOK}", "secret": "HOOK_SECRET"},
    ],
)
def test_a_task_may_name(spec):
    (target,) = notify.parsed([spec])
    assert notify.parsed([target]) == (target,)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("slack://TokenA/TokenB", "written out"),
        ("mailto://me:pass@example.org", "written out"),
        ("nonsense", "no address"),
        ("", "a target"),
        (3, "a target"),
        ({}, "a target"),
        ({"command": []}, "no list"),
        ({"command": [3]}, "no list"),
        ({"command": ["x"], "webhook": "https://x", "secret": "S"}, "a target"),
        ({"webhook": "https://x"}, "no variable"),
        ({"webhook": "https://x", "secret": "not a name"}, "no variable"),
        ({"webhook": "file:///etc/passwd", "secret": "S"}, "no address"),
        ({"webhook": "https://user:pass@x/", "secret": "S"}, "written out"),
        ({"webhook": "https://x/?token=1", "secret": "S"}, "written out"),
        ({"webhook": "https://x", "secret": "S", "retry": 3}, "no key"),
    ],
)
def test_a_task_may_not_name(spec, message):
    with pytest.raises(ConfigError, match=message):
        notify.parsed([spec])


def test_the_users_own_settings_may_write_an_address_out():
    assert notify.parsed(["slack://TokenA/TokenB"], is_own=True)[0].address == "slack://TokenA/TokenB"


def test_what_is_shown_of_a_target_has_no_secret():
    targets = notify.parsed(
        ["slack://TokenA/TokenB", {"webhook": "https://x/tok", "secret": "S"}], is_own=True
    )
    assert [target.shown() for target in targets] == ["apprise slack://…", "webhook https://…"]


# ── sending ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_webhook_is_signed_with_the_secret_of_the_environment(receiver):
    url, kept = receiver
    assert sent(Target("webhook", f"{url}/hook", secret="HOOK_SECRET"), HOOK_SECRET=SECRET) == 0
    ((path, headers, body),) = kept
    assert path == "/hook"
    assert json.loads(body) | {"at": 0} == {
        "event": "verified",
        "run": "runs/x",
        "text": "all accepted",
        "at": 0,
    }
    signed = f"{headers['X-Loop-Runner-Timestamp']}.".encode() + body
    expected = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    assert headers["X-Loop-Runner-Signature"] == f"sha256={expected}"
    assert abs(int(headers["X-Loop-Runner-Timestamp"]) - time.time()) < 60


def test_a_webhook_is_not_sent_anywhere_else_than_named(receiver):
    url, kept = receiver
    assert sent(Target("webhook", f"{url}/moved", secret="HOOK_SECRET"), HOOK_SECRET=SECRET) == 1
    assert [path for path, _, _ in kept] == ["/moved"]


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://127.0.0.1/x", "${UNSET}"])
def test_a_webhook_goes_to_http_only(address):
    assert sent(Target("webhook", address, secret="HOOK_SECRET"), HOOK_SECRET=SECRET) == 1


def test_an_unsigned_webhook_is_not_sent(receiver):
    url, kept = receiver
    assert sent(Target("webhook", url, secret="HOOK_SECRET")) == 1
    assert kept == []


def test_a_command_is_given_the_message(tmp_path):
    file = str(tmp_path / "x")
    code = (
        "import os, sys\n"
        f"open({file!r}, 'w').write(sys.stdin.read() + os.environ['LOOP_RUNNER_NOTIFY_EVENT'])"
    )
    assert sent(Target("command", command=(sys.executable, "-c", code))) == 0
    text = (tmp_path / "x").read_text()
    assert text.endswith("verified")
    assert json.loads(text.removesuffix("verified"))["run"] == "runs/x"


@pytest.mark.parametrize("command", [("false",), ("/no/such/program",), ("sh", "-c", "kill -9 $$")])
def test_a_command_that_fails_is_no_fault_of_the_run(command):
    assert sent(Target("command", command=command)) == 1


def test_apprise_sends_to_its_addresses(receiver):
    pytest.importorskip("apprise", reason="apprise is not installed (extra `notify`)")
    url, kept = receiver
    address = url.replace("http://", "json://")
    assert sent(Target("apprise", "${ADDRESS}"), ADDRESS=address) == 0
    assert b"runs/x: verified" in kept[0][2]


def test_an_address_and_a_secret_are_in_no_list_of_processes(tmp_path):
    target = Target("command", command=("sleep", "5"), secret="HOOK_SECRET")
    child = notify.start(target, MESSAGE, {"PATH": "/usr/bin:/bin", "HOOK_SECRET": SECRET})
    line = Path(f"/proc/{child.pid}/cmdline").read_bytes()
    child.kill()
    child.wait()
    assert SECRET.encode() not in line


# ── events ──────────────────────────────────────────────────────────────────────────────────────────


class Recorded(Notifier):
    """A notifier that keeps what it would send."""

    def __init__(self):
        super().__init__("runs/x", [Target("command", command=("true",))], {})
        self.events = []

    def send(self, event, text):
        self.events.append((event, text))


def heard(*events):
    notifier = Recorded()
    for event in events:
        notifier(event)
    return [event for event, _ in notifier.events]


def ended(status):
    return Event("run_ended", "why", data={"status": status})


@pytest.mark.parametrize("status", ["verified", "unverified", "broken", "blocked"])
def test_the_end_of_a_run_is_sent(status):
    assert heard(ended(status)) == [status]


@pytest.mark.parametrize("event", [ended("interrupted"), Event("notice", "x"), Event("pass_started", "x")])
def test_what_a_person_at_the_desk_does_is_not_sent(event):
    assert heard(event) == []


def test_a_run_that_waits_for_a_person_is_sent():
    assert heard(Event("waiting", "May I?")) == ["waiting"]


def test_four_fifths_of_a_limit_are_sent_once_for_each_limit():
    events = [
        Event("turn_committed", budget={"usd": (used, 10.0), "passes": (1, 10), "turns": (9, 10)})
        for used in (7.9, 8.0, 9.0, 10.0)
    ]
    more = Event("turn_committed", budget={"tokens": (80, 100)})
    assert heard(*events, more) == ["budget", "budget"]


def test_a_limit_that_was_passed_before_a_resume_is_not_sent_again():
    budget = {"usd": (9.0, 10.0)}
    assert heard(Event("run_started", budget=budget), Event("turn_committed", budget=budget)) == []


def test_the_last_pass_of_a_verified_run_is_no_warning():
    accepted = Event("pass_ended", data={"outcome": "accepted"}, budget={"passes": (1, 1)})
    assert heard(accepted, ended("verified")) == ["verified"]


def test_an_unlimited_or_empty_budget_is_no_warning():
    assert heard(Event("turn_committed", budget={"usd": (5.0, None), "tokens": (0, 0)})) == []


# ── what it costs the run ───────────────────────────────────────────────────────────────────────────


def test_a_receiver_that_never_answers_holds_up_nothing():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        targets = [Target("webhook", address, secret="HOOK_SECRET")] * 3
        notifier = Notifier("runs/x", targets, {"HOOK_SECRET": SECRET})
        began = time.perf_counter()
        notifier(ended("verified"))
        assert time.perf_counter() - began < 5
    threads = [thread for thread in threading.enumerate() if thread.name == "loop-runner-notify"]
    assert all(thread.daemon for thread in threads)


def test_a_process_that_cannot_be_started_is_no_error(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    Notifier("runs/x", [Target("command", command=("true",))], {})(ended("verified"))


def test_the_secrets_of_targets_are_redacted_from_now_on():
    Notifier("runs/x", notify.parsed(["slack://TokenA/TokenB"], is_own=True), {})
    assert "TokenB" not in redaction.clean("cannot reach slack://TokenA/TokenB")
    Notifier("runs/x", notify.parsed(["${WHERE}"]), {"WHERE": "slack://TokenC/TokenD"})
    assert "TokenD" not in redaction.clean("cannot reach slack://TokenC/TokenD")
