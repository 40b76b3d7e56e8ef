"""Runs a piece of code the way the model's code runs: in a sandbox of given layers. Real processes only."""

import ctypes
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from loop_runner.sandbox.wrap import Layers, Limits, wrap

SOURCE = Path(__file__).parents[2]
ORDINARY_UID = 54321
BUBBLEWRAP = shutil.which("bwrap")
IS_ROOT = os.geteuid() == 0

TIERS = {
    "A": Layers(BUBBLEWRAP, landlock=True, syscalls=True, uid=IS_ROOT),
    "A without Landlock": Layers(BUBBLEWRAP, syscalls=True, uid=IS_ROOT),
    "B": Layers(landlock=True, syscalls=True, uid=IS_ROOT),
    "B with its own root": Layers(landlock=True, syscalls=True, uid=IS_ROOT, own_root=True),
}
SMALL = Limits(memory_bytes=512 << 20, processes=16, open_files=64, file_bytes=1 << 20, tmp_bytes=1 << 20)


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


def start(
    layers, folder, code, *arguments, limits=SMALL, read_only=(), fds=(), python=sys.executable, env=None
):
    """The launch and the running process; ``folder`` gets a workspace and a private folder."""
    workspace, private = folder / "workspace", folder / "private"
    workspace.mkdir(exist_ok=True)
    private.mkdir(exist_ok=True)
    argv = [python, "-S", "-P", "-s", "-X", "utf8", "-c", code, *arguments]
    launch = wrap(
        layers,
        argv,
        {"LANG": "C.UTF-8"} if env is None else env,
        workspace=workspace,
        private_dir=private,
        read_only=read_only,
        fds=fds,
        limits=limits,
    )
    process = launch.start(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return launch, process


def run(layers, folder, code, *arguments, **options):
    """Run ``code`` in the sandbox to its end."""
    launch, process = start(layers, folder, code, *arguments, **options)
    try:
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
        launch.ended()
    return Ran(process.returncode, out.decode(), err.decode())


def ordinary_python():
    """An interpreter that any user may run; None where there is none."""
    for candidate in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        trial = [candidate, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
        try:
            if subprocess.run(trial, env={}, cwd="/", check=False, **_as_ordinary()).returncode == 0:
                return candidate
        except OSError:
            continue
    return None


def _as_ordinary():
    return {"user": ORDINARY_UID, "group": ORDINARY_UID, "extra_groups": []} if IS_ROOT else {}


def host_as_ordinary_user(python, code, *arguments, before=None):
    """Run ``code`` as the runner would, but as an ordinary user; ``before`` runs in it first, as we are."""
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(SOURCE),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LANG": "C.UTF-8",
    }
    become = {} if before else _as_ordinary()
    argv = [python, "-c", code, *arguments]
    if before:
        drop = (
            f"import os; os.setgroups([]); os.setgid({ORDINARY_UID}); os.setuid({ORDINARY_UID})"
            if IS_ROOT
            else ""
        )
        first = f"{before}\n{drop}\nimport os, sys\nos.execv(sys.argv[1], sys.argv[1:])"
        argv = [python, "-c", first, *argv]
    return subprocess.run(
        argv, env=env, cwd="/", capture_output=True, text=True, check=False, timeout=60, **become
    )


# Pieces of code that take a layer away from the process that runs them, and from all that it starts.
NO_NAMESPACES = """
import ctypes, os
reader, writer = os.pipe()
pid, uid, gid = os.getpid(), os.getuid(), os.getgid()
rows = ("0 0 4294967295",) * 2 if uid == 0 else (f"{uid} {uid} 1", f"{gid} {gid} 1")
helper = os.fork()
if helper == 0:
    os.read(reader, 1)
    if uid == 0:
        for name, row in zip(("uid_map", "gid_map"), rows):
            open(f"/proc/{pid}/{name}", "w").write(row)
    os._exit(0)
assert ctypes.CDLL(None).unshare(0x10000000) == 0
os.write(writer, b"x")
os.waitpid(helper, 0)
os.close(reader); os.close(writer)
if uid:
    for name, row in (("setgroups", "deny"), ("uid_map", rows[0]), ("gid_map", rows[1])):
        open(f"/proc/self/{name}", "w").write(row)
open("/proc/sys/user/max_user_namespaces", "w").write("0")
"""
_FILTER = """
import ctypes, os, struct
from loop_runner.sandbox.inside import confine, seccomp
build = seccomp._Builder(os.uname().machine)
code = [seccomp._ins(0x20, 0), *{rules}, seccomp._ins(6, 0x7FFF0000)]
buffer = ctypes.create_string_buffer(b"".join(code))
libc = confine._Libc()
libc.prctl(38, 1)
libc.prctl(22, 2, ctypes.create_string_buffer(struct.pack("@HP", len(code), ctypes.addressof(buffer))))
"""
DOCKER_LIKE_FILTER = _FILTER.format(
    rules="build.answer(('unshare', 'mount'), 1), *build.answer(('clone3',), 38), "
    "*build.unless_clear('clone', 0, seccomp._NEW_NAMESPACES)"
)
NO_LANDLOCK = _FILTER.format(rules="[seccomp._ins(0x15, 444, 0, 1), seccomp._errno(38)]")


def can_unshare():
    """Whether user namespaces can be made here at all."""
    pid = os.fork()
    if pid == 0:
        os._exit(ctypes.CDLL(None).unshare(0x10000000) != 0)
    return os.waitpid(pid, 0)[1] == 0


def count_processes(token):
    """How many processes of the machine have ``token`` among their arguments."""
    result = 0
    for entry in Path("/proc").iterdir():
        try:
            result += entry.name.isdigit() and token.encode() in (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
    return result


def eventually(is_true):
    """Wait until ``is_true()``; fail after five seconds."""
    deadline = time.monotonic() + 5
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
