"""The one door to the models: every reply is in the log before it is used, and is charged once.

Owns one asyncio loop in one daemon thread, the clients that live on it, the width (how many requests are out
at the same time) and the key under which a re-run of a turn finds its replies again. Relies on a ``CallLog``
for durability. Never retries: a client knows its provider better.
"""

from __future__ import annotations

import asyncio
import heapq
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from loop_runner import failpoints
from loop_runner.errors import ModelError
from loop_runner.model.client import BatchingCallLog, CallLog, MarkingCallLog, ModelClient
from loop_runner.records import Call, Reply, Request

OnCall = Callable[[Call, bool], None]
"""Told of every call before its reply is handed on; the second argument says that the log served it. Runs on
the switchboard's thread: short, and never asking the switchboard."""

_T = TypeVar("_T")
_CLOSE_TIMEOUT_S = 15.0


class Switchboard:
    """Asks models for threads (``ask``) and for coroutines on ``loop`` (``complete``).

    ``open_client`` makes the client for a model id, once per id. Start it with a call log, end it with
    ``close``; as a context manager it closes itself.
    """

    def __init__(
        self,
        open_client: Callable[[str], ModelClient],
        *,
        log: CallLog,
        on_call: OnCall | None = None,
        width: int = 32,
    ) -> None:
        self.loop = asyncio.new_event_loop()
        self._open_client = open_client
        self._log = log
        self._on_call = on_call
        self._clients: dict[str, ModelClient] = {}
        self._occurrences: dict[str, _Occurrences] = {}
        self._told: set[tuple[str, int]] = set()
        self._width = asyncio.Semaphore(width)
        self._writer = _Writer(log)
        self._fault: Exception | None = None  # of ours, of the log or of the machine; never a provider's
        self._thread = threading.Thread(target=self._run, name="switchboard", daemon=True)
        self._thread.start()

    def ask(self, request: Request) -> Reply:
        """Ask from an ordinary thread and wait; Ctrl-C in the main thread ends the wait and the request.

        Raises ``ModelError`` when the provider refuses.
        """
        if threading.current_thread() is self._thread:
            msg = "ask() waits for the thread that it was called on; use `await complete()` there"
            raise RuntimeError(msg)
        return self._wait(self.complete(request))

    async def complete(self, request: Request) -> Reply:
        """Ask from a coroutine on ``loop``. Raises ``ModelError`` when the provider refuses."""
        fingerprint = request.fingerprint()
        occurrences = self._occurrences.setdefault(fingerprint, _Occurrences())
        occurrence = occurrences.take()
        try:
            # In memory and quick, so it may run on the loop.
            known = self._log.find(fingerprint, occurrence)
            call = known or await self._ask_and_log(request, fingerprint, occurrence)
        except BaseException as error:
            self._note_fault(error)
            # Nothing was logged under this number. The next try must get it, or a re-run of the turn, in
            # which the first try works, would look for its reply under a number that was never written.
            occurrences.give_back(occurrence)
            raise
        self._tell(call, replayed=known is not None)
        return call.reply

    def raise_fault(self) -> None:
        """Raise what went wrong on our side of a request (a full disk, say), if anything did.

        A sub-call can only hand it to the model's code, which may catch it and go on; the run must not: a
        reply that was paid for is not written down, and the turn would be another than on a sound machine.
        """
        if self._fault is not None:
            raise self._fault

    def start_turn(self) -> None:
        """Begin to count identical requests from 0 again; no request may be out."""
        self._wait(self._reset())

    def close(self) -> None:
        """Drop what is still out, close the clients, end the thread. More than once is fine."""
        if self.loop.is_closed():
            return
        try:
            asyncio.run_coroutine_threadsafe(self._shut_down(), self.loop).result(_CLOSE_TIMEOUT_S)
        finally:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(_CLOSE_TIMEOUT_S)
            self.loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _ask_and_log(self, request: Request, fingerprint: str, occurrence: int) -> Call:
        async with self._width:
            reply = await self._send(request, fingerprint, occurrence)
        call = Call(
            kind=request.kind,
            model=request.model,
            fingerprint=fingerprint,
            occurrence=occurrence,
            prompt="" if request.kind == "root" else request.messages[-1].text,
            reply=reply,
        )
        # Paid for: it is logged and charged even if whoever asked has stopped waiting.
        await asyncio.shield(self._keep(call))
        return call

    async def _send(self, request: Request, fingerprint: str, occurrence: int) -> Reply:
        """Ask the provider, with a mark in the log for as long as no reply is there."""
        client = self._client(request.model)
        failpoints.passing("switchboard.send")
        if not isinstance(self._log, MarkingCallLog):
            return await client.complete(request)
        self.raise_fault()  # what can no longer be written down is not asked for
        self._log.sent(fingerprint, occurrence)
        try:
            reply = await client.complete(request)
        except ModelError as error:
            if not error.paid:
                self._log.not_billed(fingerprint, occurrence)
            raise
        failpoints.passing("switchboard.replied")
        return reply

    async def _keep(self, call: Call) -> None:
        try:
            await self._writer.append(call)
        except BaseException as error:
            self._note_fault(error)  # also when nobody waits for it any more
            raise
        self._tell(call, replayed=False)

    def _note_fault(self, error: BaseException) -> None:
        if isinstance(error, Exception) and not isinstance(error, ModelError):
            self._fault = self._fault or error

    def _tell(self, call: Call, *, replayed: bool) -> None:
        """Report ``call`` once per turn, whatever way it is met again."""
        key = (call.fingerprint, call.occurrence)
        if key not in self._told:
            self._told.add(key)
            if self._on_call is not None:
                self._on_call(call, replayed)

    def _client(self, model: str) -> ModelClient:
        if model not in self._clients:
            self._clients[model] = self._open_client(model)
        return self._clients[model]

    async def _reset(self) -> None:
        # On the loop, where the counting happens: no lock is needed.
        self._occurrences.clear()
        self._told.clear()

    async def _shut_down(self) -> None:
        keep = (asyncio.current_task(), self._writer.task)  # what is paid for is still written
        others = [task for task in asyncio.all_tasks() if task not in keep]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._writer.close()
        closing = (client.close() for client in self._clients.values())
        failed = [error for error in await asyncio.gather(*closing, return_exceptions=True) if error]
        await self.loop.shutdown_asyncgens()
        await self.loop.shutdown_default_executor()
        if failed:
            raise failed[0]

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def _wait(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        if self.loop.is_closed():
            coroutine.close()
            raise ModelError("the switchboard is closed", why="nothing can be asked any more")
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result()
        except BaseException:  # Ctrl-C among them: what nobody waits for must not go on costing money
            future.cancel()
            raise


@dataclass(slots=True)
class _Occurrences:
    """Numbers identical requests of a turn 0, 1, 2…; one that was given back is the next to be taken."""

    _next: int = 0
    _free: list[int] = field(default_factory=list)

    def take(self) -> int:
        if self._free:
            return heapq.heappop(self._free)
        self._next += 1
        return self._next - 1

    def give_back(self, number: int) -> None:
        heapq.heappush(self._free, number)


class _Writer:
    """Appends to the log off the loop, one batch at a time: what arrives during an append goes out together.

    A durable append costs a disk flush; a hundred sub-calls that end together must not wait for a hundred.
    """

    def __init__(self, log: CallLog) -> None:
        self._log = log
        self._waiting: list[tuple[Call, asyncio.Future[None]]] = []
        self.task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="call-log")

    def append(self, call: Call) -> asyncio.Future[None]:
        """A future that is done when ``call`` is durable, or fails as the log failed."""
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()
        self._waiting.append((call, written))
        if self.task is None:
            self.task = loop.create_task(self._write_all())
        return written

    async def close(self) -> None:
        """Write what is waiting and end the thread."""
        if self.task is not None:
            await asyncio.gather(self.task, return_exceptions=True)
        self._thread.shutdown()

    async def _write_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                await asyncio.get_running_loop().run_in_executor(
                    self._thread, self._write, [call for call, _ in batch]
                )
            except Exception as error:  # noqa: BLE001 - whatever the log raises belongs to those who wait
                _settle(batch, error)
            else:
                _settle(batch, None)
        self.task = None

    def _write(self, calls: list[Call]) -> None:
        if isinstance(self._log, BatchingCallLog):
            self._log.append_many(calls)
            return
        for call in calls:
            self._log.append(call)


def _settle(batch: list[tuple[Call, asyncio.Future[None]]], error: Exception | None) -> None:
    for _, written in batch:
        if written.cancelled():
            continue
        if error is None:
            written.set_result(None)
        else:
            written.set_exception(error)
