"""Sends a run to a client as server-sent events: each API translates, this module keeps the connection alive.

The first bytes go out at once, a ping after 10 s of silence, and an event that clients parse at each turn and
at least every 30 s.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import StreamingResponse

from loop_runner.serve import outcomes
from loop_runner.serve.progress import Trace
from loop_runner.serve.supervisor import Supervisor, Tracked

# A comment without a blank line: behind an event with a number, the SDKs take a blank line for an event
# without data, and end the stream because that is no JSON.
PING = b": ping\n"
open_streams: set[object] = set()  # for the metrics


class Translator(Protocol):
    """Turns the events of a run into the frames of one API. ``ping`` keeps a connection open, no more."""

    ping: bytes

    def start(self) -> Iterable[bytes]:
        """What is sent at once."""
        ...

    def event(self, event: Mapping[str, Any]) -> Iterable[bytes]:
        """What an event of the run becomes."""
        ...

    def still(self, status: str) -> Iterable[bytes]:
        """A sign of life that clients parse."""
        ...

    def end(self, run: Tracked) -> Iterable[bytes]:
        """What the end of the run becomes."""
        ...


def frame(data: object, *, event: str = "", number: int | None = None) -> bytes:
    """One server-sent event."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    # A lone surrogate in what a model wrote is no UTF-8, and must not end the stream.
    lines = [f"event: {event}"] if event else []
    lines += [f"id: {number}"] if number is not None else []
    return "\n".join([*lines, f"data: {text}", "", ""]).encode("utf-8", "backslashreplace")


def response(
    supervisor: Supervisor, run: Tracked, translator: Translator, *, is_replayed: bool = False
) -> StreamingResponse:
    """The stream of ``run``, from its first event to its end."""
    headers = outcomes.headers(run, is_replayed=is_replayed)
    headers |= {"cache-control": "no-store", "x-accel-buffering": "no"}
    body = _frames(supervisor, run, translator)
    return StreamingResponse(body, media_type="text/event-stream", headers=headers)


async def _frames(supervisor: Supervisor, run: Tracked, translator: Translator) -> AsyncIterator[bytes]:
    supervisor.attach(run)
    open_streams.add(token := object())
    try:
        async for result in _alive(supervisor, run, translator):
            yield result
    finally:
        open_streams.discard(token)
        supervisor.detach(run)


async def _alive(supervisor: Supervisor, run: Tracked, translator: Translator) -> AsyncIterator[bytes]:
    settings, trace = supervisor.settings, Trace(run.trace)
    yield b"".join(translator.start())
    byte_at = delta_at = time.monotonic()
    while True:
        is_ended = run.state == "ended"  # asked before the last read: nothing is written after it
        events = trace.read()
        if result := b"".join(part for event in events for part in translator.event(event)):
            yield result
            byte_at = delta_at = time.monotonic()
        if events:
            continue
        if is_ended:
            break
        await run.news(
            max(min(byte_at + settings.ping_s, delta_at + settings.delta_s) - time.monotonic(), 0.01)
        )
        now = time.monotonic()
        if now - delta_at >= settings.delta_s:
            yield b"".join(translator.still(run.status))
            byte_at = delta_at = now
        elif now - byte_at >= settings.ping_s:
            yield translator.ping
            byte_at = now
    yield b"".join(translator.end(run))


async def waited_for(request: Request, supervisor: Supervisor, run: Tracked) -> bool:
    """Wait until ``run`` has ended; False if the client left before."""
    supervisor.attach(run)
    leaving = asyncio.ensure_future(_left(request))
    try:
        while run.state != "ended":
            if leaving.done():
                return False
            news = asyncio.ensure_future(run.news(60))
            await asyncio.wait({news, leaving}, return_when=asyncio.FIRST_COMPLETED)
            news.cancel()
        return True
    finally:
        leaving.cancel()
        supervisor.detach(run)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
