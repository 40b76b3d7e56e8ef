"""A crash in the middle of a call: what may be repeated is repeated, anything else is unknown, and named."""

import json
import os
import signal
import subprocess
import time

import pytest

from loop_runner.runs import replay, status
from loop_runner.workspace.history import History
from tests.support.commands import argv, clean_environment
from tests.support.tasks import cell, write_task
from tests.tools.test_python_tools import output

TOOLS = '''
import os, pathlib, time

def act(name: str) -> str:
    """Do something that must not be done twice."""
    with open("acted.log", "a") as file:
        file.write(name + "\\n")
    if not pathlib.Path("go").exists():
        time.sleep(60)
    return "did " + name
'''
CODE = """
for name in ('one', 'two'):
    try:
        print(act(name))
    except ToolUnknown as error:
        print('UNKNOWN', error)
FINAL('42')
"""


def killed_in_a_call(folder, *, idempotent):
    """A run that was killed while ``two`` was out; ``one`` had its result."""
    task = folder / "task"
    entry = {"python": "tools.py:act", "idempotent": idempotent}
    write_task(task, root=[cell(CODE)], tools=[entry])
    (task / "tools.py").write_text(TOOLS.replace("time.sleep(60)", "time.sleep(60 * (name == 'two'))"))
    command = argv("run", task / "task.yaml", "--run-dir", folder / "run", "-q")
    process = subprocess.Popen(command, env=clean_environment(), start_new_session=True)
    wait_until(lambda: "two" in acted(folder))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (task / "go").touch()
    return folder / "run"


def acted(folder):
    log = folder / "task/acted.log"
    return log.read_text().split() if log.exists() else []


def wait_until(is_so):
    until = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)


def resumed(run):
    done = subprocess.run(
        argv("resume", run, "-q", "--json"),
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_call_that_was_out_at_a_crash_is_unknown_and_is_not_made_again(tmp_path):
    run = killed_in_a_call(tmp_path, idempotent=False)
    before = status.of_run(run)
    assert before.unknown_calls == ('act({"name": "two"})',)
    resumed(run)
    assert acted(tmp_path) == ["one", "two"]
    assert (
        "did one\nUNKNOWN `act` was called when the run was interrupted; the call may have happened"
        in output(run)
    )
    assert status.of_run(run).unknown_calls == ('act({"name": "two"})',)
    shown = subprocess.run(argv("status", run), capture_output=True, text=True, check=False).stdout
    assert "1 tool call may have happened" in shown
    assert 'act({"name": "two"})' in shown
    with History(run) as history:
        assert (history.spend().tool_calls, len(history.unknown_tool_calls())) == (2, 1)
    assert replay.replay(run).is_same


@pytest.mark.slow
def test_an_idempotent_call_that_was_out_at_a_crash_is_made_again(tmp_path):
    run = killed_in_a_call(tmp_path, idempotent=True)
    resumed(run)
    assert acted(tmp_path) == ["one", "two", "two"]
    assert "did one\ndid two" in output(run)
    assert status.of_run(run).unknown_calls == ()
    assert replay.replay(run).is_same


@pytest.mark.slow
@pytest.mark.parametrize("place", ["tool.send", "tool.sent", "tool.returned", "journal.written"])
def test_a_run_that_is_killed_at_any_step_of_a_call_makes_no_call_twice(place, tmp_path):
    task = tmp_path / "task"
    write_task(task, root=[cell(CODE)], tools=[{"python": "tools.py:act"}])
    (task / "tools.py").write_text(TOOLS)
    (task / "go").touch()
    env = {**clean_environment(), "LOOP_RUNNER_FAILPOINT": f"{place}:2:kill"}
    run = tmp_path / "run"
    subprocess.run(argv("run", task / "task.yaml", "--run-dir", run, "-q"), env=env, check=False)
    resumed(run)
    made = acted(tmp_path)
    assert len(made) == len(set(made)), made
    lost = status.of_run(run).unknown_calls
    assert len(lost) == (place != "tool.send")
    assert len(made) == 2 - (place in ("tool.sent", "journal.written")), made
