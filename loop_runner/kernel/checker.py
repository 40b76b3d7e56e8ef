"""The warm process beside the kernel: confined like it, imports done, and it never ran a cell.

The host's side. Owns that process: started ahead of its first use, replaced when it ends. It serves twice: it
finds out whether blobs load, each time in a forked copy of itself (``trial``), and when the kernel is gone it
takes its place, which is quicker than starting another. Never raises for what a blob does.
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
_SLACK_S = 10.0  # for the way there and back, above what a trial may take
_BYTES_PER_S = 5e6  # a low estimate of how fast pickles load
_LEAST_S = 1.0
_PATIENCE = 5  # a trial that does not work but waits, or has a busy machine, has so much more time
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
        with contextlib.suppress(KernelDiedError):  # told when it is used
            self._process.send(self._start_header())

    def try_blobs(self, blobs: Sequence[bytes], seconds: float) -> dict[str, str]:
        """Names that do not load, each with its reason; the name "" stands for all. Empty: all is well.

        ``seconds``: of work that a trial may take on top of what its size explains.
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
            return {"": f"it could not be tried whether it loads: {error}"}

    def _ask(
        self,
        request: Mapping[str, Any],
        payload: bytes,
        seconds: float,
        read: Callable[[wire.Frame], _T],
    ) -> _T:
        """What the process answers; a second process is asked when the first one fails."""
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
        """The warm process, now the caller's to start as the kernel; None when none works."""
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
        process.raw_output()  # what loading prints is nobody's
        return process

    def close(self) -> None:
        """End the process; another is started when needed."""
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
