"""What tests of hooks share: a state folder of their own, a user's repository, tasks with a fake agent."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from loop_runner.runs import start as runs
from loop_runner.runs.context import RunContext
from loop_runner.task import config

AGENT = Path(__file__).parent.parent / "support" / "fake_agent.py"
ROOT = Path(__file__).parent.parent.parent


def git(folder, *args):
    return subprocess.run(
        ["git", "-c", "user.name=u", "-c", "user.email=u@u", "-C", folder, *args],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


@pytest.fixture
def env(tmp_path):
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path / "home"),
        "LOOP_RUNNER_STATE": str(tmp_path / "state"),
        "PYTHONPATH": str(ROOT),
    }


@pytest.fixture
def project(tmp_path):
    """A user's repository with two commits' worth of files."""
    folder = tmp_path / "project"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "number.txt").write_text("0\n")
    (folder / ".gitignore").write_text("*.log\n")
    git(tmp_path, "init", "-q", "-b", "main", "project")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "begin")
    return folder


def agent_task(folder, plan, *, verifiers=({"contains": "42"},), name="mend", agent=None, **keys):
    """A task file in ``folder`` whose agent follows ``plan``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.json").write_text(json.dumps(plan))
    command = [sys.executable, str(AGENT), str(folder / "plan.json")]
    task = {
        "name": name,
        "prompt": "Make the number 42.",
        "session": "command",
        "agent": {"command": command, "patience": 0.01, **(agent or {})},
        "verifiers": list(verifiers),
        **keys,
    }
    (folder / "task.yaml").write_text(yaml.safe_dump(task))
    return folder / "task.yaml"


def started(task_file):
    """What the fake agent was given at each step: its pid, folder and prompt."""
    log = task_file.parent / "plan.log"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def run(task_file, folder, env, events=None, should_stop=lambda: False):
    listeners = () if events is None else (events.append,)
    return runs.start(config.read_task(task_file), folder, RunContext(env, listeners, should_stop))
