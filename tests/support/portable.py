"""Imitates a system without the features of Linux that the runner uses, in every Python that a test starts.

``hidden`` makes an environment in which Python loads a ``sitecustomize.py`` that takes features away. The
kernel process loads no site, so ``sys.executable`` is a small program there that puts the same code in front
of what it runs. Another file system, other limits and another C library are not imitated.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

FEATURES = ("platform", "pidfd", "prctl", "proc", "memfd", "credentials", "affinity", "o_path", "setsig")

_HIDE = """
import os, sys
FEATURES = {features!r}

def _hide():
    import ctypes, fcntl, signal, socket, types

    def take(module, *names):
        for name in names:
            if hasattr(module, name):
                delattr(module, name)

    if "pidfd" in FEATURES:
        take(os, "pidfd_open", "P_PIDFD")
        take(signal, "pidfd_send_signal")
    if "memfd" in FEATURES:
        take(os, "memfd_create", "MFD_CLOEXEC")
    if "o_path" in FEATURES:
        take(os, "O_PATH", "O_TMPFILE")
    if "affinity" in FEATURES:
        take(os, "sched_getaffinity", "sched_setaffinity")
    if "credentials" in FEATURES:
        take(socket, "SO_PASSCRED", "SCM_CREDENTIALS", "SO_PEERCRED", "SOCK_SEQPACKET")
    if "setsig" in FEATURES:
        take(fcntl, "F_SETSIG", "F_GETSIG")
    if "platform" in FEATURES:
        take(os, "setresuid", "setresgid", "getresuid", "getresgid", "unshare", "pipe2", "eventfd")
        take(__import__("select"), "epoll")
        sys.platform = "darwin"
        sys.modules["_scproxy"] = types.ModuleType("_scproxy")
        sys.modules["_scproxy"]._get_proxies = dict
        sys.modules["_scproxy"]._get_proxy_settings = dict
        if os.geteuid() == 0:  # a run of root is refused there
            os.geteuid = os.getuid = lambda: 501
    denied = ("/proc", "/sys") if "proc" in FEATURES else ()

    def is_denied(path):
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        return isinstance(path, str) and path.startswith(denied)

    def refuse(event, args):
        if event in ("open", "os.listdir", "os.scandir", "os.chmod") and denied and is_denied(args[0]):
            raise FileNotFoundError(2, "hidden by the test", args[0])
        calls = ("prctl", "syscall", "unshare", "mount")
        if event == "ctypes.dlsym" and "prctl" in FEATURES and args[1] in calls:
            raise AttributeError(f"symbol not found: {{args[1]}}")
        if event == "subprocess.Popen" and "platform" in FEATURES and str(args[0]).endswith("bwrap"):
            raise AssertionError("bubblewrap was started")

    sys.addaudithook(refuse)
    if denied:
        for name in ("stat", "lstat", "readlink"):
            def wrapped(path, *args, _plain=getattr(os, name), **keys):
                if is_denied(os.fspath(path) if isinstance(path, os.PathLike) else path):
                    raise FileNotFoundError(2, "hidden by the test", path)
                return _plain(path, *args, **keys)
            setattr(os, name, wrapped)

_hide()
"""
_STAND_IN = """#!{python}
import os, sys
argv = [{python!r}, *sys.argv[1:]]
if "-c" in argv:
    at = argv.index("-c") + 1
    argv[at] = open({hide!r}).read() + "\\n" + argv[at]
os.execv(argv[0], argv)
"""


def hidden(features: Iterable[str], folder: Path) -> dict[str, str]:
    """The environment in which ``features`` are missing; ``folder`` is made for the files of that."""
    folder.mkdir()
    code = _HIDE.format(features=set(features))
    hide, stand_in = folder / "hide.py", folder / "python3"
    hide.write_text(code, encoding="utf-8")
    stand_in.write_text(_STAND_IN.format(python=sys.executable, hide=str(hide)), encoding="utf-8")
    stand_in.chmod(0o755)
    own = f"{code}\nsys.executable = {str(stand_in)!r}\n"
    (folder / "sitecustomize.py").write_text(own, encoding="utf-8")
    root = Path(__file__).parents[2]
    return {
        "PYTHONPATH": f"{folder}:{root}",
        "_PYTHON_SYSCONFIGDATA_NAME": sysconfig._get_sysconfigdata_name(),  # type: ignore[attr-defined]
    }
