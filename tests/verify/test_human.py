"""The verifier ``human``: the run waits for a person, and takes one decision about one answer."""

import json
import time

import pytest

import loop_runner as lr
from loop_runner.runs.replay import replay
from tests.support.steering import Steered
from tests.support.tasks import ready, write_task

QUESTION = {"human": {"question": "May this be sent to the client?"}}
WAITS = ("waiting", 1, 0)
READY = (ready("42"),)


def run_of(tmp_path, steps, *, root=READY, verifiers=(QUESTION,), **keys):
    run = Steered(tmp_path / "run")
    task = write_task(tmp_path / "task", root=root, verifiers=verifiers, **keys)
    return run, run.start(task, steps)


@pytest.fixture(scope="module")
def approved(tmp_path_factory):
    steps = {
        WAITS: lambda run: run.reject("clause 4 is missing\x1b[2J", by="A. Lee"),
        ("waiting", 2, 0): lambda run: run.approve(by="A. Lee", at="2026-11-30"),
    }
    return run_of(tmp_path_factory.mktemp("approved"), steps, root=[ready("41"), ready("42")])


def test_a_rejection_is_shown_to_the_next_pass_and_an_approval_ends_the_run(approved):
    run, outcome = approved
    assert outcome.status == "verified"
    shown = run.text("passes/0002/injected.md")
    assert "clause 4 is missing\\x1b[2J" in shown
    assert "rejected by A. Lee" in shown


def test_the_verdict_and_the_proof_record_who_and_when_as_they_were_given(approved):
    run, _ = approved
    (gate,) = json.loads(run.text("proof.json"))["gates"]
    assert gate["record"]["person"] == {
        "question": "May this be sent to the client?",
        "decision": "approved",
        "by": "A. Lee",
        "at": "2026-11-30",
    }
    assert gate["statement"] == "approved by A. Lee: May this be sent to the client?"


def test_a_decision_cannot_be_run_again_and_verify_says_so(approved):
    run, _ = approved
    again = lr.verify(run.folder)
    assert again.status == "same"
    assert "a person decided" in again.gates[0].detail


def test_a_replay_takes_the_persons_decisions_from_the_record(approved):
    run, _ = approved
    replayed = replay(run.folder)
    assert replayed.is_same, (replayed.verdicts, replayed.at_end, replayed.reason)
    assert replay(run.folder, asks_gates=False).is_same


def test_a_person_is_not_asked_about_what_another_check_rejects(tmp_path):
    steps = {("waiting", 2, 0): lambda run: run.approve()}
    run, outcome = run_of(
        tmp_path, steps, root=[ready("41"), ready("42")], verifiers=[QUESTION, {"contains": "42"}]
    )
    assert outcome.status == "verified"
    assert [event.pass_number for event in run.events if event.kind == "waiting"] == [2]


def test_waiting_is_free_and_does_not_count_for_the_time_of_the_run(tmp_path):
    def approve_later(run):
        time.sleep(0.6)
        run.approve()

    started = time.monotonic()
    _, outcome = run_of(tmp_path, {WAITS: approve_later})
    assert outcome.spend.requests == 1
    assert outcome.spend.seconds < time.monotonic() - started - 0.6


def test_a_run_that_is_stopped_while_it_waits_takes_an_approval_that_came_in_between(tmp_path):
    run, outcome = run_of(tmp_path, {WAITS: lambda run: run.stop()})
    assert outcome.status == "interrupted"
    assert run.run.question == "May this be sent to the client?"
    run.run.approve()
    assert run.resume().status == "verified"
    assert run.run.question is None
    assert run.requests_left() == []


def test_an_approval_holds_for_the_answer_that_was_shown_and_for_no_other(tmp_path):
    root = [ready("42"), ready("43")]
    run, outcome = run_of(tmp_path, {WAITS: lambda run: run.reject("no")}, root=root, budget={"passes": 1})
    assert outcome.status == "unverified"
    with pytest.raises(lr.ConfigError, match="does not wait for a person's decision"):
        run.run.approve()


def test_the_first_of_two_decisions_counts_and_the_second_is_refused(tmp_path):
    def both(run):
        run.approve(by="A. Lee")
        with pytest.raises(lr.ConfigError, match=r"was approved already by A\. Lee"):
            run.reject("too late", by="B. Ott")

    _, outcome = run_of(tmp_path, {WAITS: both})
    assert outcome.status == "verified"


@pytest.mark.parametrize("kind", ["all", "any"])
def test_a_person_in_a_group_is_asked_when_the_others_do_not_settle_it(tmp_path, kind):
    group = {kind: [QUESTION, {"contains": "42" if kind == "all" else "nothing"}]}
    _, outcome = run_of(tmp_path, {WAITS: lambda run: run.approve()}, verifiers=[group])
    assert outcome.status == "verified"


@pytest.mark.parametrize("settings", [None, {}, {"question": ""}, {"question": 3}, {"ask": "x"}])
def test_a_person_cannot_be_asked_without_a_question(tmp_path, settings):
    with pytest.raises(lr.LoopRunnerError, match="question"):
        run_of(tmp_path, {}, verifiers=[{"human": settings}])
