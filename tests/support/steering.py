"""Runs a task that is steered while it runs: what is done at an event is done before the run continues."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import loop_runner as lr
from loop_runner.events import Event
from loop_runner.records import Outcome
from loop_runner.runs import start as runs
from loop_runner.runs.context import RunContext
from loop_runner.task import config

Moment: TypeAlias = tuple[str, int, int]  # an event's kind, pass and turn
Steps: TypeAlias = Mapping[Moment, Callable[[lr.Run], object]]


class Steered:
    """A run folder and the events of all its processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events: list[Event] = []
        self.run = lr.Run(folder)

    def start(self, task_file: Path, steps: Steps | None = None, **overrides: object) -> Outcome:
        """Run the task, each of ``steps`` done once at its moment."""
        changed = [(key.replace("__", "."), value) for key, value in overrides.items()]
        return runs.start(config.read_task(task_file, changed), self.folder, self._context(steps or {}))

    def resume(self, steps: Steps | None = None, **overrides: object) -> Outcome:
        """Continue it."""
        changed = tuple((key.replace("__", "."), value) for key, value in overrides.items())
        return runs.resume(self.folder, self._context(steps or {}), changed)

    def answers(self) -> list[tuple[str, bool]]:
        """The requests that were answered, in order, and whether each was done."""
        return [
            (str(event.data["request"]), bool(event.data["done"]))
            for event in self.events
            if event.kind == "operator"
        ]

    def text(self, path: str) -> str:
        """A committed file, as it lies in the folder."""
        return (self.folder / path).read_text(encoding="utf-8")

    def requests_left(self) -> list[Path]:
        """The files of requests that no commit holds, and what was put aside."""
        return sorted(self.folder.glob(".git/loop-runner/control/**/*.json"))

    def _context(self, steps: Steps) -> RunContext:
        left = dict(steps)

        def on_event(event: Event) -> None:
            self.events.append(event)
            if step := left.pop((event.kind, event.pass_number, event.turn), None):
                step(self.run)

        return RunContext({}, (on_event,))
