"""Starts runs in processes of their own, which outlive the one that asks for them.

A new run is checked and its folder is created here, so that what cannot work is an error at once; then it is
put into the queue beside it (``run_queue``), from which at most ``max_runs`` at a time are run, each by
``loop-runner resume RUN`` in its own session (``launch_worker``). The queue is files: after a crash of any
process, ``recover`` continues what was cut off and finds the rest by its locks.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from loop_runner import failpoints
from loop_runner.errors import ConfigError, EnvironmentFault
from loop_runner.runs import launch_worker, run_queue, trust
from loop_runner.runs import start as runs
from loop_runner.runs.new_folders import make_way, new_run_folder
from loop_runner.runs.prepare import check
from loop_runner.task.config import Task
from loop_runner.text import shell

MAX_RUNS = 4
_START_S = 30.0


class Launcher(Protocol):
    """What starts a run somewhere: the run folder is all that the caller needs of it afterwards."""

    def start(self, task: Task, folder: Path | None) -> Path:
        """Start ``task`` in ``folder``; None: where the task says, else runs/NAME. The run folder."""
        ...

    def resume(self, folder: Path, arguments: Sequence[str] = ()) -> None:
        """Continue the run in ``folder``; ``arguments`` are those of ``loop-runner resume``."""
        ...


@dataclass(frozen=True, slots=True)
class Local:
    """Runs on this machine, at most ``max_runs`` at a time of those whose folders are in one folder."""

    env: Mapping[str, str]
    max_runs: int = MAX_RUNS

    def start(self, task: Task, folder: Path | None = None, arguments: Sequence[str] = ()) -> Path:
        """Create the run folder and have it run. Raises what ``run`` would raise before it begins."""
        _refuse(task)
        chosen = task if folder is None else replace(task, run_dir=folder)
        run = new_run_folder(chosen, self.env).absolute()
        if (run / ".git").exists():
            check(chosen, self.env)  # before anything is removed
            make_way(run)
        run.parent.mkdir(parents=True, exist_ok=True)
        with run_queue.adding(run, arguments):
            runs.create(chosen, run, self.env)
        self.recover(run.parent)
        return run

    def resume(self, folder: Path, arguments: Sequence[str] = ()) -> None:
        """Have the run in ``folder`` continued. Nothing, if it waits for that already."""
        run = folder.absolute()
        trust.require_folder(run, self.env, command=shell("loop-runner", "resume", folder), is_trusted=False)
        if not run_queue.is_waiting(run):
            with run_queue.adding(run, arguments):
                run_queue.log_of(run).unlink(missing_ok=True)
        self.recover(run.parent)

    def recover(self, folder: Path) -> list[Path]:
        """Run what waits in ``folder``, as far as there are free places; the runs that wait or run."""
        queue = folder / run_queue.FOLDER
        run_queue.sweep(queue)
        recovered = run_queue.entries(queue)
        waiting = [entry for entry in recovered if not entry.is_taken]
        failpoints.passing("queue.serve")
        for _ in waiting[: self.max_runs]:
            _start_worker(queue, self.max_runs, self.env)
        return [entry.folder for entry in recovered]


def _start_worker(queue: Path, slots: int, env: Mapping[str, str]) -> None:
    """Start a process that takes a free slot, or ends. It has no parent process when this returns."""
    argv = [sys.executable, "-I", launch_worker.__file__, str(queue), str(slots), sys.executable]
    try:
        subprocess.run(
            argv,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            timeout=_START_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EnvironmentFault(
            f"no process can be started for the run: {error}",
            why="the run is in the queue, and nothing runs it",
            hint="see what the machine lacks (processes, memory), then start it again",
        ) from error


def _refuse(task: Task) -> None:
    if task.session == "hook":
        raise ConfigError(
            "a task with `session: hook` is not started in a process of its own",
            why="its passes are done in a client's session that exists already",
            hint="begin it in that session: loop-runner hook start TASK.yaml",
        )
    if task.functions:
        raise ConfigError(
            f"the task has functions as verifiers ({', '.join(sorted(task.functions))})",
            why="they exist in this process only, and the run is in another one",
            hint="use lr.run, or put them into a file as a `python` verifier",
        )
