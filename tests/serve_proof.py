"""``make serve-proof``: kill the service 50 times under load, and count what was lost or started twice.

    python -m tests.serve_proof [--kills 50] [--clients 12] [--streams 200] [--minutes 0]

Clients with idempotency keys start runs and read their events while the service is killed and
started again at once. At the end every accepted request must have one run, one start, one end, and
event numbers without gaps. ``--minutes N`` reads with ``--streams`` clients for N minutes more and
prints the memory.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2

from tests.support.service import Process, Service, parsed, write_models


class Client(threading.Thread):
    """Starts one run by one key however often the service dies, and reads its events to the end."""

    def __init__(self, service: Service, number: int) -> None:
        super().__init__(daemon=True)
        self.service, self.number = service, number
        self.ids: set[str] = set()
        self.numbers: list[int] = []
        self.reconnects = 0
        self.is_done = False

    def run(self) -> None:
        """Try until it is done."""
        with httpx2.Client(base_url=self.service.url, headers=self._headers(), timeout=60) as http:
            while not self.is_done:
                try:
                    self._step(http)
                except (httpx2.HTTPError, ValueError):
                    self.reconnects += 1
                    time.sleep(0.2)

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.service.token}", "idempotency-key": f"client-{self.number}"}

    def _step(self, http: httpx2.Client) -> None:
        body = {"model": "slow", "question": f"Number {self.number}?"}
        done = http.post("/v1/runs", json=body)
        if done.status_code == 429:
            time.sleep(0.5)
            return
        run = done.raise_for_status().json()["id"]
        self.ids.add(run)
        since = {"last-event-id": str(self.numbers[-1] if self.numbers else 0)}
        with http.stream("GET", f"/v1/runs/{run}/events", headers=since) as response:
            for kind, data in parsed(response.iter_lines()):
                if kind == "end":
                    self.is_done = data["state"] == "verified"
                elif "seq" in data:
                    self.numbers.append(data["seq"])


def prove(folder: Path, *, kills: int, between_s: float, clients: int, seed: int = 0) -> dict[str, Any]:
    """Run the proof in ``folder``; the counts, and a list of faults, which must be empty."""
    env = {**os.environ, **write_models(folder / "tasks")}
    process = Process(folder, "--tasks", str(folder / "tasks"), "--max-runs", "2", env=env)
    chance, service = random.Random(seed), process.start()
    working = [Client(service, number) for number in range(clients)]
    for client in working:
        client.start()
    for _ in range(kills):
        time.sleep(chance.uniform(0.2, 2) * between_s)
        process.kill()
        process.start().http.close()
    for client in working:
        client.join(600)
    starts = Counter({client.number: _starts(service, client) for client in working})
    process.kill()
    service.http.close()
    return {
        "kills": kills,
        "requests": len(working),
        "runs": len(list((folder / "runs" / ".serve" / "requests").iterdir())),
        "reconnects": sum(client.reconnects for client in working),
        "events": sum(len(client.numbers) for client in working),
        "faults": [fault for client in working for fault in _faults(client, starts[client.number])],
    }


def _starts(service: Service, client: Client) -> int:
    (run,) = client.ids
    events = service.events(f"/v1/runs/{run}/events")
    return sum(data.get("kind") == "run_started" for _, data in events)


def _faults(client: Client, starts: int) -> list[str]:
    result = []
    if not client.is_done:
        result.append(f"client {client.number} has no verified answer")
    if len(client.ids) != 1:
        result.append(f"client {client.number} has {len(client.ids)} runs")
    if client.numbers != list(range(1, len(client.numbers) + 1)):
        result.append(f"client {client.number} misses events, or has some twice")
    if starts != 1:
        result.append(f"the run of client {client.number} was started {starts} times")
    return result


def load(folder: Path, *, streams: int, minutes: float) -> dict[str, Any]:
    """Read four runs with many clients; lost events and the memory of the service at each tenth."""
    env = {**os.environ, **write_models(folder / "tasks")}
    process = Process(folder, "--tasks", str(folder / "tasks"), env=env)
    service = process.start()
    memory: list[float] = []
    readers: list[Client] = []
    end = time.monotonic() + minutes * 60
    while time.monotonic() < end:
        batch = [Client(service, number % 4 + 4 * len(memory)) for number in range(streams)]
        for reader in batch:
            reader.start()
        for reader in batch:
            reader.join(900)
        readers += batch
        memory.append(_memory_mb(process))
    process.kill()
    service.http.close()
    faults = [fault for reader in readers for fault in _faults(reader, 1)]
    return {"streams": len(readers), "memory_mb": memory, "faults": faults}


def _memory_mb(process: Process) -> float:
    assert process.child is not None
    status = Path(f"/proc/{process.child.pid}/status").read_text()
    return round(int(status.split("VmRSS:")[1].split()[0]) / 1024, 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seconds-between", type=float, default=2.0)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=0.0)
    given = parser.parse_args()
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        if given.kills:
            result = prove(
                Path(folder), kills=given.kills, between_s=given.seconds_between, clients=given.clients
            )
            print(result, flush=True)
            faults += len(result["faults"])
    with tempfile.TemporaryDirectory() as folder:
        if given.minutes:
            result = load(Path(folder), streams=given.streams, minutes=given.minutes)
            print(result, flush=True)
            faults += len(result["faults"])
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
