"""The commands as a person runs them: real processes, their output and their exit codes."""

import json
import signal
import subprocess
import sys
import time

import pytest

from tests.support.commands import loop_runner, started
from tests.support.tasks import cell, ready, write_task


@pytest.fixture
def task(tmp_path):
    return write_task(tmp_path / "task", root=[ready("41"), ready("42")])


def test_a_run_ends_with_the_answer_and_exit_code_0(tmp_path, task):
    result = loop_runner("run", task, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "VERIFIED" in result.stdout
    assert "42" in result.stdout
    assert "pass 1: rejected" in result.stdout
    assert "loop-runner show runs/scripted" in result.stdout
    assert "the prompt is sent again" in result.stderr


def test_json_is_one_object_on_standard_output_with_the_documented_keys(tmp_path, task):
    result = loop_runner("run", task, "--json", cwd=tmp_path)
    data = json.loads(result.stdout)
    assert data["version"] == 1
    assert data["status"] == "verified"
    assert data["answer"] == "42"
    assert data["run"] == "runs/scripted"
    assert (data["passes"], data["turns"]) == (2, 2)
    assert data["seconds"] > 0
    assert data["usage"]["output_tokens"] > 0
    assert data["cost"] == {"usd": 0.0}


def test_an_unverified_end_is_exit_code_3_and_names_the_way_on(tmp_path):
    task = write_task(tmp_path / "task", root=[ready("41")], budget={"passes": 1})
    result = loop_runner("run", task, cwd=tmp_path)
    assert result.returncode == 3
    assert "UNVERIFIED" in result.stdout
    assert "loop-runner resume runs/scripted" in result.stdout


def test_a_broken_gate_is_exit_code_4(tmp_path):
    task = write_task(
        tmp_path / "task", root=[ready("42")], verifiers=[{"command": ["sh", "-c", "kill -9 $$"]}]
    )
    result = loop_runner("run", task, cwd=tmp_path)
    assert result.returncode == 4
    assert "BROKEN" in result.stdout


def test_a_script_that_is_used_up_is_a_model_error_with_exit_code_4(tmp_path):
    task = write_task(tmp_path / "task", root=[ready("41")])
    result = loop_runner("run", task, "--json", cwd=tmp_path)
    assert result.returncode == 4
    assert "what to do" in result.stderr
    assert json.loads(result.stdout)["status"] == "error"


def test_run_on_an_unfinished_folder_names_resume(tmp_path):
    task = write_task(tmp_path / "task", root=[ready("41"), ready("42")], budget={"passes": 1})
    assert loop_runner("run", task, cwd=tmp_path).returncode == 3
    again = loop_runner("run", task, cwd=tmp_path)
    assert again.returncode == 2
    assert "loop-runner resume runs/scripted" in again.stderr
    assert loop_runner("resume", "scripted", "--passes", "2", cwd=tmp_path).returncode == 0
    assert loop_runner("run", task, "--passes", "2", cwd=tmp_path).returncode == 0
    assert (tmp_path / "runs/scripted-2").is_dir(), "a finished run is left alone"


def test_ctrl_c_once_commits_the_turn_and_exits_130(tmp_path):
    task = write_task(
        tmp_path / "task", root=[cell("import time\ntime.sleep(1.5)\nx = 42"), cell("FINAL(x)")]
    )
    with started("run", task, "--json", cwd=tmp_path) as run:
        run.wait_for_line("turn 1")
        time.sleep(0.5)
        run.signal(signal.SIGINT)
        exit_code, stdout, _ = run.finish()
    assert exit_code == 130
    assert json.loads(stdout)["status"] == "interrupted"
    assert json.loads(stdout)["turns"] == 1
    resumed = loop_runner("resume", "scripted", "--json", cwd=tmp_path)
    assert json.loads(resumed.stdout)["answer"] == "42"


def test_ctrl_c_twice_kills_at_once(tmp_path):
    task = write_task(tmp_path / "task", root=[cell("import time\ntime.sleep(60)"), ready("42")])
    with started("run", task, cwd=tmp_path) as run:
        run.wait_for_line("turn 1")
        time.sleep(0.3)
        run.signal(signal.SIGINT)
        time.sleep(0.3)
        run.signal(signal.SIGINT)
        assert run.finish(timeout_s=10)[0] == 130


def test_a_typo_in_a_command_names_the_nearest(tmp_path):
    result = loop_runner("rnu", cwd=tmp_path)
    assert result.returncode == 2
    assert "Did you mean 'run'?" in result.stderr


def test_control_characters_of_a_model_never_reach_the_terminal(tmp_path):
    task = write_task(tmp_path / "task", root=[ready("42 \x1b]0;owned\x07 \u202e")])
    result = loop_runner("run", task, "-v", cwd=tmp_path)
    assert result.returncode == 0
    assert not set("\x1b\x07\u202e") & set(result.stdout + result.stderr)


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom loop_runner.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'anthropic', 'git', 'jinja2', 'rich', 'yaml', 'httpx2'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip().endswith("[]")


@pytest.mark.parametrize("name", ["run", "ask", "resume", "status", "log", "show", "models", "doctor"])
def test_every_command_has_help_with_an_example(tmp_path, name):
    result = loop_runner(name, "--help", cwd=tmp_path)
    assert result.returncode == 0
    assert "Example:" in result.stdout


def test_what_fails_while_an_interrupted_run_is_closed_is_no_other_end_of_it(monkeypatch):
    from loop_runner import cli
    from loop_runner.cli import group
    from loop_runner.errors import EnvironmentFault

    def closing(**_):
        try:
            raise KeyboardInterrupt
        finally:
            raise EnvironmentFault("closing failed", why="it was interrupted")

    monkeypatch.setattr(group.main_group, "main", closing)
    assert cli._run(["run"]) == 130


def test_a_task_of_a_hook_is_not_run_and_the_message_names_the_command_that_begins_it(tmp_path):
    task = write_task(tmp_path / "a task", root=[], session="hook", model=None)
    result = loop_runner("run", task, cwd=tmp_path, timeout_s=30)
    assert result.returncode == 2
    assert f"loop-runner hook start '{task}'" in result.stderr
    assert not (tmp_path / "runs").exists()
