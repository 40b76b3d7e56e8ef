"""A reply that holds no code, or no answer, hands nothing in: what an earlier pass handed in is a draft."""

import pytest

from loop_runner.runs import start as runs
from loop_runner.runs.context import RunContext
from loop_runner.task import config
from tests.support.git import subjects
from tests.support.tasks import cell, ready, run_task, write_task

SILENT = ["I should read the rules first.", "", "```text\nno Python\n```"]


@pytest.mark.parametrize("reply", SILENT)
def test_a_reply_without_code_does_not_hand_in_the_rejected_answer_again(tmp_path, reply):
    task = write_task(tmp_path / "task", root=[ready("41"), reply, ready("42")])
    assert run_task(task, tmp_path / "run").status == "verified"
    assert [
        line for line in subjects(tmp_path / "run") if line.startswith("pass") and "turn" not in line
    ] == [
        "pass 1: rejected",
        "pass 2: accepted",
    ]


def test_code_after_such_a_reply_continues_from_the_rejected_answer(tmp_path):
    more = cell("answer['content'] += ' 42'\nanswer['ready'] = True")
    task = write_task(tmp_path / "task", root=[ready("41"), "I think.", more])
    outcome = run_task(task, tmp_path / "run")
    assert (outcome.status, outcome.answer.content) == ("verified", "41 42")
    assert outcome.checkpoint.pass_number == 2


def test_three_such_replies_end_the_pass_with_the_answer_as_it_was(tmp_path):
    task = write_task(tmp_path / "task", root=[ready("41"), *["I think."] * 3, ready("42")])
    outcome = run_task(task, tmp_path / "run")
    assert (outcome.status, outcome.checkpoint.pass_number) == ("verified", 3)
    assert not any("ready" in line for line in subjects(tmp_path / "run") if "pass 2 turn" in line)


def test_a_run_that_stops_after_such_a_reply_continues_the_pass(tmp_path):
    task = write_task(tmp_path / "task", root=[ready("41"), "I think.", ready("42")])
    seen = []
    context = RunContext(
        {},
        listeners=(lambda event: seen.append((event.kind, event.pass_number)),),
        should_stop=lambda: ("turn_committed", 2) in seen,
    )
    assert runs.start(config.read_task(task), tmp_path / "run", context).status == "interrupted"
    outcome = runs.resume(tmp_path / "run", RunContext({}))
    assert (outcome.status, outcome.checkpoint.pass_number) == ("verified", 2)


@pytest.mark.parametrize("reply", ["", "<thinking>I do not know yet.</thinking>"])
def test_an_empty_reply_of_a_direct_session_does_not_hand_in_the_rejected_answer_again(tmp_path, reply):
    task = write_task(tmp_path / "task", root=["41", reply, "42"], session="direct")
    outcome = run_task(task, tmp_path / "run")
    assert (outcome.status, outcome.checkpoint.pass_number) == ("verified", 2)
