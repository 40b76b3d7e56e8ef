"""``start``: a run in a process of its own, which outlives the one that asks for it.

Owns what a caller sees of launching; ``runs.launch`` does it. ``list_runs`` finds runs by their folders.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from loop_runner import inputs
from loop_runner.api.checked_task import Settings, Task, as_overrides, budget_overrides
from loop_runner.api.result import Run, open_run
from loop_runner.budget import Budget
from loop_runner.runs import launch
from loop_runner.runs.folders import runs_in
from loop_runner.runs.status import Status, of_any

Place: TypeAlias = str | PathLike[str]
_READERS = 4  # that list_runs reads at the same time


class Launcher(Protocol):
    """What starts runs somewhere. ``start`` returns as soon as the run is in a queue or a process has it."""

    def start(self, task: Task | Place, folder: Place | None = None) -> Run:
        """Start ``task`` in ``folder``; None: where the task says, else runs/NAME."""
        ...


class LocalLauncher:
    """Starts runs in processes of their own on this machine.

    At most ``max_runs`` of those whose folders are in the same folder run at a time; the others wait in a
    queue of files there. Runs outlive this process. A run gets the environment of the process that starts it
    or, if it has waited, of the one whose place it takes.
    """

    def __init__(self, max_runs: int = launch.MAX_RUNS) -> None:
        self._local = launch.Local(os.environ, max_runs)

    def start(self, task: Task | Place, folder: Place | None = None, *, arguments: Sequence[str] = ()) -> Run:
        """Check the task, create its run folder and have it run. ``arguments``: of ``loop-runner resume``."""
        made = task if isinstance(task, Task) else Task.from_file(task)
        place = None if folder is None else Path(folder)
        return Run(self._local.start(made.checked, place, arguments))

    def resume(
        self,
        run: Place,
        *,
        budget: Budget | Mapping[str, Any] | None = None,
        settings: Settings = (),
        arguments: Sequence[str] = (),
    ) -> Run:
        """Have a run continued from its last commit. ``budget`` and ``settings`` hold for this time only."""
        opened = Run(open_run(run).folder.absolute())
        changed = [*budget_overrides(budget), *as_overrides(settings)]
        set_here = [f"--set={key}={json.dumps(value, default=str)}" for key, value in changed]
        self._local.resume(opened.folder, (*set_here, *arguments))
        return opened

    def recover(self, folder: Place = "runs") -> list[Run]:
        """Continue what a crash has cut off in ``folder``; the runs there that wait or run."""
        return [Run(recovered) for recovered in self._local.recover(Path(folder).absolute())]


def start(task: Task | Place, folder: Place | None = None, *, launcher: Launcher | None = None) -> Run:
    """Start a task, or a task file, in a process of its own: it runs on when this one has ended.

    What cannot work is an error at once, as of ``lr.run``. From any process, ``run.status()`` says where it
    is, ``run.events()`` follows it and ``run.wait()`` waits for its result.
    """
    return (LocalLauncher() if launcher is None else launcher).start(task, folder)


def list_runs(folder: Place = "runs", *, states: Sequence[str] = ()) -> list[Status]:
    """The status of every run in ``folder``, the newest first; with ``states``, of those in one of them."""
    cache = inputs.cache_dir(os.environ)
    # What is not remembered is read by git processes: several at a time, as most of it is waiting for them.
    with ThreadPoolExecutor(_READERS, thread_name_prefix="status") as pool:
        statuses = list(pool.map(lambda run: of_any(run, cache), runs_in(Path(folder))))
    return [status for status in statuses if not states or status.state in states]
