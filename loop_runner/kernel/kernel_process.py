"""One life of the kernel process: start it, send it frames, read its frames, end it.

Owns the process, its three lines (control, raw output, life) and the use of its private folder.
Single-threaded: while the host waits for a frame it also drains the output that programs and C code write to
descriptors 1 and 2.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from loop_runner import linux
from loop_runner.errors import KernelError
from loop_runner.kernel.inside import wire
from loop_runner.process import HeadAndTail, kill_group
from loop_runner.sandbox.wrap import Launch

_CHUNK = 1 << 18
_LONG_WAIT_S = 60.0
_WAIT_S = 0.1  # where the system does not report the end of a process
MAX_RAW_BYTES = 64 * 1024
MAX_HEADER_BYTES = 16 * 1024 * 1024  # JSON can take thirty times its length in memory
_LAST_DRAIN_BYTES = 1 << 20  # a program that writes endlessly must not keep the host reading


class KernelDiedError(Exception):
    """The process ended, or broke the protocol and was ended. The message is plain text for the model."""


class KernelProcess:
    """A running kernel. ``lm_line`` is the host's end of the line to the models."""

    def __init__(self, make_launch: Callable[[int, int, int], Launch]) -> None:
        self._control, control_child = socket.socketpair()
        self.lm_line, lm_child = socket.socketpair()
        life_child, self._life = os.pipe()
        self._raw, raw_child = os.pipe()
        self._end = linux.NOT_A_DESCRIPTOR  # readable once the process has ended
        child_fds = (control_child.fileno(), lm_child.fileno(), life_child)
        try:
            self._launch = make_launch(*child_fds)
            self._process = self._launch.start(stdin=subprocess.DEVNULL, stdout=raw_child, stderr=raw_child)
        except BaseException as error:
            self._close_lines()
            self.lm_line.close()
            if not isinstance(error, OSError):
                raise
            raise KernelError(
                f"the kernel's interpreter could not be started: {error}",
                why="the model's code runs in it",
                hint="check `kernel.python` and the workspace folder",
            ) from None
        finally:
            control_child.close()
            lm_child.close()
            os.close(life_child)
            os.close(raw_child)
        self._end = linux.end_of(self._process.pid)
        self._control.setblocking(False)
        os.set_blocking(self._raw, False)
        self._decoder = wire.Decoder(max_header=MAX_HEADER_BYTES, max_payload=0)
        self._kept = HeadAndTail(MAX_RAW_BYTES)
        self._raw_ended = False
        self._violation = ""
        self._closed = False
        self._kill_lock = threading.Lock()
        self._poll = select.poll()
        for fd in (self._control.fileno(), self._raw, self._end):
            if fd != linux.NOT_A_DESCRIPTOR:
                self._poll.register(fd, select.POLLIN)
        self._longest_wait_s = _WAIT_S if self._end == linux.NOT_A_DESCRIPTOR else _LONG_WAIT_S

    # ── talking ─────────────────────────────────────────────────────────────────────────────────────

    def send(self, header: Mapping[str, Any], payload: bytes = b"", timeout_s: float = 60.0) -> None:
        """Send one frame; ``KernelDiedError`` when it is not taken within ``timeout_s``."""
        if self._decoder.pending_bytes or self._has_unrequested():
            raise self.violated("it sent a message that was not requested")
        self._control.settimeout(timeout_s)
        try:
            self._control.sendall(wire.encode(header, payload))
        except TimeoutError:
            raise self.violated("it did not read the host's message") from None
        except OSError:
            raise self._died() from None
        finally:
            self._control.setblocking(False)

    def receive(self, time_left: Callable[[], float], max_payload: int = 0) -> wire.Frame | None:
        """The next frame; None when ``time_left()`` (seconds until the next check) is not positive.

        ``max_payload``: the largest payload that the reply may carry.
        """
        self._decoder.max_payload = max_payload
        while True:
            frame = self._take()
            if frame is not None:
                return frame
            left = time_left()
            if left <= 0:
                return None
            ready = self._poll.poll(min(left, self._longest_wait_s) * 1000 + 1)
            for fd, _ in ready:
                if fd == self._raw:
                    self._drain_once()
                else:
                    self._read_once()
            if not ready and self._process.poll() is not None:
                self._read_once()

    def interrupt(self) -> None:
        """Ask the cell to stop, as Ctrl-C would."""
        pid = self._launch.pid_of_program(self._process.pid)
        if pid is not None and self._process.poll() is None:
            os.kill(pid, signal.SIGINT)

    def violated(self, reason: str) -> KernelDiedError:
        """End the process for breaking the protocol; callable from any thread."""
        self._violation = self._violation or reason
        self._kill()
        return KernelDiedError(f"the kernel was ended: {self._violation}")

    def raw_output(self) -> tuple[str, int]:
        """The output on descriptors 1 and 2 since the last call; and how many bytes of it are missing."""
        room = _LAST_DRAIN_BYTES
        while room > 0 and (count := self._drain_once()):
            room -= count
        text, dropped = self._kept.text(), self._kept.dropped
        self._kept = HeadAndTail(MAX_RAW_BYTES)
        return text, dropped

    def close(self) -> None:
        """Kill the process and all of its group, and wait for it. May be called twice."""
        self._kill()
        self._closed = True
        self._process.wait()
        self._close_lines()
        self._launch.ended()

    def _kill(self) -> None:
        """Kill the group, even if its leader is gone; but never a later group with the same number."""
        with self._kill_lock:
            if not self._closed:
                kill_group(self._process.pid)

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────

    def _take(self) -> wire.Frame | None:
        try:
            return self._decoder.take()
        except wire.WireError as error:
            raise self.violated(str(error)) from None

    def _read_once(self) -> None:
        try:
            data = self._control.recv(_CHUNK)
        except BlockingIOError:
            if self._process.poll() is not None:
                raise self._died() from None
            return
        except OSError:
            raise self._died() from None
        if not data:
            raise self._died()
        self._decoder.feed(data)

    def _has_unrequested(self) -> bool:
        try:
            return bool(self._control.recv(1, socket.MSG_PEEK))
        except OSError:
            return False  # nothing to read, or the end of the line, which sending will find

    def _drain_once(self) -> int:
        if self._raw_ended:
            return 0
        try:
            data = os.read(self._raw, 1 << 16)
        except BlockingIOError:
            return 0
        self._kept.write(data)
        if not data:  # all writers have closed it: no more will come
            self._poll.unregister(self._raw)
            self._raw_ended = True
        return len(data)

    def _died(self) -> KernelDiedError:
        # The lines close a moment before the process is gone; one that closed its line itself is killed.
        deadline = time.monotonic() + 0.2
        while self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        if self._violation or self._process.poll() is None:
            return self.violated("its line to the host was closed")
        code = self._launch.exit_code(self._process.returncode)
        return KernelDiedError(f"the kernel died ({_how(code)})")

    def _close_lines(self) -> None:
        self._control.close()
        for fd in (self._life, self._raw, self._end):
            if fd != linux.NOT_A_DESCRIPTOR:
                os.close(fd)
        self._life = self._raw = self._end = linux.NOT_A_DESCRIPTOR


def _how(returncode: int) -> str:
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"signal {-returncode}: {signal.strsignal(-returncode)}"
    except ValueError:
        return f"signal {-returncode}"
