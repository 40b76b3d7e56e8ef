"""A program that finds its file by convention runs on the task's file, beside the answer."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from loop_runner.records import Accepted, Broken, Rejected
from loop_runner.verify.fence import GateSandbox
from tests.support.gates import Ready, made, submission

MAKEFILE = "check:\n\tgrep -q 42 answer.md\n"
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def verdict(tmp_path, files, answer, command="make check", *, model_files=None):
    task = tmp_path / "task"
    for name, text in files.items():
        (task / name).parent.mkdir(parents=True, exist_ok=True)
        (task / name).write_text(text)
    task.mkdir(exist_ok=True)
    tmp_path.chmod(0o755)
    gate = made({"command": command}, task, fence=GateSandbox())
    return gate.verify(submission(tmp_path, answer, files=model_files))


@needs_make
@pytest.mark.parametrize("name", ["Makefile", "makefile", "GNUmakefile"])
@pytest.mark.parametrize("writable", [False, True])
def test_make_runs_on_the_tasks_makefile(tmp_path, name, writable):
    command = {"run": "make check", "writable": writable}
    assert isinstance(verdict(tmp_path, {name: MAKEFILE}, "42", command), Accepted)
    assert isinstance(verdict(tmp_path, {name: MAKEFILE}, "41", command), Rejected)


@needs_make
@pytest.mark.parametrize("extra", ["check.py", "checks/check.py"])
def test_a_file_that_the_makefile_names_is_pinned_with_it(tmp_path, extra):
    files = {
        "Makefile": f"check:\n\tpython3 {extra}\n",
        extra: "assert open('answer.md').read() == '42'\n",
    }
    assert isinstance(verdict(tmp_path, files, "42"), Accepted)
    assert isinstance(verdict(tmp_path, files, "41"), Rejected)


@needs_make
def test_a_file_that_is_found_in_another_way_is_broken_until_it_is_pinned(tmp_path):
    files = {"Makefile": "NAME = che\ncheck:\n\tpython3 $(NAME)ck.py\n", "check.py": ""}
    outcome = verdict(tmp_path, files, "42")
    assert isinstance(outcome, Broken)
    assert "check.py" in outcome.reason
    assert "`pin:`" in outcome.reason
    pinned = {"run": "make check", "pin": ["check.py"]}
    assert isinstance(verdict(tmp_path, files, "42", pinned), Accepted)


@needs_make
@pytest.mark.parametrize("command", ["make", "make check", "make -s check"])
def test_without_a_makefile_the_gate_is_broken_and_says_what_to_do(tmp_path, command):
    outcome = verdict(tmp_path, {}, "42", command)
    assert isinstance(outcome, Broken)
    assert "Makefile" in outcome.reason


@needs_make
def test_a_rerun_without_the_tasks_folder_uses_the_pinned_files(tmp_path):
    task = tmp_path / "task"
    task.mkdir()
    (task / "Makefile").write_text("check:\n\tpython3 check.py\n")
    (task / "check.py").write_text("assert open('answer.md').read() == '42'\n")
    gate = made({"command": "make check"}, task, fence=GateSandbox())
    shutil.rmtree(task)
    tmp_path.chmod(0o755)
    programs = replace(gate.means.programs, is_frozen=True)
    frozen = Ready(gate.verifier, replace(gate.means, programs=programs))
    assert isinstance(frozen.verify(submission(tmp_path, "42")), Accepted)
    assert isinstance(frozen.verify(submission(tmp_path, "41")), Rejected)


@needs_make
def test_a_makefile_of_the_model_is_not_used(tmp_path):
    assert isinstance(verdict(tmp_path, {}, "41", model_files={"Makefile": "check:\n\ttrue\n"}), Broken)


@needs_make
@pytest.mark.parametrize("recipe", ["no-such-program answer.md", "touch here.txt"])
def test_a_recipe_that_cannot_work_is_broken(tmp_path, recipe):
    assert isinstance(verdict(tmp_path, {"Makefile": f"check:\n\t{recipe}\n"}, "42"), Broken)


@needs_make
def test_a_missing_file_of_the_answer_is_a_rejection(tmp_path):
    files = {"Makefile": "check: workspace/out.txt\n\tgrep -q 42 workspace/out.txt\n"}
    assert isinstance(verdict(tmp_path, files, "42"), Rejected)


@pytest.mark.parametrize(
    "command", ["python3 -m pytest -q -p no:cacheprovider", "pytest -q -p no:cacheprovider"]
)
def test_pytest_runs_the_tests_of_the_tasks_folder(tmp_path, command):
    folder = Path(sys.executable).parent
    command = (
        command.replace("python3", sys.executable).replace("pytest -q", f"{folder}/pytest -q", 1)
        if (command.startswith("pytest"))
        else command.replace("python3", sys.executable)
    )
    files = {
        "tests/test_answer.py": "def test_it():\n    assert open('answer.md').read() == '42'\n",
        "conftest.py": "",
    }
    assert isinstance(verdict(tmp_path, files, "42", command), Accepted)
    assert isinstance(verdict(tmp_path, files, "41", command), Rejected)


@pytest.mark.parametrize(
    ("program", "file"),
    [
        ("cargo", "Cargo.toml"),
        ("just", "justfile"),
        ("tox", "tox.ini"),
        ("nox", "noxfile.py"),
        ("npm", "package.json"),
        ("yarn", "package.json"),
        ("pnpm", "package.json"),
        ("go", "go.mod"),
        ("ctest", "CTestTestfile.cmake"),
        ("gradle", "build.gradle"),
        ("mvn", "pom.xml"),
        ("rake", "Rakefile"),
        ("poetry", "pyproject.toml"),
        ("hatch", "pyproject.toml"),
        ("uv", "pyproject.toml"),
    ],
)
def test_the_file_of_each_program_is_pinned_and_laid_beside_the_answer(tmp_path, monkeypatch, program, file):
    stand_in = tmp_path / "bin" / program
    stand_in.parent.mkdir()
    stand_in.write_text(f"#!/bin/sh\ntest -f {file} && grep -q 42 answer.md\n")
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stand_in.parent}:/usr/bin:/bin")
    assert isinstance(verdict(tmp_path, {file: ""}, "42", f"{program} test"), Accepted)
    assert isinstance(verdict(tmp_path, {file: ""}, "41", f"{program} test"), Rejected)
