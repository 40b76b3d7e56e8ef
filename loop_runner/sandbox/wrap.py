"""Wraps the command of a kernel in the layers of its sandbox: the only place that knows how to apply each.

Builds arguments, environment, descriptors and, if possible, the control group; starts nothing. The probe's
throw-away children are wrapped by the same function as the kernel itself.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import stat
import subprocess
import tempfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loop_runner.errors import EnvironmentFault
from loop_runner.sandbox import cgroup
from loop_runner.sandbox.bytecode import write_bytecode
from loop_runner.sandbox.inside.own_root import PRIVATE
from loop_runner.sandbox.mounts import View, above, gathered, is_below, python_paths

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

MIB = 1024**2
INSIDE = Path(__file__).parent / "inside"  # the code that confines the process from within
TMP = "/tmp"  # noqa: S108 - inside the sandbox, where it is private and empty

_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_OPEN_FOLDERS = {"/proc", "/dev", TMP}  # open in Landlock: inside bubblewrap they belong to the kernel alone
# A range of user ids that nothing hands out: systemd leaves it unused, containers map other ones.
_FIRST_UID, _UIDS = 0x7000_0000, 1 << 27
_NOBODY = 65534
_SIGNALLED = 128
_INSIDE_UID = "1000"
_USER = "kernel"  # for ``getpass`` and similar: no user table names the user who runs the model's code
# Before 5.14 the machine counted a user's processes in all namespaces together.
_COUNTS_BY_NAMESPACE = (5, 14)

# ``loop_runner`` is a stub inside: the host's package stays out of reach.
_PRELUDE = """\
import sys
outer = ("loop_runner", []), ("loop_runner.sandbox", [])
for name, path in *outer, ("loop_runner.sandbox.inside", [{inside!r}]):
    sys.modules[name] = type(sys)(name)
    sys.modules[name].__path__ = path
from loop_runner.sandbox.inside.confine import enter
enter({plan_fd})
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one kernel may use."""

    memory_bytes: int = 4096 * MIB  # address space of each process
    total_memory_bytes: int = 4096 * MIB  # resident memory of all together; only with a control group
    processes: int = 128  # threads count too
    open_files: int = 1024
    file_bytes: int = 1024 * MIB  # of one file
    tmp_bytes: int = 256 * MIB  # /tmp and /dev/shm, each; with bubblewrap only
    cpu_s: int | None = None  # processor time of one process over its whole life; None: no limit


@dataclass(frozen=True, slots=True)
class Layers:
    """Which layers to put on."""

    bubblewrap: str | None = None  # path of the program
    landlock: bool = False
    syscalls: bool = False
    cgroup: bool = False
    uid: bool = False  # started as root: become a user id that has no other process
    own_root: bool = False  # without bubblewrap: mount only the visible paths, so that all else is absent
    is_bare: bool = False  # only a few limits: the system has none of the other mechanisms
    network: bool = False  # leave the machine's network open (for a verifier whose task says so)

    @property
    def mounts_files(self) -> bool:
        """Whether the process sees only what is mounted for it, whoever owns the folders above."""
        return self.bubblewrap is not None or self.own_root


@dataclass(slots=True)
class Launch:
    """What to start. Call ``start()``, wait for the process, then ``ended()``."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    popen: dict[str, Any]  # cwd, pass_fds, start_new_session
    is_wrapped: bool = False  # the process that is started is then not the kernel itself
    uid: int | None = None  # of the model's code; None: the user who started the runner
    _fds: list[int] = field(default_factory=list)
    _group: cgroup.Cgroup | None = None

    def start(self, **popen: Any) -> subprocess.Popen[bytes]:
        """Start it, with ``popen`` (stdin, stdout, stderr) added to its own settings.

        From a thread that lives as long as the host: bubblewrap dies with the *thread* that started it.
        """
        settings = {**self.popen, **popen}
        try:
            return _starter().submit(_popen, self.argv, self.env, settings).result()
        finally:
            self.started()

    def pid_of_program(self, pid: int) -> int | None:
        """The number of the kernel or check that ``pid`` leads to; None while there is none."""
        return inner_pid(pid) if self.is_wrapped else pid

    def exit_code(self, code: int) -> int:
        """The program's own exit code, given the outer process's ``code``. Negative: a signal."""
        # As a shell does, bubblewrap adds a signal to 128.
        return _SIGNALLED - code if self.is_wrapped and code > _SIGNALLED else code

    def started(self) -> None:
        """Close the host's copies of descriptors that only the child needs."""
        while self._fds:
            os.close(self._fds.pop())

    def ended(self) -> None:
        """Release what outlives the process. Safe to call twice."""
        self.started()
        if self._group is not None:
            self._group.remove()


def _popen(argv: Sequence[str], env: Mapping[str, str], settings: dict[str, Any]) -> subprocess.Popen[bytes]:
    process: subprocess.Popen[bytes] = subprocess.Popen(argv, env=dict(env), **settings)
    return process


@functools.cache
def _starter() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(1, "kernel starter")


def inner_pid(pid: int) -> int | None:
    """The host's number of the process that bubblewrap (process ``pid``) runs; None while there is none.

    Outermost is bubblewrap itself, below it process 1 of the sandbox, and the kernel is its first child.
    """
    for _ in range(2):
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return None
        if not children:
            return None
        pid = int(children[0])
    return pid


def wrap(
    layers: Layers,
    argv: Sequence[str],
    env: Mapping[str, str],
    *,
    workspace: Path,
    private_dir: Path,
    read_only: Iterable[Path | str] = (),
    listed: Iterable[Path | str] = (),
    fds: Sequence[int] = (),
    limits: Limits | None = None,
    code: Sequence[Path | str] = (),
) -> Launch:
    """The command ``[python, …, "-c", CODE, …]`` with the sandbox around it.

    ``workspace`` is writable; so is ``private_dir`` (HOME and TMPDIR) unless bubblewrap provides its own
    ``/tmp``. ``read_only`` is readable in addition to Python itself. ``listed`` are folders whose names may
    be listed, here and below, and which contain nothing but what is shown. ``fds`` stay open in the child.
    ``code`` are folders of modules that the command imports.
    """
    limits = limits or Limits()
    uid = free_uid(workspace) if layers.uid else None
    launch = Launch((), {}, {}, is_wrapped=layers.bubblewrap is not None, uid=uid)
    try:
        return _fill(
            launch, layers, argv, env, str(workspace), str(private_dir), read_only, listed, fds, limits, code
        )
    except BaseException:
        launch.ended()
        raise


def _fill(
    launch: Launch,
    layers: Layers,
    argv: Sequence[str],
    env: Mapping[str, str],
    workspace: str,
    private_dir: str,
    read_only: Iterable[Path | str],
    listed: Iterable[Path | str],
    fds: Sequence[int],
    limits: Limits,
    code: Sequence[Path | str],
) -> Launch:
    own_tmp = layers.bubblewrap is not None
    env = {**env, "USER": _USER, "LOGNAME": _USER}
    writable = [workspace] if own_tmp else [workspace, private_dir]
    has_packages = "-S" not in argv[: argv.index("-c")]
    python = [*python_paths(argv[0], has_packages=has_packages), *map(str, (INSIDE, *code))]
    for folder in (INSIDE, *code):
        write_bytecode(Path(folder))
    inputs = [str(path) for path in read_only]
    if launch.uid is not None:
        for folder in writable:
            hand_over(Path(folder), launch.uid)
        _check_open_to_others(inputs)
    view = View.of([*python, *inputs], writable)
    together = gathered(inputs, _OPEN_FOLDERS)
    # A folder that holds Python too would hide the parts of it that are mounted on their own.
    hides_python = any(is_below(path, together) for path in python)
    mounted = view if hides_python or not layers.landlock else View.of([*python, *together], writable)
    joins = _join_group(launch, limits) if layers.cgroup else []
    root = _own_root(mounted, limits) if layers.own_root else None
    folders = [os.path.realpath(path) for path in listed]
    plan = _plan(layers, limits, view, launch.uid, joins, workspace, root, folders)
    plan_fd = _sealed(launch, json.dumps(plan).encode())
    inner = _with_prelude(argv, plan_fd)
    passed = [*fds, *joins, plan_fd]
    if layers.bubblewrap is None:
        launch.argv, launch.env = tuple(inner), {**env, "HOME": private_dir, "TMPDIR": private_dir}
    else:
        inside_env = {**env, "HOME": TMP, "TMPDIR": TMP}
        options = _bubblewrap_options(
            mounted, inside_env, limits, as_root=launch.uid is not None, network=layers.network
        )
        options_fd = _sealed(launch, b"".join(os.fsencode(option) + b"\0" for option in options))
        passed.append(options_fd)
        # bubblewrap stays as process 1 of the sandbox, where its own environment and arguments can be read.
        launch.argv = (layers.bubblewrap, "--args", str(options_fd), "--", *inner)
    cwd = "/" if own_tmp else workspace
    launch.popen = {"cwd": cwd, "pass_fds": tuple(passed), "start_new_session": True, "close_fds": True}
    return launch


def _join_group(launch: Launch, limits: Limits) -> list[int]:
    launch._group = cgroup.create(limits.total_memory_bytes, limits.processes)  # noqa: SLF001 - we build it
    if launch._group is None:  # noqa: SLF001
        raise EnvironmentFault(
            "no control group can be made for the kernel",
            why="without it the memory of all its processes together has no limit",
            hint="start again, and loop-runner will find out anew what the machine allows",
        )
    fds = launch._group.open()  # noqa: SLF001
    launch._fds += fds  # noqa: SLF001
    return fds


def _sealed(launch: Launch, data: bytes) -> int:
    """A descriptor of a memory file that holds ``data``, to be read from its start."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("plan", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    launch._fds.append(fd)  # noqa: SLF001
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _with_prelude(argv: Sequence[str], plan_fd: int) -> list[str]:
    inner = list(argv)
    at = inner.index("-c") + 1
    inner[at] = _PRELUDE.format(inside=str(INSIDE), plan_fd=plan_fd) + inner[at]
    return inner


def _plan(
    layers: Layers,
    limits: Limits,
    view: View,
    uid: int | None,
    joins: list[int],
    workspace: str,
    root: dict[str, Any] | None,
    listed: list[str],
) -> dict[str, Any]:
    """The plan for ``confine``; every step in it is required."""
    if layers.is_bare:
        return {"limits": _portable_rlimits(limits), "folder": workspace, "must": ["limits", "folder"]}
    alone = layers.bubblewrap is not None
    plan: dict[str, Any] = {
        "cgroup": joins or None,
        "ways": None if alone or layers.own_root or uid is None else _ways(view),
        "root": root,
        "limits": _rlimits(limits, _others(alone=alone or layers.own_root, uid=uid)),
        "privileges": True,
        "ids": None if uid is None else {"uid": uid, "gid": uid},
        "folder": workspace,  # only now: it may be open to its new owner alone
        "landlock": _landlock_rules(view, listed, layers) if layers.landlock else None,
        "syscalls": {"shared": not alone, "network": layers.network} if layers.syscalls else None,
    }
    must = [step for step, wanted in plan.items() if wanted is not None]
    return {**plan, "network": layers.network, "must": must}


def _rlimits(limits: Limits, others: int) -> dict[str, int]:
    values = {
        "CORE": 0,
        "AS": limits.memory_bytes,
        "NPROC": others + limits.processes,
        "NOFILE": limits.open_files,
        "FSIZE": limits.file_bytes,
    }
    return values if limits.cpu_s is None else {**values, "CPU": limits.cpu_s}


def _portable_rlimits(limits: Limits) -> dict[str, int]:
    """The limits that every system supports and keeps: macOS refuses some limits of memory."""
    values = {"CORE": 0, "NOFILE": limits.open_files, "FSIZE": limits.file_bytes}
    return values if limits.cpu_s is None else {**values, "CPU": limits.cpu_s}


def _own_root(view: View, limits: Limits) -> dict[str, Any]:
    """What ``own_root`` mounts."""
    return {
        "read": list(view.read),
        "write": list(view.write),
        "links": dict(view.links),
        "devices": list(_DEVICES),
        "size": limits.tmp_bytes,
    }


def _landlock_rules(view: View, listed: list[str], layers: Layers) -> dict[str, list[str]]:
    if layers.bubblewrap is None:
        return {
            "run": list(view.read),
            "write": [*view.write, *(PRIVATE if layers.own_root else ())],
            "devices": list(_DEVICES),
            "read": ["/proc/self"],
            "list": listed,
        }
    return {
        "run": list(view.read),
        "write": [*view.write, TMP, "/dev/shm"],  # noqa: S108 - both private
        "devices": ["/dev"],
        "read": ["/proc"],
        "list": listed,
    }


def _others(*, alone: bool, uid: int | None) -> int:
    """How many of the user's other processes and threads count against the limit."""
    if uid is not None and uid != _NOBODY:
        return 0
    if alone and uid is None and _kernel_version() >= _COUNTS_BY_NAMESPACE:
        return 0
    return _count_tasks(os.getuid() if uid is None else uid)


def _kernel_version() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(filter(str.isdigit, minor)) or 0)


def _count_tasks(uid: int) -> int:
    count = 0
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and entry.stat().st_uid == uid:
                count += len(list((entry / "task").iterdir()))
    return count


def _bubblewrap_options(
    view: View, env: Mapping[str, str], limits: Limits, *, as_root: bool, network: bool
) -> list[str]:
    size = str(limits.tmp_bytes)
    return [
        *("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
        *(() if network else ("--unshare-net",)),
        *("--hostname", "kernel", "--die-with-parent", "--new-session"),
        *(_root_options() if as_root else ("--unshare-user", "--uid", _INSIDE_UID, "--gid", _INSIDE_UID)),
        *("--proc", "/proc", "--size", "4096", "--tmpfs", "/proc/sys", "--remount-ro", "/proc/sys"),
        *("--dev", "/dev", "--perms", "1777", "--size", size, "--tmpfs", "/dev/shm"),  # noqa: S108
        *("--perms", "1777", "--size", size, "--tmpfs", TMP),
        *view.bubblewrap(),
        *("--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/"),
        *(part for name, value in env.items() for part in ("--setenv", name, value)),
    ]


def _root_options() -> tuple[str, ...]:
    """No user namespace: in one, root would still be root to the machine's own files.

    Only the rights needed to become another user are kept, and ``confine`` uses them up.
    """
    kept = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP")
    return ("--cap-drop", "ALL", *(part for name in kept for part in ("--cap-add", name)))


# ── another user for the model's code, when the runner is root ──────────────────────────────────────


def free_uid(workspace: Path) -> int:
    """A user id for this workspace: the same at every start, and used by no other process.

    ``EnvironmentFault`` where no other user id exists at all.
    """
    wanted = _FIRST_UID + zlib.crc32(os.fsencode(workspace.resolve())) % _UIDS
    for uid in (wanted, _NOBODY):
        if _is_mapped(uid, "/proc/self/uid_map") and _is_mapped(uid, "/proc/self/gid_map"):
            return uid
    raise EnvironmentFault(
        "the runner is root in a user namespace that knows no other user",
        why="the model's code never runs as user id 0",
        hint="start loop-runner as an ordinary user, or map more user ids into the container",
    )


def _is_mapped(uid: int, table: str) -> bool:
    rows = [list(map(int, line.split())) for line in Path(table).read_text().splitlines()]
    return any(first <= uid < first + count for first, _, count in rows)


def _check_open_to_others(paths: Iterable[str]) -> None:
    """``EnvironmentFault`` for an input that only root may read."""
    for path in paths:
        mode = Path(path).stat().st_mode
        rights = "rx" if stat.S_ISDIR(mode) else "r"
        if (0o005 if rights == "rx" else 0o004) & ~mode:
            raise EnvironmentFault(
                f"{path} is open to root only",
                why="the runner was started as root, but the model's code never runs as root, and reads it",
                hint=f"chmod o+{rights} {path}; or start loop-runner as an ordinary user",
            )


def _ways(view: View) -> dict[str, Any] | None:
    """Folders that only root may enter, with the access needed to them; None when there are none."""
    paths = [*view.read, *view.write]
    closed = {folder for path in (*paths, *view.links) for folder in _closed_above(path)}
    outer = sorted(folder for folder in closed if not is_below(folder, closed))
    if not outer:
        return None
    return {
        "closed": outer,
        "paths": sorted((path for path in paths if is_below(path, outer)), key=lambda path: path.count("/")),
        "links": {link: target for link, target in view.links.items() if is_below(link, outer)},
    }


def _closed_above(path: str) -> list[str]:
    return [folder for folder in above(path) if not Path(folder).stat().st_mode & 0o001]


def hand_over(folder: Path, uid: int) -> None:
    """Give ``folder`` and everything in it to ``uid``: the runner is root, but the model's code is not.

    No link is followed, and a file with a second name is left alone unless ``uid`` owns it already: the other
    name may be outside. Call it only while no model code is running.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for _, folders, files, here in os.fwalk(".", dir_fd=fd, follow_symlinks=False):
            for name in (*folders, *files):
                _give(name, here, uid)
        os.fchown(fd, uid, uid)
    finally:
        os.close(fd)


def _give(name: str, folder_fd: int, uid: int) -> None:
    status = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    if status.st_uid == uid:
        return
    if not stat.S_ISDIR(status.st_mode) and status.st_nlink > 1:
        return
    os.chown(name, uid, uid, dir_fd=folder_fd, follow_symlinks=False)
