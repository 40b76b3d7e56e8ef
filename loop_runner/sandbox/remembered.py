"""Caches the result of the sandbox probe, so that the next start need not try everything again.

On the host's side. An entry is valid for its circumstances (this boot, this user with these rights and
limits, these programs, this code) and for a day, or for minutes if something better was tried and failed,
which may pass. It cannot lower the protection: it only says which set of layers to apply, each step of a set
is required when a process starts, and a failed start leads to another probe (``sandbox.forget``). A file
that others could have written is never read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import stat
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from loop_runner import __version__
from loop_runner.scratch import cache_dir

_FOLDER = "sandbox"
_VALID_S = 24 * 3600.0  # an administrator may lift a refusal, and nothing here would show it
_VALID_WORSE_S = 600.0
_MAX_BYTES = 256 * 1024
_CODE = Path(__file__).parent
# The files of the machine that decide which layers work.
_MACHINE = (
    "/proc/sys/kernel/random/boot_id",
    "/sys/kernel/security/lsm",
    "/proc/sys/user/max_user_namespaces",
    "/proc/sys/kernel/unprivileged_userns_clone",
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
    "/proc/self/attr/current",
    "/proc/self/uid_map",
    "/proc/self/gid_map",
    "/proc/self/setgroups",
    "/proc/self/cgroup",
)
_RIGHTS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters")
_NAMESPACES = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")


def load(circumstances: str) -> dict[str, Any] | None:
    """The stored result for ``circumstances``; None when nothing valid is stored."""
    try:
        folder = os.open(_folder(), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (OSError, RuntimeError):
        return None
    try:
        entry = json.loads(_read_own(folder, circumstances))
        valid_s = min(float(entry["valid_s"]), _VALID_S)
        is_valid = entry["circumstances"] == circumstances and 0 <= time.time() - entry["time"] < valid_s
        stored = entry["found"] if is_valid else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    finally:
        os.close(folder)
    return stored if isinstance(stored, dict) else None


def store(circumstances: str, result: Mapping[str, Any], *, is_best: bool) -> None:
    """Store a result for ``circumstances``; does nothing without a folder that only the user can write.

    ``is_best``: no later probe could find anything better.
    """
    valid_s = _VALID_S if is_best else _VALID_WORSE_S
    entry = {"circumstances": circumstances, "time": time.time(), "valid_s": valid_s, "found": result}
    with contextlib.suppress(OSError, RuntimeError):
        folder = _folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_own(folder.lstat(), stat.S_IFDIR):
            return
        _remove_old(folder)
        fd, name = tempfile.mkstemp(prefix="new-", dir=folder)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            json.dump(entry, file)
        os.replace(name, folder / circumstances)  # noqa: PTH105 - ``mkstemp`` gives a text


def remove(circumstances: str) -> None:
    """Delete the stored result for ``circumstances``."""
    with contextlib.suppress(OSError, RuntimeError):
        (_folder() / circumstances).unlink()


def circumstances(programs: Iterable[str | None], choices: Iterable[str] = ()) -> str:
    """A hash of everything that decides which layers work.

    ``programs``: those that the probe starts. ``choices``: the sets of layers that it tries, in order.
    """
    release = os.uname()
    facts = {
        "machine": {path: _text(path) for path in _MACHINE},
        "kernel": [release.release, release.version, release.machine],
        "user": [*os.getresuid(), *os.getresgid(), sorted(os.getgroups())],
        "rights": [line for line in _text("/proc/self/status").splitlines() if line.startswith(_RIGHTS)],
        "namespaces": [_link(f"/proc/self/ns/{name}") for name in _NAMESPACES],
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in _limit_names()},
        "programs": [_identity(program) for program in programs],
        "choices": list(choices),
        "python": [sys.version, sys.executable, sys.prefix, sys.base_prefix, _identity(sys.executable)],
        "runner": [__version__, *(_identity(str(path)) for path in sorted(_CODE.rglob("*.py")))],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _limit_names() -> list[str]:
    return [name for name in dir(resource) if name.startswith("RLIMIT_")]


def _folder() -> Path:
    return cache_dir(os.environ) / _FOLDER


def _read_own(folder: int, name: str) -> bytes:
    """The file ``name`` in the open ``folder``; ``OSError`` if another user could have written it."""
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    with os.fdopen(fd, "rb") as file:
        if not (_is_own(os.fstat(folder), stat.S_IFDIR) and _is_own(os.fstat(fd), stat.S_IFREG)):
            raise PermissionError(name)
        return file.read(_MAX_BYTES)


def _is_own(status: os.stat_result, kind: int) -> bool:
    """Whether it is of ``kind``, belongs to this user, and no other user may write it."""
    return (
        stat.S_IFMT(status.st_mode) == kind and status.st_uid == os.geteuid() and not status.st_mode & 0o022
    )


def _remove_old(folder: Path) -> None:
    """Entries of earlier boots, logins and versions."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - path.lstat().st_mtime >= _VALID_S:
                path.unlink()


def _identity(program: str | None) -> list[Any]:
    """Which file a path leads to, and whether it has changed."""
    if program is None:
        return []
    try:
        status = os.stat(program)  # noqa: PTH116 - of forty files at every start
    except OSError:
        return [program]
    numbers = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return [program, status.st_mode, status.st_uid, *numbers]


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - as above
            return file.read()
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115 - as above
    except OSError:
        return ""
