"""The real clients in a home of their own, and the runs that they work in."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from loop_runner.runs import start as runs
from loop_runner.runs.context import RunContext
from loop_runner.task import config
from loop_runner.workspace.history import History
from tests.clients import fetch
from tests.clients.server import Provider, Tool
from tests.support.commands import wait_for

ROOT = Path(__file__).parent.parent.parent
QUIET = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
}


class Place:
    """A home, a provider and a folder; ``env`` is all that a client sees of the machine."""

    def __init__(self, folder, provider):
        self.folder, self.provider = folder, provider
        self.run_folder = folder / "run"
        home, bin_folder = folder / "home", folder / "bin"
        for item in (home, bin_folder):
            item.mkdir()
        # `loop-runner`, as a user has it on the PATH.
        script = bin_folder / "loop-runner"
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m loop_runner "$@"\n')
        script.chmod(0o755)
        self.env = {
            "PATH": f"{bin_folder}:{os.environ['PATH']}",
            "HOME": str(home),
            "LOOP_RUNNER_STATE": str(folder / "state"),
            "PYTHONPATH": str(ROOT),
            "CLAUDE_CONFIG_DIR": str(home / ".claude"),
            "ANTHROPIC_BASE_URL": provider.url,
            "ANTHROPIC_API_KEY": "dummy",
            "CODEX_HOME": str(home / ".codex"),
            "DUMMY_KEY": "dummy",
            **QUIET,
        }
        (home / ".codex").mkdir()
        (home / ".codex" / "config.toml").write_text(
            'model = "test"\nmodel_provider = "test"\n[model_providers.test]\nname = "test"\n'
            f'base_url = "{provider.url}/v1"\nwire_api = "responses"\nenv_key = "DUMMY_KEY"\n'
        )

    def task(self, command, *, name="real", verifiers=({"contains": "42"},), agent=None, passes=40, **keys):
        task = {
            "name": name,
            "prompt": "Make it 42.",
            "session": "command",
            "agent": {
                "command": command,
                "repository": "none",
                "patience": 0.01,
                "timeout": 60,
                **(agent or {}),
            },
            "verifiers": list(verifiers),
            "budget": {"passes": passes},
            **keys,
        }
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(task))
        return path

    def session_task(self, name, wanted):
        """A task for a loop inside a session; ``start`` is what its agent runs."""
        task = {"name": name, "prompt": "Say it.", "verifiers": [{"contains": wanted}]}
        (self.folder / f"{name}.yaml").write_text(yaml.safe_dump(task))

    def start(self, name):
        # By its path: Codex runs a login shell, which has a PATH of its own.
        command = f"{self.folder}/bin/loop-runner hook start {self.folder}/{name}.yaml"
        return Tool(f"{command} --run-dir {self.folder}/{name}")

    def run(self, task_file, *, listen=None):
        context = RunContext(self.env, (listen,) if listen else ())
        return runs.start(config.read_task(task_file), self.run_folder, context)

    def resume(self):
        return runs.resume(self.run_folder, RunContext(self.env))

    def endings(self, folder=None):
        """How each pass was handed in: None at the hook."""
        with History(folder or self.run_folder) as history:
            paths = [path for path in history.files("passes/") if path.endswith("agent.json")]
            return [json.loads(history.read(path) or b"{}")["ending"] for path in paths]

    def loop_runner(self, *args, cwd=None):
        done = subprocess.run(
            [sys.executable, "-m", "loop_runner", *map(str, args)],
            env=self.env,
            cwd=cwd or self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def call(self, argv, *, cwd=None, stdin="", env=None, timeout=90):
        """Run a client to its end, without loop-runner around it."""
        return subprocess.run(
            [*map(str, argv)],
            env={**self.env, **(env or {})},
            cwd=cwd or self.folder,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


@pytest.fixture
def place(tmp_path):
    with Provider() as provider:
        yield Place(tmp_path, provider)


@pytest.fixture
def claude():
    path = fetch.path_of("claude")
    if path is None:
        pytest.skip("Claude Code was not fetched: make test-clients")
    return str(path)


@pytest.fixture
def codex():
    path = fetch.path_of("codex")
    if path is None:
        pytest.skip("Codex was not fetched: make test-clients")
    return str(path)


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(tmp_path):
    yield
    for run in ("one", "two"):
        if (tmp_path / run).is_dir():
            (tmp_path / run / "STOP").touch()
    listening = [tmp_path / run / ".git/loop-runner/hook.json" for run in ("one", "two")]
    wait_for(lambda: not any(path.exists() for path in listening))
    shutil.rmtree(tmp_path / "home", ignore_errors=True)
