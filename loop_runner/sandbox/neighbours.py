"""Files, sockets and processes of this machine that a confined process must not reach, made for a probe."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from loop_runner import scratch
from loop_runner.sandbox.inside import seccomp
from loop_runner.sandbox.wrap import MIB, Limits

_MAX_SOCKET_FOLDER = 95  # bytes; 107 for the whole name


class Neighbours:
    """The surroundings of the throw-away child: files, sockets and the host itself, as bait."""

    def __init__(self, folder: Path) -> None:
        self._outside = folder / "outside"
        self.workspace = folder / "workspace"
        self.private = folder / "private"
        self.input = folder / "input"
        self._listeners: dict[str, socket.socket] = {}
        self._socket = self._outside / "socket"
        self._short: scratch.Scratch | None = None

    def __enter__(self) -> Self:
        # Open to everyone: the sandbox must keep the child out, not the modes of this folder.
        self._outside.parent.chmod(0o755)
        for folder in (self._outside, self.workspace, self.private):
            folder.mkdir()
            folder.chmod(0o777)
        self.input.write_bytes(b"input")
        self.input.chmod(0o644)
        for name in ("secret", "emptied"):
            (self._outside / name).write_text("secret")
            (self._outside / name).chmod(0o666)
        self._abstract = f"loop-runner-{secrets.token_hex(8)}"
        self._listen("tcp", socket.AF_INET, ("127.0.0.1", 0))
        self._listen("udp", socket.AF_INET, ("127.0.0.1", 0))
        self._short = _short_folder(self._outside)
        self._socket = (self._short.path if self._short else self._outside) / "socket"
        self._listen("unix_path", socket.AF_UNIX, str(self._socket))
        self._socket.chmod(0o777)
        self._listen("unix_abstract", socket.AF_UNIX, "\0" + self._abstract)
        return self

    def __exit__(self, *_: object) -> None:
        for listener in self._listeners.values():
            listener.close()
        if self._short is not None:
            self._short.remove()

    def _listen(self, name: str, family: int, address: object) -> None:
        kind = socket.SOCK_DGRAM if name == "udp" else socket.SOCK_STREAM
        listener = self._listeners[name] = socket.socket(family, kind)
        listener.bind(address)  # type: ignore[arg-type]
        listener.setblocking(False)
        if kind == socket.SOCK_STREAM:
            listener.listen()

    def settings(self) -> dict[str, Any]:
        """For ``effects.main``."""
        machine = os.uname().machine
        column = 1 if machine == "aarch64" else 0
        start = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
        return {
            "workspace": str(self.workspace),
            "input": str(self.input),
            "outside": str(self._outside),
            "secret": str(self._outside / "secret"),
            "emptied": str(self._outside / "emptied"),
            "tcp": self._listeners["tcp"].getsockname()[1],
            "udp": self._listeners["udp"].getsockname()[1],
            "unix": str(self._socket),
            "abstract": self._abstract,
            "host_pid": os.getpid(),
            "host_start": start,
            "pid_namespace": Path("/proc/self/ns/pid").stat().st_ino,
            "environ": ["PYTHONHASHSEED"],
            "syscalls": {name: numbers[column] for name, numbers in seccomp.NUMBERS.items()},
            "memory_bytes": TRY.memory_bytes + 256 * MIB,
            "file_bytes": TRY.file_bytes,
            "open_files": TRY.open_files + 8,
            "tmp_bytes": TRY.tmp_bytes,
            "processes": TRY.processes + 28,
            "touch_bytes": TOUCH_BYTES,
        }

    def seen(self, reported: Mapping[str, str]) -> dict[str, str]:
        """The host's own observations, which overrule the child's."""
        overruled = {}
        if (self._outside / "written").exists():
            overruled["write_outside"] = "a file outside was written"
        if (self._outside / "emptied").read_text() != "secret":
            overruled["truncate_outside"] = "a file outside was emptied"
        now = (self._outside / "secret").stat()
        if now.st_mode & 0o777 != 0o666 or now.st_mtime == 1:
            overruled["change_mode"] = "mode or times of a file outside were changed"
        for name, listener in self._listeners.items():
            if _was_reached(listener):
                overruled[name] = reported.get(name) or "the host was reached"
        return overruled


def _short_folder(folder: Path) -> scratch.Scratch | None:
    """A folder elsewhere, if a socket's name in ``folder`` would be longer than Linux allows."""
    if len(os.fsencode(folder)) < _MAX_SOCKET_FOLDER:
        return None
    for parent in ("/tmp", "/var/tmp", "/dev/shm"):  # noqa: S108 - the name is random, and the folder is ours
        if os.access(parent, os.W_OK | os.X_OK):
            short = scratch.make("probe", parent=Path(parent))
            short.path.chmod(0o755)
            return short
    return None


def _was_reached(listener: socket.socket) -> bool:
    try:
        if listener.type == socket.SOCK_DGRAM:
            listener.recv(1)
        else:
            listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


# Small, so that reaching a limit costs little.
TRY = Limits(
    memory_bytes=512 * MIB,
    total_memory_bytes=48 * MIB,
    processes=12,
    open_files=64,
    file_bytes=MIB,
    tmp_bytes=MIB,
)


TOUCH_BYTES = 96 * MIB
