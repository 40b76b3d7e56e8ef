"""Runs the commands as a person does: real processes, their output, their exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

# What may turn a run away from what the test says: keys, addresses, and the user's own cache of models.
_PERSONAL = ("ANTHROPIC_", "OPENAI_", "GIT_", "XDG_")


def clean_environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment without what is the developer's own, and with ``env``."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_PERSONAL)}
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
    """A command that runs while the test goes on."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.process = process
        self.pid = process.pid
        self.stdout = process.stdout
        self.stderr = process.stderr

    def wait_for_line(self, text: str) -> str:
        """Read standard error up to a line with ``text`` in it."""
        read = []
        for line in self.stderr:
            read.append(line)
            if text in line:
                return line
        raise AssertionError(f"it ended without saying {text!r}:\n{''.join(read)}")

    def signal(self, number: int) -> None:
        """Send a signal to it."""
        self.process.send_signal(number)

    def finish(self, timeout_s: float = 30) -> tuple[int, str, str]:
        """Wait for its end: exit code, and what it said that was not read yet."""
        stdout, stderr = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, stdout, stderr


@contextmanager
def started(*args: object, cwd: Path, env: Mapping[str, str] | None = None) -> Iterator[Started]:
    """Start ``loop-runner ARGS``; what is left of it at the end is killed."""
    with subprocess.Popen(
        argv(*args),
        cwd=cwd,
        env=clean_environment(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Started(process)
        finally:
            process.kill()


def wait_for(condition: Callable[[], bool], timeout_s: float = 15) -> None:
    """Look at ``condition`` until it holds."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
