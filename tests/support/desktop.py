"""The ``/etc`` of a full desktop, shown to one program and its children in mounts of their own.

``command([...], folder)`` returns the command that starts a program on such a machine. Nothing of the real
``/etc`` is changed. Started by root, the program may become another user first; started by an ordinary user,
it needs user namespaces. As a module it is that small starter itself: see ``main``.
"""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

# Files that libraries and programs look for. The content is plausible, and small.
FILES = {
    "mime.types": "text/html\t\t\thtml htm\ntext/x-desktop\t\t\tdesktoptype\n",
    "httpd/mime.types": "text/html html\n",
    "httpd/conf/mime.types": "text/html html\n",
    "apache/mime.types": "text/html html\n",
    "apache2/mime.types": "text/html html\n",
    "apache2/magic": "0 string PK application/zip\n",
    "gitconfig": "[core]\n\tquotepath = off\n[safe]\n\tdirectory = *\n",
    "gitattributes": "*.txt text\n",
    "pip.conf": "[global]\ntimeout = 60\n",
    "xdg/pip/pip.conf": "[global]\ntimeout = 60\n",
    "xdg/user-dirs.conf": "enabled=True\n",
    "npmrc": "fund=false\n",
    "wgetrc": "passive_ftp = on\n",
    "curlrc": "silent\n",
    "inputrc": "set bell-style none\n",
    "host.conf": "multi on\n",
    "gai.conf": "precedence ::ffff:0:0/96 100\n",
    "networks": "loopback 127.0.0.0\n",
    "protocols": "tcp 6 TCP\nudp 17 UDP\nicmp 1 ICMP\n",
    "services": "http 80/tcp\nhttps 443/tcp\n",
    "rpc": "portmapper 100000 portmap\n",
    "magic": "# local magic\n",
    "magic.mime": "# local magic\n",
    "locale.conf": "LANG=en_GB.UTF-8\n",
    "papersize": "a4\n",
    "timezone": "Europe/Berlin\n",
    "environment": 'LANG="en_GB.UTF-8"\n',
    "os-release": 'NAME="Desktop"\nID=desktop\nPRETTY_NAME="Desktop 1"\n',
    "lsb-release": "DISTRIB_ID=Desktop\n",
    "hostname": "desktop\n",
    "matplotlibrc": "backend: Agg\n",
    "fonts/fonts.conf": '<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig/>\n',
    "xml/catalog": '<?xml version="1.0"?><catalog xmlns="urn:oasis:names:tc:entity:xmlns:xml:catalog"/>\n',
    "sgml/catalog": "-- none --\n",
    "odbc.ini": "[none]\n",
    "odbcinst.ini": "[none]\n",
    "freetds/freetds.conf": "[global]\n",
    "mysql/my.cnf": "[client]\n",
    "boto.cfg": "[Boto]\n",
    "ipython/ipython_config.py": "",
    "jupyter/jupyter_config.json": "{}\n",
    "java-17-openjdk/security/java.security": "security.provider.1=SUN\n",
    "ImageMagick-6/policy.xml": "<policymap/>\n",
    "OpenCL/vendors/none.icd": "",
    "pydistutils.cfg": "[global]\n",
    "sudo.conf": "",
}
# Readable by root alone, as on a real machine.
SECRETS = {"desktop.secret": "hunter2\n", "NetworkManager/system-connections/home": "psk=hunter2\n"}

_CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 4096, 16384, 1 << 18


def etc_of_a_desktop(folder: Path) -> Path:
    """Make, below ``folder``, a copy of this machine's ``/etc`` with everything above added."""
    etc = folder / "etc"
    etc.mkdir()
    subprocess.run(["cp", "-a", "/etc/.", str(etc)], check=False, stderr=subprocess.DEVNULL)
    for files, mode in ((FILES, 0o644), (SECRETS, 0o600)):
        for name, content in files.items():
            path = etc / name
            _make_folder(path.parent, etc)
            path.unlink(missing_ok=True)  # it may be a link out of the copy
            path.write_text(content)
            path.chmod(mode)
    return etc


def _make_folder(folder: Path, etc: Path) -> None:
    if folder == etc or folder.is_dir():
        return
    _make_folder(folder.parent, etc)
    folder.mkdir()
    folder.chmod(0o755)


def command(argv: list[str], folder: Path, uid: int | None = None, hidden: str = "") -> list[str]:
    """The command that starts ``argv`` on a machine with a full ``/etc``; as ``uid``, if root starts it."""
    etc = etc_of_a_desktop(folder)
    become = "" if uid is None else str(uid)
    return [sys.executable, "-P", str(Path(__file__)), str(etc), become, hidden, *argv]


def can_be_made() -> bool:
    """Whether this user may make mounts of their own, which this needs."""
    pid = os.fork()
    if pid == 0:
        try:
            _own_mounts()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


def main(etc: str, become: str, hidden: str, *argv: str) -> None:
    """Mount ``etc`` over ``/etc``, become the user id ``become`` (may be ""), and then the program ``argv``.

    ``hidden`` is a program that this machine shall not have (may be "").
    """
    _own_mounts()
    _mount(etc, "/etc")
    if hidden and (result := shutil.which(hidden)):
        _mount("/dev/null", result)
    if become:
        os.setgroups([])
        os.setgid(int(become))
        os.setuid(int(become))
    os.execvp(argv[0], argv)


def _own_mounts() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(_CLONE_NEWNS | (_CLONE_NEWUSER if uid else 0)):
        raise OSError(ctypes.get_errno(), "unshare")
    if uid:
        for name, row in (
            ("setgroups", "deny"),
            ("uid_map", f"{uid} {uid} 1"),
            ("gid_map", f"{gid} {gid} 1"),
        ):
            Path(f"/proc/self/{name}").write_text(row)
    if libc.mount(None, b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None):
        raise OSError(ctypes.get_errno(), "mount")


def _mount(source: str, target: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source.encode(), target.encode(), None, ctypes.c_ulong(_MS_BIND | _MS_REC), None):
        raise OSError(ctypes.get_errno(), f"mount {source} over {target}")


if __name__ == "__main__":
    main(*sys.argv[1:])
