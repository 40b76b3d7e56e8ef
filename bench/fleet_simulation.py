"""Simulates a fleet of 1,000,000 jobs on 10,000 workers, with costs that are measured on this machine first.

    python -m bench.fleet_simulation [--jobs N] [--workers N] [--seed N]

Each change of a state (a lease, its renewals, an end) goes through the one lock of the store, or the one ref
with the money of the fleet, so changes wait for one another. Each look at the store reads the states that
have changed. The measured parts are printed; the durations of jobs and the limits of the provider and of
Dask are assumptions, and printed as such.
"""

from __future__ import annotations

import argparse
import heapq
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import run

from loop_runner.fleet.states import JobState
from loop_runner.fleet.stores import Extra, Identity, Store, open_store
from loop_runner.fleet.worker import TTL_S

_RENEW_S = TTL_S / 4
_MEDIAN_S = 600.0  # of a job; an assumption
_SPREAD = 0.8  # sigma of the logarithm; an assumption
_REQUESTS = 20  # of a job; an assumption
_PROVIDER_RPM = 50_000  # an assumption: no provider's limit is measured here
_DASK_S = 0.001  # for one task, by Dask's documentation

_MEASURED = {"folder": (1000, 40), "git": (20, 10)}  # states and changes


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds: one change of a state, one state that is listed, one that is read anew."""

    change_s: float
    list_s: float
    read_s: float


@dataclass(frozen=True, slots=True)
class Simulated:
    """What came of it. Loads are work per second of the ideal time: above 1, it is the bottleneck."""

    ideal_s: float
    total_s: float
    changes: int
    store_load: float
    look_load: float  # of each worker
    dask_load: float
    provider_load: float

    @property
    def bottleneck(self) -> str:
        """The first resource that limits the fleet."""
        loads = {
            "store": self.store_load,
            "reading states": self.look_load,
            "Dask's scheduler": self.dask_load,
            "provider's limit": self.provider_load,
        }
        name = max(loads, key=lambda key: loads[key])
        return name if loads[name] > 1 else "none"


def measure(kind: str, folder: Path, states: int, changes: int) -> Costs:
    """The costs of a store of this ``kind`` (folder or git) with so many states."""
    store = _opened(kind, folder, "first")
    for number in range(states):
        store.swap(f"job{number}", None, JobState(status="verified", worker="w" * 30, digest="d" * 64))
    reader = _opened(kind, folder, "second")
    read_s = _seconds(reader.states)
    list_s = min(_seconds(reader.states) for _ in range(3))
    kept = store.states()["job0"]
    took = []
    for _ in range(changes):
        began = time.monotonic()
        kept = store.swap("job0", kept, kept.state.beaten(), Extra(limit_usd=1e9))
        took.append(time.monotonic() - began)
    return Costs(statistics.median(took), list_s / states, max(read_s - list_s, 0.0) / states)


def simulate(
    costs: Costs,
    jobs: int,
    workers: int,
    seed: int,
    *,
    look_share: float | None = 20.0,
    renew_s: float = _RENEW_S,
) -> Simulated:
    """Run the jobs in virtual time; the same seed gives the same result.

    ``look_share``: a worker reads the store for at most this part of its time; None: every two seconds.
    """
    draw = random.Random(seed)
    free_at = [0.0] * min(workers, jobs)  # when each worker can take a job
    store_free = store_work = work = 0.0
    changes = 0
    for _ in range(jobs):
        began = heapq.heappop(free_at)
        store_free = max(store_free, began) + costs.change_s
        took = draw.lognormvariate(0.0, _SPREAD) * _MEDIAN_S
        renewals = int(took // renew_s)
        store_free += renewals * costs.change_s  # spread over the job; the lock serves them all the same
        ended = max(store_free, began + took) + costs.change_s
        store_free += costs.change_s
        changes += 2 + renewals
        store_work += (2 + renewals) * costs.change_s
        work += took
        heapq.heappush(free_at, ended)
    ideal = work / min(workers, jobs)
    look_s = jobs * costs.list_s
    every_s = 2.0 if look_share is None else max(2.0, look_share * look_s)
    return Simulated(
        ideal,
        max(free_at),
        changes,
        store_work / ideal,
        look_s / every_s,
        jobs * _DASK_S / ideal,
        jobs * _REQUESTS / (_PROVIDER_RPM / 60) / ideal,
    )


def _opened(kind: str, folder: Path, cache: str) -> Store:
    if kind == "git" and not (folder / "store").exists():
        run(["git", "init", "-q", "--bare", str(folder / "store")], check=True)
    store = open_store("store", folder, folder / cache)
    store.begin(Identity("simulated", "0" * 64))
    return store


def _seconds(call: Callable[[], object]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


def _measured(kind: str) -> Costs:
    states, changes = _MEASURED[kind]
    with tempfile.TemporaryDirectory() as folder:
        costs = measure(kind, Path(folder), states, changes)
    print(
        f"\n{kind} store, measured with {states} states: {costs.change_s * 1000:.1f} ms (median of {changes})"
        f" for a change of a state, {costs.list_s * 1e6:.1f} us to list a state,"
        f" {costs.read_s * 1e6:.1f} us to read it anew;"
        f" {os.getloadavg()[0]:.1f} processes at work on {os.cpu_count()} cores",
        flush=True,
    )
    return costs


def main() -> None:
    """Measure, simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=21)
    given = parser.parse_args()
    print(f"{given.jobs:,} jobs on {given.workers:,} workers, seed {given.seed}")
    print(
        f"assumed: a job takes {_MEDIAN_S:.0f} s (median) and {_REQUESTS} requests; the provider allows"
        f" {_PROVIDER_RPM:,} requests a minute; Dask's scheduler takes {_DASK_S * 1000:.0f} ms for a task"
    )
    sizes = (given.jobs, given.workers, given.seed)
    for kind in _MEASURED:
        costs = _measured(kind)
        _show("a look every 2 s", simulate(costs, *sizes, look_share=None))
        _show("a look takes 1/20 of the time", simulate(costs, *sizes))
        part = simulate(costs, given.jobs // 100, given.workers // 100, given.seed)
        _show("100 fleets, each with a store", replace(part, provider_load=part.provider_load * 100))


def _show(title: str, result: Simulated) -> None:
    print(
        f"  {title}: {result.total_s / 3600:,.1f} h instead of {result.ideal_s / 3600:,.1f} h;"
        f" {result.changes:,} changes; load: store {result.store_load:.2f}, looking {result.look_load:.2f},"
        f" Dask {result.dask_load:.2f}, provider {result.provider_load:.2f};"
        f" first bottleneck: {result.bottleneck}",
        flush=True,
    )


if __name__ == "__main__":
    main()
