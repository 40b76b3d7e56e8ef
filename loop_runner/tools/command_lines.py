"""Calls programs, each with its arguments in their places and without a shell.

Owns the limits of what a program prints, and its end: nothing that it started outlives the call.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import IO, Any

from loop_runner import failpoints
from loop_runner.tools import results
from loop_runner.tools.placeholders import as_text, filled
from loop_runner.tools.python_process import ToolDiedError, ToolRaisedError
from loop_runner.tools.spec import ToolSpec

_CHUNK = 1 << 16
_ERROR_BYTES = 4000
_LIMIT = results.MAX_RESULT_BYTES


class CommandCaller:
    """Starts the program of a ``command`` entry for each call, in the task's folder."""

    def __init__(self, folder: Path, env: Mapping[str, Mapping[str, str]]) -> None:
        """``env``: by the name of the tool: each sees what its own entry names."""
        self._folder = folder
        self._env = env

    async def call(self, spec: ToolSpec, arguments: Mapping[str, Any]) -> Any:
        """What the program prints; with ``json: true`` the data that this is."""
        words = [filled(word, arguments) for word in spec.target["run"]]
        given = arguments.get(str(spec.target.get("stdin", "")), "")
        env = self._env[spec.name]
        printed = await run(words, self._folder, env, as_text(given).encode(), spec.settings.timeout_s)
        if not spec.target.get("json"):
            return printed
        try:
            return json.loads(printed)
        except (ValueError, RecursionError) as error:
            raise ToolRaisedError(f"what it printed is no JSON ({error})") from error

    async def close(self) -> None:
        """Each program ends with its call."""


async def run(words: list[str], folder: Path, env: Mapping[str, str], stdin: bytes, timeout_s: float) -> str:
    """What a program prints on standard output. Raises what a ``toolbox.Caller`` raises."""
    if any("\0" in word for word in words):
        raise ToolRaisedError("an argument holds a NUL character, which no program can be given")
    program = shutil.which(folder / words[0] if "/" in words[0] else words[0], path=env.get("PATH"))
    if program is None:
        raise ToolRaisedError(f"there is no program {words[0]}")
    failpoints.passing("tool.start")
    async with _pipe() as (out_end, out_stream), _pipe() as (error_end, error_stream):
        try:
            process = await asyncio.create_subprocess_exec(
                program,
                *words[1:],
                cwd=folder,
                env=dict(env),
                stdin=asyncio.subprocess.PIPE,
                stdout=out_end,
                stderr=error_end,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise ToolRaisedError(f"{words[0]} could not be started: {error}") from error
        out_end.close()
        error_end.close()
        failpoints.passing("tool.started")
        assert process.stdin is not None
        try:
            async with asyncio.timeout(timeout_s):
                out, errors, _ = await asyncio.gather(
                    _read(out_stream, _LIMIT), _tail(error_stream), _feed(process.stdin, stdin)
                )
                code = await process.wait()
        finally:
            _kill(process.pid)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            if not process.stdin.transport.is_closing():
                process.stdin.transport.abort()
            await process.wait()
    text = out.decode("utf-8", "replace")
    if code < 0:
        raise ToolDiedError(f"{words[0]} was ended by signal {-code}")
    if code:
        reply_text = errors.decode("utf-8", "replace").strip() or text.strip()[-_ERROR_BYTES:]
        raise ToolRaisedError(
            f"{words[0]} ended with exit code {code}{f': {reply_text}' if reply_text else ''}"
        )
    return text


@contextlib.asynccontextmanager
async def _pipe() -> AsyncIterator[tuple[IO[bytes], asyncio.StreamReader]]:
    """The end that a program writes to, and a reader. A program that left its group cannot hold us up.

    With a pipe of the event loop's own, waiting for a process means waiting until nobody can write to it.
    """
    loop = asyncio.get_running_loop()
    reading, writing = os.pipe()
    stream = asyncio.StreamReader(limit=_CHUNK)
    with open(writing, "wb", buffering=0) as writer:  # noqa: PTH123, ASYNC230 - a descriptor, not a path
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream),
            open(reading, "rb", buffering=0),  # noqa: PTH123, SIM115, ASYNC230
        )
        try:
            yield writer, stream
        finally:
            transport.close()


async def _read(stream: asyncio.StreamReader, limit: int) -> bytes:
    data = bytearray()
    while chunk := await stream.read(_CHUNK):
        data += chunk
        if len(data) > limit:
            raise ToolRaisedError(f"it printed more than {limit:,} bytes, and was ended")
    return bytes(data)


async def _tail(stream: asyncio.StreamReader) -> bytes:
    data = b""
    while chunk := await stream.read(_CHUNK):
        data = (data + chunk)[-_ERROR_BYTES:]
    return data


async def _feed(stream: asyncio.StreamWriter, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it did not want its input
        stream.write(data)
        await stream.drain()
    stream.close()


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
