"""Finds out whether blobs load, in a process that is confined like the kernel and never ran a cell.

The host's side. Owns that process: started ahead of its first use, replaced when it ends. Each trial happens
in a copy of it (``trial``). Never raises for what a blob does.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loop_runner.errors import KernelError
from loop_runner.kernel import report, wire
from loop_runner.kernel.kernel_process import KernelDiedError, KernelProcess
from loop_runner.kernel.wrap import Launch
from loop_runner.records import PastCell

_START_TIMEOUT_S = 30.0
_SLACK_S = 10.0  # for the way there and back, above what a trial may take
_BYTES_PER_S = 5e6  # a low estimate of how fast pickles load


class Checker:
    """Tries blobs. Not thread-safe."""

    def __init__(
        self, launch: Callable[[int, int, int], Launch], start_header: Callable[[], Mapping[str, Any]]
    ) -> None:
        self._launch = launch
        self._start_header = start_header
        self._process: KernelProcess | None = None
        self._is_ready = False

    def warm(self) -> None:
        """Start the process, without waiting for it."""
        if self._process is not None:
            return
        self._process = KernelProcess(self._launch)
        self._process.lm_line.close()  # nothing that loads has a model to ask
        self._is_ready = False
        with contextlib.suppress(KernelDiedError):  # told when it is used
            self._process.send(self._start_header())

    def try_blobs(
        self,
        blobs: Sequence[bytes],
        seconds: float,
        *,
        cells: Sequence[PastCell] = (),
        again: Sequence[str] = (),
    ) -> dict[str, str]:
        """Names that do not load, each with its reason; the name "" stands for all. Empty: all is well.

        ``seconds``: what a trial may take on top of the time that its size explains. ``again``: names to make
        again from ``cells`` before.
        """
        seconds += sum(map(len, blobs)) / _BYTES_PER_S
        for is_last in (False, True):
            try:
                return self._try(blobs, seconds, cells_as_json(cells if again else ()), list(again))
            except (KernelDiedError, KernelError, wire.WireError) as error:
                self.close()
                if is_last:
                    return {"": f"it could not be tried whether it loads: {error}"}
        return {}

    def _try(
        self, blobs: Sequence[bytes], seconds: float, cells: list[dict[str, Any]], again: list[str]
    ) -> dict[str, str]:
        self.warm()
        process = self._process
        assert process is not None
        if not self._is_ready:
            report.read_ready(_receive(process, _START_TIMEOUT_S))
            self._is_ready = True
        process.raw_output()  # what loading prints is nobody's
        request = {
            "type": "try",
            "blobs": [len(blob) for blob in blobs],
            "seconds": seconds,
            "cells": cells,
            "again": again,
        }
        process.send(request, b"".join(blobs))
        return report.read_tried(_receive(process, seconds + _SLACK_S))

    def close(self) -> None:
        """End the process; another is started when needed."""
        if self._process is not None:
            self._process.close()
            self._process = None


def cells_as_json(cells: Sequence[PastCell]) -> list[dict[str, Any]]:
    """Past cells as they go to the kernel."""
    return [{"code": cell.code, "end": cell.end, "replies": list(cell.replies)} for cell in cells]


def _receive(process: KernelProcess, seconds: float) -> wire.Frame:
    deadline = time.monotonic() + seconds
    frame = process.receive(lambda: deadline - time.monotonic())
    if frame is None:
        raise process.violated(f"it did not answer within {seconds:g} seconds")
    return frame
