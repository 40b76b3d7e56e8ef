"""A run folder from another person starts nothing outside the sandbox until the user trusts it."""

import json
import os
import shutil
import subprocess
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from loop_runner.cli import main_group
from loop_runner.runs.context import RunContext
from tests.support.commands import loop_runner
from tests.support.tasks import cell, ready, write_task


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("LOOP_RUNNER_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def own(tmp_path, state):
    """A run that this user created here, and that is not finished."""
    from loop_runner.runs import start as runs
    from loop_runner.task import config

    root = [ready("41"), cell("x = 1"), ready("42")]
    task = write_task(tmp_path / "task", root=root, budget={"passes": 1})
    context = RunContext({"LOOP_RUNNER_STATE": str(state)})
    runs.start(config.read_task(task), tmp_path / "own", context)
    return tmp_path / "own"


@pytest.fixture
def received(own, tmp_path):
    git(tmp_path, "clone", "-q", str(own), "received")
    return tmp_path / "received"


def git(folder, *args):
    settings = ("-c", "user.name=x", "-c", "user.email=x@y", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *settings, "-C", folder, *args], check=True, capture_output=True)


def call(*args):
    return CliRunner().invoke(main_group, [str(arg) for arg in args], standalone_mode=False)


def code_of(result):
    return result.return_value if result.exception is None else getattr(result.exception, "exit_code", 5)


def set_task(folder, **keys):
    data = yaml.safe_load((folder / "task.yaml").read_text()) | keys
    (folder / "task.yaml").write_text(yaml.safe_dump(data))
    git(folder, "commit", "-qam", "another task")


def continuing(folder, tmp_path):
    return [
        ("resume", folder, "--passes", 3),
        ("replay", folder),
        ("fork", folder, tmp_path / "forked", "--run", "--passes", 3),
    ]


def test_a_run_that_was_created_here_is_continued_without_a_question(own):
    assert code_of(call("resume", own, "--passes", 3)) == 0


@pytest.mark.parametrize("command", ["run", "fork"])
@pytest.mark.parametrize("place", ["create.rename", "create.renamed"])
def test_a_run_that_is_killed_as_it_appears_is_the_users_own(own, tmp_path, command, place):
    runs = {
        "fork": ("fork", own, "killed/run"),
        "run": ("run", tmp_path / "task/task.yaml", "--run-dir", "killed/run"),
    }
    args = runs[command]
    env = {"LOOP_RUNNER_FAILPOINT": f"{place}:1:kill"}
    assert loop_runner(*args, "--passes", 5, cwd=tmp_path, env=env).returncode == -9
    again = ("resume", "killed/run") if (tmp_path / "killed/run/.git").exists() else args
    assert loop_runner(*again, "--passes", 5, cwd=tmp_path).returncode in (0, 3)


def test_a_run_that_was_moved_on_this_disk_is_still_the_users_own(own, tmp_path):
    own.rename(tmp_path / "moved")
    assert code_of(call("replay", tmp_path / "moved")) == 0


@pytest.mark.parametrize("number", range(3))
def test_a_clone_starts_nothing_until_it_is_trusted(received, tmp_path, number):
    command = continuing(received, tmp_path)[number]
    output = call(*command)
    assert code_of(output) == 4
    assert "was not created here" in str(output.exception)
    assert "script:script.yaml" in str(output.exception)
    assert '{"contains": "42"}' in str(output.exception)
    assert not (tmp_path / "forked").exists()
    assert code_of(call(*command, "--trust")) in (0, 3)


def test_trust_is_asked_for_once(received):
    assert code_of(call("replay", received, "--trust")) == 0
    assert code_of(call("replay", received)) == 0
    assert code_of(call("resume", received, "--passes", 3)) == 0


@pytest.mark.parametrize(
    "how",
    [shutil.copytree, lambda a, b: subprocess.run(["cp", "-a", a, b], check=True)],
    ids=["copy", "cp -a"],
)
def test_a_copy_that_was_sent_back_is_not_the_users_own(own, tmp_path, how):
    how(own, tmp_path / "returned")
    assert code_of(call("resume", tmp_path / "returned", "--passes", 3)) == 4


def test_a_fork_of_a_folder_that_is_not_trusted_is_not_trusted_either(received, tmp_path):
    assert code_of(call("fork", received, tmp_path / "forked", "--passes", 5)) == 0
    assert code_of(call("resume", tmp_path / "forked")) == 4
    assert code_of(call("resume", tmp_path / "forked", "--trust")) == 0


def test_a_fork_of_the_users_own_run_is_the_users_own(own, tmp_path):
    assert code_of(call("fork", own, tmp_path / "forked", "--passes", 5)) == 0
    assert code_of(call("resume", tmp_path / "forked")) == 0


@pytest.mark.parametrize(
    "keys",
    [
        {"kernel": {"python": "/usr/bin/python3"}},
        {"verifiers": [{"command": ["sh", "-c", "true"]}]},
        {"stop_hooks": [["sh", "-c", "true"]]},
        {"model": "manual:letters"},
        {"prompt": "Do something else."},
    ],
    ids=lambda keys: next(iter(keys)),
)
def test_a_folder_whose_task_was_changed_after_it_was_trusted_is_not_trusted(received, keys):
    assert code_of(call("replay", received, "--trust")) == 0
    set_task(received, **keys)
    output = call("resume", received, "--passes", 3)
    assert code_of(output) == 4
    assert "was not created here" in str(output.exception)


@pytest.mark.parametrize(
    "place", [".git/loop-runner/created", ".git/loop-runner/state/created", "state/created"]
)
def test_a_mark_that_comes_with_the_folder_counts_for_nothing(own, received, state, place):
    shutil.copytree(state / "created", received / place)
    for mark in (state / "created").iterdir():
        seen = (received / ".git").stat()
        shutil.copy(mark, received / place / f"{seen.st_dev:x}-{seen.st_ino:x}.json")
    assert code_of(call("resume", received, "--passes", 3)) == 4


PROGRAMS: dict[str, Any] = {
    "an agent by its path": lambda inside: {"session": "command", "agent": {"command": [inside]}},
    "an agent's script": lambda inside: {"session": "command", "agent": {"command": ["sh", inside]}},
    "an agent beside the files": lambda _inside: {"session": "command", "agent": {"command": ["./agent.sh"]}},
    "a way around": lambda inside: {"session": "command", "agent": {"command": [f"/usr/..{inside}"]}},
    "an interpreter": lambda inside: {"kernel": {"python": inside}},
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("trust", [(), ("--trust",)], ids=["asked", "trusted"])
def test_a_program_in_the_run_folder_is_never_started(received, tmp_path, name, trust):
    program = received / "workspace" / "agent.sh"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/mark\n")
    program.chmod(0o755)
    git(received, "add", "-A")
    set_task(received, **PROGRAMS[name](str(program)))
    output = call("resume", received, "--passes", 3, *trust)
    assert code_of(output) == 4
    assert "located in the run folder" in str(output.exception)
    assert not (tmp_path / "mark").exists()


def test_an_agent_and_an_interpreter_are_listed_and_not_started(received, tmp_path):
    program = tmp_path / "agent"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/mark\n")
    program.chmod(0o755)
    set_task(received, session="command", agent={"command": [str(program), "--go"]})
    output = call("resume", received, "--passes", 3)
    assert code_of(output) == 4
    assert f"agent, outside any sandbox: {program} --go" in str(output.exception)
    git(received, "revert", "--no-edit", "HEAD")
    set_task(received, kernel={"python": str(program)})
    output = call("replay", received)
    assert code_of(output) == 4
    assert f"interpreter of the model's code: {program}" in str(output.exception)
    assert not (tmp_path / "mark").exists()


def test_a_run_works_where_no_mark_can_be_kept_and_says_so_once(tmp_path):
    from loop_runner.runs import start as runs
    from loop_runner.task import config

    (tmp_path / "file").write_text("")
    heard: list[Any] = []
    task = config.read_task(write_task(tmp_path / "task", root=[ready("42")]))
    context = RunContext({"LOOP_RUNNER_STATE": str(tmp_path / "file" / "state")}, (heard.append,))
    assert runs.start(task, tmp_path / "run", context).status == "verified"
    assert sum("not marked as yours" in event.text for event in heard) == 1


def test_a_mark_that_is_damaged_is_none(own, state):
    for mark in (state / "created").iterdir():
        mark.write_text("[" * 100_000)
    assert code_of(call("resume", own, "--passes", 3)) == 4


def test_marks_are_open_to_their_user_only(own, state):
    assert (state / "created").stat().st_mode & 0o077 == 0


def test_a_run_that_was_continued_with_new_pins_stays_the_users_own(tmp_path, state):
    from loop_runner.runs import start as runs
    from loop_runner.task import config

    folder = tmp_path / "task"
    task = write_task(
        folder, root=[ready("41"), ready("42")], budget={"passes": 1}, verifiers=[{"python": "check.py"}]
    )
    (folder / "check.py").write_text("def check(s):\n    assert s.answer == '43'\n")
    context = RunContext(dict(os.environ))
    runs.start(config.read_task(task), tmp_path / "run", context)
    (folder / "check.py").write_text("def check(s):\n    assert s.answer == '42'\n")
    assert code_of(call("resume", tmp_path / "run", "--passes", 2, "--repin")) == 0
    output = call("replay", tmp_path / "run", "--recorded-verdicts")
    assert output.exception is None, output.exception  # it is not asked to be trusted
    assert json.loads((tmp_path / "run/gates/pins.json").read_text())["programs"]
