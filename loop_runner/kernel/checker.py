"""The warm process beside the kernel: confined like it, imports done, and it never ran a cell.

The host's side. Owns that process, which starts ahead of its first use and is replaced when it ends. It has
two uses. It finds out whether blobs load, each time in a forked copy of itself (``trial``). When the kernel
is gone, it takes the kernel's place, which is faster than a new start. A blob's behaviour never makes it
raise.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from loop_runner.errors import KernelError
from loop_runner.kernel import report
from loop_runner.kernel.deaths import CHECKER, Deaths
from loop_runner.kernel.inside import wire
from loop_runner.kernel.kernel_process import KernelDiedError, KernelProcess
from loop_runner.sandbox.wrap import Launch

_START_TIMEOUT_S = 30.0
_SLACK_S = 10.0  # for the round trip, on top of what a trial may take
_BYTES_PER_S = 5e6  # a low estimate of how fast pickles load
_LEAST_S = 1.0
_PATIENCE = 5  # how much more time a trial gets if it waits, or the machine is busy
_T = TypeVar("_T")


class _UnansweredError(Exception):
    """Two processes in a row did not answer."""


class Checker:
    """Tries blobs. Not thread-safe."""

    def __init__(
        self,
        launch: Callable[[int, int, int], Launch],
        start_header: Callable[[], Mapping[str, Any]],
        deaths: Deaths,
    ) -> None:
        self._launch = launch
        self._deaths = deaths
        self._start_header = start_header
        self._process: KernelProcess | None = None
        self._is_ready = False

    def warm(self) -> None:
        """Start the process, without waiting for it."""
        if self._process is not None:
            return
        self._process = KernelProcess(self._launch)
        self._is_ready = False
        with contextlib.suppress(KernelDiedError):  # reported on first use
            self._process.send(self._start_header())

    def try_blobs(self, blobs: Sequence[bytes], seconds: float) -> dict[str, str]:
        """Names that do not load, each with its reason; the name "" stands for all. Empty: all load.

        ``seconds``: work that a trial may take beyond what its size explains.
        """
        seconds = max(seconds, _LEAST_S) + sum(map(len, blobs)) / _BYTES_PER_S
        request = {
            "type": "try",
            "blobs": [len(blob) for blob in blobs],
            "seconds": seconds * _PATIENCE,
            "cpu_seconds": seconds,
        }
        try:
            return self._ask(request, b"".join(blobs), seconds * _PATIENCE, report.read_tried)
        except _UnansweredError as error:
            return {"": f"whether it loads could not be tested: {error}"}

    def _ask(
        self,
        request: Mapping[str, Any],
        payload: bytes,
        seconds: float,
        read: Callable[[wire.Frame], _T],
    ) -> _T:
        """The process's answer; if the first process fails, a second one is asked."""
        for is_last in (False, True):
            try:
                process = self._ready()
                process.send(request, payload)
                return read(_receive(process, seconds + _SLACK_S))
            except (KernelDiedError, KernelError, wire.WireError) as error:
                self._deaths.add(CHECKER, "trying whether the variables load", error)
                self.close()
                if is_last:
                    raise _UnansweredError(str(error)) from None
        raise AssertionError

    def give(self) -> KernelProcess | None:
        """The warm process, which the caller may now start as the kernel; None when none works."""
        if self._process is None:
            return None
        try:
            process = self._ready()
        except (KernelDiedError, wire.WireError) as error:
            self._deaths.add(CHECKER, "waiting", error)
            self.close()
            return None
        self._process = None
        return process

    def _ready(self) -> KernelProcess:
        self.warm()
        process = self._process
        assert process is not None
        if not self._is_ready:
            report.read_ready(_receive(process, _START_TIMEOUT_S))
            self._is_ready = True
        process.raw_output()  # output of loading belongs to no cell
        return process

    def close(self) -> None:
        """End the process; another starts when needed."""
        if self._process is not None:
            self._process.close()
            self._process.lm_line.close()
            self._process = None


def _receive(process: KernelProcess, seconds: float) -> wire.Frame:
    deadline = time.monotonic() + seconds
    frame = process.receive(lambda: deadline - time.monotonic())
    if frame is None:
        raise process.violated(f"it did not answer within {seconds:g} seconds")
    return frame
