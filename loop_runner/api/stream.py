"""``stream``: the events of a run, one after another, as they happen; its result at the end."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from os import PathLike
from types import TracebackType
from typing import Self

from loop_runner.api.checked_task import Task
from loop_runner.api.result import Result
from loop_runner.api.running import started
from loop_runner.api.typed_events import Event


class Events:
    """The events of one run. Left early, it stops the run; ``result`` waits for the end."""

    def __init__(self, task: Task | str | PathLike[str], run_dir: str | PathLike[str] | None) -> None:
        self._task = task
        self._run_dir = run_dir
        self._queue: queue.SimpleQueue[Event | None] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        self._work, self.folder = started(self._task, self._run_dir, self._queue.put)
        self._work.when_done(lambda: self._queue.put(None))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._work.is_done:
            self._work.stop()
        self._work.join()

    def __iter__(self) -> Iterator[Event]:
        while (event := self._queue.get()) is not None:
            yield event
        self._queue.put(None)  # for another loop over the same events

    @property
    def result(self) -> Result:
        """How the run ended; raises what ended it."""
        return self._work.wait()


def stream(task: Task | str | PathLike[str], *, run_dir: str | PathLike[str] | None = None) -> Events:
    """The events of a run as they happen: ``with lr.stream(task) as events: for event in events: ...``."""
    return Events(task, run_dir)
