"""Runs the commands as a person does: real processes, their output, their exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

# What may turn a run away from what the test says: keys, addresses, and the user's own cache of models.
_PERSONAL = ("ANTHROPIC_", "OPENAI_", "GIT_", "XDG_")
# Set by ``tests.conftest``: where marks of run folders are kept, also where HOME cannot be written.
_OF_THE_SUITE = {"XDG_STATE_HOME"}


def clean_environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment without what is the developer's own, and with ``env``."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if key in _OF_THE_SUITE or not key.startswith(_PERSONAL)
    }
    return {**kept, **(env or {})}


def argv(*args: object) -> list[str]:
    """The command line of ``loop-runner ARGS``, run by this Python."""
    return [sys.executable, "-m", "loop_runner", *map(str, args)]


def loop_runner(
    *args: object,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 60,
    prefix: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Run ``loop-runner ARGS`` in ``cwd`` to its end; ``prefix`` is a command that starts it."""
    return subprocess.run(
        [*prefix, *argv(*args)],
        cwd=cwd,
        env=clean_environment(env),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


class Started:
    """A command that runs while the test continues; its output is read as it comes, and kept."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.process = process
        self.pid = process.pid
        self.stdout: list[str] = []  # lines
        self.stderr: list[str] = []
        self._readers = [
            threading.Thread(target=lines.extend, args=(stream,))
            for stream, lines in ((process.stdout, self.stdout), (process.stderr, self.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def wait_for_line(self, text: str, timeout_s: float = 20) -> None:
        """Wait until it has said ``text``, on either stream."""
        wait_for(lambda: self._has_said(text) or self.process.poll() is not None, timeout_s)
        if self.process.poll() is not None:
            self.finish()
        assert self._has_said(text), f"it ended without saying {text!r}:\n{''.join(self.stderr)}"

    def signal(self, number: int) -> None:
        """Send a signal to it."""
        self.process.send_signal(number)

    def finish(self, timeout_s: float = 30) -> tuple[int, str, str]:
        """Wait for its end: exit code, standard output, standard error."""
        exit_code = self.process.wait(timeout_s)
        for reader in self._readers:
            reader.join()
        return exit_code, "".join(self.stdout), "".join(self.stderr)

    def _has_said(self, text: str) -> bool:
        return any(text in line for line in [*self.stdout, *self.stderr])


def ignoring(*numbers: int) -> list[str]:
    """The start of a command line: the rest of it runs with these signals ignored, as nohup does.

    By the system call itself: the C library refuses to ignore the two that it keeps for itself.
    """
    code = (
        "import ctypes, os, sys\n"
        "call = {'x86_64': 13, 'aarch64': 134}[os.uname().machine]\n"
        "ignored = (ctypes.c_ulong * 4)(1)\n"
        f"for number in {[int(number) for number in numbers]}:\n"
        "    assert ctypes.CDLL(None).syscall(call, number, ignored, None, ctypes.c_long(8)) == 0\n"
        "os.execvp(sys.argv[1], sys.argv[1:])\n"
    )
    return [sys.executable, "-c", code]


@contextmanager
def started(
    *args: object, cwd: Path, env: Mapping[str, str] | None = None, prefix: Sequence[str] = ()
) -> Iterator[Started]:
    """Start ``loop-runner ARGS``, by the command ``prefix``; what is left of it at the end is killed."""
    with subprocess.Popen(
        [*prefix, *argv(*args)],
        cwd=cwd,
        env=clean_environment(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        command = Started(process)
        try:
            yield command
        finally:
            process.kill()
            command.finish()


def wait_for(condition: Callable[[], bool], timeout_s: float = 15) -> None:
    """Look at ``condition`` until it holds."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
