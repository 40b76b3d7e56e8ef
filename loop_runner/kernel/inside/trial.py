"""Loads variables in a throw-away forked copy, to see whether they load. Runs inside the kernel process.

Only a process that never ran model code serves such trials, so each copy is as fresh as the process in which
the variables will be restored. Side effects of loading a blob affect only the copy.
"""

from __future__ import annotations

import json
import mmap
import os
import select
import signal
import struct
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Never

_AT = struct.Struct("=i")
_MAX_REPORT_BYTES = 16 * 1024 * 1024
_MAX_MODULES = 2000


def attempt(
    load: Callable[[Callable[[str], None]], list[tuple[str, str]]], seconds: float, cpu_seconds: float
) -> tuple[list[tuple[str, str]], list[str]]:
    """The names that failed when ``load`` ran in a copy, with reasons; and the modules that it imported.

    ``load`` gets a function to call with each name before loading it. This identifies a name that ends the
    copy or takes it over its limit of ``seconds`` or of work.
    """
    progress = mmap.mmap(-1, 64 * 1024)  # shared with the copy
    line, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(line)
        signal.setitimer(
            signal.ITIMER_PROF, cpu_seconds
        )  # work, unlike time, does not depend on the machine's other load
        _be_the_copy(load, progress, writer)
    os.close(writer)
    try:
        heard = _hear(line, time.monotonic() + seconds)
    finally:
        os.close(line)
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    name = progress[_AT.size : _AT.size + max(0, min(_AT.unpack_from(progress)[0], 1000))].decode(
        "utf-8", "replace"
    )
    progress.close()
    if heard is not None and heard.endswith(b"\n"):
        return _read(heard, name)
    why = "it took too long" if heard is None else _ended(status)
    return [(name, f"it failed in a fresh kernel: {why}")], []


def _ended(status: int) -> str:
    if os.WIFSIGNALED(status):
        if os.WTERMSIG(status) == signal.SIGPROF:
            return "it took too long"
        return f"it ended the process ({signal.Signals(os.WTERMSIG(status)).name})"
    return f"it ended the process (exit code {os.WEXITSTATUS(status)})"


def _read(heard: bytes, name: str) -> tuple[list[tuple[str, str]], list[str]]:
    """The copy's report, checked: model code may have written it."""
    try:
        report = json.loads(heard)
        failed = [(str(name_text), str(why)) for name_text, why in report["failed"]]
        return failed, [str(name_text) for name_text in report["modules"]][:_MAX_MODULES]
    except (ValueError, TypeError, KeyError):
        return [(name, "it failed in a fresh kernel: it made up a report")], []


def _hear(line: int, deadline: float) -> bytes | None:
    """The copy's whole output; None when it is not done in time."""
    heard = b""
    poll = select.poll()
    poll.register(line, select.POLLIN)
    while len(heard) < _MAX_REPORT_BYTES:
        if not poll.poll(max(deadline - time.monotonic(), 0) * 1000):
            return None
        data = os.read(line, 1 << 16)
        if not data:
            break
        heard += data
        if data.endswith(b"\n"):  # a process that the copy left behind may keep the line open
            break
    return heard


def _be_the_copy(
    load: Callable[[Callable[[str], None]], list[tuple[str, str]]], progress: mmap.mmap, writer: int
) -> Never:
    def at(name: str) -> None:
        text = name.encode()[:1000]
        progress[: _AT.size + len(text)] = _AT.pack(len(text)) + text

    try:
        before = set(sys.modules)
        failed = load(at)
        modules = sorted(name for name in sys.modules.keys() - before if type(name) is str)
        data = memoryview(json.dumps({"failed": failed, "modules": modules}).encode() + b"\n")
        while data:
            data = data[os.write(writer, data) :]
    finally:
        os._exit(1)


def import_installed(names: list[str], workspace: str) -> None:
    """Import what a trial needed, to speed up the next ones; never anything from the model's files."""
    path = [entry for entry in sys.path if not (entry or ".").startswith((workspace, "."))]
    kept, sys.path[:] = list(sys.path), path
    try:
        for name in names:
            try:
                __import__(name)
            except BaseException:  # noqa: BLE001, S112 - a library decides what its import raises
                continue
    finally:
        sys.path[:] = kept
