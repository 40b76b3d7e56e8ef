"""Gives the process its own root folder: what it may see is mounted there, and nothing else exists.

For machines without bubblewrap on which this user may still make mounts. Without it, Landlock denies access
to outside files, and a library that looks for ``/etc/mime.types`` finds a file that it may not open. With it,
the file is absent. The root also has an empty ``/tmp`` and an empty ``/dev/shm``, so POSIX semaphores work.

Runs inside the kernel process, before any of the model's code; standard library only. Landlock and the filter
of system calls are applied afterwards, exactly as without it.
"""

from __future__ import annotations

import ctypes
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

PRIVATE = ("/tmp", "/dev/shm")  # noqa: S108 - empty, limited in size, and gone with the process
_BASE = "/dev"  # exists everywhere; covered only in this process's mounts
_DEVICE_LINKS = {
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
}
_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWIPC = 0x20000, 0x10000000, 0x08000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REMOUNT = 1, 2, 4, 32
_MS_BIND, _MS_REC, _MS_PRIVATE = 4096, 16384, 1 << 18
_MNT_DETACH = 2
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE, _ATTR_RDONLY = 442, -100, 0x8000, 1


def enter(libc: Any, plan: Mapping[str, Any], drop_capabilities: Callable[[Any], None]) -> None:
    """Build the root and make it this process's own. ``OSError`` where this user may not make mounts.

    ``plan``: paths to ``read`` and to ``write``, ``devices``, symbolic ``links``, and the ``size`` of each
    private folder in bytes.
    """
    has_own_user_namespace = os.geteuid() != 0
    _separate(libc, in_user_namespace=has_own_user_namespace)
    paths = ["/proc", *plan["devices"], *plan["read"], *plan["write"]]
    sources = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in paths}  # before they are covered
    try:
        _fill(libc, plan, sources)
    finally:
        for fd in sources.values():
            os.close(fd)
    _pivot(libc)
    if has_own_user_namespace:
        drop_capabilities(libc)  # those over the new namespace


def _separate(libc: Any, *, in_user_namespace: bool) -> None:
    uid, gid = os.getuid(), os.getgid()
    libc.unshare(_CLONE_NEWNS | _CLONE_NEWIPC | (_CLONE_NEWUSER if in_user_namespace else 0))
    if in_user_namespace:
        for name, row in (
            ("setgroups", "deny"),
            ("uid_map", f"{uid} {uid} 1"),
            ("gid_map", f"{gid} {gid} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123
                file.write(row)
    libc.mount(None, "/", None, _MS_REC | _MS_PRIVATE)


def _fill(libc: Any, plan: Mapping[str, Any], sources: Mapping[str, int]) -> None:
    mask = os.umask(0)
    try:
        libc.mount("tmpfs", _BASE, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=0755,size=16m")
        for folder in PRIVATE:
            _make_folders(_BASE + folder)
            options = f"mode=1777,size={plan['size']}"
            libc.mount("tmpfs", _BASE + folder, "tmpfs", _MS_NOSUID | _MS_NODEV, options)
        for path in sorted(sources, key=lambda path: (path.count("/"), path)):
            _bind(libc, sources[path], _BASE + path)
        for path in plan["read"]:
            _make_read_only(libc, _BASE + path)
        for link, target in {**plan["links"], **_DEVICE_LINKS}.items():
            _make_folders(os.path.dirname(_BASE + link))  # noqa: PTH120
            os.symlink(target, _BASE + link)  # noqa: PTH211
    finally:
        os.umask(mask)
    libc.mount(None, _BASE, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NODEV)


def _bind(libc: Any, source: int, target: str) -> None:
    if os.path.isdir(f"/proc/self/fd/{source}"):  # noqa: PTH112 - pathlib would cost every start 5 ms
        _make_folders(target)
    else:
        _make_folders(os.path.dirname(target))  # noqa: PTH120
        if not os.path.lexists(target):
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    libc.mount(f"/proc/self/fd/{source}", target, None, _MS_BIND | _MS_REC)


def _make_folders(path: str) -> None:
    os.makedirs(path, 0o755, exist_ok=True)  # noqa: PTH103


def _make_read_only(libc: Any, path: str) -> None:
    """With all mounts below it."""
    attributes = ctypes.create_string_buffer(struct.pack("<QQQQ", _ATTR_RDONLY, 0, 0, 0), 32)
    name = ctypes.create_string_buffer(os.fsencode(path))
    libc.syscall(_MOUNT_SETATTR, _AT_FDCWD, name, _AT_RECURSIVE, attributes, 32)


def _pivot(libc: Any) -> None:
    number = _PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        raise OSError(f"the number of pivot_root is not known for {os.uname().machine}")
    os.chdir(_BASE)
    here = ctypes.create_string_buffer(b".")
    libc.syscall(number, here, here)
    libc.unmount(".", _MNT_DETACH)
    os.chdir("/")
