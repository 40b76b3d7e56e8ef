"""``fleet``: one task for many inputs, on this machine or on several."""

from __future__ import annotations

import fnmatch
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loop_runner import ConfigError, text
from loop_runner.cli import output

if TYPE_CHECKING:
    from loop_runner.fleet.fleet_file import Fleet
    from loop_runner.fleet.jobs import Job
    from loop_runner.fleet.states import JobState
    from loop_runner.fleet.stores import Kept, Store
    from loop_runner.fleet.summary import Summary

_FILE = click.argument("fleet_path", metavar="FLEET.yaml", type=click.Path(path_type=Path))
_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
_ONLY = click.option("--only", metavar="PATTERN", default="*", help="Only jobs whose name matches.")
_SHOWN = 20
_MOST_NOTE_CHARS = 16_000


@click.group()
def fleet() -> None:
    """Run one task for many inputs: on this machine, in shards, or on a Dask cluster.

    FLEET.yaml names a task with places such as {{ job.path }}, the jobs that fill them in, a budget for all
    of them, and the store where workers meet.

    \b
    Example:  loop-runner fleet run fleet.yaml
    """


@fleet.command()
@_FILE
@click.option("--executor", default="local", metavar="NAME", help="local, dask-local:N or dask://HOST:PORT.")
@click.option("--shard", metavar="I/N", help="Only the I-th of N parts of the jobs, counted from 0.")
@_JSON
@click.option("-q", "--quiet", is_flag=True, help="No progress on standard error.")
def run(fleet_path: Path, executor: str, shard: str | None, as_json: bool, quiet: bool) -> int:
    """Run every job that has no result yet, and write the results file.

    It can be stopped and started again at any time, and on several machines at once: each job is run by one
    of them. Exit code 0 means that every job is verified, 3 that some are not.

    \b
    Example:  loop-runner fleet run fleet.yaml --shard 0/3
    """
    from loop_runner.fleet import executors

    result, store = _opened(fleet_path)
    jobs = _shard(result, shard)
    _summary(store, jobs)  # refuses a job whose values have changed
    cache = _cache()

    def on_change(name: str, state: JobState) -> None:
        if not quiet and (state.beat <= 1 or state.status != "running"):
            output.note(_change_line(name, state))

    with _stopping() as should_stop:
        work = executors.Dispatch(result, store, jobs, cache, on_change, should_stop, output.note)
        is_local = executor == "local"
        ending = executors.run_here(work) if is_local else executors.run_on_dask(executor, work)
    _write_results(result, store)
    summary = _summary(store, jobs)
    if as_json:
        output.write_json({**_as_json(summary), "reason": ending.reason, "results": str(result.results)})
    else:
        _show(summary, ending.reason)
        output.write(f"results: {result.results}")
    return 130 if ending.reason == "stopped" else 0 if summary.is_verified else 3


@fleet.command()
@_FILE
@click.option("--watch", is_flag=True, help="Show it again every two seconds until every job has ended.")
@_JSON
def status(fleet_path: Path, watch: bool, as_json: bool) -> int:
    """Show what the jobs have come to. Works on any machine that reaches the store.

    \b
    Example:  loop-runner fleet status fleet.yaml --watch
    """
    result, store = _opened(fleet_path)
    while True:
        summary = _summary(store, result.jobs)
        if as_json:
            output.write_json(_as_json(summary))
        else:
            _show(summary)
        if not watch or all(state.has_ended for state in summary.states.values()):
            return 0
        time.sleep(2)
        output.write()


@fleet.command()
@_FILE
@click.option(
    "--runs",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Also fetch the verified runs from a git store, for a task of type synthesis.",
)
def results(fleet_path: Path, runs: Path | None) -> int:
    """Write the results file from what the store holds.

    \b
    Example:  loop-runner fleet results fleet.yaml
    """
    from loop_runner.fleet.verified_runs import fetch_runs

    result, store = _opened(fleet_path)
    if runs is not None:
        fetched = fetch_runs(result, store, runs)
        output.write(f"{runs}: {output.plural(fetched, 'verified run')}")
    count = _write_results(result, store)
    output.write(
        f"{result.results}: {output.plural(count, 'result')} of {output.plural(len(result.jobs), 'job')}"
    )
    return 0


@fleet.command()
@_FILE
@click.option(
    "--failed", is_flag=True, required=True, help="Every job that has ended without a verified answer."
)
@_ONLY
def retry(fleet_path: Path, failed: bool, only: str) -> int:  # noqa: ARG001 - the flag says what is retried
    """Let jobs that have ended without a verified answer be run again; they continue their runs.

    Each try gives a job the passes of the task once more. The next `fleet run` takes them.

    \b
    Example:  loop-runner fleet retry fleet.yaml --failed
    """
    from loop_runner.fleet.states import RETRIED

    def retried(state: JobState) -> JobState | None:
        if state.status not in RETRIED:
            return None
        return replace(state, status="waiting", crashes=(), reason="", is_stopped=False)

    return _change(fleet_path, only, retried, "will be run again")


@fleet.command()
@_FILE
@_ONLY
def pause(fleet_path: Path, only: str) -> int:
    """Start no more jobs, and stop those that run at their next commit. `fleet resume` continues them.

    \b
    Example:  loop-runner fleet pause fleet.yaml --only 'contract-7*'
    """
    return _change(
        fleet_path, only, lambda state: None if state.has_ended else replace(state, is_paused=True), "paused"
    )


@fleet.command()
@_FILE
@_ONLY
def resume(fleet_path: Path, only: str) -> int:
    """Let paused jobs be run again.

    \b
    Example:  loop-runner fleet resume fleet.yaml
    """
    return _change(
        fleet_path,
        only,
        lambda state: replace(state, is_paused=False) if state.is_paused else None,
        "no longer paused",
    )


@fleet.command()
@_FILE
@_ONLY
def stop(fleet_path: Path, only: str) -> int:
    """End jobs: those that run stop at their next commit, and no worker takes the others.

    What they have committed is kept. `fleet retry --failed` lets them be run again, from there.

    \b
    Example:  loop-runner fleet stop fleet.yaml --only 'contract-7*'
    """
    return _change(fleet_path, only, lambda state: state.stopped(), "stopped")


@fleet.command()
@_FILE
@click.argument("text")
@_ONLY
def note(fleet_path: Path, text: str, only: str) -> int:
    """Leave a note for the models of all jobs that have not ended.

    The worker of a job gives it to the run, whose model sees it once, in its next message.

    \b
    Example:  loop-runner fleet note fleet.yaml "look at the annexes too" --only 'contract-7*'
    """
    if not 0 < len(text.strip()) <= _MOST_NOTE_CHARS:
        raise ConfigError(
            f"the note has {len(text):,} characters, and 1 to {_MOST_NOTE_CHARS:,} are possible",
            why="it becomes a part of the conversation of each job",
            hint="write what the model should know, in fewer words",
        )
    return _change(fleet_path, only, lambda state: state.with_note(text), "will be given the note")


@fleet.command()
@_FILE
@click.option(
    "-o",
    "--output",
    "target",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    required=True,
    help="Where the index and the pages are written.",
)
@_ONLY
def report(fleet_path: Path, target: Path, only: str) -> int:
    """Write a page for each run of the fleet, and an index of them, as HTML that can be read offline.

    Nothing is started. Runs in a git repository are fetched first.

    \b
    Example:  loop-runner fleet report fleet.yaml -o reports/
    """
    from loop_runner.fleet.executors import own_folder
    from loop_runner.report import all_runs

    result, store = _opened(fleet_path)
    states, at = store.states(), own_folder(result, _cache()) / "reported"
    jobs = [job for job in result.jobs if job.name in states and fnmatch.fnmatchcase(job.name, only)]
    runs = [folder for job in jobs if (folder := store.run_folder(job.name, at)).is_dir()]
    path = all_runs.write_runs(runs, target, f"Runs of {result.name}", store.address)
    output.write(f"{path}: {output.plural(len(runs), 'run')} of {output.plural(len(result.jobs), 'job')}")
    return 0


@fleet.command()
@_FILE
@_JSON
def workers(fleet_path: Path, as_json: bool) -> int:
    """Show which worker runs which jobs.

    \b
    Example:  loop-runner fleet workers fleet.yaml
    """
    result, store = _opened(fleet_path)
    held = _summary(store, result.jobs).workers()
    if as_json:
        output.write_json({"workers": {worker: list(names) for worker, names in held.items()}})
    elif not held:
        output.write("no worker holds a job")
    else:
        for worker, names in held.items():
            output.write(f"{text.name(worker)}: {', '.join(names)}")
    return 0


@fleet.command()
@_FILE
@click.option("--shard", metavar="I/N", help="Only the I-th of N parts of the jobs, counted from 0.")
@_JSON
def plan(fleet_path: Path, shard: str | None, as_json: bool) -> int:
    """List the jobs and the most that they may cost, check each task, and start nothing.

    \b
    Example:  loop-runner fleet plan fleet.yaml
    """
    from loop_runner.fleet.fleet_file import read_fleet

    result = read_fleet(fleet_path)
    jobs = _shard(result, shard)
    for job in jobs:
        result.task_of(job)
    most = None if result.per_job_usd is None else result.per_job_usd * len(jobs)
    if as_json:
        output.write_json(
            {"jobs": [{"name": job.name, "values": dict(job.values)} for job in jobs], "most_usd": most}
        )
        return 0
    output.write(f"{result.name}: {output.plural(len(jobs), 'job')}, {result.concurrency} at a time")
    for job in jobs[:_SHOWN]:
        output.write(f"  {job.name}")
    if len(jobs) > _SHOWN:
        output.write(f"  and {len(jobs) - _SHOWN} more; --json lists them")
    if most is not None:
        limit = "" if result.usd is None else f"; the fleet stops at ${result.usd:g}"
        output.write(f"at most ${most:g} for all of them{limit}")
    return 0


@fleet.command()
@click.argument("kind", type=click.Choice(["github", "gitlab", "slurm", "k8s"]))
@_FILE
@click.option("--shards", type=click.IntRange(1, 10_000), default=4, show_default=True)
def ci(kind: str, fleet_path: Path, shards: int) -> int:
    """Print a file that runs the fleet in shards: a matrix, a parallel job, an array or an Indexed Job.

    \b
    Example:  loop-runner fleet ci github fleet.yaml --shards 8
    """
    from loop_runner.fleet.ci import GENERATORS
    from loop_runner.fleet.fleet_file import read_fleet

    read_fleet(fleet_path)
    output.write(GENERATORS[kind](fleet_path, shards).rstrip("\n"))
    return 0


def _opened(path: Path) -> tuple[Fleet, Store]:
    from loop_runner.fleet.fleet_file import read_fleet
    from loop_runner.fleet.stores import open_store

    result = read_fleet(path)
    store = open_store(result.store, result.folder, _cache())
    store.begin(result.identity)
    return result, store


def _cache() -> Path:
    import platformdirs

    return platformdirs.user_cache_path("loop-runner", appauthor=False)


def _shard(fleet: Fleet, shard: str | None) -> tuple[Job, ...]:
    from loop_runner.fleet.jobs import shard_of

    if shard is None:
        return fleet.jobs
    index, slash, count = shard.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count) <= 1_000_000):
        raise ConfigError(
            f"--shard {shard!r} is not I/N with I from 0 to N - 1",
            why="it says which part of the jobs to run",
            hint="for example --shard 0/3, --shard 1/3 and --shard 2/3 on three machines",
        )
    return tuple(job for job in fleet.jobs if shard_of(job.name, int(count)) == int(index))


def _summary(store: Store, jobs: tuple[Job, ...]) -> Summary:
    from loop_runner.fleet.summary import summarize

    return summarize(jobs, store.states())


def _write_results(fleet: Fleet, store: Store) -> int:
    from loop_runner.fleet.summary import write_results

    return write_results(fleet.results, fleet.jobs, store.results())


def _change(path: Path, only: str, change: Callable[[JobState], JobState | None], words: str) -> int:
    """Change the state of every job that matches and that ``change`` has something for."""
    from loop_runner.fleet.states import JobState

    result, store = _opened(path)
    kept, count = store.states(), 0
    for job in result.jobs:
        if fnmatch.fnmatchcase(job.name, only):
            now = kept[job.name].state if job.name in kept else JobState()
            if (new := change(now)) is not None and new != now:
                count += _swap(store, job.name, kept.get(job.name), change)
    output.write(f"{output.plural(count, 'job')} {words}")
    return 0


def _swap(store: Store, name: str, kept: Kept | None, change: Callable[[JobState], JobState | None]) -> int:
    """Change a state, also when a worker changes it meanwhile; 1 if it was changed."""
    from loop_runner.fleet.states import JobState
    from loop_runner.fleet.stores import LostError

    while (new := change(kept.state if kept else JobState())) is not None:
        try:
            store.swap(name, kept, new)
        except LostError:
            kept = store.states().get(name)
        else:
            return 1
    return 0


def _change_line(name: str, state: JobState) -> str:
    reason = f": {text.one_line(state.reason, 100)}" if state.reason else ""
    return f"{name}  {state.status}{reason}"


def _show(summary: Summary, reason: str = "") -> None:
    counts = ", ".join(f"{count} {status}" for status, count in sorted(summary.counts.items()))
    money = summary.money
    spent = f"${money.spent_usd:.2f} spent" + (
        f", ${money.reserved_usd:.2f} held back" if money.reserved_usd else ""
    )
    output.write(f"{output.plural(len(summary.states), 'job')}: {counts}; {spent}")
    wanting = [
        (name, state) for name, state in summary.states.items() if state.reason and state.status != "verified"
    ]
    for name, state in wanting[:_SHOWN]:
        output.write(f"  {_change_line(name, state)}")
    if len(wanting) > _SHOWN:
        output.write(f"  and {len(wanting) - _SHOWN} more; --json lists them")
    if reason:
        output.write(reason)


def _as_json(summary: Summary) -> dict[str, Any]:
    return {
        "jobs": len(summary.states),
        "counts": dict(summary.counts),
        "spent_usd": summary.money.spent_usd,
        "reserved_usd": summary.money.reserved_usd,
        "states": {name: asdict(state) for name, state in summary.states.items()},
    }


@contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM stop the workers at their next commit."""
    requests: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _frame: requests.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield lambda: bool(requests)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
