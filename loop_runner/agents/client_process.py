"""Starts an agent client and watches it: its own process group, a capped output, an end that is waited for.

The client is the user's own program, started by the user's own task: it gets the user's environment, with
the run's address added and what would make it give up taken away. Never uses a shell.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from loop_runner import linux
from loop_runner.agents.sessions import RUN_VARIABLE, TOKEN_VARIABLE
from loop_runner.process import HeadAndTail, kill_group

_OUTPUT_BYTES = 4 * 2**20
_GRACE_S = 5.0
_PIPE_S = 2.0  # how long output is still read when the client has ended and others hold its pipe


def environment(env: Mapping[str, str], run_folder: Path, token: str) -> dict[str, str]:
    """The user's environment for a client of this run."""
    kept = {key: value for key, value in env.items() if not key.startswith("GIT_")}
    # A loop inside a loop: what an outer client says about itself is not true of this one.
    for name in ("CLAUDECODE", "CLAUDE_CODE_SESSION_ID", "CLAUDE_CODE_ENTRYPOINT", "CLAUDE_PROJECT_DIR"):
        kept.pop(name, None)
    return kept | {
        RUN_VARIABLE: str(run_folder),
        TOKEN_VARIABLE: token,
        # Claude Code ends a turn after 8 blocks without a tool in between, and calls it a success.
        "CLAUDE_CODE_STOP_HOOK_BLOCK_CAP": "0",
        "GIT_CEILING_DIRECTORIES": str(run_folder),  # the run's own repository is not the agent's
    }


def end_stray(note: Path) -> bool:
    """End the client that a runner left behind when it was killed; ``note`` is what that runner wrote.

    Two agents in one folder would undo each other's work. Only the very process is ended: one that has its
    number by now began at another time. True when there was one.
    """
    try:
        noted = json.loads(note.read_text(encoding="utf-8"))
        pid, began = int(noted["pid"]), str(noted["began"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    note.unlink(missing_ok=True)
    if not began or linux.began(pid) != began:
        return False
    kill_group(pid)
    return True


class ClientProcess:
    """A client at work. ``output`` and ``errors`` are complete once ``poll`` has given an exit code."""

    def __init__(
        self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], prompt: str, prompt_in_argv: bool
    ) -> None:
        self._process = subprocess.Popen(
            list(argv),
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL if prompt_in_argv else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._kept = (HeadAndTail(_OUTPUT_BYTES), HeadAndTail(64 * 1024))
        streams = (self._process.stdout, self._process.stderr)
        self._threads = [
            threading.Thread(target=_drain, args=(stream, kept), daemon=True)
            for stream, kept in zip(streams, self._kept, strict=True)
        ]
        if self._process.stdin is not None:
            data = prompt.encode("utf-8", "replace")
            self._threads.append(
                threading.Thread(target=_feed, args=(self._process.stdin, data), daemon=True)
            )
        for thread in self._threads:
            thread.start()

    def write_note(self, path: Path) -> None:
        """Write down which process this is, for ``end_stray``."""
        pid = self._process.pid
        path.write_text(json.dumps({"pid": pid, "began": linux.began(pid)}) + "\n", encoding="utf-8")

    def poll(self) -> int | None:
        """The exit code, once it has ended and nothing of its group is left."""
        if self._process.poll() is None:
            return None
        kill_group(self._process.pid)
        end = time.monotonic() + _PIPE_S
        for thread in self._threads:
            thread.join(max(end - time.monotonic(), 0))
        self._close()
        return self._process.returncode

    def stop(self) -> int:
        """Ask it to end, then make it end; returns the exit code."""
        if self._process.poll() is None:
            try:
                os.killpg(self._process.pid, signal.SIGTERM)
                self._process.wait(_GRACE_S)
            except (ProcessLookupError, PermissionError, subprocess.TimeoutExpired):
                kill_group(self._process.pid)
                self._process.wait()
        code = self.poll()
        return -signal.SIGKILL if code is None else code

    @property
    def output(self) -> str:
        """What it printed, cut in the middle when it is long."""
        return self._kept[0].text()

    @property
    def errors(self) -> str:
        """What it printed on standard error."""
        return self._kept[1].text()

    def _close(self) -> None:
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None and not any(thread.is_alive() for thread in self._threads):
                stream.close()


def _drain(stream: IO[bytes] | None, kept: HeadAndTail) -> None:
    assert stream is not None
    try:
        while chunk := os.read(stream.fileno(), 1 << 16):
            kept.write(chunk)
    except (OSError, ValueError):
        return


def _feed(stream: IO[bytes], data: bytes) -> None:
    try:
        stream.write(data)
        stream.close()
    except (OSError, ValueError):
        return  # it did not want its prompt
