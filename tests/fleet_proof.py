"""``make fleet-proof``: kill, freeze and cut off the workers of a fleet at random, and count what was lost.

    python -m tests.fleet_proof [--jobs 200] [--minutes 20] [--seed 1]

Three workers, each a process with a folder of its own, meet at a bare repository behind ``git daemon``, each
over a connection of its own that can be cut. Their jobs ask a provider on loopback. While they work, a worker
is killed (with or without the runs that it started), frozen for longer or shorter than its lease, or cut off.
Afterwards these claims must hold:

- every job ended as in an undisturbed fleet, with the same answer;
- no request whose reply had been pushed was sent again, looked up in the store when a request comes in;
- the fleet's bill is what the provider counted, but for replies that were lost before they were pushed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from loop_runner.fleet.fleet_file import Fleet, read_fleet
from loop_runner.fleet.stores import Store, open_store
from loop_runner.fleet.worker import Worker
from tests.support.git import git
from tests.support.model_server import ModelServer, Received, Scripted

WORKERS = 3
_TTL_S = 12.0
_TOKENS = 15  # of each reply of the provider, both ways together
_TURNS = (
    "```repl\nprint(context[:40])\n```",
    "```repl\nkept = context\nprint(len(kept))\n```",
    "```repl\nanswer['content'] = kept.split()[-1]\nanswer['ready'] = True\n```",
)
_ROOT = Path(__file__).parent.parent
_PROMPT = re.compile(r"Which port is in (\S+)\?")


# ── the store and the ways to it ────────────────────────────────────────────────────────────────────


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


class Way(threading.Thread):
    """A connection of one worker to the store: forwards bytes until it is cut."""

    def __init__(self, target: int) -> None:
        super().__init__(daemon=True)
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._is_cut = threading.Event()
        self.start()

    def cut(self) -> None:
        """Break what is open, and refuse what comes."""
        self._is_cut.set()

    def heal(self) -> None:
        """Forward again."""
        self._is_cut.clear()

    def run(self) -> None:
        while True:
            client, _ = self._listening.accept()
            if self._is_cut.is_set():
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:
                client.close()
                continue
            threading.Thread(target=self._forward, args=(client, server), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with client, server, selectors.DefaultSelector() as ready, contextlib.suppress(OSError):
            ready.register(client, selectors.EVENT_READ, server)
            ready.register(server, selectors.EVENT_READ, client)
            while not self._is_cut.is_set():
                for key, _ in ready.select(0.2):
                    source = key.fileobj
                    assert isinstance(source, socket.socket)
                    data = source.recv(1 << 16)
                    if not data:
                        ready.unregister(source)
                        key.data.shutdown(socket.SHUT_WR)
                        if not ready.get_map():
                            return
                    else:
                        key.data.sendall(data)


# ── the provider ────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Provider:
    """Answers the three turns of each job, and looks at what the store holds of the job at that moment."""

    repository: Path
    names: dict[str, str]  # of the jobs, by the path in their prompt
    delay_s: float
    sent: Counter[tuple[str, int]] = field(default_factory=Counter)
    again: list[str] = field(default_factory=list)  # requests whose reply had been pushed

    def __call__(self, request: Received) -> Scripted:
        """The reply to a turn."""
        match = _PROMPT.search(request.first_user_text)
        assert match, request.first_user_text[:200]
        turn = sum(role == "assistant" for role, _ in request.messages) + 1
        name = self.names[match[1]]
        if self.sent[name, turn] and self._is_pushed(name, turn):
            self.again.append(f"turn {turn} of {name}")
        self.sent[name, turn] += 1
        return Scripted(_TURNS[turn - 1], delay_s=random.random() * self.delay_s)

    def _is_pushed(self, name: str, turn: int) -> bool:
        shown = subprocess.run(
            ["git", "ls-tree", "-d", f"refs/fleet/runs/{name}/heads/main", f"passes/0001/turns/{turn:04d}"],
            cwd=self.repository,
            capture_output=True,
            check=False,
        )
        return shown.returncode == 0 and bool(shown.stdout.strip())


# ── the workers ─────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Machine:
    """A worker's process, its folder and its way to the store."""

    folder: Path
    way: Way
    env: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    lost: int = 0

    def start(self) -> None:
        """Start the worker, or start it again."""
        command = [sys.executable, "-m", "tests.fleet_proof", "--worker", str(self.folder)]
        with (self.folder / "worker.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=_ROOT, env=self.env, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def is_at_work(self) -> bool:
        """Whether the worker still runs."""
        return self.process is not None and self.process.poll() is None

    def kill(self, *, with_runs: bool) -> None:
        """End the worker at once; ``with_runs``: as if its machine had lost its power."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        if with_runs:
            subprocess.run(["pkill", "-KILL", "-f", str(self.folder)], check=False)
        self.lost += 1

    def freeze(self, seconds: float) -> None:
        """Stop the worker's process for a while."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGSTOP)
            time.sleep(seconds)
            os.kill(self.process.pid, signal.SIGCONT)


def work(folder: Path) -> None:
    """What a worker's process does."""
    fleet, store = _opened(folder / "fleet.yaml")
    ending = Worker(fleet, store, fleet.jobs, folder / "own", 2, ttl_s=_TTL_S).work()
    print("left:", *ending.left, ending.reason, flush=True)


def _opened(path: Path) -> tuple[Fleet, Store]:
    fleet = read_fleet(path)
    store = open_store(fleet.store, fleet.folder, fleet.folder / "cache")
    store.begin(fleet.identity)
    return fleet, store


def _write_fleet(folder: Path, jobs: int, port: int) -> None:
    (folder / "in").mkdir(parents=True)
    for number in range(jobs):
        (folder / f"in/doc{number:04d}.txt").write_text(f"the port is {8000 + number}\n")
    task = {
        "name": "x",
        "prompt": "Which port is in {{ job.path }}?",
        "inputs": ["{{ job.path }}"],
        "model": "anthropic:claude-sonnet-5-5",
        "verifiers": [{"regex": {"pattern": r"^8\d\d\d$"}}],
        "kernel": {"require_tier": "C"},
    }
    (folder / "task.yaml").write_text(yaml.safe_dump(task))
    store = f"git://127.0.0.1:{port}/store.git"
    fleet = {"name": "ports", "task": "task.yaml", "jobs": {"glob": "in/*.txt"}, "store": store}
    (folder / "fleet.yaml").write_text(yaml.safe_dump(fleet))


# ── disturbing them ─────────────────────────────────────────────────────────────────────────────────


def disturb(machines: list[Machine], chance: random.Random, until: float) -> Counter[str]:
    """Do harm to one worker after the other, until all have ended or time is up; how often each was done."""
    done: Counter[str] = Counter()
    while time.monotonic() < until and any(machine.is_at_work for machine in machines):
        time.sleep(chance.uniform(0.5, 4.0))
        machine = chance.choice(machines)
        if not machine.is_at_work:
            continue
        how = chance.choice(("killed", "killed with its runs", "frozen", "frozen past its lease", "cut off"))
        done[how] += 1
        if how.startswith("killed"):
            machine.kill(with_runs=how != "killed")
            time.sleep(chance.uniform(0, 3))
            machine.start()
        elif how.startswith("frozen"):
            machine.freeze(chance.uniform(1, 5) if how == "frozen" else _TTL_S * 1.5)
        else:
            machine.way.cut()
            time.sleep(chance.uniform(1, 1.5 * _TTL_S))
            machine.way.heal()
    return done


def proven(
    folder: Path, jobs: int, minutes: float, seed: int, delay_s: float = 1.0
) -> list[tuple[str, bool]]:
    """Run a disturbed fleet below ``folder``; each claim, with whether it held."""
    repository = folder / "store.git"
    git(folder, "init", "-q", "--bare", "store.git")
    port = _free_port()
    daemon = subprocess.Popen(
        [
            *("git", "daemon", "--reuseaddr", "--export-all", "--enable=receive-pack"),
            *("--listen=127.0.0.1", f"--port={port}", f"--base-path={folder}"),
        ],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    machines: list[Machine] = []
    try:
        with ModelServer() as server:
            machines = [
                _machine(folder / f"machine{number}", jobs, port, server) for number in range(WORKERS)
            ]
            fleet, store = _opened(machines[0].folder / "fleet.yaml")
            paths = {_path_in(fleet.task_of(job)["prompt"]): job.name for job in fleet.jobs}
            provider = Provider(repository, paths, delay_s)
            server.answer_with(provider)
            for machine in machines:
                machine.start()
            done = disturb(machines, random.Random(seed), time.monotonic() + 60 * minutes)
            _wait(machines)
            faults = ", ".join(f"{count} {how}" for how, count in sorted(done.items()))
            return [(f"workers were disturbed: {faults}", bool(done)), *_claims(provider, fleet, store)]
    finally:
        for machine in machines:
            machine.kill(with_runs=True)
        os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait()


def _machine(folder: Path, jobs: int, port: int, server: ModelServer) -> Machine:
    way = Way(port)
    _write_fleet(folder, jobs, way.port)
    keys = ("PATH", "HOME", "LANG", "LOOP_RUNNER_STATE")
    env = {key: os.environ[key] for key in keys if key in os.environ} | server.env
    return Machine(folder, way, env)


def _path_in(prompt: str) -> str:
    match = _PROMPT.search(prompt)
    assert match
    return match[1]


def _wait(machines: list[Machine]) -> None:
    """Until every worker has ended, undisturbed."""
    for machine in machines:
        machine.way.heal()
        assert machine.process is not None
        machine.process.wait(1800)


def _claims(provider: Provider, fleet: Fleet, store: Store) -> list[tuple[str, bool]]:
    states = {name: kept.state for name, kept in store.states().items()}
    answers = {name: json.loads(data)["answer"] for name, data in store.results().items()}
    wanted = {job.name: str(8000 + number) for number, job in enumerate(fleet.jobs)}
    ended = Counter(state.status for state in states.values())
    attempts = sum(state.attempts - 1 for state in states.values())
    counted, billed = provider.sent.total(), sum(state.tokens for state in states.values()) / _TOKENS
    repeated = counted - len(provider.sent)
    return [
        (
            f"{len(wanted)} jobs ended: {dict(ended)}, each with the right answer",
            answers == wanted and set(ended) == {"verified"},
        ),
        (
            f"{counted} requests, {len(provider.again)} of them after their reply had been pushed",
            not provider.again,
        ),
        (
            (
                f"{billed:g} requests are billed, {counted} were counted, {repeated} were sent twice "
                f"in {attempts} further attempts at a job"
            ),
            counted - repeated <= billed <= counted,
        ),
    ]


def main() -> int:
    """Run the proof; exit code 1 if a claim does not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--delay", type=float, default=8.0, help="the most seconds that a reply takes")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        claims = proven(Path(folder), options.jobs, options.minutes, options.seed, options.delay)
    for claim, holds in claims:
        print("held  " if holds else "FAILED", claim)
    return 0 if all(holds for _, holds in claims) else 1


if __name__ == "__main__":
    sys.exit(main())
