"""A place in which every main job can be run at once: made once, copied for each environment.

The model is a script, so a job takes a second or less. ``Place`` knows the command line of each job and how
to see that it did its work.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.agents.conftest import AGENT, agent_task, git
from tests.audit.conftest import RULES
from tests.support.commands import argv, clean_environment
from tests.support.tasks import ready, write_task

ROOT = Path(__file__).parents[2]
ANSWER = "42 → ✓ déjà\u2028"
JOBS = ("run", "audit", "hook stop", "export", "verify")
_STOP = {"hook_event_name": "Stop", "session_id": "s1", "cwd": "/", "stop_hook_active": False}


@dataclass
class Ended:
    """How a job ended. ``text``: both of its streams."""

    exit_code: int
    text: str


@dataclass
class Place:
    """A folder with a task, a project to audit, two finished runs, a repository and a registered session."""

    folder: Path
    env: dict[str, str | None] = field(default_factory=dict)  # added to the environment; None: unset
    shell: str = '"$@"'  # how the command is started
    to: str = "project"  # the repository to export into
    branch: str = "made"  # "": the default
    run: str = "run"  # the finished run to verify

    @property
    def args(self) -> Mapping[str, list[str]]:
        """The command line of each job, relative to the folder."""
        branch = ["--branch", self.branch] if self.branch else []
        rules = ["--rules", "rules.yaml", "--model", "script:judge.yaml"]
        return {
            "run": ["run", "task.yaml", "-v"],
            "audit": ["audit", "source", *rules],
            "hook stop": ["hook", "stop"],
            "export": ["export", "agent-run", "--to", self.to, *branch],
            "verify": ["verify", self.run],
        }

    def do(self, job: str) -> Ended:
        """Start ``job`` in the environment and wait for its end."""
        env: dict[str, str | None] = {
            "HOME": str(self.folder / "home"),
            "LOOP_RUNNER_STATE": str(self.folder / "state"),
            "PYTHONPATH": str(ROOT),
            **clean_environment(),
            **self.env,
        }
        done = subprocess.run(
            ["/bin/sh", "-c", self.shell, "sh", *argv(*self.args[job])],
            cwd=self.folder,
            env={name: value for name, value in env.items() if value is not None},
            input=json.dumps(_STOP).encode(),
            capture_output=True,
            timeout=60,
            check=False,
        )
        return Ended(done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace"))

    def has_worked(self, job: str, ended: Ended) -> bool:
        """Whether ``job`` ended well and left behind what it is for, also when nothing could be printed."""
        proofs: dict[str, Callable[[], bool]] = {
            "run": lambda: (self.folder / "runs/scripted/answer.md").read_text("utf-8") == ANSWER,
            "audit": lambda: any((self.folder / "runs").glob("audit*/answer.md")),
            "hook stop": lambda: not list((self.folder / "state/sessions").iterdir()),
            "export": lambda: self._exported() == "42",
            "verify": lambda: True,
        }
        return ended.exit_code == 0 and proofs[job]()

    def _exported(self) -> str:
        repository = self.folder / self.to
        inside = ".git" if (repository / ".git").exists() else "."
        return str(git(repository, "--git-dir", inside, "show", f"{self.branch}:number.txt"))


def make(folder: Path) -> None:
    """Write and run everything that the jobs need."""
    write_task(folder, root=[ready(ANSWER)])
    (folder / "home").mkdir()
    (folder / "source").mkdir()
    (folder / "source/shop.py").write_text(
        "def load(path):\n    try:\n        pass\n    except OSError:\n        pass\n"
    )
    (folder / "rules.yaml").write_text(yaml.safe_dump(RULES))
    right = '{"judgements": [{"candidate": 1, "line": 4, "quote": "", "reason": "", "verdict": "right"}]}'
    (folder / "judge.yaml").write_text(yaml.safe_dump({"sub": [{"reply": right}]}))
    _make_runs(folder)
    session = {"session": "s1", "run": str(folder / "gone"), "python": sys.executable, "python_path": ""}
    (folder / "state/sessions").mkdir(parents=True, exist_ok=True)
    (folder / "state/sessions/s1.json").write_text(json.dumps(session))


def _make_runs(folder: Path) -> None:
    make_repository(folder / "project")
    plan = [{"files": {"number.txt": "42\n"}, "say": "42"}]
    task = agent_task(folder / "agent", plan, agent={"repository": str(folder / "project")})
    assert AGENT.exists()
    env = {
        **clean_environment(),
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder / "home"),
        "LOOP_RUNNER_STATE": str(folder / "state"),
    }
    for task_file, run in ((task, "agent-run"), (folder / "task.yaml", "run")):
        done = subprocess.run(
            argv("run", task_file, "--run-dir", run), cwd=folder, env=env, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr


def make_repository(folder: Path, *options: str) -> None:
    """A user's repository with one commit; ``options`` are those of git init."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main", *options)
    (folder / "number.txt").write_text("0\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "begin")


def copy(made: Path, to: Path) -> Place:
    """A copy of the place that ``make`` wrote, for one environment to spoil."""
    subprocess.run(["cp", "-a", made, to], check=True)
    return Place(to)
