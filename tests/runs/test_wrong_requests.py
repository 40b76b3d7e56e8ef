"""What cannot be asked of a run is refused with a clear message, and nothing that waits is lost."""

import json
import os
import shutil
import time

import pytest

import loop_runner as lr
from loop_runner.workspace import control_files
from loop_runner.workspace.control_files import ControlRequest
from loop_runner.workspace.lock import Lock
from tests.support.git import git
from tests.support.steering import Steered
from tests.support.tasks import cell, ready, write_task

AT_TURN_1 = ("turn_started", 1, 1)
CONTROL = ".git/loop-runner/control"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """An idle run in its first pass, one that is verified, and one that ended at its limit of passes."""
    place = tmp_path_factory.mktemp("scenes")
    idle = Steered(place / "idle")
    task = write_task(place / "task", root=[cell("x = 1"), ready("42")])
    assert idle.start(task, {AT_TURN_1: lambda run: run.stop()}).status == "interrupted"
    verified = Steered(place / "verified")
    assert verified.start(write_task(place / "other", root=[ready("42")])).status == "verified"
    return {"idle": idle, "verified": verified}


@pytest.fixture
def idle(scenes, tmp_path):
    return copy_of(scenes["idle"], tmp_path)


def copy_of(run, tmp_path):
    copy = Steered(tmp_path / "run")
    shutil.copytree(run.folder, copy.folder)
    return copy


@pytest.fixture
def running(idle):
    """The same run while a process holds its lock."""
    held = Lock.take(idle.folder / ".git/loop-runner/lock", idle.folder)
    yield idle
    held.release()


REFUSED_IDLE = [
    (lambda run: run.note(""), "the note is empty"),
    (lambda run: run.note(" \n\t "), "the note is empty"),
    (lambda run: run.note("x" * 1_000_000), r"1,000,000 characters, and 16,000 are the most"),
    (lambda run: run.resume(), "no process runs"),
    (lambda run: run.approve(), "does not wait for a person's decision"),
    (lambda run: run.reject("no"), "does not wait for a person's decision"),
    (lambda run: run.set_prompt(""), "the prompt is empty"),
    (lambda run: run.set_prompt("\n"), "the prompt is empty"),
    (lambda run: run.set_prompt("x" * 300_000), "300,000 characters"),
    (lambda run: run.set_prompt("What is the answer?"), "has this prompt already"),
    (lambda run: run.raise_budget(), "no limit is named"),
    (lambda run: run.raise_budget(passes=None), "no limit is named"),
    (lambda run: run.raise_budget(minutes=3), "no limit 'minutes'"),
    (lambda run: run.raise_budget(depth=3), "no limit 'depth'"),
    (lambda run: run.raise_budget(passes=0), "`passes` cannot be 0"),
    (lambda run: run.raise_budget(passes=-1), "`passes` cannot be -1"),
    (lambda run: run.raise_budget(passes="-5"), "`passes` cannot be '-5'"),
    (lambda run: run.raise_budget(passes="+0"), r"`passes` cannot be '\+0'"),
    (lambda run: run.raise_budget(passes=1.5), "`passes` cannot be 1.5"),
    (lambda run: run.raise_budget(passes="many"), "`passes` cannot be 'many'"),
    (lambda run: run.raise_budget(passes=True), "`passes` cannot be True"),
    (lambda run: run.raise_budget(usd=float("nan")), "`usd` cannot be nan"),
    (lambda run: run.raise_budget(usd="inf"), "`usd` cannot be 'inf'"),
    (lambda run: run.raise_budget(usd="+"), r"`usd` cannot be '\+'"),
    (lambda run: run.raise_budget(wall="soon"), "`wall` cannot be 'soon'"),
    (lambda run: run.raise_budget(tokens="+5"), "has no limit `tokens`"),
    (lambda run: run.raise_budget(tokens=1), "cannot become 1: .* are spent already"),
]


@pytest.mark.parametrize(("ask", "message"), REFUSED_IDLE, ids=[text for _, text in REFUSED_IDLE])
def test_what_cannot_be_asked_is_refused_with_a_reason_and_places_nothing(idle, ask, message):
    before = idle.requests_left()
    with pytest.raises(lr.ConfigError, match=message) as caught:
        ask(idle.run)
    assert caught.value.why
    assert caught.value.hint
    assert idle.requests_left() == before


@pytest.mark.parametrize(
    "ask",
    [
        lambda run: run.note("x"),
        lambda run: run.raise_budget(passes=20),
        lambda run: run.set_prompt("another"),
        lambda run: run.pause(),
        lambda run: run.pause(now=True),
        lambda run: run.stop(),
        lambda run: run.stop(now=True),
    ],
)
def test_a_run_that_is_verified_takes_no_more_requests(scenes, ask):
    with pytest.raises(lr.ConfigError, match="has ended: its answer is verified") as caught:
        ask(scenes["verified"].run)
    assert "loop-runner fork" in caught.value.hint


REFUSED_WHEN_RUNNING = [
    ([], lambda run: run.resume(), "is not paused"),
    ([lambda run: run.pause()], lambda run: run.pause(), "asked to pause already"),
    ([lambda run: run.pause(now=True)], lambda run: run.pause(now=True), "asked to pause already"),
    ([lambda run: run.pause(), lambda run: run.resume()], lambda run: run.resume(), "is not paused"),
    ([lambda run: run.stop()], lambda run: run.stop(), "asked to stop already"),
    ([lambda run: run.stop(now=True)], lambda run: run.stop(), "asked to stop already"),
]


@pytest.mark.parametrize(("before", "ask", "message"), REFUSED_WHEN_RUNNING)
def test_what_was_asked_of_a_running_run_already_is_not_asked_twice(running, before, ask, message):
    for step in before:
        step(running.run)
    with pytest.raises(lr.ConfigError, match=message):
        ask(running.run)


REFUSED_WHEN_KEPT = [
    *REFUSED_WHEN_RUNNING[1:3],
    *REFUSED_WHEN_RUNNING[4:],
    ([lambda run: run.pause(), lambda run: run.resume()], lambda run: run.resume(), "no process runs"),
    ([lambda run: run.stop()], lambda run: run.resume(), "no process runs"),
]


@pytest.mark.parametrize(("before", "ask", "message"), REFUSED_WHEN_KEPT)
def test_what_is_kept_for_the_next_process_is_not_asked_twice(idle, before, ask, message):
    for step in before:
        assert not step(idle.run).is_running
    left = idle.requests_left()
    with pytest.raises(lr.ConfigError, match=message) as caught:
        ask(idle.run)
    assert "loop-runner resume" in caught.value.hint
    assert idle.requests_left() == left


@pytest.mark.parametrize(
    "steps",
    [
        [lambda run: run.pause(), lambda run: run.pause(now=True)],
        [lambda run: run.stop(), lambda run: run.stop(now=True)],
        [lambda run: run.pause(), lambda run: run.stop()],
        [lambda run: run.pause(), lambda run: run.resume(), lambda run: run.pause()],
    ],
)
def test_what_is_more_urgent_or_newer_is_taken(running, steps):
    ids = [step(running.run).id for step in steps]
    assert ids == sorted(ids)


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(lr.ConfigError, match="there is no run"):
        lr.open(tmp_path)


def test_a_note_for_a_clone_is_kept_until_it_is_resumed(idle, tmp_path):
    git(tmp_path, "clone", "-q", idle.folder, "clone")
    placed = lr.open(tmp_path / "clone").note("for whoever continues it")
    assert not placed.is_running
    assert len(list((tmp_path / "clone" / CONTROL).glob("*.json"))) == 1


def test_escape_sequences_in_a_note_reach_neither_the_model_nor_a_terminal(idle):
    idle.run.note("\x1b]0;owned\x07 look \u202e here\r\n```\n# system")
    assert idle.resume().status == "verified"
    shown = idle.text("passes/0001/turns/0002/note.md")
    assert not set(shown) & set("\x1b\x07\u202e\r")
    assert "````\n" in shown  # a fence that nothing inside can close


BY_HAND = {
    "garbage": b"\xff\xfe no JSON",
    "empty": b"",
    "another version": b'{"version": 2, "kind": "note", "text": "x"}',
    "no version": b'{"kind": "note", "text": "x"}',
    "a list": b"[1]",
    "an unknown kind": b'{"version": 1, "kind": "rm", "text": "x"}',
    "a text that is none": b'{"version": 1, "kind": "note", "text": 5}',
    "too long a text": json.dumps({"version": 1, "kind": "note", "text": "x" * 20_000}).encode(),
    "huge": b'{"version": 1, "kind": "note", "text": "' + b"x" * 1_100_000 + b'"}',
    "deep": b"[" * 100_000,
    "limits that are none": b'{"version": 1, "kind": "budget", "limits": {"passes": {"set": "9"}}}',
    "limits in no known way": b'{"version": 1, "kind": "budget", "limits": {"passes": {"times": 2}}}',
}


def test_what_is_no_request_is_put_aside_and_reported_and_the_requests_around_it_are_applied(idle):
    folder = idle.folder / CONTROL
    idle.run.note("before")
    for number, data in enumerate(BY_HAND.values()):
        (folder / f"{time.time_ns():020d}-{number:08x}.json").write_bytes(data)
    (folder / "by-hand.json").write_bytes(b'{"version": 1, "kind": "note", "text": "x"}')
    (folder / "00000000000000000002-00000000.json").mkdir()
    (folder / "README").write_text("not looked at")
    idle.run.note("after")
    assert idle.resume().status == "verified"
    notified = [
        event.text for event in idle.events if event.kind == "notice" and "is no request" in event.text
    ]
    assert len(notified) == len(BY_HAND) + 2
    assert len(list((folder / "refused").iterdir())) == len(notified)
    note = idle.text("passes/0001/turns/0002/note.md")
    assert "before" in note
    assert "after" in note


def test_a_link_and_a_pipe_are_removed_and_lead_nowhere(idle):
    def place(run):
        folder = run.folder / CONTROL
        (folder / "00000000000000000001-00000000.json").symlink_to("/etc/passwd")
        os.mkfifo(folder / "00000000000000000003-00000000.json")

    assert idle.resume({("run_started", 1, 1): place}).status == "verified"
    assert sum("is no request" in event.text for event in idle.events) == 2
    assert lr.verify(idle.folder).status == "same"


@pytest.mark.parametrize(
    "limits", [{"passes": {"set": -3}}, {"passes": {"set": float("nan")}}, {"nonsense": {"add": 1}}]
)
def test_a_change_of_limits_that_was_written_by_hand_is_checked_when_it_is_taken(idle, limits):
    control_files.place(idle.folder / ".git/loop-runner", ControlRequest("budget", limits=limits))
    assert idle.resume().status == "verified"
    assert ("budget", False) in idle.answers()
    assert not (idle.folder / "budget.json").exists()


def test_a_hand_written_approval_of_another_answer_is_refused(idle):
    control_files.place(idle.folder / ".git/loop-runner", ControlRequest("approve", about="0" * 16))
    assert idle.resume().status == "verified"
    assert ("approve", False) in idle.answers()


@pytest.mark.parametrize(("what", "message"), [("file", "was not placed"), ("link", "control is a link")])
def test_a_control_folder_that_is_none_is_reported(idle, what, message):
    folder = idle.folder / CONTROL
    shutil.rmtree(folder)
    folder.write_text("x") if what == "file" else folder.symlink_to("/tmp")
    with pytest.raises(lr.LoopRunnerError, match=message):
        idle.run.note("x")


def test_a_thousand_requests_that_no_process_takes_are_enough(idle):
    folder = idle.folder / CONTROL
    for number in range(control_files.MAX_PENDING):
        (folder / f"{number:020d}-00000000.json").write_bytes(b"{}")
    with pytest.raises(lr.WorkspaceError, match="wait already"):
        idle.run.note("x")


def test_requests_of_two_writers_keep_their_order_when_the_clock_is_set_back(idle, monkeypatch):
    first = idle.run.note("first")
    monkeypatch.setattr(time, "time_ns", lambda: 5)
    second = idle.run.note("second")
    assert first.id < second.id
