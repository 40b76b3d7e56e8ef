"""The sandbox of verifiers: the kernel's confinement, with the machine's programs made visible.

Owns which parts of the machine a verifier's program may read: system folders and what the search path
leads to, never a home. The rules are the kernel's, except that the task may open the network and that the
limits are higher. Each program is started by a small Python program, which drops privileges first and then
becomes the program.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from loop_runner import process, scratch
from loop_runner.errors import EnvironmentFault
from loop_runner.records import SandboxTier
from loop_runner.sandbox.mounts import LOOKED_FOR, above
from loop_runner.sandbox.probe import forget, probe, require_tier
from loop_runner.sandbox.wrap import MIB, Launch, Limits, wrap
from loop_runner.verify import Job

# Address space has no limit: node, Java and Go reserve far more of it than they use.
_LIMITS = Limits(
    memory_bytes=1 << 46,
    total_memory_bytes=8192 * MIB,
    processes=1024,
    open_files=8192,
    file_bytes=8192 * MIB,
    tmp_bytes=2048 * MIB,
)
_SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt", "/nix/store", "/gnu/store"),
    *LOOKED_FOR,
    *("/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/hosts", "/etc/timezone", "/etc/pki"),
    *("/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ca-certificates", "/etc/gitconfig", "/etc/gitattributes"),
    *("/etc/perl", "/etc/maven", "/etc/R", "/etc/php", "/etc/texmf", "/etc/ghostscript", "/etc/groff"),
    *("/etc/bash.bashrc", "/etc/profile", "/etc/manpath.config", "/etc/skel", "/etc/vim"),
)
_FOR_THE_NETWORK = ("/etc/resolv.conf", "/etc/gai.conf", "/run/systemd/resolve")
_PARTS = (
    "bin",
    "lib",
    "lib64",
    "libexec",
    "include",
    "pyvenv.cfg",
)  # of an installation; no ``share``, no settings
# Privileges are dropped before this runs. Signals that Python, or a shell with a background job, ignores are
# reset, so the program starts as in a terminal: a verdict must not depend on them.
# The host learns over ``line`` that privileges were dropped; the program does not inherit it.
_START = """\
import ctypes, json, os, signal, sys
job = json.loads(sys.argv[1])
os.set_inheritable(job["line"], False)
for number in signal.valid_signals():
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
sigaction = {"x86_64": 13, "aarch64": 134}.get(os.uname().machine) if sys.platform == "linux" else None
if sigaction is not None:
    for number in 32, 33:  # the C library keeps these for itself, and resets them for nobody
        ctypes.CDLL(None).syscall(sigaction, number, bytes(32), None, ctypes.c_long(8))
signal.pthread_sigmask(signal.SIG_SETMASK, ())
try:
    os.chdir(job["cwd"])
    os.write(job["line"], b"confined")
    os.execve(job["argv"][0], job["argv"], {**os.environ, **job["env"]})
except OSError as error:
    os.write(2, f"{job['argv'][0]} could not be started: {error.strerror}\\n".encode())
    os._exit(126)
"""


class GateSandbox:
    """A ``Fence``. Like the kernel, it refuses a machine that offers less than ``tier`` (None: A or B)."""

    def __init__(self, tier: SandboxTier | None = None) -> None:
        self._tier = tier

    def run(self, job: Job) -> process.Finished:
        """See ``Fence``. Raises ``EnvironmentFault`` when the required tier is not available."""
        try:
            return self._run(job)
        except EnvironmentFault:  # the program did not start
            if not forget():
                raise
            return self._run(job)

    def _run(self, job: Job) -> process.Finished:
        report = probe()
        require_tier(report, self._tier)
        private = job.scratch / "private"
        shown = _shown(job)
        if report.layers.uid and not report.layers.mounts_files:
            _open_own_folders([*shown, str(job.scratch)])
            shown = [path for path in shown if path in map(str, job.shown) or _can_be_entered(path)]
        line, end = os.pipe()
        try:
            settings = {"argv": job.argv, "cwd": str(job.cwd), "env": _own_settings(job.env), "line": end}
            launcher = [sys.executable, "-S", "-P", "-s", "-X", "utf8", "-c", _START, json.dumps(settings)]
            wrapped = wrap(
                replace(report.layers, network=job.network),
                launcher,
                {"LANG": "C.UTF-8"},
                workspace=job.scratch,
                private_dir=private,
                read_only=shown,
                fds=[end, *job.fds],
                listed=(job.listed,),
                limits=_LIMITS,
            )
            try:
                ended = _finish(wrapped, job)
            finally:
                wrapped.ended()
            os.set_blocking(line, False)
            if not _has_begun(line) and not ended.timed_out:
                raise _not_confined(ended)
        finally:
            os.close(line)
            os.close(end)
        return _as_it_ended(ended) if wrapped.is_wrapped else ended

    def describe(self, *, network: bool) -> Mapping[str, Any]:
        """See ``Fence``."""
        try:
            report = probe()
        except EnvironmentFault as fault:  # verifiers that start no program work without a sandbox
            return {"tier": "C", "network": network, "not_enforced": [fault.message]}
        lacks = {"semaphores": why} if (why := report.observations.get("semaphores")) else {}
        open_ones = [gap for gap in report.not_enforced if not (network and "network" in gap)]
        if network:
            open_ones.append("the network is open, as the task says")
        open_ones.append(
            "programs and settings of the system can be read; memory of each process has no limit"
        )
        return {
            "tier": report.tier,
            "network": network,
            "not_enforced": open_ones,
            **({"lacks": lacks} if lacks else {}),
        }


def _finish(wrapped: Launch, job: Job) -> process.Finished:
    started = wrapped.start(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return process.finish(
        started, timeout_s=job.timeout_s, stdin=job.stdin, max_output_bytes=job.max_output_bytes
    )


def _has_begun(line: int) -> bool:
    """Whether the sandbox was complete before the program began. Only our own starter can write here."""
    try:
        return bool(os.read(line, 16))
    except BlockingIOError:
        return False


def _not_confined(ended: process.Finished) -> EnvironmentFault:
    lines = ended.output.strip().splitlines() or [f"exit code {ended.exit_code}"]
    return EnvironmentFault(
        f"the sandbox of the check could not be built: {lines[-1][:300]}",
        why="the check did not run, so nothing is known about the answer",
        hint="`loop-runner doctor` shows what the sandbox needs",
    )


def _open_own_folders(paths: Iterable[str]) -> None:
    """Let the check's user enter our temporary folders; their random names stay hidden.

    Needed for root without the right to mount, as in a container with Docker's defaults.
    """
    for folder in {folder for path in paths for folder in above(path)}:
        place = Path(folder)
        if place.name.startswith(scratch.PREFIX):
            mode = place.stat().st_mode & 0o777
            place.chmod(mode | 0o011)


def _can_be_entered(path: str) -> bool:
    """Whether any user may pass through every folder above ``path``."""
    return all(Path(folder).stat().st_mode & 0o001 for folder in above(path))


def _own_settings(env: Mapping[str, str]) -> dict[str, str]:
    """All variables except those that the sandbox sets: its home and its temporary folder."""
    return {name: value for name, value in env.items() if name not in ("HOME", "TMPDIR")}


def _as_it_ended(ended: process.Finished) -> process.Finished:
    """A killed program's exit code: the wrapper reports it as 128 plus the signal."""
    code = ended.exit_code
    if code is not None and code > 128 and code - 128 in {number.value for number in signal.Signals}:
        return replace(ended, exit_code=128 - code)
    return ended


def _shown(job: Job) -> list[str]:
    system = [*_SYSTEM, *(_FOR_THE_NETWORK if job.network else ())]
    folders = job.env.get("PATH", "").split(os.pathsep)
    beside = Path(job.argv[0]).parent
    system += [str(path) for path in Path("/etc").glob("java*")]
    folders_shown = [*system, *_installations([*folders, *([str(beside)] if beside.name == "bin" else [])])]
    # The scratch folder is writable, and nothing in it may be mounted read-only on top.
    mine = [str(path) for path in job.shown if os.path.lexists(path) and job.scratch not in path.parents]
    return [*dict.fromkeys([path for path in folders_shown if _is_open(path)] + mine)]


def _installations(folders: Iterable[str]) -> Iterator[str]:
    """What programs in these folders need: the folder, nearby libraries, a virtual environment's base."""
    home = Path.home()
    for folder in folders:
        path = Path(folder)
        if not path.is_absolute() or not os.path.isdir(path) or path in (home, *home.parents):  # noqa: PTH112
            continue
        yield folder
        if path.name in ("bin", "sbin") and path.parent not in (home, *home.parents):
            yield from (str(path.parent / part) for part in _PARTS)
            yield from _base(path.parent / "pyvenv.cfg")


def _base(settings: Path) -> Iterator[str]:
    """The Python that a virtual environment was made from."""
    try:
        lines = settings.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        name, _, value = line.partition("=")
        if name.strip() == "home" and Path(value.strip()).name == "bin":
            prefix = Path(value.strip()).parent
            yield from (str(prefix / part) for part in _PARTS)


def _is_open(path: str) -> bool:
    """Whether it exists and any user may open it: the program may run as another user."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except OSError:
        return False
    wanted = 0o005 if stat.S_ISDIR(mode) else 0o004
    return os.geteuid() != 0 or mode & wanted == wanted
