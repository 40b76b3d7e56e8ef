"""Fetches the verified runs of a git store into a folder with the layout of a folder store."""

from __future__ import annotations

from pathlib import Path

from loop_runner import ConfigError
from loop_runner.fleet.fleet_file import Fleet
from loop_runner.fleet.folder_store import FolderStore
from loop_runner.fleet.stores import Store


def fetch_runs(fleet: Fleet, store: Store, folder: Path) -> int:
    """Write the runs with a verified answer and their states into ``folder``; how many.

    The folder is a store that can be read, and may be fetched into again. Raises ``ConfigError`` when the
    store is a folder anyway, and when ``folder`` holds something else.
    """
    if isinstance(store, FolderStore):
        raise ConfigError(
            f"the store {store.address} is a folder, which holds the runs",
            why="--runs fetches them from a git repository",
            hint=f"use it as it is, for example: inputs: [{{fleet: {store.address}}}]",
        )
    target = FolderStore(folder.absolute())
    target.begin(fleet.identity)
    known, kept = target.states(), store.states()
    verified = [job for job in fleet.jobs if job.name in kept and kept[job.name].state.status == "verified"]
    for job in verified:
        store.run_folder(job.name, folder / "runs")
        target.swap(job.name, known.get(job.name), kept[job.name].state)
    return len(verified)
