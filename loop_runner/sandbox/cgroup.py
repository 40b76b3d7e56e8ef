"""Limits memory and processes of the whole kernel together, where the machine allows it.

Makes a group below or beside the runner's own: version 2 where it is delegated to the user, version 1 as
root. The kernel process joins by itself, through descriptors that the host opened, before it drops its
privileges, so no process of the host is ever in the group.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")
_PAUSES_S = (*(0.0005 * 2**count for count in range(6)), *(0.02,) * 10)  # before each further try


@dataclass(slots=True)
class Cgroup:
    """Folders of one group (one per hierarchy); ``limits``: which of "memory", "pids" they carry."""

    folders: list[Path] = field(default_factory=list)
    limits: set[str] = field(default_factory=set)

    def open(self) -> list[int]:
        """One descriptor per hierarchy; a process that writes ``0`` to it joins the group."""
        return [os.open(folder / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC) for folder in self.folders]

    def remove(self) -> None:
        """Remove the group; its processes must have ended, which may take the machine a moment."""
        for folder in self.folders:
            for pause_s in _PAUSES_S:
                try:
                    folder.rmdir()
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(pause_s)
                else:
                    break
        self.folders.clear()


def create(memory_bytes: int, max_processes: int) -> Cgroup | None:
    """A new group with these limits; None where no group that limits memory can be made."""
    name = f"loop-runner-{os.getpid()}-{secrets.token_hex(4)}"
    own = _own_groups()
    group = _create_v2(own[""], name, memory_bytes, max_processes) if "" in own else None
    if group is None and "memory" in own:
        group = _create_v1(own, name, memory_bytes, max_processes)
    return group


def _own_groups() -> dict[str, str]:
    """Path of the runner's own group by controller; "" is version 2."""
    try:
        lines = _OWN.read_text().splitlines()
    except OSError:
        return {}
    fields = [line.split(":", 2) for line in lines]
    return {controller: path for _, names, path in fields for controller in names.split(",")}


def _create_v2(own: str, name: str, memory_bytes: int, max_processes: int) -> Cgroup | None:
    here = _ROOT / own.lstrip("/")
    # A group that holds processes cannot delegate controllers, so a place beside ours is tried first.
    for parent in (here.parent, here) if own != "/" else (here,):
        if "memory" not in _read(parent / "cgroup.subtree_control").split():
            continue
        group = _make([parent / name])
        if group is None:
            continue
        if _set(group.folders[0] / "memory.max", memory_bytes):
            group.limits.add("memory")
            _set(group.folders[0] / "memory.swap.max", 0)
            if _set(group.folders[0] / "pids.max", max_processes):
                group.limits.add("pids")
            return group
        group.remove()
    return None


def _create_v1(own: dict[str, str], name: str, memory_bytes: int, max_processes: int) -> Cgroup | None:
    group = _make([_ROOT / "memory" / own["memory"].lstrip("/") / name])
    if group is None:
        return None
    if not _set(group.folders[0] / "memory.limit_in_bytes", memory_bytes):
        group.remove()
        return None
    _set(group.folders[0] / "memory.memsw.limit_in_bytes", memory_bytes)
    group.limits.add("memory")
    pids = _make([_ROOT / "pids" / own["pids"].lstrip("/") / name]) if "pids" in own else None
    if pids is not None:
        group.folders += pids.folders
        if _set(pids.folders[0] / "pids.max", max_processes):
            group.limits.add("pids")
    return group


def _make(folders: list[Path]) -> Cgroup | None:
    try:
        for folder in folders:
            folder.mkdir()
            _sweep(folder.parent)
    except OSError:
        return None
    return Cgroup(folders)


def _sweep(parent: Path) -> None:
    """Remove the groups of killed runners; one that still holds a process stays."""
    for folder in parent.glob("loop-runner-*-*"):
        if not Path("/proc", folder.name.split("-")[2]).exists():
            with contextlib.suppress(OSError):
                folder.rmdir()


def _set(file: Path, value: int) -> bool:
    with contextlib.suppress(OSError):
        file.write_text(str(value))
        return True
    return False


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
