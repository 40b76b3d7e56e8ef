"""Streams to an MCP server for the SDK's client, with a cap on what the server may send.

The SDK's own stdio transport keeps a line of any length and joins it piece by piece: 100 MB in one line would
take minutes. These read no more than a result may hold, and end the server that sends more.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from loop_runner.process import HeadAndTail
from loop_runner.tools import results

_MAX_BYTES = results.MAX_RESULT_BYTES + 1024 * 1024
_MAX_WITHOUT_ANSWER = 8 * 1024 * 1024  # of notifications and noise since the last answer
_STOP_S = 2.0
_ERROR_BYTES = 4000
Ended = Callable[[str], None]


class EndedError(Exception):
    """The server ended or was ended; the text says why."""


@asynccontextmanager
async def capped_stdio(
    words: list[str], folder: Path, env: Mapping[str, str], ended: Ended
) -> AsyncIterator[tuple[Any, Any]]:
    """Start a server and talk to it by lines on its standard streams. ``ended`` is told why it ended."""
    import anyio

    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            cwd=folder,
            env=dict(env),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            limit=_MAX_BYTES,
        )
    except (OSError, ValueError) as error:
        raise EndedError(f"it could not be started: {error}") from error
    printed = HeadAndTail(_ERROR_BYTES)
    to_client, from_server = anyio.create_memory_object_stream[Any](0)
    to_server, from_client = anyio.create_memory_object_stream[Any](0)
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_read, process, to_client, printed, ended)
            group.start_soon(_write, process, from_client)
            group.start_soon(_drain, process, printed)
            try:
                yield from_server, to_server
            finally:
                with anyio.CancelScope(shield=True):
                    await _stop(process)
                group.cancel_scope.cancel()
    finally:
        _kill(process)
        for stream in (to_client, from_server, to_server, from_client):
            stream.close()


async def _read(
    process: asyncio.subprocess.Process, to_client: Any, printed: HeadAndTail, ended: Ended
) -> None:
    """Hand on whole lines; the end of them, or one that is too long, ends the connection."""
    from mcp.shared.message import SessionMessage
    from mcp_types import jsonrpc_message_adapter

    assert process.stdout is not None
    noise = 0
    async with to_client:
        while True:
            try:
                line = await process.stdout.readuntil(b"\n")
            except asyncio.IncompleteReadError:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await process.wait()
                ended(_how(process, printed))
                return
            except asyncio.LimitOverrunError:
                ended(f"it sent a message of more than {_MAX_BYTES:,} bytes, and was ended")
                _kill(process)
                return
            noise = 0 if b'"result"' in line[:200] or b'"error"' in line[:200] else noise + len(line)
            if noise > _MAX_WITHOUT_ANSWER:
                ended(f"it sent {noise:,} bytes without an answer, and was ended")
                _kill(process)
                return
            try:
                message = jsonrpc_message_adapter.validate_json(line, by_name=False)
            except ValueError:
                continue  # a line that is no message: servers print to the wrong stream
            await to_client.send(SessionMessage(message))


async def _write(process: asyncio.subprocess.Process, from_client: Any) -> None:
    assert process.stdin is not None
    async with from_client:
        async for message in from_client:
            line = message.message.model_dump_json(by_alias=True, exclude_unset=True)
            with contextlib.suppress(ConnectionError):  # the reader finds its end
                process.stdin.write(line.encode() + b"\n")
                await process.stdin.drain()


async def _drain(process: asyncio.subprocess.Process, printed: HeadAndTail) -> None:
    assert process.stderr is not None
    while chunk := await process.stderr.read(1 << 16):
        printed.write(chunk)


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Close its input, wait a moment, and kill its group."""
    assert process.stdin is not None
    process.stdin.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_STOP_S):
            await process.wait()
    _kill(process)
    await process.wait()
    transport = getattr(process, "_transport", None)
    if transport is not None:  # a child of the server may hold its pipes forever
        transport.close()


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _how(process: asyncio.subprocess.Process, printed: HeadAndTail) -> str:
    code = process.returncode
    how = "it closed its output" if code is None else f"signal {-code}" if code < 0 else f"exit code {code}"
    last = printed.text().strip().rsplit("\n", 1)[-1][:300]
    return f"the server ended ({how}){f'; it printed last: {last}' if last else ''}"


@asynccontextmanager
async def capped_http(url: str, headers: Mapping[str, str], ended: Ended) -> AsyncIterator[tuple[Any, Any]]:
    """Talk to a server over streamable HTTP; an answer that is too large ends with an error."""
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    class Capped(httpx2.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            response = await super().handle_async_request(request)
            response.stream = Counted(response.stream)
            return response

    class Counted(httpx2.AsyncByteStream):
        def __init__(self, stream: Any) -> None:
            self._stream = stream

        async def __aiter__(self) -> AsyncIterator[bytes]:
            size = 0
            async for chunk in self._stream:
                size += len(chunk)
                if size > _MAX_BYTES:
                    ended(f"it answered with more than {_MAX_BYTES:,} bytes, and was given up")
                    raise httpx2.ReadError("the answer is too large")
                yield chunk

        async def aclose(self) -> None:
            await self._stream.aclose()

    timeout = httpx2.Timeout(30.0, read=300.0)
    async with (
        httpx2.AsyncClient(headers=dict(headers), timeout=timeout, transport=Capped()) as client,
        streamable_http_client(url, http_client=client) as streams,
    ):
        yield streams
