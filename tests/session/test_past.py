"""``past(pass_number, turn)``: what a turn ran and printed, the same in a replay, a copy and a fork."""

import json
import shutil

import pytest
import yaml

from loop_runner.runs import start as runs
from loop_runner.runs.context import RunContext
from tests.support.commands import loop_runner
from tests.support.tasks import cell, ready, run_task, write_task

LOOK = "turn = past(1, 1)\nprint(turn)\nprint([turn.code, turn.output, turn.end])"


def output(run, pass_number, turn):
    return (run / f"passes/{pass_number:04d}/turns/{turn:04d}/output.txt").read_text()


def test_past_returns_the_code_and_the_output_of_a_turn(tmp_path):
    cells = [cell("print('``` {{ 1 }}')"), ready("41"), cell(LOOK), ready("42")]
    run_task(write_task(tmp_path / "task", root=cells), tmp_path / "run")
    shown = output(tmp_path / "run", 2, 1)
    assert "pass 1 turn 1 (ok)\ncode:\nprint('``` {{ 1 }}')\noutput:\n``` {{ 1 }}" in shown
    assert """["print('``` {{ 1 }}')", '``` {{ 1 }}\\n', 'ok']""" in shown


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ("past(1, 9)", "ValueError: there is no committed turn 9 of pass 1"),
        ("past(7, 1)", "ValueError: there is no committed turn 1 of pass 7"),
        ("past(1, 2)", "ValueError: there is no committed turn 2 of pass 1"),
        ("past(0, 1)", "ValueError: past takes the numbers of a pass and a turn, both from 1 on"),
        ("past('1', 1)", "ValueError: past takes the numbers of a pass and a turn, both from 1 on"),
        ("past(10**400, 1)", "ValueError"),
    ],
)
def test_a_turn_that_is_not_committed_is_an_error_that_says_so(tmp_path, requests, message):
    run_task(
        write_task(tmp_path / "task", root=[cell("x = 1"), cell(requests), ready("42")]), tmp_path / "run"
    )
    assert message in output(tmp_path / "run", 1, 2)


def test_past_knows_turns_without_code_and_turns_that_raised(tmp_path):
    look = cell("print(past(1, 1).reply, past(1, 1).end)\nprint(past(1, 2).end, past(1, 2).output)")
    cells = ["I think.", cell("1 / 0"), look, ready("42")]
    run_task(write_task(tmp_path / "task", root=cells), tmp_path / "run")
    shown = output(tmp_path / "run", 1, 3)
    assert "I think. no_code" in shown
    assert "raised Traceback" in shown
    assert "ZeroDivisionError: division by zero" in shown


def test_what_past_returned_is_a_variable_like_any_other(tmp_path):
    cells = [
        cell("print('a')"),
        cell("turn = past(1, 1)"),
        ready("41"),
        cell("print(turn.output)"),
        ready("42"),
    ]
    task = write_task(tmp_path / "task", root=cells, budget={"passes": 1})
    run_task(task, tmp_path / "run")
    runs.resume(tmp_path / "run", RunContext({}), (("budget.passes", 2),))
    assert "```\na\n" in output(tmp_path / "run", 2, 1)


def test_a_variable_may_be_called_past(tmp_path):
    cells = [cell("past = [1]"), cell("print(past)"), ready("42")]
    run_task(write_task(tmp_path / "task", root=cells), tmp_path / "run")
    assert "[1]" in output(tmp_path / "run", 1, 2)


def test_a_child_session_has_no_past(tmp_path):
    child = {"child": [cell("past(1, 1)"), ready("done")]}
    del child
    look = cell("try:\n    past(1, 1)\nexcept ValueError as error:\n    FINAL(str(error))")
    task = write_task(tmp_path / "task", root=[cell("print(rlm_query('Q', 'text'))"), ready("42")])
    script = yaml.safe_load((tmp_path / "task/script.yaml").read_text())
    script["child"] = [{"replies": [look]}]
    (tmp_path / "task/script.yaml").write_text(yaml.safe_dump(script))
    run_task(task, tmp_path / "run")
    assert "a child session has no earlier passes" in output(tmp_path / "run", 1, 1)


def test_a_replay_a_clone_and_a_fork_return_the_same(tmp_path):
    cells = [cell("print('a' * 30)"), ready("41"), cell(LOOK), ready("40"), cell(LOOK), ready("42")]
    task = write_task(tmp_path / "task", root=cells, budget={"passes": 2})
    assert run_task(task, tmp_path / "run").status == "unverified"
    replayed = loop_runner("replay", "run", "--json", cwd=tmp_path)
    assert json.loads(replayed.stdout)["status"] == "same", replayed.stdout + replayed.stderr
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    forked = loop_runner("fork", "run@2.1", tmp_path / "forked", cwd=tmp_path)
    assert forked.returncode == 0, forked.stderr
    for folder in ("copy", "forked"):
        runs.resume(tmp_path / folder, RunContext({}), (("budget.passes", 4),))
    first = output(tmp_path / "run", 2, 1)
    assert "a" * 30 in first
    assert output(tmp_path / "copy", 3, 1).split("\nTurn ")[0] == first.split("\nTurn ")[0]
