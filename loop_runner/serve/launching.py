"""Starts and stops the processes of runs: each is a ``loop-runner run`` or ``resume`` of its own session.

A process inherits a lock file of its request. The kernel releases the lock when the process ends, however it
ends, so a service that was killed and started again knows which runs have a process, and starts none twice.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, Any


class Process:
    """The process of one run, if there is one. ``request`` is the folder of its request."""

    def __init__(self, request: Path, folder: Path) -> None:
        self._request, self._folder = request, folder
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> bool:
        """Start the run, or continue it; False if it has a process already."""
        with (self._request / "process.lock").open("ab") as lock:
            if not _take(lock):
                return False
            stdout, stderr = (self._request / name for name in ("stdout.json", "stderr.txt"))
            with stdout.open("wb") as out, stderr.open("ab") as err:
                self._child = subprocess.Popen(
                    self._command(),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,
                    pass_fds=(lock.fileno(),),
                )
        return True

    def _command(self) -> list[str]:
        own = [sys.executable, "-m", "loop_runner"]
        if (self._folder / ".git").exists():
            return [*own, "resume", str(self._folder), "--json", "-q"]
        task = str(self._request / "task.yaml")
        return [*own, "run", task, "--run-dir", str(self._folder), "--json", "-q"]

    def is_alive(self) -> bool:
        """Whether the run has a process, started by this service or by an earlier one."""
        if self._child is not None and self._child.poll() is None:
            return True
        try:
            with (self._request / "process.lock").open("rb") as lock:
                return not _take(lock, fcntl.LOCK_SH)
        except FileNotFoundError:
            return False

    def interrupt(self) -> bool:
        """Ask the run to stop, as one Ctrl-C does; False while it cannot be asked yet."""
        with (
            suppress(OSError, ValueError, LookupError, TypeError),
            (self._folder / ".git" / "loop-runner" / "lock").open("rb") as lock,
        ):
            if self.is_alive() and not _take(lock, fcntl.LOCK_SH):
                # Not SIGINT: a service that a script started in the background passes it on as ignored.
                os.kill(int(json.loads(lock.read())["pid"]), signal.SIGTERM)
                return True
        return False

    def report(self) -> dict[str, Any]:
        """The JSON object that the last process ended with; empty if it ended without one."""
        with suppress(OSError, ValueError):
            result = json.loads((self._request / "stdout.json").read_bytes())
            return result if isinstance(result, dict) else {}
        return {}


def _take(lock: IO[bytes], kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
