"""The stop hook's own time: with no loop, with one and no gates, and in Claude Code's HTTP form."""

from __future__ import annotations

import http.client
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from bench.timing import median_ms, report
from loop_runner.agents import agent_runs, call, install
from loop_runner.agents.endpoint import Endpoint
from loop_runner.agents.protocol import Decision
from loop_runner.runs import start as runs
from loop_runner.runs.context import RunContext
from loop_runner.task import config

_ROOT = Path(__file__).parent.parent
_PAYLOAD = {"hook_event_name": "Stop", "session_id": "bench", "cwd": "/", "stop_hook_active": False}
_PASSES = 200


def main() -> None:
    """Print the figures of this file."""
    bare = [sys.executable, "-c", "pass"]
    report("python -c pass, whole process", median_ms(lambda: subprocess.run(bare, check=True)))
    report(
        "python -S -E -c pass",
        median_ms(lambda: subprocess.run([bare[0], "-S", "-E", *bare[1:]], check=True)),
    )
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "LOOP_RUNNER_STATE": f"{folder}/state", "PYTHONPATH": str(_ROOT)}
        installed = install.command().split()
        command = [str(Path(sys.executable).parent / "loop-runner"), "hook", "stop"]
        report("no loop, as installed", median_ms(lambda: _stop(installed, env)), target="under 60")
        report("no loop, loop-runner hook stop", median_ms(lambda: _stop(command, env)))
        _with_a_loop(Path(folder), installed, env)
        _http_form(Path(folder))


def _stop(argv: list[str], env: dict[str, str], message: str = "no") -> None:
    payload = json.dumps({**_PAYLOAD, "last_assistant_message": message}).encode()
    done = subprocess.run(argv, input=payload, env=env, capture_output=True, check=True)
    assert done.stdout.strip(), done.stderr


def _with_a_loop(folder: Path, installed: list[str], env: dict[str, str]) -> None:
    """A session's loop, whose only gate looks for a word: commit, decision, what the next pass is told."""
    (folder / "project").mkdir()
    (folder / "project" / "a.txt").write_text("1")
    (folder / "task.yaml").write_text("name: bench\nprompt: go\nverifiers: [{contains: never said}]\n")
    overrides = [
        ("session", "hook"),
        ("agent.folder", str(folder / "project")),
        ("budget.passes", _PASSES),
    ]
    run = folder / "run"
    runs.create(config.read_task(folder / "task.yaml", overrides), run, env)
    agent_runs.give_to_session(run, "bench", env, sys.executable)
    is_over = threading.Event()
    loop = threading.Thread(target=lambda: runs.resume(run, RunContext(env, (), is_over.is_set)))
    loop.start()
    while not (run / call.ADDRESS_FILE).exists():
        time.sleep(0.01)
    numbers = iter(range(_PASSES))
    before = _cpu_ms()
    took = median_ms(lambda: _stop(installed, env, f"pass {next(numbers)}"), 15)
    report("a loop, commit and a trivial gate, as installed", took, target="under 120")
    report("  processor time of it, hook, loop and git together", (_cpu_ms() - before) / 16)
    is_over.set()
    loop.join()


def _cpu_ms() -> float:
    """What this process and its children have used: tells more than the clock on a machine that is busy."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(item.ru_utime + item.ru_stime for item in used) * 1000


def _http_form(folder: Path) -> None:
    (folder / "http" / ".git" / "loop-runner").mkdir(parents=True)
    endpoint = Endpoint(folder / "http", lambda _event, _source: Decision("go on"))
    url = urlsplit(endpoint.url)
    payload = json.dumps(_PAYLOAD)

    def post() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", url.port or 0)
        connection.request("POST", url.path, payload)
        assert b"go on" in connection.getresponse().read()
        connection.close()

    report("HTTP form, without commit and gates", median_ms(post, 50), target="under 10")
    endpoint.close()
