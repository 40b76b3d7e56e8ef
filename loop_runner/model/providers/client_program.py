"""Runs a user's agent client once, for one reply: no tools, no settings, no session, an empty folder.

Owns the process: its own group, the environment, its end. What the client prints is read line by line as
JSON. Each client's options and the meaning of its lines are in ``claude_cli`` and ``codex_cli``.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loop_runner import scratch
from loop_runner.errors import ConfigError
from loop_runner.model.client import TryAgain
from loop_runner.process import kill_group
from loop_runner.text import one_line

WIDTH = 4  # a client takes a second of a processor to start, and some hundred megabytes
_REPLY_S = 3600.0
_END_S = 3.0  # for a client to end after its reply
_MAX_LINE_BYTES = 64 * 2**20
_MAX_EVENTS = 100_000
_MAX_ERROR_BYTES = 64 * 1024
# A client inside a client, or inside a run: what the outer one says about itself does not hold for this one.
_OF_OUTER = ("CLAUDECODE", "CLAUDE_CODE_SESSION_ID", "CLAUDE_CODE_ENTRYPOINT", "CLAUDE_PROJECT_DIR")

Lines = list[dict[str, Any]]
IsLast = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True, slots=True)
class Ended:
    """What a client printed: objects on standard output, text on standard error."""

    events: Lines
    errors: str
    exit_code: int | None  # None: it had not ended after its last line

    def last_error(self) -> str:
        """The last line of standard error, to show."""
        lines = [line for line in self.errors.splitlines() if line.strip()]
        return one_line(lines[-1], 300) if lines else f"it ended with exit code {self.exit_code}"


def path_of(program: str, env: Mapping[str, str], install: str) -> str:
    """The path of the user's client. Raises ``ConfigError`` when it is not installed."""
    path = shutil.which(program, path=env.get("PATH", ""))
    if path is None:
        raise ConfigError(
            f"`{program}` is not on the PATH",
            why=f"this model is asked through the command line of {program}",
            hint=f"{install}, and log in; or name a model of another provider",
        )
    return path


def environment(env: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """The user's environment for one request of a client."""
    kept = {key: value for key, value in env.items() if not key.startswith("GIT_") and key not in _OF_OUTER}
    return {**kept, **more}


async def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    stdin: str,
    files: Mapping[str, str],
    label: str,
    is_last: IsLast,
    reply_s: float = _REPLY_S,
) -> Ended:
    """Run ``argv`` in an empty folder that holds ``files``, and read what it prints.

    ``is_last`` says which line ends the reply. Raises ``TryAgain`` when none comes in ``reply_s``.
    A cancelled request ends the client.
    """
    with scratch.make("client") as folder:
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
        process = await _started(argv, folder, env)
        try:
            async with asyncio.timeout(reply_s):
                return await _talk(process, stdin.encode(), is_last)
        except TimeoutError:
            message = f"{label}: the client gave no reply in {reply_s:.0f} s"
            raise TryAgain(message, reason="the client gave no reply", paid=True) from None
        except ValueError as error:
            message = f"{label}: the client's output cannot be read: {one_line(str(error), 200)}"
            raise TryAgain(message, reason="the client's output cannot be read", paid=True) from None
        finally:
            kill_group(process.pid)
            await _settled(process.wait())


async def _started(argv: Sequence[str], folder: Path, env: Mapping[str, str]) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *argv,
            cwd=folder,
            env={**env, "PWD": os.fspath(folder)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            limit=_MAX_LINE_BYTES,
        )
    except OSError as error:
        raise ConfigError(
            f"{argv[0]} cannot be started: {error.strerror}",
            why="this model is asked through that program",
            hint=f"try it: {argv[0]} --version",
        ) from error


async def _talk(process: asyncio.subprocess.Process, stdin: bytes, is_last: IsLast) -> Ended:
    feeding = asyncio.ensure_future(_feed(process, stdin))
    errors = asyncio.ensure_future(_errors(process))
    try:
        events = await _events(process, is_last)
        # What the client started may hold its pipes open: nothing more is needed of them.
        await _settled(process.wait(), errors)
        return Ended(events, _result(errors), process.returncode)
    finally:
        feeding.cancel()
        errors.cancel()


async def _settled(*works: Awaitable[object]) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(_END_S):
            await asyncio.gather(*works)


def _result(errors: asyncio.Future[str]) -> str:
    return errors.result() if errors.done() and not errors.cancelled() else ""


async def _feed(process: asyncio.subprocess.Process, data: bytes) -> None:
    assert process.stdin is not None
    with suppress(OSError):  # it ended before it read its prompt; its exit code says why
        process.stdin.write(data)
        await process.stdin.drain()
        process.stdin.close()


async def _events(process: asyncio.subprocess.Process, is_last: IsLast) -> Lines:
    """Its lines up to the one that ends the reply, or to the end."""
    assert process.stdout is not None
    result: Lines = []
    async for line in process.stdout:
        with suppress(ValueError, RecursionError):
            event = json.loads(line)
            if isinstance(event, dict) and len(result) < _MAX_EVENTS:
                result.append(event)
                if is_last(event):
                    break
    return result


async def _errors(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    kept = b""
    while chunk := await process.stderr.read(1 << 16):
        kept = (kept + chunk)[-_MAX_ERROR_BYTES:]
    return kept.decode("utf-8", "replace")
