"""A run stops in order when it is asked to, also when its parent process ignores some signals."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from signal import SIGCHLD, SIGHUP, SIGINT, SIGTERM
from typing import Any

import pytest

from loop_runner import process
from loop_runner.errors import EnvironmentFault
from tests.support.commands import argv, clean_environment, ignoring, loop_runner, started
from tests.support.tasks import cell, ready, write_task

SLOW = cell("import time\ntime.sleep(0.9)\nx = 42")


def slow_task(tmp_path):
    return write_task(tmp_path / "task", root=[SLOW, cell("FINAL(x)")])


def explanation(pid, *ignored):
    """The line that a run prints when these signals are ignored."""
    return {
        (SIGINT,): "Ctrl-C is ignored because the parent process ignores SIGINT; "
        f"stop this run with kill -TERM {pid}",
        (SIGTERM,): "SIGTERM is ignored because the parent process ignores SIGTERM; "
        f"stop this run with kill -INT {pid}",
        (SIGINT, SIGTERM): "Ctrl-C and SIGTERM are ignored because the parent process ignores SIGINT and "
        f"SIGTERM; only kill -KILL {pid} stops this run; resume continues it",
    }[ignored]


@pytest.mark.parametrize("number", [SIGINT, SIGTERM])
def test_a_signal_stops_the_run_after_the_turn_and_resume_continues_it(tmp_path, number):
    with started("run", slow_task(tmp_path), "--json", cwd=tmp_path) as run:
        run.wait_for_line("turn 1")
        time.sleep(0.5)
        run.signal(number)
        exit_code, stdout, stderr = run.finish()
    assert (exit_code, json.loads(stdout)["status"], json.loads(stdout)["turns"]) == (130, "interrupted", 1)
    assert "ignore" not in stderr
    assert json.loads(loop_runner("resume", "scripted", "--json", cwd=tmp_path).stdout)["answer"] == "42"


@pytest.mark.parametrize(("ignored", "stopped_by"), [(SIGINT, SIGTERM), (SIGTERM, SIGINT)])
def test_an_ignored_signal_stays_ignored_and_the_run_prints_which_one_stops_it(tmp_path, ignored, stopped_by):
    with started("run", slow_task(tmp_path), "--json", cwd=tmp_path, prefix=ignoring(ignored)) as run:
        run.wait_for_line("turn 1")
        run.signal(ignored)
        time.sleep(0.5)
        assert run.process.poll() is None
        assert not any("stopping after this turn" in line for line in run.stderr)
        run.signal(stopped_by)
        exit_code, stdout, stderr = run.finish()
    assert (exit_code, json.loads(stdout)["status"]) == (130, "interrupted")
    assert stderr.splitlines()[0] == explanation(run.pid, ignored)
    assert json.loads(loop_runner("resume", "scripted", "--json", cwd=tmp_path).stdout)["answer"] == "42"


def test_with_both_signals_ignored_the_run_prints_that_only_a_kill_stops_it(tmp_path):
    with started("run", slow_task(tmp_path), cwd=tmp_path, prefix=ignoring(SIGINT, SIGTERM)) as run:
        run.wait_for_line("turn 1")
        run.signal(SIGINT)
        run.signal(SIGTERM)
        exit_code, _, stderr = run.finish()
    assert exit_code == 0
    assert stderr.splitlines()[0] == explanation(run.pid, SIGINT, SIGTERM)


@pytest.mark.parametrize("command", ["resume", "fork", "quiet"])
def test_every_way_to_run_explains_an_ignored_signal(tmp_path, command):
    task = write_task(tmp_path / "task", root=[ready("41"), ready("42")], budget={"passes": 1})
    assert loop_runner("run", task, cwd=tmp_path).returncode == 3
    args: Any = {
        "resume": ["resume", "scripted", "--passes", "2"],
        "fork": ["fork", "scripted@1", "other", "--run", "--passes", "2"],
        "quiet": ["run", task, "-q", "--passes", "1", "--run-dir", "other"],
    }[command]
    result = loop_runner(*args, cwd=tmp_path, prefix=ignoring(SIGINT))
    assert "Ctrl-C is ignored because the parent process ignores SIGINT" in result.stderr, result.stderr


def test_a_run_under_nohup_survives_the_end_of_its_terminal(tmp_path):
    with started("run", slow_task(tmp_path), cwd=tmp_path, prefix=["nohup"]) as run:
        run.wait_for_line("turn 1")
        run.signal(SIGHUP)
        exit_code, _, stderr = run.finish()
    assert exit_code == 0
    assert "is ignored because" not in stderr


def test_a_run_that_a_script_starts_in_the_background_is_stopped_as_its_first_line_says(tmp_path):
    command = shlex.join(argv("run", str(slow_task(tmp_path)), "--json"))
    script = (
        f"{command} & until grep -q 'turn 1' err; do sleep 0.1; done; $(grep -o 'kill -TERM .*' err); wait $!"
    )
    with open(tmp_path / "err", "wb") as err:
        ended = subprocess.run(
            ["sh", "-c", script],
            cwd=tmp_path,
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=err,
            timeout=60,
            check=False,
        )
    assert (ended.returncode, json.loads(ended.stdout)["status"]) == (130, "interrupted")


def test_a_rejection_is_a_rejection_when_the_parent_process_ignores_the_ends_of_its_children(tmp_path):
    gate = {"command": ["sh", "-c", "grep -q 42 answer.md"]}
    task = write_task(tmp_path / "task", root=[ready("41"), ready("42")], verifiers=[gate])
    result = loop_runner("run", task, "--json", cwd=tmp_path, prefix=ignoring(SIGCHLD))
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["passes"] == 2


def test_no_exit_code_is_made_up_in_a_process_that_ignores_the_ends_of_its_children(tmp_path):
    code = (
        "import signal, sys\nfrom pathlib import Path\nfrom loop_runner import process\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "try:\n    print(process.run(['false'], cwd=Path('/'), env={}, timeout_s=5))\n"
        "except process.EnvironmentFault as error:\n    print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("the exit codes of programs cannot be known")
    assert issubclass(EnvironmentFault, Exception)
    assert process.run(["false"], cwd=tmp_path, env=dict(os.environ), timeout_s=5).exit_code == 1


@pytest.mark.parametrize(
    "ignored", [(), (SIGINT,), (SIGINT, SIGTERM, SIGHUP, signal.SIGUSR1, SIGCHLD), (32, 33, 34, 64)]
)
def test_a_gate_starts_with_the_same_signals_however_the_run_was_started(tmp_path, ignored):
    gate = tmp_path / "task/gate.sh"
    gate.parent.mkdir()
    gate.write_text("grep -E 'Sig(Blk|Ign)' /proc/self/status\n")
    task = write_task(gate.parent, root=[ready("42")], verifiers=[{"command": ["sh", "gate.sh"]}])
    result = loop_runner("run", task, cwd=tmp_path, prefix=ignoring(*ignored) if ignored else ())
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "runs/scripted/passes/0001/verdict.json").read_text())["reports"][0]
    assert report["evidence"].split() == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16]
