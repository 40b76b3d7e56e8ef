"""Plays one task of the workbench through the real command, kills included, and records every request."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from loop_runner.runs import start as runs
from loop_runner.runs.context import RunContext
from loop_runner.task import config
from tests.support.commands import clean_environment
from tests.support.model_server import HttpError, ModelServer, Received

ROOT, SUB = "claude-root", "claude-sub"
_GATE = Path(__file__).with_name("gate.py")
_OFFERED = re.compile(r"^- `(\w+)\(", re.MULTILINE)
_SETTLE_S = 1.0  # until replies that were sent before a kill are in the journal

Offer = frozenset[str]
"""The names of the helpers that a system prompt offers."""


@dataclass(frozen=True, slots=True)
class Kill:
    """The end of one process: SIGKILL when a request arrives, or at a failpoint (see `failpoints.py`)."""

    kind: str = ""  # "root" or "sub"; empty: at the failpoint
    number: int = 0  # of the process's requests of this kind, from 1; that request gets no reply
    failpoint: str = ""


@dataclass(frozen=True)
class Scenario:
    """One task. ``make`` writes inputs of a size ("sample", "full") below a folder; it returns the key."""

    name: str
    prompt: str
    make: Callable[[Path, str], Mapping[str, Any]]
    replies: Callable[[Offer], Sequence[str]]  # of the root model, over all passes
    answer_sub: Callable[[str], str] = lambda _: "none"
    keys: Mapping[str, Any] = field(default_factory=dict)  # more of the task file
    kills: Sequence[Kill] = ()
    passes: int = 1  # that the run takes
    provider: str = "anthropic"


@dataclass(frozen=True)
class Exchange:
    """One request and the reply that it got; None if it got none."""

    kind: str  # "root" or "sub"
    request: Received
    reply: str | None


@dataclass
class Recording:
    """Everything that one play did."""

    scenario: Scenario
    outcome: Mapping[str, Any]
    exchanges: list[Exchange]
    kills: int
    seconds: float
    stderr: str

    @property
    def roots(self) -> list[Exchange]:
        """The answered requests of the root model, in order."""
        return [
            exchange for exchange in self.exchanges if exchange.kind == "root" and exchange.reply is not None
        ]

    @property
    def passes(self) -> list[list[Exchange]]:
        """The same by pass; a fresh pass begins with one message."""
        groups: list[list[Exchange]] = []
        for root in self.roots:
            if len(root.request.messages) == 1:
                groups.append([])
            groups[-1].append(root)
        return groups

    def save(self, folder: Path) -> None:
        """Write each request with its reply as JSON, numbered, for people who want to read them."""
        folder.mkdir(parents=True, exist_ok=True)
        for number, item in enumerate(self.exchanges, 1):
            data = {"kind": item.kind, "request": item.request.body, "reply": item.reply}
            path = folder / f"{number:04}-{item.kind}.json"
            path.write_text(json.dumps(data, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


class _Player:
    """Answers the requests of one run: the root model by script, sub-models by a function of the prompt."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._replies: Sequence[str] = ()
        self._roots: dict[bytes, int] = {}  # request to the number of its reply
        self._counts: dict[str, int] = {}
        self._kills = list(scenario.kills)
        self._is_dying = False
        self._lock = threading.Lock()
        self.exchanges: list[Exchange] = []
        self.process: subprocess.Popen[str] | None = None

    def begin(self) -> str:
        """A process starts; returns the failpoint that it is to die at, if any."""
        self._is_dying = False
        self._counts = dict.fromkeys(("root", "sub"), 0)
        return self._kills[0].failpoint if self._kills else ""

    def end(self) -> bool:
        """A process ended; returns whether it was killed, so that the run must be resumed."""
        assert self.process is not None
        if self.process.returncode != -signal.SIGKILL:
            return False
        self._kills.pop(0)
        return True

    def answer(self, received: Received) -> str | HttpError:
        kind = "root" if received.body["model"] == ROOT else "sub"
        with self._lock:
            self._counts[kind] += 1
            due = self._kills[0] if self._kills else None
            is_hit = due is not None and (due.kind, due.number) == (kind, self._counts[kind])
            is_first = is_hit and not self._is_dying
            self._is_dying |= is_hit
            reply = None if self._is_dying else self._reply(kind, received)
            self.exchanges.append(Exchange(kind, received, reply))
        if is_first:
            self._kill()
        return self._after_death() if reply is None else reply

    def _kill(self) -> None:
        assert self.process is not None
        time.sleep(_SETTLE_S)
        self.process.kill()

    def _after_death(self) -> HttpError:
        assert self.process is not None
        self.process.wait()
        return HttpError(500)

    def _reply(self, kind: str, received: Received) -> str:
        if kind == "sub":
            return self._scenario.answer_sub(received.last_user_text)
        if not self._roots:
            self._replies = self._scenario.replies(frozenset(_OFFERED.findall(received.system)))
        number = self._roots.setdefault(received.raw, len(self._roots))
        return self._replies[number] if number < len(self._replies) else "I have nothing left to say."


def play(scenario: Scenario, folder: Path, size: str, python: str | None = None) -> Recording:
    """Run the task in ``folder`` to its end, resuming it after every kill.

    With the loop-runner of the interpreter ``python``, as processes; in this process without it and kills.
    """
    task = write(scenario, folder, size, f"{scenario.provider}:{ROOT}", f"{scenario.provider}:{SUB}")
    player = _Player(scenario)
    started, kills, errors = time.monotonic(), 0, ""
    with ModelServer() as server:
        server.answer_with(player.answer)
        keys = {**server.env, "OPENAI_BASE_URL": server.openai_url, "OPENAI_API_KEY": "test-key"}
        if python is None and not scenario.kills:
            player.begin()
            outcome = _run_here(task, folder, keys)
        else:
            env = {**keys, "XDG_STATE_HOME": str(folder / "state"), "PYTHONPATH": ""}
            command = [python or sys.executable, "-m", "loop_runner"]
            args: list[object] = ["run", task, "--run-dir", folder / "run", "--json"]
            stdout, errors = _run(player, [*command, *map(str, args)], folder, env)
            while player.end():
                kills += 1
                again = [*command, "resume", str(folder / "run"), "--json"]
                stdout, errors = _run(player, again, folder, env)
            outcome = json.loads(stdout) if stdout.strip() else {"status": "no output"}
    return Recording(scenario, outcome, player.exchanges, kills, time.monotonic() - started, errors)


def write(scenario: Scenario, folder: Path, size: str, model: str, sub_model: str) -> Path:
    """Write the task file, its inputs and its gate below ``folder``; return the task file's path."""
    task_folder = folder / "task"
    inputs = task_folder / "inputs"
    inputs.mkdir(parents=True)
    key = scenario.make(inputs, size)
    (task_folder / "key.json").write_text(json.dumps(key, ensure_ascii=False), encoding="utf-8")
    shutil.copy(_GATE, task_folder / "check.py")
    keys = dict(scenario.keys)
    form = keys.pop("form", ())  # gates of the form, before the one that knows the key
    for name, data in keys.pop("files", {}).items():
        (task_folder / name).write_text(data, encoding="utf-8")
    task = {
        "name": scenario.name,
        "prompt": scenario.prompt,
        "inputs": ["inputs"],
        "model": model,
        "sub_model": sub_model,
        "verifiers": [*form, {"python": {"file": "check.py", "pin": ["key.json"]}}],
        "budget": {"passes": 6, "turns": 12},
        **keys,
    }
    (task_folder / "task.yaml").write_text(yaml.safe_dump(task, allow_unicode=True), encoding="utf-8")
    return task_folder / "task.yaml"


def _run_here(task: Path, folder: Path, env: Mapping[str, str]) -> Mapping[str, Any]:
    outcome = runs.start(config.read_task(task), folder / "run", RunContext(env))
    return {"status": outcome.status, "answer": outcome.answer.content, "reason": outcome.reason}


def _run(player: _Player, command: Sequence[str], folder: Path, env: Mapping[str, str]) -> tuple[str, str]:
    failpoint = player.begin()
    more = {"LOOP_RUNNER_FAILPOINT": f"{failpoint}:kill"} if failpoint else {}
    with subprocess.Popen(
        command,
        cwd=folder,
        env=clean_environment({**env, **more}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        player.process = process
        try:
            return process.communicate(timeout=300)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
