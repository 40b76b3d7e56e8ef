"""Call logs that keep the contract of ``CallLog`` in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from loop_runner.records import Call


class MemoryLog:
    """Keeps calls in a list; ``seconds`` is how long a durable append takes."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.calls: list[Call] = []
        self.flushes = 0
        self.threads: set[str] = set()
        self._seconds = seconds

    def find(self, fingerprint: str, occurrence: int) -> Call | None:
        key = (fingerprint, occurrence)
        return next((call for call in list(self.calls) if (call.fingerprint, call.occurrence) == key), None)

    def append(self, call: Call) -> None:
        self._flush([call])

    def _flush(self, calls: Sequence[Call]) -> None:
        time.sleep(self._seconds)
        self.threads.add(threading.current_thread().name)
        self.flushes += 1
        self.calls += calls


class MemoryBatchLog(MemoryLog):
    """The same, able to make many calls durable at once."""

    def append_many(self, calls: Sequence[Call]) -> None:
        self._flush(calls)
