"""The one process of a run's Python tools: started when it is first needed, and again when it has died.

Owns the line to ``function_server``, and the outcome of calls when the process ends or does not answer.
Lives on the switchboard's loop. The process has the rights of the user, the task's folder on its path, and
of the environment only what the task names. It leads a group, which is killed with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loop_runner import failpoints
from loop_runner.process import HeadAndTail, kill_group

_CHILD = Path(__file__).with_name("function_server.py")
_LENGTH = struct.Struct(">I")
_MAX_FRAME_BYTES = 64 * 1024 * 1024
_OUTPUT_BYTES = 16 * 1024


class ToolDiedError(Exception):
    """The process ended before it answered; the text says how."""


class ToolRaisedError(Exception):
    """The function raised; the text is its error."""


class PythonProcess:
    """Calls functions of the task's folder, many at once."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self._folder = folder
        self._env = env
        self._life: _Life | None = None
        self._retired: list[_Life] = []

    async def call(self, request: Mapping[str, Any], timeout_s: float) -> Any:
        """The answer to ``request``; ``TimeoutError``, ``ToolDiedError`` or ``ToolRaisedError`` if none."""
        life = self._life
        if life is None or life.has_ended:
            life = self._life = await _Life.begin(self._folder, self._env)
        try:
            async with asyncio.timeout(timeout_s):
                return await life.ask(request)
        except TimeoutError:
            self._retire(life)  # nothing can stop a thread of Python: its process ends with its other calls
            raise

    def _retire(self, life: _Life) -> None:
        if self._life is life:
            self._life = None
            self._retired.append(life)
        self._retired = [item for item in self._retired if not item.end_if_idle()]

    async def close(self) -> None:
        """End the process and all that it started."""
        for life in [*self._retired, *([self._life] if self._life else [])]:
            await life.close()
        self._life, self._retired = None, []


class _Life(asyncio.Protocol):
    """One process."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._buffer = bytearray()
        self._next = 0
        self._printed = HeadAndTail(_OUTPUT_BYTES)
        self._transport: asyncio.Transport | None = None
        self.has_ended = False
        self._is_retired = False

    @classmethod
    async def begin(cls, folder: Path, env: Mapping[str, str]) -> _Life:
        failpoints.passing("tool.start")
        own, others = socket.socketpair()
        loop = asyncio.get_running_loop()
        try:
            # -P: nothing of the folder that it starts in; the child adds the task's folder itself.
            words = ("-P", "-B", "-X", "utf8", str(_CHILD), str(others.fileno()), str(folder))
            process = subprocess.Popen(  # noqa: ASYNC220 - it takes a moment, and happens once
                [sys.executable, *words],
                cwd=folder,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(others.fileno(),),
                start_new_session=True,
            )
        except OSError as error:
            own.close()
            raise ToolRaisedError(f"the process of the tools could not be started: {error}") from error
        finally:
            others.close()
        life = cls(process)
        await loop.create_connection(lambda: life, sock=own)
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        loop.add_reader(process.stdout.fileno(), life._drain)
        failpoints.passing("tool.started")
        return life

    async def ask(self, request: Mapping[str, Any]) -> Any:
        assert self._transport is not None
        number, self._next = self._next, self._next + 1
        body = json.dumps({**request, "id": number}, ensure_ascii=False).encode("utf-8", "replace")
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._transport.write(_LENGTH.pack(len(body)) + body)
        try:
            return await future
        finally:
            self._waiting.pop(number, None)
            if self._is_retired:
                self.end_if_idle()

    def end_if_idle(self) -> bool:
        """Kill the process when no call waits for it; from now on, it is given no other."""
        self._is_retired = True
        if not self._waiting:
            self._kill()
        return not self._waiting

    def _kill(self) -> None:
        """Kill the group; never a later one of the same number."""
        if self._process.returncode is None:
            kill_group(self._process.pid)

    # ── asyncio's ───────────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The line is open."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """The process wrote something."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._buffer)
            if size > _MAX_FRAME_BYTES:
                self._kill()
                return
            if len(self._buffer) < _LENGTH.size + size:
                return
            body = bytes(self._buffer[_LENGTH.size : _LENGTH.size + size])
            del self._buffer[: _LENGTH.size + size]
            self._deliver(body)

    def _deliver(self, body: bytes) -> None:
        try:
            answer = json.loads(body)
            future = self._waiting.get(answer["id"])
        except (ValueError, LookupError, TypeError, RecursionError):
            self._kill()
            return
        if future is None or future.done():
            return
        if "error" in answer:
            future.set_exception(ToolRaisedError(str(answer["error"])))
        else:
            future.set_result(answer.get("value"))

    def connection_lost(self, error: Exception | None) -> None:
        """The process is gone, or will be in a moment."""
        self.has_ended = True
        self._kill()
        how = _how(self._process)
        self._drain()
        printed = self._printed.text().strip().rsplit("\n", 1)[-1][:300]
        for future in self._waiting.values():
            if not future.done():
                last = f"; it printed last: {printed}" if printed else ""
                future.set_exception(ToolDiedError(f"the process of the tools ended ({how}){last}"))
        self._close_output()

    def _drain(self) -> None:
        stdout = self._process.stdout
        if stdout is None or stdout.closed:
            return
        try:
            for _ in range(16):
                data = os.read(stdout.fileno(), 1 << 16)
                self._printed.write(data)
                if not data:
                    self._close_output()
                    return
        except BlockingIOError:
            return

    def _close_output(self) -> None:
        stdout = self._process.stdout
        if stdout is not None and not stdout.closed:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                asyncio.get_running_loop().remove_reader(stdout.fileno())
            stdout.close()

    async def close(self) -> None:
        """Kill the process and wait for its end."""
        self._kill()
        await asyncio.to_thread(self._process.wait)
        self._close_output()
        if self._transport is not None:
            self._transport.abort()
            await asyncio.sleep(0)


def _how(process: subprocess.Popen[bytes]) -> str:
    try:
        code = process.wait(1.0)
    except subprocess.TimeoutExpired:
        return "its line to the runner was closed"
    return f"signal {-code}" if code < 0 else f"exit code {code}"
