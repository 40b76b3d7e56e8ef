"""Drops the rights of its own process for good, before any of the model's code runs there.

Runs first in the kernel process: standard library and ``seccomp`` only. The host sends a small plan (a dict
that JSON can carry). Each step reports what it did, or why it could not. This module does not decide whether
that is enough: the plan names the required steps, and the process ends if one of them fails.

The order matters. Control groups, mounts and limits need rights that are lost with the user id; Landlock and
the filter of system calls would block the steps before them.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import struct

from loop_runner.sandbox.inside import own_root, seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

OPEN_TO_ROOT_ONLY = "is open to root only"
REFUSED_EXIT_CODE = 97  # a required step failed; the reason is on standard error

_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 4, 22, 24, 38
_SECCOMP_MODE_FILTER = 2
_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION_3 = 0x20080522
_CLONE_NEWNS = 0x20000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REMOUNT = 1, 2, 4, 32
_MS_BIND, _MS_REC, _MS_PRIVATE = 4096, 16384, 1 << 18
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same numbers on every processor

# Landlock's rights on files, by the ABI that brought them.
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_BLOCK = 1 << 6, 1 << 11
_ABI_1 = (1 << 13) - 1
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_TCP_BIND_AND_CONNECT, _SCOPE_ABSTRACT_AND_SIGNALS = 3, 3


class StepFailed(Exception):  # noqa: N818 - told to the host as a sentence
    """Why a step could not be done."""


class _Libc:
    """The few calls that Python does not offer."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def syscall(self, number: int, *args: Any) -> int:
        """A raw system call; ``OSError`` when it fails."""
        wide = [arg if isinstance(arg, ctypes.Array) or arg is None else ctypes.c_long(arg) for arg in args]
        return self._checked(self._libc.syscall(ctypes.c_long(number), *wide))

    def prctl(self, option: int, value: int, pointer: Any = 0) -> int:
        """``prctl``, with unused arguments set to 0 as it requires."""
        third = pointer if isinstance(pointer, ctypes.Array) else ctypes.c_ulong(pointer)
        zero = ctypes.c_ulong(0)
        return self._checked(self._libc.prctl(option, ctypes.c_ulong(value), third, zero, zero))

    def mount(self, source: str | None, target: str, kind: str | None, flags: int, options: str = "") -> None:
        """``mount(2)``."""
        texts = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
        self._checked(self._libc.mount(*texts, ctypes.c_ulong(flags), options.encode()))

    def unmount(self, target: str, flags: int) -> None:
        """``umount2(2)``."""
        self._checked(self._libc.umount2(os.fsencode(target), flags))

    def unshare(self, flags: int) -> None:
        """``unshare(2)``."""
        self._checked(self._libc.unshare(flags))

    @staticmethod
    def _checked(result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result


def enter(plan_fd: int) -> None:
    """Read the plan from ``plan_fd``, carry it out, and end the process if a required step fails."""
    with os.fdopen(plan_fd, "rb") as file:
        plan = json.loads(file.read())
    outcome = apply(plan)
    os.environ.pop("PWD", None)  # set by bubblewrap
    report_fd = plan.get("report_fd")
    if report_fd is not None:
        os.write(report_fd, json.dumps(outcome).encode() + b"\n")
        os.close(report_fd)
    reasons = {step: outcome.get(step, "it was not asked for") for step in plan.get("must", ())}
    failed = "; ".join(f"{step}: {reason}" for step, reason in reasons.items() if reason)
    if failed:
        os.write(2, f"the kernel was not started, because a part of its sandbox failed: {failed}\n".encode())
        os._exit(REFUSED_EXIT_CODE)


def apply(plan: Mapping[str, Any]) -> dict[str, str]:
    """Carry out the plan. For each step of it: "" when it was done, else why not."""
    libc = _Libc()
    landlock_abi = _landlock_abi(libc) if plan.get("landlock") or plan.get("syscalls") else 0
    outcome: dict[str, str] = {}
    steps: dict[str, Callable[[], None]] = {
        "cgroup": lambda: _join_cgroups(plan["cgroup"]),
        "ways": lambda: _open_ways(libc, **plan["ways"]),
        "root": lambda: own_root.enter(libc, plan["root"], _give_up_capabilities),
        "limits": lambda: _set_limits(plan["limits"]),
        "privileges": lambda: _no_new_privileges(libc),
        "ids": lambda: _drop_ids(libc, **plan["ids"]),
        "folder": lambda: os.chdir(plan["folder"]),
        "landlock": lambda: _landlock(
            libc, landlock_abi, plan["landlock"], network=plan.get("network", False)
        ),
        "syscalls": lambda: _filter_syscalls(
            libc, landlock_abi if outcome.get("landlock") == "" else 0, **plan["syscalls"]
        ),
    }
    for name, step in steps.items():
        if plan.get(name) is None:
            continue
        try:
            step()
        except (StepFailed, OSError, ValueError, AttributeError) as error:
            outcome[name] = str(error) or type(error).__name__
        else:
            outcome[name] = ""
    return outcome


def _join_cgroups(fds: Iterable[int]) -> None:
    """Move this process into the groups whose ``cgroup.procs`` the host opened."""
    for fd in fds:
        try:
            os.write(fd, b"0")
        finally:
            os.close(fd)


def _open_ways(libc: _Libc, closed: list[str], paths: list[str], links: Mapping[str, str]) -> None:
    """Make only ``paths`` and ``links`` visible to the later user, in folders that are open to root alone.

    Uses its own mounts: the folders themselves stay as they are, and closed, for everyone else.
    """
    here = os.getcwd()  # noqa: PTH109
    kept: dict[str, int] = {}
    try:
        libc.unshare(_CLONE_NEWNS)
        libc.mount(None, "/", None, _MS_REC | _MS_PRIVATE)
        kept = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in paths}  # before they are covered
        for folder in closed:
            libc.mount("tmpfs", folder, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=0755,size=1m")
        os.umask(0o022)
        for path, fd in kept.items():
            _make_place(path, is_folder=os.path.isdir(f"/proc/self/fd/{fd}"))  # noqa: PTH112
            libc.mount(f"/proc/self/fd/{fd}", path, None, _MS_BIND | _MS_REC)
        for link, target in links.items():
            os.makedirs(os.path.dirname(link), exist_ok=True)  # noqa: PTH103, PTH120
            os.symlink(target, link)  # noqa: PTH211
        for folder in closed:
            libc.mount(None, folder, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NODEV)
    except PermissionError:
        raise StepFailed(f"{closed[0]} {OPEN_TO_ROOT_ONLY}, and this root may not make mounts") from None
    finally:
        for fd in kept.values():
            os.close(fd)
    os.chdir(here)  # into the new mounts


def _make_place(path: str, *, is_folder: bool) -> None:
    """A target to mount on."""
    if os.path.lexists(path):
        return
    if is_folder:
        os.makedirs(path)  # noqa: PTH103
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))


def _set_limits(limits: Mapping[str, int]) -> None:
    """Set soft and hard limits, by their names without ``RLIMIT_``; a lower hard limit stays."""
    for name, wanted in limits.items():
        which = getattr(resource, "RLIMIT_" + name)
        hard = resource.getrlimit(which)[1]
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(which, (value, value))


def _no_new_privileges(libc: _Libc) -> None:
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _drop_ids(libc: _Libc, uid: int, gid: int) -> None:
    """Become ``uid`` and ``gid`` with no other groups and no capability of any kind."""
    _empty_bounding_set(libc)
    try:
        os.setgroups([])
    except PermissionError:
        if os.getgroups():
            raise
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    _no_capabilities(libc)
    # The change of user made /proc/self unreadable to ourselves.
    libc.prctl(_PR_SET_DUMPABLE, 1)
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid):
        raise StepFailed("the user id did not change")


def _empty_bounding_set(libc: _Libc) -> None:
    for capability in range(64):
        try:
            libc.prctl(_PR_CAPBSET_DROP, capability)
        except OSError:
            break  # past the last one; or not permitted, but without new privileges the set gives nothing


def _give_up_capabilities(libc: _Libc) -> None:
    """Drop every capability that an ordinary user has over their own namespace."""
    if os.uname().machine not in _CAPSET:
        raise StepFailed(f"capabilities cannot be given up on {os.uname().machine}")
    _empty_bounding_set(libc)
    _no_capabilities(libc)


def _no_capabilities(libc: _Libc) -> None:
    number = _CAPSET.get(os.uname().machine)
    if number is None:
        return  # the change of user has removed all but the inheritable ones, which give nothing alone
    header = ctypes.create_string_buffer(struct.pack("<Ii", _CAPABILITY_VERSION_3, 0))
    libc.syscall(number, header, ctypes.create_string_buffer(24))


def _landlock_abi(libc: _Libc) -> int:
    """Version of Landlock here; 0 when there is none."""
    try:
        return libc.syscall(_CREATE_RULESET, None, 0, 1)
    except OSError:
        return 0


def _landlock(libc: _Libc, abi: int, rules: Mapping[str, list[str]], *, network: bool) -> None:
    """Leave only the paths of ``rules`` (by right); no signals outside, no TCP."""
    if abi < 1:
        raise StepFailed("this kernel has no Landlock")
    rights = (
        _ABI_1
        | (_REFER if abi >= 2 else 0)
        | (_TRUNCATE if abi >= 3 else 0)
        | (_IOCTL_DEV if abi >= 5 else 0)
    )
    attributes = struct.pack("<Q", rights)
    if abi >= 4:
        attributes += struct.pack("<Q", 0 if network else _TCP_BIND_AND_CONNECT)
    if abi >= 6:
        attributes += struct.pack("<Q", _SCOPE_ABSTRACT_AND_SIGNALS)
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    ruleset = libc.syscall(_CREATE_RULESET, buffer, len(attributes), 0)
    allowed = {
        "read": _READ_FILE | _READ_DIR,
        "list": _READ_DIR,
        "run": _READ_FILE | _READ_DIR | _EXECUTE,
        "write": rights & ~(_EXECUTE | _MAKE_CHAR | _MAKE_BLOCK | _IOCTL_DEV),
        "devices": _READ_FILE | _READ_DIR | _WRITE_FILE,
    }
    try:
        for kind, paths in rules.items():
            for path in paths:
                _allow(libc, ruleset, path, allowed[kind] & rights)
        libc.syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(libc: _Libc, ruleset: int, path: str, rights: int) -> None:
    """Add a rule for ``path`` and everything below it. A missing path needs none."""
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    try:
        if not os.path.isdir(path):  # noqa: PTH112 - pathlib would cost the start of every kernel 5 ms
            rights &= _ON_FILES
        rule = ctypes.create_string_buffer(struct.pack("<Qi", rights, fd), 12)
        libc.syscall(_ADD_RULE, ruleset, 1, rule, 0)
    finally:
        os.close(fd)


def _filter_syscalls(libc: _Libc, landlock_abi: int, *, shared: bool, network: bool = False) -> None:
    """Install the filter for this process and all its children. ``landlock_abi``: the one in force."""
    machine = os.uname().machine
    try:
        program = seccomp.program(
            machine,
            shared=shared,
            network=network,
            signals_of=os.getpid() if shared and landlock_abi < 6 else None,
            guard_truncate=shared and landlock_abi < 3,
        )
    except seccomp.UnknownMachine:
        raise StepFailed(f"no filter of system calls is known for {machine}") from None
    code = ctypes.create_string_buffer(b"".join(program))
    descriptor = struct.pack("@HP", len(program), ctypes.addressof(code))
    libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.create_string_buffer(descriptor))
