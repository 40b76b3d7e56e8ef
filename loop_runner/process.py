"""Starts programs and waits for their end: the one place that does, but for kernel, git and local models.

Every program gets a timeout, its own process group and an end that is waited for, so that nothing is left
running behind a run. Output is kept to a cap, head and tail, and never decoded with an exception.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from loop_runner import linux
from loop_runner.errors import EnvironmentFault

PERMIT = "LOOP_RUNNER_PERMIT"  # in the environment of a run: names the file with its permit
_CHUNK = 65536
_POLL_MS = 50
_AFTERLIFE_S = 1.0  # how long output is still read when the program has ended and others hold its pipe


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended. ``exit_code`` is negative for a signal, None when it was not found."""

    exit_code: int | None
    output: str  # stdout and stderr together, in the order in which they came, cut to the cap
    timed_out: bool = False
    dropped_bytes: int = 0


class HeadAndTail:
    """Keeps the first and the last part of a stream of bytes, each up to half of ``cap``."""

    def __init__(self, cap: int) -> None:
        self._half = max(cap // 2, 1)
        self._head = bytearray()
        self._tail = bytearray()
        self.dropped = 0

    def write(self, data: bytes) -> None:
        """Take ``data``; what falls between head and tail is counted in ``dropped``."""
        room = self._half - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data
        if (extra := len(self._tail) - self._half) > 0:
            del self._tail[:extra]
            self.dropped += extra

    def text(self) -> str:
        """What was kept, decoded with replacement; a line in the middle says how much is missing."""
        gap = f"\n[… {self.dropped} bytes left out …]\n".encode() if self.dropped else b""
        return bytes(self._head + gap + self._tail).decode("utf-8", "replace")


class PipeReader:
    """Takes whole lines and counts of bytes from a program's output, in whatever pieces it comes.

    ``more`` waits for the next piece; what it raises (at the end, or when it is too late) passes through.
    No line that is longer than ``max_line_bytes`` is waited for: ``ValueError``. None: any length.
    """

    def __init__(self, more: Callable[[], bytes], max_line_bytes: int | None = None) -> None:
        self._more = more
        self._max_line_bytes = max_line_bytes
        self._buffer = bytearray()

    def line(self) -> bytes:
        """The next line, without its end."""
        while (end := self._buffer.find(b"\n")) < 0:
            if self._max_line_bytes is not None and len(self._buffer) > self._max_line_bytes:
                raise ValueError(f"a line is longer than {self._max_line_bytes:,} bytes")
            self._buffer += self._more()
        return self.take(end + 1)[:-1]

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        while len(self._buffer) < size:
            self._buffer += self._more()
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data


def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    timeout_s: float,
    stdin: bytes = b"",
    max_output_bytes: int = 64 * 1024,
    fds: Sequence[int] = (),
) -> Finished:
    """Run ``argv`` without a shell and wait for it and for all that it started in its group.

    A program that is missing or cannot be executed gives ``exit_code=None`` with the reason as output.
    """
    try:
        process = subprocess.Popen(
            list(argv),
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=tuple(fds),
        )
    except OSError as error:
        return Finished(None, f"{argv[0]}: {error.strerror}")
    return finish(process, timeout_s=timeout_s, stdin=stdin, max_output_bytes=max_output_bytes)


def finish(
    process: subprocess.Popen[bytes],
    *,
    timeout_s: float,
    stdin: bytes = b"",
    max_output_bytes: int = 64 * 1024,
) -> Finished:
    """Feed ``process`` and wait for it and its group: it leads one, and its three streams are two pipes."""
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        kill_group(process.pid)
        raise EnvironmentFault(
            "the exit codes of programs cannot be known, because this process ignores SIGCHLD",
            why="a failing program would look like a successful one",
            hint="call signal.signal(signal.SIGCHLD, signal.SIG_DFL) before the run",
        )
    kept = HeadAndTail(max_output_bytes)
    assert process.stdin is not None
    assert process.stdout is not None
    ended = threading.Event()
    reader = threading.Thread(target=_drain, args=(process.stdout, kept, ended), daemon=True)
    writer = threading.Thread(target=_feed, args=(process.stdin, stdin, ended), daemon=True)
    reader.start()
    writer.start()
    timed_out = False
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        timed_out = True
    finally:
        kill_group(process.pid)
        process.wait()
        ended.set()
    reader.join()
    writer.join()
    process.stdout.close()
    return Finished(process.returncode, kept.text(), timed_out, kept.dropped)


def kill_group(pid: int) -> None:
    """SIGKILL the process group that ``pid`` leads, if any of it is left."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


# Both watch ``ended``: a process that left the group keeps the pipes open, and must not block us forever.


def _drain(stream: IO[bytes], kept: HeadAndTail, ended: threading.Event) -> None:
    poll = select.poll()
    poll.register(stream.fileno(), select.POLLIN)
    last_call: float | None = None
    while last_call is None or time.monotonic() < last_call:
        if poll.poll(_POLL_MS):
            chunk = os.read(stream.fileno(), _CHUNK)
            if not chunk:
                return
            kept.write(chunk)
        elif last_call is not None:
            return
        if last_call is None and ended.is_set():
            last_call = time.monotonic() + _AFTERLIFE_S


def _feed(stream: IO[bytes], data: bytes, ended: threading.Event) -> None:
    poll = select.poll()
    poll.register(stream.fileno(), select.POLLOUT)
    os.set_blocking(stream.fileno(), False)
    left = memoryview(data)
    try:
        while left and not ended.is_set():
            if poll.poll(_POLL_MS):
                left = left[os.write(stream.fileno(), left[:_CHUNK]) :]
    except BrokenPipeError:
        return  # the program did not want its input
    finally:
        stream.close()


# ── permits ─────────────────────────────────────────────────────────────────────────────────────────
# Until when a run may send requests: whoever holds the lease on it writes the file again and again. It holds
# nanoseconds of the clock that runs while the machine sleeps. A run whose permit has ended sends nothing
# more, even if its process was frozen in between; it then stops as if it was asked twice.


def permit_moment(seconds: float) -> int:
    """The moment so many seconds from now, as ``grant`` takes it."""
    return linux.boot_clock_ns() + int(seconds * 1e9)


def permit_until(path: Path, moment: int) -> None:
    """Permit requests until ``moment``."""
    temporary = path.with_suffix(".new")
    temporary.write_text(str(moment))
    temporary.replace(path)


def permit_in(env: Mapping[str, str]) -> Callable[[], bool]:
    """Whether this process may send requests now; without a file, it always may."""
    path = env.get(PERMIT)
    if not path:
        return lambda: True

    def is_permitted() -> bool:
        try:
            return linux.boot_clock_ns() < int(Path(path).read_bytes())
        except (OSError, ValueError):
            return False

    return is_permitted
