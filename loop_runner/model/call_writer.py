"""Writes calls to the log before anyone sees them, many with one flush.

The switchboard hands each call over and waits; what it waits for is done only when the log is durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from loop_runner.budget import Hold
from loop_runner.model.client import (
    BatchingCallLog,
    CallLog,
)
from loop_runner.records import Call


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A call that is to be written, and who waits for that."""

    call: Call
    hold: Hold | None
    written: asyncio.Future[None]


class Writer:
    """Appends to the log off the loop, one batch at a time: what arrives during an append goes out together.

    A durable append costs a disk flush; a hundred sub-calls that end together must not wait for a hundred.
    ``on_written`` is told of each call, on the loop, before those who wait for it.
    """

    def __init__(self, log: CallLog, on_written: Callable[..., None]) -> None:
        self._log = log
        self._on_written = on_written
        self._waiting: list[_Waiting] = []
        self.task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="call-log")

    def append(self, call: Call, hold: Hold | None) -> asyncio.Future[None]:
        """A future that is done when ``call`` is durable, or fails as the log failed."""
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()
        self._waiting.append(_Waiting(call, hold, written))
        if self.task is None:
            self.task = loop.create_task(self._write_all())
        return written

    async def close(self) -> None:
        """Write what is waiting and end the thread."""
        if self.task is not None:
            await asyncio.gather(self.task, return_exceptions=True)
        self._thread.shutdown()

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                await self._write_batch(batch)
        finally:
            self.task = None

    async def _write_batch(self, batch: list[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        error: Exception | None = None
        try:
            await loop.run_in_executor(self._thread, self._write, [entry.call for entry in batch])
        except Exception as failure:  # noqa: BLE001 - whatever the log raises belongs to those who wait
            error = failure
        for entry in batch:
            try:
                self._on_written(entry.call, entry.hold, error)
            finally:
                _release(entry.written, error)

    def _write(self, calls: list[Call]) -> None:
        if isinstance(self._log, BatchingCallLog):
            self._log.append_many(calls)
            return
        for call in calls:
            self._log.append(call)


def _release(written: asyncio.Future[None], error: Exception | None) -> None:
    if written.done():  # cancelled
        return
    if error is None:
        written.set_result(None)
    else:
        written.set_exception(error)
