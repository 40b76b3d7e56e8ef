"""The one door to the models: every reply is in the log before it is used, and is charged once.

Owns one asyncio loop in one daemon thread, the clients that live on it, one ``Limiter`` for each provider and
the key under which a re-run of a turn finds its replies again. Relies on a ``CallLog`` for durability, on a
``Meter`` for leave to send, and on the limiters for the width (how many requests are out at the same time)
and the retries. A refusal that ends the run is remembered, and nothing more is sent.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, Protocol, Self, TypeVar, cast

from loop_runner import failpoints, redaction
from loop_runner.budget import Hold
from loop_runner.errors import ModelError, StoppedError
from loop_runner.model.call_writer import Writer
from loop_runner.model.client import (
    CallLog,
    MarkingCallLog,
    ModelClient,
    TokenCounter,
    ToolCaller,
    ToolCallLog,
    TryAgain,
    images_of,
    redacted,
)
from loop_runner.model.limiter import Limiter, Policy, Retry
from loop_runner.model.occurrences import Occurrences
from loop_runner.records import LOST, SENT, Call, Reply, Request, Usage

OnCall = Callable[[Call, bool], None]
"""Told of every call before its reply is handed on; the second argument says that the log served it. Runs on
the switchboard's thread: short, and never asking the switchboard."""


FindRecorded = Callable[[Request, Call | None], Call | None]
"""Chooses the recorded call that answers a request; the second argument is the one that the log found."""


class Meter(Protocol):
    """Lets requests out and charges their replies; the run's ledger is one. See ``budget.Ledger``."""

    def reserve(self, request: Request) -> Hold | None:
        """Leave to send ``request``; None: ask again when another has ended. Raises when there is none."""

    def settle(self, hold: Hold, call: Call | None) -> None:
        """The request has ended, with the reply in ``call`` or without one."""

    def replayed(self, call: Call) -> None:
        """The log served ``call``: nothing was sent."""


_T = TypeVar("_T")
_CLOSE_TIMEOUT_S = 15.0
_WATCH_S = 0.1


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
        meter: Meter | None = None,
        on_retry: Callable[[Retry], None] | None = None,
        on_trouble: Callable[[str], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
        is_held: Callable[[], bool] = lambda: False,
        width: int = 32,
        policy: Policy | None = None,
        recorded: FindRecorded | None = None,
    ) -> None:
        self.loop = asyncio.new_event_loop()
        self.refusal: ModelError | None = None  # the one that ends the run
        self._open_client = open_client
        self._log = log
        self._recorded = recorded
        # Asked once: whether something is a Protocol takes longer than all else that a sub-call needs of it.
        self._marks = log if isinstance(log, MarkingCallLog) else None
        self._tool_log = log if isinstance(log, ToolCallLog) else None
        self._on_call = on_call
        self._meter = meter
        self._clients: dict[str, ModelClient] = {}
        self._occurrences: dict[str, Occurrences] = {}
        self._lost_numbers: dict[str, int] = {}
        self._reported: set[tuple[str, int]] = set()
        self._width = width
        self._policy = policy
        self._on_retry = on_retry
        self._on_trouble = on_trouble  # told once of each kind of fault that a run survives
        self._troubles: set[str] = set()
        self._limiters: dict[str, Limiter] = {}
        self._settled = asyncio.Event()
        self._writer = Writer(log, self._written)
        self._should_stop = should_stop
        self._is_held = is_held  # while it is, nothing new is sent
        self._turned_away = False  # a request of this turn, because the run is to stop
        self._out: dict[asyncio.Task[Any], bool] = {}  # requests in flight; whether another run takes them up
        self._fault: Exception | None = None  # in our code, the log or the machine; never a provider's
        self._thread = threading.Thread(target=self._run, name="switchboard", daemon=True)
        self._thread.start()
        if should_stop is not None:
            self.loop.call_soon_threadsafe(self._watch)

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
        occurrences = self._occurrences.setdefault(fingerprint, Occurrences())
        occurrence = occurrences.take()
        try:
            # In memory and quick, so it may run on the loop.
            known = self._log.find(fingerprint, occurrence)
            if self._recorded is not None:
                known = self._recorded(request, known)
            call = known or await self._ask_and_log(redacted(request), fingerprint, occurrence)
        except BaseException as error:
            self._note_fault(error)
            # Nothing was logged under this number. The next try must get it, or a re-run of the turn, in
            # which the first try works, would look for its reply under a number that was never written.
            occurrences.give_back(occurrence)
            raise
        if known is not None:
            if (meter := self._meter) is not None:
                self._guarded(lambda: meter.replayed(known))
            self._tell(known, replayed=True)
        return call.reply

    def raise_fault(self) -> None:
        """Raise what went wrong on our side of a request (a full disk, say), if anything did.

        A sub-call can only hand it to the model's code, which may catch it and go on; the run must not: a
        reply that was paid for is not written down, and the turn would be another than on a sound machine.
        """
        if self._fault is not None:
            raise self._fault

    def raise_refusal(self) -> None:
        """Raise what ends the run, if a request met it: then this turn is another than without it."""
        if isinstance(self.refusal, StoppedError) and not self._turned_away:
            return  # asked to stop, and no request of this turn was held back: the turn is whole
        if self.refusal is not None:
            raise self.refusal

    def in_flight(self) -> int:
        """How many requests are out, or their replies not written yet; not those that are taken up later."""
        out = sum(not is_taken_up for is_taken_up in list(self._out.values()))
        return out + (self._writer.task is not None)

    async def count(self, request: Request) -> int | None:
        """How many tokens ``request`` is, if its provider can be asked that for nothing; None if not."""
        client = self._client(request.model)
        if not isinstance(client, TokenCounter):
            return None
        try:
            return await client.count_tokens(redacted(request))
        except ModelError:
            return None  # a number that would have been nice to have

    @property
    def retries(self) -> int:
        """The number of repeated tries so far, at all providers."""
        return sum(limiter.retries for limiter in self._limiters.values())

    def wait(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine on ``loop`` from an ordinary thread; Ctrl-C ends the wait and the coroutine."""
        return self._wait(coroutine)

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
        if occurrence:
            request = replace(request, occurrence=occurrence)
        client = self._client(request.model)
        if images_of(request) and not getattr(client, "takes_images", False):
            raise ModelError(
                f"{request.model} takes no images",
                hint="name one that does with model= (sub_models: in the task), of anthropic: or openai:",
            )
        held: Hold | None = None
        tries = 0

        async def attempt() -> Reply:
            nonlocal held, tries
            tries += 1
            hold = await self._admitted(request)
            try:
                reply = await self._send(client, request, fingerprint, occurrence)
            except BaseException as error:
                await self._failed(error, hold, request, fingerprint)
                raise
            held = hold
            return reply

        try:
            reply = await self._limiter(request.model, client).run(attempt)
        except StoppedError:
            self._turned_away = True
            raise
        try:
            call = _call(request, fingerprint, occurrence, self._received(reply, request.model))
            if tries > 1:
                call = replace(call, tries=tries)
        except BaseException:
            self._settle(held, None)  # else callers that wait for its share would wait forever
            raise
        # Paid for: it is logged and charged even if whoever asked stops waiting.
        await self._writer.append(call, held)
        return call

    def _received(self, reply: Reply, model: str) -> Reply:
        """``reply`` as it is logged and charged: without secrets, with counts that can be counts."""
        usage, clean = self._counted(reply.usage, model), redaction.clean
        return replace(reply, text=clean(reply.text), model=clean(reply.model), usage=usage)

    def _counted(self, usage: Usage, model: str) -> Usage:
        sane = usage.sane()
        if sane != usage:
            self._report(
                f"{model} reported token counts that cannot be right (negative, huge, or no numbers):"
                " they count as 0, so the budget and the cost of this run are too low"
            )
        return sane

    def _report(self, trouble: str) -> None:
        """Tell once of something that went wrong behind a reply, and that nobody has to wait for."""
        if trouble in self._troubles or self._on_trouble is None:
            return
        self._troubles.add(trouble)
        self._guarded(lambda: self._on_trouble and self._on_trouble(trouble))

    def _guarded(self, do: Callable[[], object]) -> None:
        """Run what follows a reply. Its faults are told once: they must neither end a run nor hold it up."""
        try:
            do()
        except Exception as error:  # noqa: BLE001 - prices, meters and listeners may be anyone's
            self._report(f"after a reply: {type(error).__name__}: {error}; the run continues")

    async def _send(self, client: ModelClient, request: Request, fingerprint: str, occurrence: int) -> Reply:
        """Ask the provider once, with a mark in the log for as long as no reply is there."""
        if request.kind == "tool":
            return await self._call_tool(client, request, fingerprint, occurrence)
        failpoints.passing("switchboard.send")
        marks = self._marks
        if getattr(client, "takes_up", False):
            return await self._in_flight(client, request, is_taken_up=True)
        if marks is None:
            return await self._in_flight(client, request)
        self.raise_fault()  # what can no longer be written down is not asked for
        marks.sent(fingerprint, occurrence)
        try:
            reply = await self._in_flight(client, request)
        except ModelError as error:
            # What a lost try cost is charged by itself, so it is not counted here too.
            if isinstance(error, StoppedError):
                raise  # given up on the way: it may be billed
            if not error.paid or (isinstance(error, TryAgain) and error.usage != Usage()):
                marks.not_billed(fingerprint, occurrence)
            raise
        failpoints.passing("switchboard.replied")
        return reply

    async def _call_tool(
        self, client: ModelClient, request: Request, fingerprint: str, occurrence: int
    ) -> Reply:
        """Make a tool call; unless it may be repeated, a mark of it is durable before."""
        failpoints.passing("tool.send")
        self.raise_fault()
        log = self._tool_log
        if hasattr(client, "is_idempotent"):  # no stand-in, as in a replay
            caller = cast("ToolCaller", client)
            if log is not None and not caller.is_idempotent and log.was_sent(fingerprint, occurrence):
                return caller.unknown(request)
            if (refused := await caller.refusal(request)) is not None:
                return refused
            log = None if caller.is_idempotent else log
        if log is not None:
            await self._writer.append(_call(request, SENT + fingerprint, occurrence, Reply("")), None)
        failpoints.passing("tool.sent")
        try:
            reply = await self._in_flight(client, request)
        except BaseException:
            if log is not None:
                log.abandon(fingerprint, occurrence)
            raise
        failpoints.passing("tool.returned")
        return reply

    async def _in_flight(self, client: ModelClient, request: Request, *, is_taken_up: bool = False) -> Reply:
        """The client's reply; ``StoppedError`` when the run ends without waiting for it."""
        task = asyncio.current_task()
        assert task is not None
        self._out[task] = is_taken_up
        try:
            return await client.complete(request)
        except asyncio.CancelledError:
            if task not in self._out and isinstance(self.refusal, StoppedError):
                task.uncancel()
                raise StoppedError from None
            raise
        finally:
            self._out.pop(task, None)

    def _watch(self) -> None:
        """Look now and then whether the run is to stop."""
        if self._should_stop is None or self.loop.is_closed():
            return
        if self._should_stop():
            self._stop(is_urgent=getattr(self._should_stop, "is_urgent", False))
        self.loop.call_later(_WATCH_S, self._watch)

    def _stop(self, *, is_urgent: bool) -> None:
        """Send nothing more; give up what another run takes up, or, when it is urgent, everything."""
        if self.refusal is None:
            self.refusal = StoppedError()
            for limiter in self._limiters.values():
                limiter.stop(self.refusal)
            self._settled.set()
        for task, is_taken_up in list(self._out.items()):
            if is_taken_up or is_urgent:
                del self._out[task]
                task.cancel()

    async def _admitted(self, request: Request) -> Hold | None:
        """Leave of the meter to send ``request``, waited for while it depends on what others use."""
        while True:
            if self._should_stop is not None and self.refusal is None and self._should_stop():
                self._stop(is_urgent=False)
            if self.refusal is not None:
                raise _again(self.refusal)
            if self._is_held():
                await asyncio.sleep(_WATCH_S)
                continue
            if self._meter is None:
                return None
            if (hold := self._meter.reserve(request)) is not None:
                return hold
            self._settled.clear()
            await self._settled.wait()

    def _settle(self, hold: Hold | None, call: Call | None) -> None:
        if (meter := self._meter) is not None and hold is not None:
            self._guarded(lambda: meter.settle(hold, call))
            self._settled.set()

    def _written(self, call: Call, hold: Hold | None, error: Exception | None) -> None:
        """The log has ``call``, or failed to take it: it is paid for either way."""
        if call.fingerprint.startswith(SENT):  # a mark
            if error is not None:
                self._note_fault(error)
            return
        self._settle(hold, call)
        if error is None:
            self._tell(call, replayed=False)
        else:
            self._note_fault(error)  # also when nobody waits for it any more

    def _note_fault(self, error: BaseException) -> None:
        if isinstance(error, Exception) and not isinstance(error, ModelError):
            self._fault = self._fault or error

    def _tell(self, call: Call, *, replayed: bool) -> None:
        """Report ``call`` once per turn, whatever way it is met again."""
        key = (call.fingerprint, call.occurrence)
        if key not in self._reported:
            self._reported.add(key)
            if (on_call := self._on_call) is not None:
                self._guarded(lambda: on_call(call, replayed))

    async def _failed(
        self, error: BaseException, hold: Hold | None, request: Request, fingerprint: str
    ) -> None:
        """A try gave no reply; what it cost all the same is logged and charged."""
        if isinstance(error, ModelError) and error.ends_run and self.refusal is None:
            self.refusal = error
        if isinstance(error, TryAgain) and error.usage != Usage():
            usage = self._counted(error.usage, request.model)
            await self._writer.append(self._lost(request, fingerprint, usage), hold)
        else:
            self._settle(hold, None)

    def _lost(self, request: Request, fingerprint: str, usage: Usage) -> Call:
        """What was billed for a try that gave no reply: charged, and never served to anybody."""
        number = self._lost_numbers.get(fingerprint, 0)
        while self._log.find(LOST + fingerprint, number) is not None:
            number += 1
        self._lost_numbers[fingerprint] = number + 1
        return _call(request, LOST + fingerprint, number, Reply("", usage=usage))

    def _limiter(self, model: str, client: ModelClient) -> Limiter:
        provider = str(getattr(client, "provider", "") or model.partition(":")[0])
        if provider not in self._limiters:
            width = int(getattr(client, "width", self._width))
            self._limiters[provider] = Limiter(provider, width, policy=self._policy, on_retry=self._retried)
        return self._limiters[provider]

    def _retried(self, retry: Retry) -> None:
        if (on_retry := self._on_retry) is not None:
            self._guarded(lambda: on_retry(retry))

    def _client(self, model: str) -> ModelClient:
        if model not in self._clients:
            self._clients[model] = self._open_client(model)
        return self._clients[model]

    async def _reset(self) -> None:
        # On the loop, where the counting happens: no lock is needed.
        self._occurrences.clear()
        self._lost_numbers.clear()
        self._turned_away = False
        self._reported.clear()

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
            raise ModelError("the switchboard is closed", why="no more requests can be sent")
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result()
        except BaseException:  # Ctrl-C among them: what nobody waits for must not go on costing money
            future.cancel()
            raise


def _call(request: Request, fingerprint: str, occurrence: int, reply: Reply) -> Call:
    shown = "".join(f"\n[image: {image.file}]" for image in images_of(request))
    return Call(
        kind=request.kind,
        model=request.model,
        fingerprint=fingerprint,
        occurrence=occurrence,
        prompt="" if request.is_conversation else request.messages[-1].text + shown,
        reply=reply,
    )


def _again(refusal: ModelError) -> ModelError:
    """The refusal once more, for a request that was not sent because of it."""
    if isinstance(refusal, StoppedError):
        return refusal
    return ModelError(refusal.message, why=refusal.why, hint=refusal.hint, ends_run=True)
