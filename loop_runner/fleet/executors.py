"""Who runs the jobs of a fleet: this process, or the workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loop_runner import ConfigError, EnvironmentFault, plugins
from loop_runner.fleet.fleet_file import Fleet, read_fleet
from loop_runner.fleet.jobs import Job
from loop_runner.fleet.states import JobState
from loop_runner.fleet.stores import Store, open_store
from loop_runner.fleet.worker import Ending, Worker

_HINT = "local, dask-local:4 or dask://HOST:8786"
_CONNECT_S = 10


def own_folder(fleet: Fleet, cache: Path) -> Path:
    """What this machine keeps of a fleet beside the store."""
    return cache / "fleets" / f"{fleet.name}-{fleet.identity.task_sha256[:12]}"


@dataclass(frozen=True, slots=True)
class Dispatch:
    """What a caller wants to be run: the ``jobs`` of a fleet, and where its listeners are.

    ``on_change`` gets every new state, ``on_wait`` a sentence while the store cannot be reached.
    """

    fleet: Fleet
    store: Store
    jobs: Sequence[Job]
    cache: Path
    on_change: Callable[[str, JobState], None] = lambda _name, _state: None
    should_stop: Callable[[], bool] = lambda: False
    on_wait: Callable[[str], None] = lambda _sentence: None

    @property
    def own_folder(self) -> Path:
        """What this machine keeps of the fleet beside the store."""
        return own_folder(self.fleet, self.cache)

    def left(self) -> tuple[str, ...]:
        """The names of the jobs that have not ended."""
        states = self.store.states()
        return tuple(
            job.name for job in self.jobs if job.name not in states or not states[job.name].state.has_ended
        )


def run_here(work: Dispatch) -> Ending:
    """Run the jobs on this machine, as many at a time as the fleet says."""
    return Worker(
        work.fleet,
        work.store,
        work.jobs,
        work.own_folder,
        work.fleet.concurrency,
        work.on_change,
        work.should_stop,
        work.on_wait,
    ).work()


def run_on_dask(executor: str, work: Dispatch) -> Ending:
    """Submit each job to a Dask cluster. The fleet file must be at the same path on every worker.

    Dask only says who runs what. Leases still decide, so a job that Dask runs twice is paid for once.
    """
    fleet, cache = work.fleet, str(work.cache)
    with client_of(executor) as client:
        from distributed import as_completed

        submitted = {
            client.submit(
                _run_one, str(fleet.path), job.name, cache, key=f"{fleet.name}-{job.name}", pure=False
            ): job.name
            for job in work.jobs
        }
        reasons = []
        for future in as_completed(submitted):
            name = submitted[future]
            states = work.store.states()
            if future.status == "error":
                reasons.append(f"{name}: {future.exception()}")
            elif name in states:
                work.on_change(name, states[name].state)
            future.release()
            if work.should_stop():
                client.cancel(list(submitted))
                return Ending(work.left(), "stopped")
    left = work.left()
    return Ending(left, "; ".join(reasons[:3]) if left else "")


def _run_one(path: str, name: str, cache: str) -> str:
    """Run one job on a worker of Dask, which may be on another machine; why it did not end, if it did not."""
    fleet = read_fleet(Path(path))
    store = open_store(fleet.store, fleet.folder, Path(cache))
    store.begin(fleet.identity)
    jobs = [job for job in fleet.jobs if job.name == name]
    return Worker(fleet, store, jobs, own_folder(fleet, Path(cache)), 1).work().reason


@contextmanager
def client_of(executor: str) -> Iterator[Any]:
    """A client of the Dask cluster that ``executor`` names. Raises ``ConfigError`` where it names none."""
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise ConfigError(
            "this executor needs Dask, which is not installed",
            why="the cluster is Dask's",
            hint=f"{plugins.command_for('dask')}, or --executor local",
        ) from error
    kind, _, where = executor.partition(":")
    if kind == "dask-local" and where.isdecimal() and int(where) > 0:
        with (
            LocalCluster(n_workers=int(where), threads_per_worker=1, dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):
            yield client
    elif kind == "dask" and where.startswith("//"):
        address = f"tcp:{where}"
        try:
            client = Client(address, timeout=_CONNECT_S)
        except OSError as error:
            raise EnvironmentFault(
                f"the Dask scheduler at {address} cannot be reached: {error}",
                why="it says which worker runs which job",
                hint=f"start it with: dask scheduler; known executors: {_HINT}",
            ) from error
        with client:
            yield client
    else:
        raise ConfigError(
            f"the executor {executor!r} is unknown", why="it says who runs the jobs", hint=_HINT
        )
