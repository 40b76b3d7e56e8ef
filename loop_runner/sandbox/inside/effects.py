"""Tries, inside a throw-away sandbox, what the model's code must not be able to do. No model code runs here.

Each test returns "" when the sandbox held, else what happened. The host compares the results with what it
saw from outside. Standard library only; loaded like ``child``.
"""

# ruff: noqa: ARG001 - all tests have the same signature
from __future__ import annotations

import ctypes
import errno
import functools
import importlib
import json
import os
import signal
import socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_CLONE_NEWUSER, _PTRACE_TRACEME, _KEYCTL_GET_KEYRING_ID, _SESSION_KEYRING = 0x10000000, 0, 0, -3
_STEP = 4 * 1024**2


def main(settings_text: str) -> None:
    """Print every test's result, as one JSON object; ``settings_text`` is the host's, JSON too."""
    settings = json.loads(settings_text)
    tests = {"total_memory": total_memory} if settings.get("only_memory") else TESTS
    results = {}
    for name, test in tests.items():
        try:
            results[name] = test(settings) or ""
        except Exception as error:  # noqa: BLE001 - a test that breaks has shown nothing
            results[name] = f"the test itself failed: {type(error).__name__}: {error}"
    sys.stdout.write(json.dumps(results))
    sys.stdout.flush()


def _refused(action: Callable[[], object], problem: str) -> str:
    try:
        action()
    except OSError:
        return ""
    return problem


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.read(fd, 65536)
    finally:
        os.close(fd)


def _create(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644))


# ── required to work ────────────────────────────────────────────────────────────────────────────────


def python_works(settings: Mapping[str, Any]) -> str:
    """Modules that are not loaded yet can be; one with a shared library among them."""
    for name in ("decimal", "sqlite3", "zoneinfo"):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            continue  # this Python was built without it
        except ImportError as error:
            return f"import {name}: {error}"
    return ""


def workspace_works(settings: Mapping[str, Any]) -> str:
    """Files can be made, renamed and removed in the workspace, and in TMPDIR."""
    for folder in (settings["workspace"], os.environ["TMPDIR"]):
        path = os.path.join(folder, "tried")  # noqa: PTH118
        with open(path, "w") as file:  # noqa: PTH123
            file.write("x")
        os.rename(path, path + "2")  # noqa: PTH104
        os.unlink(path + "2")  # noqa: PTH108
    return ""


def inputs_work(settings: Mapping[str, Any]) -> str:
    """The input is readable."""
    return "" if _read(settings["input"]) == b"input" else "the input reads as something else"


def semaphores(settings: Mapping[str, Any]) -> str:
    """POSIX semaphores, which ``multiprocessing`` needs. No tier requires them, but the gates must know."""
    try:
        module: Any = importlib.import_module("_multiprocessing")
    except ImportError:
        return ""  # this Python was built without them
    try:
        module.SemLock(1, 1, 1, f"/loop-runner-{os.getpid()}", True)
    except OSError as error:
        return f"POSIX semaphores cannot be made here ({error.strerror})"
    return ""


# ── files ───────────────────────────────────────────────────────────────────────────────────────────


def read_outside(settings: Mapping[str, Any]) -> str:
    """A file that everyone may read."""
    return _refused(lambda: _read(settings["secret"]), "a file outside was read")


def write_outside(settings: Mapping[str, Any]) -> str:
    """A new file in a folder that everyone may write."""
    return _refused(lambda: _create(settings["outside"] + "/written"), "a file outside was written")


def write_input(settings: Mapping[str, Any]) -> str:
    """The input."""
    return _refused(lambda: os.close(os.open(settings["input"], os.O_WRONLY)), "an input could be written")


def write_code(settings: Mapping[str, Any]) -> str:
    """A module of Python's library, which the next kernel would run."""

    def write() -> None:
        os.close(os.open(os.__file__, os.O_WRONLY | os.O_APPEND))

    return _refused(write, "the library of Python could be written")


def truncate_outside(settings: Mapping[str, Any]) -> str:
    """A file that everyone may write."""
    return _refused(lambda: os.truncate(settings["emptied"], 0), "a file outside was emptied")


def change_mode(settings: Mapping[str, Any]) -> str:
    """The host checks whether it happened: inside, it may only seem so."""
    _refused(lambda: os.chmod(settings["secret"], 0o640), "")  # noqa: PTH101
    _refused(lambda: os.utime(settings["secret"], (1, 1)), "")
    return ""


def stat_outside(settings: Mapping[str, Any]) -> str:
    """File metadata, without reading the file."""
    return _refused(lambda: os.stat(settings["secret"]), "size and times of a file outside were seen")  # noqa: PTH116


# ── network and neighbours ──────────────────────────────────────────────────────────────────────────


def _connects(family: int, kind: int, address: Any, problem: str) -> str:
    def connect() -> None:
        with socket.socket(family, kind) as end:
            end.settimeout(1)
            if kind == socket.SOCK_DGRAM:
                end.sendto(b"x", address)
            else:
                end.connect(address)

    return _refused(connect, problem)


def tcp(settings: Mapping[str, Any]) -> str:
    """To a listener of the host."""
    return _connects(
        socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", settings["tcp"]), "a TCP connection was made"
    )


def udp(settings: Mapping[str, Any]) -> str:
    """To a socket of the host."""
    return _connects(
        socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", settings["udp"]), "a UDP packet was sent"
    )


def unix_path(settings: Mapping[str, Any]) -> str:
    """To a listener of the host that everyone may connect to."""
    return _connects(
        socket.AF_UNIX, socket.SOCK_STREAM, settings["unix"], "a socket file outside was reached"
    )


def unix_abstract(settings: Mapping[str, Any]) -> str:
    """To a listener of the host."""
    name = "\0" + settings["abstract"]
    return _connects(socket.AF_UNIX, socket.SOCK_STREAM, name, "an abstract socket outside was reached")


def other_pids(settings: Mapping[str, Any]) -> str:
    """The host's process is recognised by its pid and its start time together."""
    try:
        stat = _read(f"/proc/{settings['host_pid']}/stat").rpartition(b")")[2].split()
    except OSError:
        return ""
    return "the runner's process was seen" if stat[19].decode() == settings["host_start"] else ""


def other_environ(settings: Mapping[str, Any]) -> str:
    """Environments of process 1 and of our parent."""
    for pid in (1, os.getppid()):
        try:
            if pid != os.getpid() and _read(f"/proc/{pid}/environ"):
                return f"the environment of process {pid} was read"
        except OSError:
            continue
    return ""


def signals(settings: Mapping[str, Any]) -> str:
    """The host itself, with signal 0."""
    if os.stat("/proc/self/ns/pid").st_ino != settings["pid_namespace"]:  # noqa: PTH116
        return ""  # the host has no process id in here
    return _refused(lambda: os.kill(settings["host_pid"], 0), "the runner's process could be signalled")


def background(settings: Mapping[str, Any]) -> str:
    """Nothing outlives the kernel: it dies with the namespace, or cannot leave the process group."""
    if os.stat("/proc/self/ns/pid").st_ino != settings["pid_namespace"]:  # noqa: PTH116
        return ""
    pid = os.fork()
    if not pid:
        os._exit(1 if _refused(os.setsid, "x") else 0)
    return "" if os.waitpid(pid, 0)[1] == 0 else "a process left the kernel's group"


def descriptors(settings: Mapping[str, Any]) -> str:
    """Only standard input, output and error are open here."""
    extra = []
    for fd in range(3, 256):
        try:
            os.fstat(fd)
        except OSError:
            continue
        extra.append(fd)
    return f"open descriptors: {extra}" if extra else ""


def environment(settings: Mapping[str, Any]) -> str:
    """Only the variables that a kernel receives."""
    extra = set(os.environ) - {
        "HOME",
        "TMPDIR",
        "PWD",
        "LANG",
        "LC_CTYPE",
        "USER",
        "LOGNAME",
        *settings["environ"],
    }
    return f"unexpected variables: {sorted(extra)}" if extra else ""


# ── rights ──────────────────────────────────────────────────────────────────────────────────────────


def not_root(settings: Mapping[str, Any]) -> str:
    """Real, effective and saved ids, and all groups."""
    ids = {*os.getresuid(), *os.getresgid(), *os.getgroups()}
    return "a user or group id is 0" if 0 in ids else ""


def capabilities(settings: Mapping[str, Any]) -> str:
    """None may be held, or be inherited by a program."""
    status = _status()
    held = [name for name in ("CapInh", "CapPrm", "CapEff", "CapAmb") if int(status[name], 16)]
    return f"capabilities are left: {held}" if held else ""


def privileges(settings: Mapping[str, Any]) -> str:
    """Programs with the set-user-id bit give nothing."""
    return "" if _status()["NoNewPrivs"] == "1" else "programs with more rights can be started"


def _status() -> dict[str, str]:
    lines = _read("/proc/self/status").decode().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def machine_settings(settings: Mapping[str, Any]) -> str:
    """Opened for writing, but nothing is written. Write access there would allow running programs as root."""
    for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sysrq-trigger"):
        if problem := _refused(functools.partial(_open_for_writing, path), f"{path} could be written"):
            return problem
    return ""


def _open_for_writing(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY))


def syscalls(settings: Mapping[str, Any]) -> str:
    """System calls that an ordinary process may make elsewhere; in a child, as they change their caller."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(writer, (_try_syscalls(settings["syscalls"]) or "-").encode())
        os._exit(0)
    os.close(writer)
    reply = os.read(reader, 1000).decode()
    os.close(reader)
    os.waitpid(pid, 0)
    return "" if reply == "-" else reply or "the child that tried system calls was ended"


def _try_syscalls(numbers: Mapping[str, int]) -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    tried = {
        "unshare": (_CLONE_NEWUSER,),
        "keyctl": (_KEYCTL_GET_KEYRING_ID, _SESSION_KEYRING, 0),
        "userfaultfd": (1,),
        "io_uring_setup": (1, 0),
        "perf_event_open": (0, 0, -1, -1, 0),
        "bpf": (0, 0, 0),
        "clone3": (0, 0),
        "ptrace": (_PTRACE_TRACEME, 0, 0, 0),  # last: from then on a signal would stop this child
    }
    for name, arguments in tried.items():
        ctypes.set_errno(0)
        result = libc.syscall(ctypes.c_long(numbers[name]), *map(ctypes.c_long, arguments))
        if result >= 0 or ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS):
            return f"{name} was not refused"
    return ""


# ── amounts ─────────────────────────────────────────────────────────────────────────────────────────


def memory(settings: Mapping[str, Any]) -> str:
    """One allocation over the limit."""
    try:
        bytearray(settings["memory_bytes"])
    except MemoryError:
        return ""
    return "more memory than the limit was given"


def file_size(settings: Mapping[str, Any]) -> str:
    """One byte past the limit."""
    path = settings["workspace"] + "/long"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        return _refused(lambda: os.pwrite(fd, b"x", settings["file_bytes"]), "a file grew over the limit")
    finally:
        os.close(fd)
        os.unlink(path)  # noqa: PTH108


def open_files(settings: Mapping[str, Any]) -> str:
    """Copies of one descriptor."""
    opened: list[int] = []
    try:
        for _ in range(settings["open_files"]):
            opened.append(os.dup(0))  # noqa: PERF401 - what was opened must be known when one fails
    except OSError:
        return ""
    finally:
        for fd in opened:
            os.close(fd)
    return "more files than the limit were opened"


def temporary_size(settings: Mapping[str, Any]) -> str:
    """Fill TMPDIR a little over its limit with files that are each small enough."""
    written = []
    try:
        for number in range(settings["tmp_bytes"] // settings["file_bytes"] * 2 + 2):
            path = os.path.join(os.environ["TMPDIR"], f"fill{number}")  # noqa: PTH118
            written.append(path)
            with open(path, "wb") as file:  # noqa: PTH123
                file.write(bytes(settings["file_bytes"] // 2))
    except OSError:
        return ""
    finally:
        for path in written:
            _refused(functools.partial(os.unlink, path), "")
    return "more was written to the temporary folder than its limit"


def processes(settings: Mapping[str, Any]) -> str:
    """Fork well over the limit; every child waits until this test ends."""
    reader, writer = os.pipe()
    children: list[int] = []
    problem = "more processes than the limit were started"
    try:
        for _ in range(settings["processes"]):
            pid = os.fork()
            if not pid:
                os.close(writer)
                os.read(reader, 1)
                os._exit(0)
            children.append(pid)
    except OSError:
        problem = ""
    os.close(writer)
    os.close(reader)
    for pid in children:
        os.waitpid(pid, 0)
    return problem


def total_memory(settings: Mapping[str, Any]) -> str:
    """A child that fills more memory than the whole group may have is ended by the machine."""
    pid = os.fork()
    if not pid:
        kept = [bytearray(b"x") * _STEP for _ in range(settings["touch_bytes"] // _STEP)]
        os._exit(len(kept) & 1)
    status = os.waitpid(pid, 0)[1]
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    return "" if killed else "more memory than the limit of the group was used"


# Tests that use up resources come last.
TESTS = {
    test.__name__: test
    for test in (
        *(python_works, workspace_works, inputs_work, semaphores, descriptors, environment),
        *(read_outside, write_outside, write_input, write_code, truncate_outside, change_mode, stat_outside),
        *(tcp, udp, unix_path, unix_abstract, other_pids, other_environ, signals, background),
        *(not_root, capabilities, privileges, machine_settings, syscalls),
        *(memory, file_size, open_files, temporary_size, processes),
    )
}
