"""Notes, pauses, stops, limits, prompts: what the operator asks of a run reaches it once, and stays in it."""

import json
import shutil
from dataclasses import replace as changed

import pytest

import loop_runner as lr
from loop_runner.runs.replay import replay
from loop_runner.workspace import control_files
from tests.support.steering import Steered
from tests.support.tasks import cell, ready, write_task

THREE_TURNS = [cell("x = 1"), cell("y = 2"), ready("42")]
AT_TURN_1 = ("turn_started", 1, 1)


def steered(tmp_path, steps, *, root=THREE_TURNS, **keys):
    run = Steered(tmp_path / "run")
    outcome = run.start(write_task(tmp_path / "task", root=root, **keys), steps)
    return run, outcome


def requests_of(run, folder):
    return [request["kind"] for request in json.loads(run.text(f"passes/{folder}/control.json"))["requests"]]


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    """A run in which everything was asked for that a replay has to bring again."""
    steps = {
        AT_TURN_1: lambda run: (run.note("look at the annexes"), run.raise_budget(passes="+5", turns=9)),
        ("turn_started", 1, 2): lambda run: (run.note("one more"), run.pause()),
        ("paused", 1, 3): lambda run: (run.note("while paused"), run.resume()),
        ("verifying", 1, 0): lambda run: (run.note("for pass 2"), run.raise_budget(wall="2h")),
        ("turn_started", 2, 1): lambda run: run.note("for turn 2 of pass 2"),
    }
    root = [cell("values = iter(range(9))"), cell("next(values)"), ready("41"), cell("print(next(values))")]
    return steered(tmp_path_factory.mktemp("busy"), steps, root=[*root, ready("42")])


def test_a_note_is_in_the_next_message_once_and_quoted_as_the_operators(busy):
    run, outcome = busy
    assert outcome.status == "verified"
    shown = run.text("passes/0001/turns/0002/note.md")
    assert "operator" in shown
    assert "```\nlook at the annexes\n```" in shown
    notes = [path.read_text() for path in sorted(run.folder.glob("passes/**/note.md"))]
    assert [sum("look at the annexes" in note for note in notes)] == [1]
    assert "look at the annexes" not in run.text("passes/0002/injected.md")


def test_a_note_that_arrives_while_the_pass_is_verified_is_read_first_in_the_next_pass(busy):
    run, _ = busy
    assert "for pass 2" in run.text("passes/0002/turns/0001/note.md")


def test_every_request_is_answered_by_one_event_and_committed_with_its_turn(busy):
    run, _ = busy
    kinds = [kind for kind, _ in run.answers()]
    assert all(done for _, done in run.answers())
    assert kinds[:4] == ["note", "budget", "note", "pause"]
    assert sorted(kinds[4:6]) == ["note", "resume"], "the end of a pause may overtake a note"
    assert kinds[6:] == ["note", "budget", "note"]
    assert requests_of(run, "0001/turns/0002") == ["note", "budget"]
    third = requests_of(run, "0001/turns/0003")
    assert (third[:2], sorted(third[2:])) == (["note", "pause"], ["note", "resume"])
    assert requests_of(run, "0002/turns/0001") == ["note", "budget"]
    assert requests_of(run, "0002/turns/0002") == ["note"]
    assert run.requests_left() == []


def test_a_changed_limit_is_kept_for_every_later_start(busy):
    run, _ = busy
    assert json.loads(run.text("budget.json"))["limits"] == {"passes": 15, "turns": 9, "wall": 7200.0}
    assert "Turn 2 of 9 is over." in run.text("passes/0001/turns/0002/output.txt")
    assert "13 passes after this one" in run.text("passes/0002/injected.md")


def test_a_replay_with_notes_pauses_and_raised_limits_is_the_same_byte_for_byte(busy):
    run, _ = busy
    replayed = replay(run.folder)
    assert replayed.is_same, (replayed.first, replayed.at_end, replayed.reason, replayed.missing)


def test_a_clone_contains_the_notes_and_its_model_is_shown_them(busy, tmp_path):
    run, _ = busy
    forked = lr.fork(run.folder, tmp_path / "fork", at="1.2")
    assert (forked.folder / "passes/0001/turns/0002/note.md").is_file()
    assert json.loads((forked.folder / "budget.json").read_bytes())["limits"]["passes"] == 15


def test_a_fork_with_another_budget_does_not_keep_the_operators(busy, tmp_path):
    run, _ = busy
    forked = lr.fork(run.folder, tmp_path / "fork", at="1.2", budget__passes=3)
    assert not (forked.folder / "budget.json").exists()
    task = (forked.folder / "task.yaml").read_text()
    assert "passes: 3" in task
    assert "turns: 9" in task


def test_the_messages_before_a_note_stay_as_they_were(tmp_path):
    sent = []
    run, _ = steered(tmp_path, {AT_TURN_1: lambda run: run.note("look at the annexes")})
    with lr.open(run.folder).folder.joinpath("passes/0001/turns/0003/calls.jsonl").open() as calls:
        sent = [json.loads(line)["prompt"] for line in calls]
    assert sent == [""]  # a root request is kept as the transcript that the turns make


def test_a_stopped_run_ends_after_its_turn_and_is_continued(tmp_path):
    run, outcome = steered(tmp_path, {AT_TURN_1: lambda run: run.stop()})
    assert outcome.status == "interrupted"
    assert (outcome.checkpoint.pass_number, outcome.checkpoint.turn) == (1, 1)
    assert "the operator stopped it" in outcome.reason
    assert run.resume().status == "verified"
    assert run.answers() == [("stop", True), ("stop", False)]  # the second process says that it is over
    assert run.requests_left() == []


def test_a_paused_run_can_be_stopped(tmp_path):
    steps = {AT_TURN_1: lambda run: run.pause(), ("paused", 1, 2): lambda run: run.stop()}
    run, outcome = steered(tmp_path, steps)
    assert outcome.status == "interrupted"
    assert run.resume().status == "verified"


def test_a_request_that_no_process_takes_is_kept_and_applied_by_resume(tmp_path):
    run, _ = steered(tmp_path, {AT_TURN_1: lambda run: run.stop()})
    placed = [run.run.note("read this first"), run.run.raise_budget(passes="+1")]
    assert [item.is_running for item in placed] == [False, False]
    assert len(run.requests_left()) == 3  # with the stop, whose turn never came
    assert run.resume().status == "verified"
    assert "read this first" in run.text("passes/0001/turns/0002/note.md")
    assert json.loads(run.text("budget.json"))["limits"] == {"passes": 11}


@pytest.fixture(scope="module")
def left_idle(tmp_path_factory):
    return steered(tmp_path_factory.mktemp("idle"), {AT_TURN_1: lambda run: run.stop()})[0]


@pytest.fixture
def idle(left_idle, tmp_path):
    """A run that was stopped after its first turn, and that no process runs."""
    run = Steered(tmp_path / "idle")
    shutil.copytree(left_idle.folder, run.folder)
    return run


@pytest.mark.parametrize("now", [False, True])
def test_a_stop_that_is_kept_ends_the_next_process_at_once_and_no_later_one(idle, now):
    assert not idle.run.stop(now=now).is_running
    idle.run.note("read this")
    outcome = idle.resume()
    assert outcome.status == "interrupted"
    assert "the operator stopped it" in outcome.reason
    assert not [event for event in idle.events if event.kind in ("turn_started", "reply_received")]
    assert ("stop", True) in idle.answers()
    assert idle.resume().status == "verified"
    assert "read this" in idle.text("passes/0001/turns/0002/note.md")
    assert idle.requests_left() == []
    assert replay(idle.folder).is_same


@pytest.mark.parametrize("now", [False, True])
def test_a_pause_that_is_kept_lets_the_next_process_begin_paused(idle, now):
    assert not idle.run.pause(now=now).is_running
    assert not idle.run.is_paused  # no process is
    seen = []

    def resume(run):
        seen.append((run.is_paused, run.status().state))
        run.resume()

    assert idle.resume({("paused", 1, 2): resume}).status == "verified"
    assert seen == [(True, "paused")]
    kinds = [event.kind for event in idle.events]
    assert kinds.index("paused") < kinds.index("resumed") < kinds.index("reply_received")
    assert idle.answers()[-2:] == [("pause", True), ("resume", True)]
    assert idle.requests_left() == []
    assert replay(idle.folder).is_same


def test_a_pause_that_is_kept_can_be_taken_back(idle):
    idle.run.pause()
    idle.run.resume()
    assert idle.resume().status == "verified"
    assert "paused" not in [event.kind for event in idle.events]


def test_a_kept_pause_is_followed_by_a_kept_stop(idle):
    idle.run.pause()
    idle.run.stop()
    assert idle.resume().status == "interrupted"
    assert idle.resume().status == "verified"


def test_a_pause_of_a_running_run_that_began_paused_is_refused(idle):
    idle.run.pause()
    refused = []

    def ask(run):
        with pytest.raises(lr.ConfigError, match="asked to pause already"):
            run.pause()
        refused.append(True)
        run.resume()

    assert idle.resume({("paused", 1, 2): ask}).status == "verified"
    assert refused == [True]


def test_what_was_kept_for_a_process_that_was_killed_does_not_hold_for_a_later_one(idle):
    placed = idle.run.stop()
    inbox = control_files.Inbox(idle.folder / ".git/loop-runner")
    (request,) = [entry for entry in inbox.pending() if isinstance(entry, control_files.ControlRequest)]
    assert request.id == placed.id
    inbox.address(changed(request, runner="1@0"))  # and it is killed here
    assert not idle.run.stop().is_running  # asked of the next process again
    assert idle.resume().status == "interrupted"
    assert idle.resume().status == "verified"


def test_a_limit_that_is_raised_at_the_end_lets_the_run_go_on(tmp_path):
    steps = {("verifying", 1, 0): lambda run: run.raise_budget(passes=2)}
    _, outcome = steered(tmp_path, steps, root=[ready("41"), ready("42")], budget={"passes": 1})
    assert outcome.status == "verified"


def test_a_copy_of_a_run_is_not_paused_by_what_was_meant_for_the_process_of_the_first(tmp_path):
    steps = {AT_TURN_1: lambda run: (run.pause(), shutil.copytree(run.folder, tmp_path / "copy"))}
    steered(tmp_path, {**steps, ("paused", 1, 2): lambda run: run.resume()})
    copy = Steered(tmp_path / "copy")
    assert copy.resume().status == "verified"
    assert copy.answers() == [("pause", False)]


def test_a_prompt_is_used_from_the_next_pass_on_and_is_a_commit_as_of_a_fork(tmp_path):
    steps = {AT_TURN_1: lambda run: run.set_prompt("Say 42.\n")}
    run, outcome = steered(tmp_path, steps, root=[ready("41"), ready("42")])
    assert outcome.status == "verified"
    assert run.text("passes/0001/injected.md").startswith("What is the answer?")
    assert run.text("passes/0002/injected.md").startswith("Say 42.\n")
    assert run.text("prompt.md") == "Say 42.\n"
    assert json.loads(run.text("forks.json"))["forks"][0]["changed"] == ["prompt"]
    assert replay(run.folder).is_same
    assert run.requests_left() == []
