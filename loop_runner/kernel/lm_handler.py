"""Answers the kernel's ``llm_query`` calls: the host's end of the second line.

Runs on the asyncio loop that it is given, many requests at once, while the thread that runs the cell waits
for the kernel. Nothing that the kernel sends is trusted: a frame that is not a query ends the kernel, and
the sub-model never hears of it. Requests still open when the line closes are cancelled: a killed cell stops
costing.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from loop_runner.errors import ModelError
from loop_runner.kernel import wire

MAX_PROMPT_BYTES = 64 * 1024 * 1024
MAX_HEADER_BYTES = 4096
_END_WAIT_S = 2.0
# Above these the line is not read: the kernel waits.
MAX_OPEN_REQUESTS = 4096
MAX_OPEN_BYTES = 256 * 1024 * 1024  # of prompts


class SubCallError(ModelError):
    """A sub-model call that will not be answered; its message is what the model's code is told."""


class SubModel(Protocol):
    """What ``llm_query`` reaches. Runs on the handler's loop."""

    async def query(self, prompt: str) -> str:
        """The reply to one prompt; raises ``SubCallError``."""
        ...


class WaitClock:
    """Adds up the time in which at least one request is open. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = 0
        self._since = 0.0
        self._total = 0.0

    @property
    def is_waiting(self) -> bool:
        """Whether a request is open now."""
        return self._open > 0

    def seconds(self) -> float:
        """Seconds of waiting so far."""
        with self._lock:
            return self._total + (time.monotonic() - self._since if self._open else 0.0)

    def __enter__(self) -> None:
        with self._lock:
            if not self._open:
                self._since = time.monotonic()
            self._open += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._open -= 1
            if not self._open:
                self._total += time.monotonic() - self._since


class LmHandler:
    """Serves one life of a kernel on ``line``, which it owns from here on.

    ``on_violation`` is called, on the loop, with the reason when the kernel breaks the protocol.
    """

    def __init__(
        self,
        line: socket.socket,
        sub_model: SubModel,
        loop: asyncio.AbstractEventLoop,
        on_violation: Callable[[str], None],
    ) -> None:
        self.clock = WaitClock()
        self._line = line
        self._sub_model = sub_model
        self._loop = loop
        self._on_violation = on_violation
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._room = asyncio.Semaphore(MAX_OPEN_REQUESTS)
        self._open_bytes = 0
        self._fewer_bytes = asyncio.Event()
        self._server: asyncio.Task[None] | None = None
        asyncio.run_coroutine_threadsafe(self._serve(), loop)

    def close(self) -> None:
        """Close the line and cancel what is open; called from any thread but the loop's."""
        if self._loop.is_running():
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._line.close()

    async def _end(self) -> None:
        """Cancel all; a sub-model that finishes what is paid for may do so, but nobody waits long for it."""
        tasks = [task for task in (self._server, *self._tasks.values()) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_END_WAIT_S)
        await asyncio.sleep(0)  # the transport lets go of the socket one step later

    async def _serve(self) -> None:
        self._server = asyncio.current_task()
        reader, writer = await asyncio.open_connection(sock=self._line, limit=1 << 20)
        try:
            while (frame := await self._next_frame(reader)) is not None:
                await self._room.acquire()
                self._take(frame, writer)
                del frame
                await self._settle(writer)
        except wire.WireError as error:
            self._on_violation(str(error))
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # the kernel ended, perhaps in the middle of a frame
        finally:
            writer.transport.abort()  # what is not sent yet is for a kernel that is gone

    async def _settle(self, writer: asyncio.StreamWriter) -> None:
        """Wait until the open prompts are not too large, and the kernel has read most of the replies."""
        while self._open_bytes > MAX_OPEN_BYTES:
            self._fewer_bytes.clear()
            await self._fewer_bytes.wait()
        await writer.drain()

    async def _next_frame(self, reader: asyncio.StreamReader) -> wire.Frame | None:
        start = await reader.read(1)
        if not start:
            return None
        start += await reader.readexactly(wire.LENGTHS_SIZE - 1)
        header, payload = wire.lengths(start, MAX_HEADER_BYTES, MAX_PROMPT_BYTES)
        return wire.Frame(
            wire.decode_header(await reader.readexactly(header)), await reader.readexactly(payload)
        )

    def _take(self, frame: wire.Frame, writer: asyncio.StreamWriter) -> None:
        number = _query_number(frame.header)
        if number in self._tasks:
            raise wire.WireError("two requests have the same number")
        try:
            prompt = frame.payload.decode("utf-8")
        except UnicodeDecodeError:
            raise wire.WireError("a prompt is not UTF-8") from None
        task = self._loop.create_task(self._answer(number, prompt, writer))
        self._tasks[number] = task
        size = len(frame.payload)
        self._open_bytes += size
        task.add_done_callback(lambda _: self._done(number, size))

    def _done(self, number: int, size: int) -> None:
        del self._tasks[number]
        self._open_bytes -= size
        self._fewer_bytes.set()
        self._room.release()

    async def _answer(self, number: int, prompt: str, writer: asyncio.StreamWriter) -> None:
        with self.clock:
            try:
                kind, text = "reply", await self._sub_model.query(prompt)
            except SubCallError as error:
                kind, text = "error", error.message
            except Exception as error:  # noqa: BLE001 - a fault of ours must not leave the cell waiting for ever
                kind, text = "error", f"the call failed ({type(error).__name__})"
        if not writer.is_closing():
            writer.write(wire.encode({"type": kind, "id": number}, text.encode("utf-8", "replace")))


def _query_number(header: dict[str, Any]) -> int:
    number = header.get("id")
    if header.keys() != {"type", "id"} or header["type"] != "query" or type(number) is not int or number < 0:
        raise wire.WireError("a frame on the line to the models is not a query")
    return number
