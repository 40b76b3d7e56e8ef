"""A service on a loopback port: in a thread of this process, or as the command in a process of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
import yaml

from loop_runner.serve.app import application
from loop_runner.serve.server import _config
from loop_runner.serve.service_settings import Settings
from loop_runner.serve.tokens import Tokens
from tests.support.tasks import ready, write_task

ALICE, BOB = "alice-token-0123456789", "bob-token-0123456789"
TEXT = "The port is 8080.\nThe host is db.\n"
CITED = 'The port is 8080.\n\nSources:\n- notes.txt:1 "The port is 8080."'


def write_models(folder: Path) -> dict[str, str]:
    """Task files whose models end in each way; the environment that their runs need."""
    write_task(folder / "good", root=[ready("It is 42.")] * 3, prompt="What is the answer?")
    write_task(folder / "wrong", root=[ready("It is 41.")] * 3, budget={"passes": 1})
    write_task(
        folder / "broken", root=[ready("It is 42.")] * 9, verifiers=[{"command": ["sh", "-c", "exit 127"]}]
    )
    write_task(folder / "empty", root=[])  # the model has no reply: an error ends the run
    write_task(folder / "data", root=[ready('{"port": 8080}')] * 3, verifiers=[{"contains": "port"}])
    write_slow(folder / "slow", turns=40)
    write_task(folder / "quoted", root=[ready(CITED)] * 3, texts={"notes.txt": TEXT}, verifiers=["citations"])
    (folder / "not a task.txt").write_text("x")
    return {
        "LOOP_RUNNER_CACHE": str(folder.parent / "cache"),
        "LOOP_RUNNER_STATE": str(folder.parent / "state"),
    }


def write_slow(folder: Path, *, turns: int, latency_s: float = 0.2) -> None:
    """A task of many short turns."""
    cells = [f"```repl\nprint({number})\n```" for number in range(turns)]
    write_task(folder, root=[*cells, *[ready("It is 42.")] * 3], budget={"turns": turns + 5})
    script = folder / "script.yaml"
    script.write_text(yaml.safe_dump({**yaml.safe_load(script.read_text()), "latency_s": latency_s}))


class Service:
    """What a test knows of a running service."""

    def __init__(self, url: str, runs: Path, token: str = ALICE) -> None:
        self.url, self.runs, self.token = url, runs, token
        headers = {"authorization": f"Bearer {token}"}
        self.http = httpx2.Client(base_url=url, headers=headers, timeout=90, trust_env=False)

    def get(self, path: str, **keys: Any) -> Any:
        """The JSON of a GET."""
        return self.http.get(path, **keys).json()

    def start(self, model: str, question: str = "What is the answer?", **keys: Any) -> str:
        """Start a run in the background; its id."""
        done = self.http.post("/v1/runs", json={"model": model, "question": question, **keys})
        assert done.status_code in (200, 201), done.text
        return str(done.json()["id"])

    def state(self, run_id: str) -> str:
        """The state of a run now."""
        return str(self.get(f"/v1/runs/{run_id}")["state"])

    def wait(self, run_id: str, *states: str, timeout_s: float = 90) -> dict[str, Any]:
        """Wait until a run is in one of these states (any end, by default)."""
        wanted = states or ("verified", "unverified", "broken", "failed", "crashed", "cancelled")
        end = time.monotonic() + timeout_s
        while (result := self.get(f"/v1/runs/{run_id}"))["state"] not in wanted:
            assert time.monotonic() < end, result
            time.sleep(0.1)
        return dict(result)

    def events(self, path: str, **keys: Any) -> list[tuple[str, Any]]:
        """All events of a stream: (kind, data)."""
        with self.http.stream("GET", path, **keys) as response:
            assert response.status_code == 200, response.read()
            return list(parsed(response.iter_lines()))

    def metric(self, name: str) -> int:
        """A number of ``/metrics``."""
        match = re.search(rf"^{re.escape(name)} (\d+)$", self.http.get("/metrics").text, re.MULTILINE)
        assert match is not None
        return int(match[1])


def parsed(lines: Any) -> Any:
    """The events of server-sent lines."""
    kind = ""
    for line in lines:
        if line.startswith("event: "):
            kind = line[7:]
        elif line.startswith("data: "):
            yield kind, json.loads(line[6:]) if line[6:] != "[DONE]" else "[DONE]"
            kind = ""


@contextmanager
def in_thread(settings: Settings) -> Any:
    """A service in this process, with the tokens of Alice and Bob."""
    app = application(settings, Tokens({"alice": ALICE, "bob": BOB}))
    server = uvicorn.Server(_config(settings, app))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    running = Service(f"http://127.0.0.1:{port}", settings.runs)
    try:
        yield running
    finally:
        running.http.close()
        server.should_exit = True
        thread.join(20)


class Process:
    """The command in a process of its own, which can be killed and started again on the same port."""

    def __init__(self, folder: Path, *options: str, env: dict[str, str]) -> None:
        self.folder, self.options, self.env = folder, options, env
        self.port = 0
        self.child: subprocess.Popen[str] | None = None

    def start(self) -> Service:
        """Start it, and wait until it listens."""
        command = [sys.executable, "-m", "loop_runner", "serve", "--runs", str(self.folder / "runs")]
        command += ["--port", str(self.port), *self.options]
        self.child = subprocess.Popen(command, env=self.env, stdout=subprocess.PIPE, text=True)
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        match = re.match(r"listening on (http://[^:]+:(\d+))", line)
        assert match is not None, line
        self.port = int(match[2])
        token = (self.folder / "runs" / ".serve" / "tokens.txt").read_text().split()[1]
        return Service(match[1], self.folder / "runs", token)

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self.child is not None
        self.child.kill()
        self.child.wait()
        assert self.child.stdout is not None
        self.child.stdout.close()
