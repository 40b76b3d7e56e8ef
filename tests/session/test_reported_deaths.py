"""A process that ends unasked and is replaced is reported; an ordinary run reports no such thing."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from loop_runner.events import Event
from loop_runner.kernel import kernel as kernel_module
from loop_runner.kernel.checker import Checker
from loop_runner.kernel.deaths import CHECKER, KERNEL, Deaths
from loop_runner.model.providers.local import LocalClient, LocalModel
from loop_runner.records import Broken, Message, Request
from loop_runner.runs.context import RunContext
from loop_runner.sandbox.wrap import inner_pid
from loop_runner.verify import Submission, build
from loop_runner.verify.json_schema import BadSchemaError, SchemaChecker
from tests.support.tasks import cell, ready, run_task, write_task

ROOT = Path(__file__).parents[2]
DIES = "class Bomb:\n    def __reduce__(self):\n        import os, signal\n        {}\nbomb = Bomb()"


def run(tmp_path, *replies, **keys):
    """The events of a run with these replies, and the outcome."""
    events: list[Event] = []
    task = write_task(tmp_path / "task", root=[*replies, ready("42")], **keys)
    outcome = run_task(task, tmp_path / "run", events)
    assert outcome.status == "verified"
    return events


def deaths(events):
    return [(event.data["died"], event.data["doing"], event.turn) for event in events if "died" in event.data]


def output_of(tmp_path, turn):
    return (tmp_path / f"run/passes/0001/turns/{turn:04d}/output.txt").read_text()


@pytest.mark.parametrize(
    "code",
    [
        "pass",  # leaves no variable
        "print(1)",
        "x = 1",
        "x = 1\ndel x",
        "import math",
        "x = (i for i in range(3))",  # cannot be saved
        "def f(): return 1",
        "raise ValueError",
        "big = list(range(100_000))",
        "answer['content'] = 'a draft'",
    ],
)
def test_an_ordinary_run_reports_no_death(tmp_path, code):
    assert deaths(run(tmp_path, cell(code), cell("pass"), cell("y = 2"))) == []


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("os._exit(3)", "exit code 3"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "signal 9"),
        ("os.abort()", "signal 6"),
        ("import ctypes; ctypes.string_at(0)", "signal 11"),
    ],
)
def test_a_kernel_that_dies_while_saving_is_reported_to_the_person_and_to_the_model(tmp_path, how, reason):
    events = run(tmp_path, cell("kept = 1"), cell(DIES.format(how)), cell("print(kept)"))
    assert deaths(events) == [(KERNEL, "saving the variables", 2)]
    (notice,) = [event.text for event in events if "died" in event.data]
    assert reason in notice
    assert reason in output_of(tmp_path, 2)
    assert "ended while saving the variables, and was restarted" in output_of(tmp_path, 2)
    assert output_of(tmp_path, 3).startswith("1") or "\n1\n" in output_of(tmp_path, 3)


def test_a_death_is_reported_even_if_no_variable_is_lost(tmp_path):
    same = DIES.format("os._exit(3)").replace("bomb", "kept")
    events = run(tmp_path, cell("kept = 1"), cell(same))
    assert deaths(events) == [(KERNEL, "saving the variables", 2)]
    assert "ended while saving" in output_of(tmp_path, 2)


def test_a_death_in_a_cell_is_reported_once_by_its_result(tmp_path):
    events = run(tmp_path, cell("import os; os._exit(3)"))
    assert deaths(events) == []
    assert [event.data["end"] for event in events if event.kind == "cell_finished"] == ["died", "ok"]


def test_a_checker_that_dies_is_reported_and_the_variables_are_saved(tmp_path, monkeypatch):
    def killed(self, *args, **keys):
        process = self._process
        if process is not None and not hasattr(Checker, "was_killed"):
            monkeypatch.setattr(Checker, "was_killed", True, raising=False)
            self._ready()
            bubblewrap = process._launch.is_wrapped
            os.kill(
                (inner_pid(process._process.pid) if bubblewrap else process._process.pid) or 0, signal.SIGKILL
            )
        return tried(self, *args, **keys)

    tried = Checker.try_blobs
    monkeypatch.setattr(Checker, "try_blobs", killed)
    events = run(tmp_path, cell("x = [1]"), cell("print(x)"))
    assert deaths(events) == [(CHECKER, "trying whether the variables load", 1)]
    assert "[1]" in output_of(tmp_path, 2)


def test_a_kernel_that_dies_over_saved_variables_when_a_run_is_resumed_is_reported(tmp_path, monkeypatch):
    from loop_runner.runs import start as runs

    task = write_task(
        tmp_path / "task", root=[cell("x = [1]"), ready("41"), ready("42")], budget={"passes": 1}
    )
    run_task(task, tmp_path / "run")
    begin = kernel_module.Kernel._begin_in
    failed: list[bool] = []

    def dies_once(self, process, snapshot, *rest):
        if snapshot.blobs and not failed:
            failed.append(True)
            process.violated("it was killed by the test")
        return begin(self, process, snapshot, *rest)

    monkeypatch.setattr(kernel_module.Kernel, "_begin_in", dies_once)
    events: list[Event] = []
    runs.resume(tmp_path / "run", RunContext({}, (events.append,)), (("budget.passes", 2),))
    assert (KERNEL, "starting with the saved variables", 0) in deaths(events)


def test_of_many_deaths_the_first_are_kept():
    kept = Deaths()
    for number in range(1000):
        kept.add(KERNEL, "saving the variables", str(number))
    assert [death.reason for death in kept.take()] == [str(number) for number in range(20)]
    assert kept.take() == ()


def test_a_local_model_that_dies_and_is_started_again_is_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    shown: list[str] = []

    async def ask():
        server = (sys.executable, "-m", "tests.support.fake_local_server", str(tmp_path))
        asker = LocalClient(LocalModel("local:m", Path("m.gguf"), 4096), server=server, tell=shown.append)
        try:
            return await asker.complete(Request("local:m", (Message("user", "die once"),)))
        finally:
            await asker.close()

    assert asyncio.run(ask()).text
    assert len(shown) == 1
    assert "local:m: the model's process died (signal" in shown[0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_schema_checker_that_is_killed_is_not_called_slow(number):
    checker = SchemaChecker()
    try:
        assert checker.check('{"type": "integer"}', "1") == ""
        assert checker._process is not None
        os.kill(checker._process.pid, number)
        checker._process.wait()
        with pytest.raises(BadSchemaError, match=rf"ended \(signal {int(number)}"):
            checker.check('{"type": "integer"}', "1")
        assert checker.check('{"type": "integer"}', "1") == ""
    finally:
        checker.close()


def test_a_schema_checker_that_is_slow_is_called_slow():
    checker = SchemaChecker(timeout_s=0.5)
    try:
        slow = json.dumps({"type": "string", "pattern": "^(a+)+$"})
        with pytest.raises(BadSchemaError, match="took too long"):
            checker.check(slow, json.dumps("a" * 40 + "b"))
    finally:
        checker.close()


def test_a_pattern_whose_process_is_killed_is_broken_with_the_signal(tmp_path, monkeypatch):
    from loop_runner.verify import answer_text

    child = tmp_path / "child.py"
    child.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    monkeypatch.setattr(answer_text, "_CHILD", child)
    (gate,) = build([{"regex": "42"}], tmp_path)
    from loop_runner.records import Inputs

    verdict = gate.verify(Submission(answer="42", checkout=tmp_path, inputs=Inputs(())))
    assert isinstance(verdict, Broken)
    assert "signal 9" in verdict.reason
