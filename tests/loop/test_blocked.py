"""A model that lacks something it cannot supply says so, twice, and the run ends without being verified."""

import json
from typing import get_args

import pytest

import loop_runner as lr
from loop_runner.records import RunStatus
from loop_runner.runs import finished, status
from loop_runner.runs.replay import replay
from tests.support.steering import Steered
from tests.support.tasks import cell, ready, write_task

BLOCKED = cell("answer['content'] = 'a draft with 42'\nanswer['blocked'] = 'the file rates.csv is missing'")


def run_of(tmp_path, root, **keys):
    run = Steered(tmp_path / "run")
    return run, run.start(write_task(tmp_path / "task", root=root, **keys))


def test_what_is_declared_twice_in_a_row_ends_the_run_as_blocked_and_not_verified(tmp_path):
    run, outcome = run_of(tmp_path, [cell("x = 1"), BLOCKED, BLOCKED])
    assert (outcome.status, outcome.reason) == ("blocked", "the file rates.csv is missing")
    assert outcome.answer.content == "a draft with 42"
    assert "verifying" not in [event.kind for event in run.events]
    result = status.of_run(run.folder)
    assert (result.state, result.reason) == ("blocked", "the file rates.csv is missing")
    assert any("resume" in step for step in result.steps)
    assert replay(run.folder).is_same


@pytest.mark.parametrize("root", [[BLOCKED, BLOCKED], [ready("41"), BLOCKED, BLOCKED]])
def test_another_process_that_waits_for_a_blocked_run_gets_its_result(tmp_path, root):
    run, outcome = run_of(tmp_path, root)
    result = lr.open(run.folder).wait(timeout=1)
    assert (result.status, result.reason) == ("blocked", "the file rates.csv is missing")
    assert (result.answer, result.commit) == (outcome.answer.content, outcome.checkpoint.commit)
    assert not result.verified
    with pytest.raises(lr.NotVerifiedError, match=r"ended blocked: the file rates\.csv is missing"):
        result.raise_for_status()


def test_every_way_in_which_a_run_ends_is_a_result_that_another_process_gets():
    assert set(finished._STATUS.values()) == set(get_args(RunStatus))


def test_the_reply_to_the_first_declaration_asks_whether_the_model_can_proceed(tmp_path):
    run, outcome = run_of(tmp_path, [BLOCKED, ready("42")])
    assert outcome.status == "verified"
    shown = run.text("passes/0002/injected.md")
    assert "the file rates.csv is missing" in shown
    assert "do the task without it" in shown
    assert json.loads(run.text("passes/0001/pass.json"))["end"] == "blocked"


def test_a_pass_in_between_begins_the_count_again(tmp_path):
    _, outcome = run_of(tmp_path, [BLOCKED, ready("41"), BLOCKED, ready("42")])
    assert outcome.status == "verified"


def test_a_blocked_run_is_continued_and_verified_when_what_was_missing_is_there(tmp_path):
    run, outcome = run_of(tmp_path, [BLOCKED, BLOCKED, ready("42")])
    assert outcome.status == "blocked"
    run.run.note("rates.csv is there now")
    assert run.resume().status == "verified"
    assert "rates.csv is there now" in run.text("passes/0003/turns/0001/note.md")


def test_a_declaration_wins_over_ready_in_the_same_cell(tmp_path):
    both = cell("answer.update(content='42', ready=True, blocked='no access to the registry')")
    _, outcome = run_of(tmp_path, [both, both])
    assert (outcome.status, outcome.reason) == ("blocked", "no access to the registry")


def test_a_reply_without_code_does_not_repeat_the_declaration(tmp_path):
    _, outcome = run_of(tmp_path, [BLOCKED, "I am still thinking.", ready("42")])
    assert outcome.status == "verified"


@pytest.mark.parametrize("value", ["''", "'  '", "None", "False", "0", "True", "['x']", "object()"])
def test_what_does_not_say_what_is_missing_is_no_declaration(tmp_path, value):
    _, outcome = run_of(tmp_path, [cell(f"answer['blocked'] = {value}"), ready("42")])
    assert (outcome.status, outcome.spend.passes) == ("verified", 1)


def test_a_cell_that_raised_declares_nothing(tmp_path):
    run, outcome = run_of(tmp_path, [cell("answer['blocked'] = 'x'\n1 / 0"), ready("42")])
    assert (outcome.status, outcome.spend.passes) == ("verified", 1)
    assert "answer['blocked'] was not taken" in run.text("passes/0001/turns/0001/output.txt")


def test_a_run_whose_passes_are_used_up_first_is_unverified(tmp_path):
    _, outcome = run_of(tmp_path, [BLOCKED], budget={"passes": 1})
    assert outcome.status == "unverified"
    assert "rates.csv" in outcome.reason
