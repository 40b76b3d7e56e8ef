"""What the runner uses of Linux outside the sandbox, and what it does instead on other systems (macOS).

The only module beside those of the sandbox that names such features (``tests/test_portable.py`` checks that).
Each function works everywhere, and its docstring says what is lost where the feature is missing. Imports
nothing of the package.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

NOT_A_DESCRIPTOR = -1
BETTER_SANDBOX = "allow user namespaces, or install bubblewrap"
# What lies here is the system's own, by the beginning of its path.
SYSTEM_FOLDERS = (
    *("/usr/", "/bin/", "/sbin/", "/lib", "/etc/", "/opt/", "/nix/", "/gnu/", "/proc/", "/dev/", "/sys/"),
    *("/System/", "/Library/"),
)
_PROC = Path("/proc")
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_CLONE_FS = 0x200
_CPU_FOLDER = Path("/sys/devices/system/cpu")
_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_UNLIMITED = 1 << 16
_CREDENTIALS = struct.Struct("3i")  # process, user, group
_PS_S = 10.0


def has_sandbox() -> bool:
    """Whether this system has what a sandbox is made of. Which parts of it work is found out by trying."""
    return sys.platform == "linux" and (_PROC / "self/stat").exists() and hasattr(os, "setresuid")


def boot_clock_ns() -> int:
    """Nanoseconds since the machine started, sleep included. Elsewhere time asleep is not counted."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


# ── processes ───────────────────────────────────────────────────────────────────────────────────────


def end_of(pid: int) -> int:
    """A descriptor that is readable once process ``pid`` has ended.

    ``NOT_A_DESCRIPTOR`` where there is none: then the caller looks from time to time.
    """
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return NOT_A_DESCRIPTOR


def die_with_parent() -> None:
    """Have this process killed when its parent dies. Elsewhere nothing: it has to see its input end."""
    parent = os.getppid()
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died in between
        os._exit(1)


def began(pid: int) -> str:
    """When a process began, to tell it from a later one with the same number; "" where that is unknown.

    In ticks since the machine started; elsewhere as ``ps`` prints it, to the second.
    """
    try:
        stat = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        return stat.rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return "" if sys.platform == "linux" else _began_by_ps(pid)


def _began_by_ps(pid: int) -> str:
    command = ["ps", "-o", "lstart=", "-p", str(pid)]
    try:
        done = subprocess.run(
            command,
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PS_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return " ".join(done.stdout.decode("ascii", "replace").split())


def kill_holders(fd: int, program: bytes) -> None:
    """Kill each process whose program begins with ``program`` and that has the file of ``fd`` open.

    Elsewhere nothing: the caller waits for them.
    """
    for pid in (path.name for path in _PROC.glob("[0-9]*")):
        with contextlib.suppress(OSError, AttributeError):
            handle = os.pidfd_open(int(pid))  # the process that is looked at is the one that is killed
            try:
                if int(pid) != os.getpid() and _runs(pid, program) and _holds(pid, fd):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            finally:
                os.close(handle)


def _runs(pid: str, program: bytes) -> bool:
    return (_PROC / pid / "comm").read_bytes().startswith(program)


def _holds(pid: str, fd: int) -> bool:
    file = os.fstat(fd)
    return any(os.path.samestat(path.stat(), file) for path in (_PROC / pid / "fd").iterdir())


def available_mb() -> int | None:
    """Megabytes of memory that programs may still use. Elsewhere None: it is not known."""
    try:
        lines = (_PROC / "meminfo").read_text(encoding="ascii").splitlines()
        return int(dict(line.split(":", 1) for line in lines)["MemAvailable"].split()[0]) // 1024
    except (OSError, ValueError, LookupError):
        return None


def usable_processors() -> int:
    """How many threads can really run at once: physical cores that we may use, within a container's quota.

    More threads than that make llama.cpp wait at barriers and slow it down many times over. Elsewhere the
    number of processors.
    """
    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:
        return os.cpu_count() or 1
    cores = {_siblings(cpu) for cpu in allowed}
    return max(1, min(len(cores), _quota()))


def _siblings(cpu: int) -> str:
    """The hardware threads that share a core with ``cpu``, as the system writes them; they count once."""
    try:
        return (_CPU_FOLDER / f"cpu{cpu}/topology/thread_siblings_list").read_text(encoding="ascii").strip()
    except OSError:
        return str(cpu)


def _quota() -> int:
    try:
        quota, period = _CGROUP_QUOTA.read_text(encoding="ascii").split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):  # no cgroup v2, or "max"
        return _UNLIMITED


def keep_others_out() -> None:
    """Keep other processes of this user from this one's descriptors and memory. Elsewhere nothing."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def keep_current_folder() -> None:
    """Give this thread, and those that it starts, a current folder that other threads cannot change.

    Where that is not possible, the thread shares the one of the process.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).unshare(_CLONE_FS)


# ── files ───────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def folder_at(parent: int, name: str) -> Iterator[int]:
    """A descriptor of the folder ``name`` in ``parent``, no link followed, also if it may not be read.

    Elsewhere ``OSError`` for a folder that may not be read, unless ``open_up`` was called before.
    """
    look = getattr(os, "O_PATH", os.O_RDONLY)
    fd = os.open(name, look | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        yield fd
    finally:
        os.close(fd)


def open_up(fd: int) -> None:
    """Give the owner all rights on the folder that ``folder_at`` opened."""
    if hasattr(os, "O_PATH"):
        (_PROC / f"self/fd/{fd}").chmod(0o700)
    else:
        os.fchmod(fd, 0o700)


# ── messages ────────────────────────────────────────────────────────────────────────────────────────


def message_pair(max_bytes: int) -> tuple[socket.socket, socket.socket]:
    """Two connected sockets that keep messages of up to ``max_bytes`` whole; the first one reads.

    The system stamps each message with the process that sent it. Elsewhere it does not, and every message
    seems to come from process 0.
    """
    try:
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except (AttributeError, OSError):
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        here.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, max_bytes)
    if hasattr(socket, "SO_PASSCRED"):
        here.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    there.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, max_bytes)
    here.setblocking(False)
    return here, there


def receive(here: socket.socket, max_bytes: int) -> tuple[int, bytes] | None:
    """The number of the sending process, as this process sees it, and the bytes; None without a message."""
    try:
        data, extra, flags, _ = here.recvmsg(max_bytes, socket.CMSG_SPACE(_CREDENTIALS.size))
    except OSError:
        return None
    if flags & socket.MSG_TRUNC:
        return None
    if not hasattr(socket, "SCM_CREDENTIALS"):
        return 0, data
    for level, kind, content in extra:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            return _CREDENTIALS.unpack(content[: _CREDENTIALS.size])[0], data
    return None
