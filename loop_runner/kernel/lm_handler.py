"""Answers model requests of the kernel's code: the host's end of the second line.

Runs on the given asyncio loop, many requests at once, while the thread that runs the cell waits for the
kernel. Nothing that the kernel sends is trusted: a malformed frame ends the kernel and never reaches a
sub-model. Requests that are open when the line closes are cancelled, so a killed cell stops costing. A
refusal that ends the run ends the cell too, once the other open requests have been answered and paid.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

from loop_runner.errors import ModelError
from loop_runner.kernel import shown_images
from loop_runner.kernel.inside import wire

MAX_PROMPT_BYTES = 64 * 1024 * 1024
MAX_HEADER_BYTES = 4096
MAX_MORE_BYTES = 1024 * 1024  # of JSON before the prompt: it takes thirty times its length in memory
MAX_TEXTS = 10_000  # of one child session
_MAX_NAME_CHARS = 1000
_END_WAIT_S = 2.0
_KINDS = ("query", "session", "budget", "check", "past", "tool")
# Above these the line is not read, so the kernel waits.
MAX_OPEN_REQUESTS = 4096
_FRAMES_AT_ONCE = 128
MAX_OPEN_BYTES = 256 * 1024 * 1024  # of prompts


class SubCallError(ModelError):
    """A sub-model call that will not be answered; its message is shown to the model's code."""


class SubModel(Protocol):
    """The target of ``llm_query``. Runs on the handler's loop."""

    async def query(self, prompt: str) -> str:
        """The reply to one prompt; raises ``SubCallError``."""
        ...


@dataclass(frozen=True, slots=True)
class Delegation:
    """What a cell passes to a child session. Only its shape has been checked."""

    question: str
    texts: tuple[tuple[str, bytes], ...]  # (name, UTF-8)
    is_single: bool  # ``context`` is a ``str``
    has_inputs: bool  # it works on the parent's own inputs; ``texts`` is empty
    model: str  # as the code named it; "" for the default
    sources: tuple[tuple[str, int] | None, ...] = ()  # (name, first line) of texts that are parts of others


@runtime_checkable
class Delegate(SubModel, Protocol):
    """A sub-model with more functions: schemas, other models, child sessions, checks, the budget."""

    async def query_as(self, prompt: str, schema: Mapping[str, Any] | None, model: str) -> str:
        """The reply to one prompt, as JSON text when there is a ``schema``; raises ``SubCallError``."""
        ...

    async def query_with_tools(
        self, prompt: str, schema: Mapping[str, Any] | None, model: str, tools: Sequence[str]
    ) -> str:
        """The answer of a model that may call ``tools``, as JSON with the pages that they fetched."""
        ...

    async def query_with_images(
        self, prompt: str, schema: Mapping[str, Any] | None, model: str, images: Sequence[str | bytes]
    ) -> str:
        """As ``query_as``, with images: names of inputs, and bytes."""
        ...

    async def session(self, task: Delegation) -> tuple[str, str]:
        """A child session's answer, and a note for the model's code ("" for none)."""
        ...

    async def tool(self, name: str, arguments: str) -> str:
        """The result of one call of a tool, as JSON; raises ``SubCallError`` for one that is not made."""
        ...

    async def past(self, pass_number: int, turn: int) -> str:
        """A committed turn of the run, as JSON; raises ``SubCallError`` if there is no such turn."""
        ...

    async def check(self, content: str) -> str:
        """The verdict of the free checks on an answer; raises ``SubCallError``."""
        ...

    def left(self) -> Mapping[str, int | float | None]:
        """The remaining budget, by name."""
        ...


_Asking = Callable[[], Coroutine[Any, Any, tuple[str, str]]]
"""Makes one request; returns the reply and a note."""


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


class LmHandler(asyncio.Protocol):
    """Serves one life of a kernel on ``line``, which it owns from here on.

    ``on_violation`` is called, on the loop, with the reason when the kernel must be ended: it broke the
    protocol, or the run cannot continue.
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
        # Found out once: whether something is a Protocol takes longer than all else that a call needs of it.
        self._whole = sub_model if isinstance(sub_model, Delegate) else None
        self._loop = loop
        self._on_violation = on_violation
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._open_bytes = 0
        self._decoder = wire.Decoder(MAX_HEADER_BYTES, MAX_PROMPT_BYTES)
        self._outbox: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._is_paused = False  # the line is not read
        self._is_backed_up = False  # the kernel does not read its replies
        self._takes_more = False  # in the loop's next step
        self._has_ended = False  # no more requests are accepted
        self._doomed = 0  # requests whose refusal ends the run; they are never answered
        self._connecting = asyncio.run_coroutine_threadsafe(self._connect(), loop)

    def close(self) -> None:
        """Close the line and cancel what is open; called from any thread but the loop's."""
        if self._loop.is_running():
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._line.close()

    async def _end(self) -> None:
        """Cancel all; a sub-model may finish what is paid for, but is not waited for long."""
        await asyncio.wrap_future(self._connecting)
        self._has_ended = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_END_WAIT_S)
        self._hang_up()
        await asyncio.sleep(0)  # the transport releases the socket one step later

    async def _connect(self) -> None:
        await self._loop.create_connection(lambda: self, sock=self._line)

    # ── the line ────────────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's: the line is open."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Asyncio's: the kernel wrote something."""
        self._decoder.feed(data)
        self._take_frames()

    def eof_received(self) -> bool:
        """Asyncio's: the kernel has ended, perhaps within a frame. Open requests may still finish."""
        self._has_ended = True
        if not self._tasks:
            self._hang_up()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """Asyncio's: nothing can be sent any more."""
        self._has_ended = True
        self._transport = None

    def pause_writing(self) -> None:
        """Asyncio's: the kernel does not read its replies, so its requests are not read either."""
        self._is_backed_up = True

    def resume_writing(self) -> None:
        """Asyncio's: the kernel has read most of the replies."""
        self._is_backed_up = False
        if not self._takes_more:
            self._take_frames()

    def _take_frames(self) -> None:
        """Take as many requests as there is room for; stop reading the line while there is none.

        A few at a time: the first ones of a large batch should be sent before the last are read.
        """
        self._takes_more = False
        taken = 0
        try:
            while not self._has_ended and self._has_room() and taken < _FRAMES_AT_ONCE:
                frame = self._decoder.take()
                if frame is None:
                    break
                self._take(frame)
                taken += 1
        except wire.WireError as error:
            self._has_ended = True
            self._hang_up()  # the unsent rest was for a kernel that is gone
            self._on_violation(str(error))
            return
        has_more = taken == _FRAMES_AT_ONCE and not self._has_ended
        if has_more:
            self._takes_more = True
            self._loop.call_soon(self._take_frames)
        self._read_if(self._has_room() and not has_more)

    def _has_room(self) -> bool:
        is_full = len(self._tasks) >= MAX_OPEN_REQUESTS or self._open_bytes > MAX_OPEN_BYTES
        return not (is_full or self._is_backed_up)

    def _read_if(self, has_room: bool) -> None:
        transport = self._transport
        if transport is None or transport.is_closing() or has_room != self._is_paused:
            return
        self._is_paused = not has_room
        if has_room:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def _hang_up(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _send(self, kind: str, number: int, text: str, note: str = "") -> None:
        """Queue a reply; all that are ready in the same step of the loop go out together."""
        if not self._outbox:
            self._loop.call_soon(self._flush)
        header = {"type": kind, "id": number} | ({"note": note} if note else {})
        self._outbox.append(wire.encode(header, text.encode("utf-8", "replace")))

    def _flush(self) -> None:
        data = b"".join(self._outbox)
        self._outbox.clear()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    # ── requests ────────────────────────────────────────────────────────────────────────────────────

    def _take(self, frame: wire.Frame) -> None:
        number, more, rest = _opened(frame)
        if number in self._tasks:
            raise wire.WireError("two requests have the same number")
        kind = frame.header["type"]
        if kind == "budget":
            self._send("reply", number, self._left())
            return
        opened: dict[str, Callable[[dict[str, Any] | None, bytes], _Asking]] = {
            "query": self._query,
            "session": self._session,
            "check": self._check,
            "past": self._past,
            "tool": self._tool,
        }
        asking = opened[kind](more, rest)
        task = self._loop.create_task(self._answer(number, asking))
        self._tasks[number] = task
        size = len(frame.payload)
        self._open_bytes += size
        task.add_done_callback(partial(self._done, number, size))

    def _query(self, more: dict[str, Any] | None, rest: bytes) -> _Asking:
        if more is None:
            return partial(self._plain, _text(rest))
        schema, model, tools = more.get("schema"), more.get("model", ""), more.get("tools", [])
        is_right = more.keys() <= {"schema", "model", "tools", "images"} and type(model) is str
        is_right &= type(tools) is list and all(type(tool) is str for tool in tools)
        if not is_right or type(schema) not in (dict, type(None)):
            raise wire.WireError("a query's settings have a wrong shape")
        if "images" in more:
            text, images = shown_images.split(more["images"], rest)
            return partial(self._shown, text, schema, model, images, tools)
        if "tools" in more:
            return partial(self._with_tools, _text(rest), schema, model, tools)
        return partial(self._with_settings, _text(rest), schema, model)

    async def _plain(self, prompt: str) -> tuple[str, str]:
        return await self._sub_model.query(prompt), ""

    async def _with_settings(self, prompt: str, schema: dict[str, Any] | None, model: str) -> tuple[str, str]:
        return await self._delegate().query_as(prompt, schema, model), ""

    async def _with_tools(
        self, prompt: str, schema: dict[str, Any] | None, model: str, tools: list[str]
    ) -> tuple[str, str]:
        return await self._delegate().query_with_tools(prompt, schema, model, tools), ""

    async def _shown(
        self,
        prompt: str,
        schema: dict[str, Any] | None,
        model: str,
        images: list[str | bytes],
        tools: list[str],
    ) -> tuple[str, str]:
        if tools:
            raise SubCallError("images= and tools= cannot be used in one call: ask twice")
        return await self._delegate().query_with_images(prompt, schema, model, images), ""

    def _session(self, more: dict[str, Any] | None, rest: bytes) -> _Asking:
        return partial(self._child, _delegation(more or {}, rest))

    async def _child(self, task: Delegation) -> tuple[str, str]:
        return await self._delegate().session(task)

    def _check(self, more: dict[str, Any] | None, rest: bytes) -> _Asking:
        if more is not None:
            raise wire.WireError("a check has no settings")
        return partial(self._checked, _text(rest))

    def _past(self, more: dict[str, Any] | None, rest: bytes) -> _Asking:
        try:
            numbers = json.loads(rest) if more is None and len(rest) < MAX_HEADER_BYTES else None
        except (ValueError, RecursionError):
            numbers = None
        if type(numbers) is not list or [type(number) for number in numbers] != [int, int]:
            raise wire.WireError("a request for a past turn does not name one")
        return partial(self._remembered, *numbers)

    async def _remembered(self, pass_number: int, turn: int) -> tuple[str, str]:
        return await self._delegate().past(pass_number, turn), ""

    def _tool(self, more: dict[str, Any] | None, rest: bytes) -> _Asking:
        name = (more or {}).get("name")
        if more is None or more.keys() != {"name"} or type(name) is not str:
            raise wire.WireError("a call of a tool does not name one")
        return partial(self._called, name, _text(rest))

    async def _called(self, name: str, arguments: str) -> tuple[str, str]:
        return await self._delegate().tool(name, arguments), ""

    async def _checked(self, content: str) -> tuple[str, str]:
        return await self._delegate().check(content), ""

    def _delegate(self) -> Delegate:
        if self._whole is None:
            raise SubCallError("not available in this session")
        return self._whole

    def _left(self) -> str:
        return json.dumps({} if self._whole is None else dict(self._whole.left()))

    async def _answer(self, number: int, asking: _Asking) -> None:
        note = ""
        with self.clock:
            try:
                kind, (text, note) = "reply", await asking()
            except SubCallError as error:
                if error.ends_run:
                    await self._doom()
                kind, text = "error", error.message
            except Exception as error:  # noqa: BLE001 - our own fault must not leave the cell waiting forever
                kind, text = "error", f"the call failed ({type(error).__name__})"
        self._send(kind, number, text, note)

    async def _doom(self) -> None:
        """Wait for the end of the cell, which comes when none of its other requests is open."""
        self._doomed += 1
        self._end_if_doomed()
        await self._loop.create_future()

    def _end_if_doomed(self) -> None:
        if self._doomed and self._doomed == len(self._tasks):
            self._has_ended = True
            self._on_violation("the run cannot continue: a model provider refuses all requests")

    def _done(self, number: int, size: int, _: object) -> None:
        del self._tasks[number]
        self._open_bytes -= size
        if not self._has_ended:
            self._end_if_doomed()
            if self._is_paused and not self._takes_more:
                self._take_frames()
        elif not self._tasks and not self._outbox:
            self._hang_up()
        elif not self._tasks:
            self._loop.call_soon(self._hang_up)


def _opened(frame: wire.Frame) -> tuple[int, dict[str, Any] | None, bytes]:
    """The number of a request, the JSON object before its text (None when there is none), and the text."""
    header = frame.header
    number, kind, more = header.get("id"), header.get("type"), header.get("more")
    is_request = kind in _KINDS and type(number) is int and number >= 0
    if not is_request or not header.keys() <= {"type", "id", "more"}:
        raise wire.WireError("a frame on the line to the models is not a request")
    assert type(number) is int
    if "more" not in header:
        return number, None, frame.payload
    if type(more) is not int or not 0 < more <= min(len(frame.payload), MAX_MORE_BYTES) or kind == "budget":
        raise wire.WireError("a request's settings are over the cap")
    return number, wire.decode_header(frame.payload[:more]), frame.payload[more:]


def _delegation(more: dict[str, Any], rest: bytes) -> Delegation:
    """The request in a ``session`` frame; ``WireError`` when it is malformed."""
    listed = more.get("texts")
    is_right = (
        more.keys() == {"question", "texts", "single", "inputs", "model"}
        and all(type(more[key]) is str for key in ("question", "model"))
        and all(type(more[key]) is bool for key in ("single", "inputs"))
        and type(listed) is list
        and len(listed) <= MAX_TEXTS
    )
    if not is_right or not all(_is_listed(entry) for entry in listed or ()):
        raise wire.WireError("a request for a session has a wrong shape")
    texts, at = [], 0
    for name, size, *_ in listed or ():
        texts.append((name, rest[at : at + size]))
        at += size
    if at != len(rest) or len({name for name, _ in texts}) != len(texts):
        raise wire.WireError("the texts of a request for a session are not as they are listed")
    _text(rest)
    sources = tuple((entry[2], entry[3]) if len(entry) == 4 else None for entry in listed or ())
    return Delegation(
        more["question"],
        tuple(texts),
        more["single"],
        more["inputs"],
        more["model"],
        sources if any(sources) else (),
    )


def _is_listed(entry: object) -> bool:
    return (
        type(entry) is list
        and len(entry) in (2, 4)
        and type(entry[0]) is str
        and len(entry[0]) <= _MAX_NAME_CHARS
        and type(entry[1]) is int
        and entry[1] >= 0
        and (len(entry) == 2 or _is_source(*entry[2:]))
    )


def _is_source(name: object, line: object) -> bool:
    return type(name) is str and len(name) <= _MAX_NAME_CHARS and type(line) is int and line >= 1


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise wire.WireError("a prompt is not UTF-8") from None
