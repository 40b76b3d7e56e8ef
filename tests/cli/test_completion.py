"""Completion in a shell: commands, options, names of runs, models."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from loop_runner.cli import main_group
from tests.support.commands import loop_runner

ROOT = Path(__file__).parents[2]


def script(shell):
    result = CliRunner().invoke(main_group, ["completion", shell])
    assert result.exit_code == 0, result.output
    return result.output


def completed(folder, *words):
    """What the command offers for the last of ``words``, as bash asks it."""
    env = {"_LOOP_RUNNER_COMPLETE": "bash_complete", "COMP_CWORD": str(len(words))}
    env["COMP_WORDS"] = " ".join(("loop-runner", *words))
    done = loop_runner(cwd=folder, env=env)
    assert done.stderr == ""
    return [line.split(",", 1)[1] for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("completion")
    for name in ("review-1", "review-2", "other"):
        (place / "runs" / name / ".git").mkdir(parents=True)
        (place / "runs" / name / "loop-runner.json").write_text("{}")
    return place


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_code_names_the_command(shell):
    assert "_LOOP_RUNNER_COMPLETE" in script(shell)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_code_is_that_of_the_shell(shell):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([shell, "-n"], input=script(shell), text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_another_shell_is_wrong_usage():
    assert CliRunner().invoke(main_group, ["completion", "csh"]).exit_code == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["stat"], ["status"]),
        (["run", "--estim"], ["--estimate"]),
        (["status", "rev"], ["review-1", "review-2"]),
        (["log", "oth"], ["other"]),
        (["cost", "other"], ["other"]),
        (["export", "--format", "ins"], ["inspect"]),
    ],
)
def test_commands_options_and_runs_are_completed(folder, words, expected):
    assert sorted(completed(folder, *words)) == expected


@pytest.mark.parametrize(
    "words", [["run", "t.yaml", "--model", "anthropic:c"], ["ask", "q", "p", "--sub-model", "ant"]]
)
def test_models_are_completed(folder, words):
    result = completed(folder, *words)
    assert result
    assert all(model.startswith("anthropic") and ":" in model for model in result)


def test_where_there_is_no_run_folders_are_completed(tmp_path):
    assert completed(tmp_path, "status", "x") == ["x"]  # with the type "dir": the shell lists folders


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_a_run_and_a_model_with_its_colon(folder, tmp_path):
    program = tmp_path / "loop-runner"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m loop_runner "$@"\n')
    program.chmod(0o755)
    code = f"""{script("bash")}
COMP_WORDS=(loop-runner status rev) COMP_CWORD=2
_loop_runner_completion loop-runner; echo "${{COMPREPLY[@]}}"
COMPREPLY=() COMP_WORDS=(loop-runner run t.yaml --model anthropic:claude-s) COMP_CWORD=4
_loop_runner_completion loop-runner; echo "${{COMPREPLY[@]}}"
"""
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", code], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    runs, models = done.stdout.splitlines()
    assert sorted(runs.split()) == ["review-1", "review-2"]
    assert models.startswith("anthropic:claude-s")
