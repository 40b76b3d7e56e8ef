"""The parts of the machine that a kernel's Python needs to see, and their layout for bubblewrap.

Paths keep their names inside the sandbox; unlisted paths do not exist there. Symbolic links on the way to a
path (a virtual environment's interpreter, ``/lib`` on merged systems) are recreated inside. Reads the file
system, changes nothing.
"""

from __future__ import annotations

import functools
import json
import mimetypes
import os
import stat
import subprocess
import sys
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loop_runner.errors import KernelError

# Public tables that libraries look up by name. Where Landlock denies access instead of hiding files, a
# library fails if it may not open one of them. No user names (passwd), and no file that can hold a token
# (pip.conf, npmrc, odbc.ini, my.cnf, boto.cfg): those are hidden, or a setting stops libraries looking.
_MIME_TYPES = tuple(dict.fromkeys(str(path) for path in mimetypes.knownfiles))
LOOKED_FOR = (
    *_MIME_TYPES,
    *("/etc/localtime", "/etc/timezone", "/usr/share/zoneinfo", "/usr/lib/zoneinfo", "/etc/zoneinfo"),
    *("/etc/protocols", "/etc/services", "/etc/networks", "/etc/rpc", "/etc/host.conf", "/etc/gai.conf"),
    *(
        "/etc/nsswitch.conf",
        "/etc/os-release",
        "/etc/lsb-release",
        "/etc/debian_version",
        "/etc/locale.alias",
        "/etc/locale.conf",
    ),
    *("/etc/terminfo", "/usr/share/terminfo", "/usr/share/locale", "/usr/share/i18n", "/usr/share/mime"),
    *("/etc/fonts", "/usr/share/fonts", "/usr/share/fontconfig", "/usr/local/share/fonts"),
    *("/usr/share/poppler", "/usr/share/xml", "/etc/xml", "/usr/share/sgml", "/etc/sgml"),
    *("/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/ssl/cert.pem", "/usr/share/ca-certificates"),
    *("/etc/magic", "/etc/magic.mime", "/usr/share/misc", "/usr/share/file", "/etc/papersize"),
    *("/etc/matplotlibrc", "/etc/OpenCL/vendors", "/etc/inputrc", "/usr/share/dict", "/usr/share/tcltk"),
    *(f"/etc/python{major}" for major in ("", "3", *(f"3.{minor}" for minor in range(11, 20)))),
)
# Shared libraries and the linker's own files. No programs, no settings.
_SYSTEM = (
    *("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/alternatives"),
    *LOOKED_FOR,
)
_SYSTEM_PREFIXES = ("/", "/usr")
_STORES = ("/nix/store", "/gnu/store")  # libraries lie in folders of their own, all below these
_PREFIX_PARTS = ("lib", "lib64", "pyvenv.cfg", "share/zoneinfo")
_ASK = """\
import json, os, sys
prefixes = [sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix]
print(json.dumps([prefixes, os.path.dirname(os.__file__), sys.path, sys.executable]))
"""
_ASK_TIMEOUT_S = 30
_MAX_LINKS = 40
_MANY_MOUNTS = 64


@functools.lru_cache(maxsize=32)
def python_paths(python: str, *, has_packages: bool) -> tuple[str, ...]:
    """The paths that the interpreter ``python`` (absolute) needs: its own library, and its packages.

    Without packages it is the runner's own. ``KernelError`` when it cannot run at all.
    """
    if not has_packages:
        bases = {sys.base_prefix, sys.base_exec_prefix}
        facts = _Facts([sys.prefix, *bases], os.path.dirname(os.__file__), [], python)  # noqa: PTH120
        venvs = {sys.prefix} - bases
    else:
        facts, venvs = _ask(python), set()
    paths = [*(path for path in _SYSTEM if _is_public(path)), python, facts.stdlib]
    for prefix in dict.fromkeys(facts.prefixes):
        paths += _below(prefix, ("pyvenv.cfg",) if prefix in venvs else _PREFIX_PARTS)
    # Another kind of path entry (an editable project) may hold anything, so it is left out.
    paths += [path for path in facts.search if Path(path).name in ("site-packages", "dist-packages")]
    return tuple(dict.fromkeys(path for path in paths if os.path.lexists(path)))


def _is_public(path: str) -> bool:
    """Whether any user of this machine may read it: if we are root, another user runs the model's code."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except OSError:
        return False
    wanted = 0o005 if stat.S_ISDIR(mode) else 0o004
    return mode & wanted == wanted


def behind_script(python: str) -> str:
    """The interpreter itself, where ``python`` is a script that looks for it (as pyenv's are)."""
    try:
        with Path(python).open("rb") as file:
            is_script = file.read(2) == b"#!"
    except OSError:
        return python  # if it cannot be read, it cannot be started either
    return _ask(python).executable if is_script else python


@dataclass(frozen=True, slots=True)
class _Facts:
    """An interpreter's description of itself."""

    prefixes: list[str]
    stdlib: str
    search: list[str]  # its ``sys.path``
    executable: str


def _below(prefix: str, names: Sequence[str]) -> list[str]:
    """The parts of a prefix that a running Python reads; the rest may be an unrelated project."""
    for store in _STORES:
        if prefix.startswith(store + "/"):
            return [store]
    return [] if prefix in _SYSTEM_PREFIXES else [f"{prefix}/{name}" for name in names]


@functools.lru_cache(maxsize=8)
def _ask(python: str) -> _Facts:
    try:
        done = subprocess.run(
            [python, "-P", "-s", "-c", _ASK],
            env={"LANG": "C.UTF-8"},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=_ASK_TIMEOUT_S,
        )
        return _Facts(*json.loads(done.stdout))
    except (OSError, ValueError, TypeError, subprocess.SubprocessError) as error:
        raise KernelError(
            f"the kernel's interpreter {python} could not be started: {error}",
            why="the model's code runs in it",
            hint="set kernel.python to a Python 3.11 or later that starts without help from the environment",
        ) from None


def gathered(paths: Sequence[str], open_folders: Container[str]) -> list[str]:
    """``paths``, or the one folder that contains them all if they are too many to mount one by one.

    For a sandbox whose Landlock rules still name each path, so that the rest of the folder stays closed;
    which it would not in one of ``open_folders``, all of whose contents those rules allow.
    """
    if len(paths) <= _MANY_MOUNTS:
        return list(paths)
    folder = os.path.commonpath(paths)
    if folder == "/" or folder in open_folders or is_below(folder, open_folders):
        return list(paths)
    return [folder]


def follow(path: str) -> tuple[dict[str, str], str]:
    """Every symbolic link on the way to ``path`` (link → its target, as written), and the final path."""
    links: dict[str, str] = {}
    todo = [part for part in os.path.abspath(path).split("/") if part][::-1]  # noqa: PTH100
    here = ""
    while todo:
        part = todo.pop()
        if part == "..":
            here = here.rpartition("/")[0]
            continue
        step = f"{here}/{part}"
        if not os.path.islink(step):  # noqa: PTH114
            here = step
            continue
        if len(links) >= _MAX_LINKS:
            break
        target = links[step] = os.readlink(step)  # noqa: PTH115
        if target.startswith("/"):
            here = ""
        todo += [piece for piece in target.split("/") if piece not in ("", ".")][::-1]
    return links, here or "/"


@dataclass(frozen=True, slots=True)
class View:
    """What is visible: real paths, read-only and writable, and the links that lead to them."""

    read: tuple[str, ...]
    write: tuple[str, ...]
    links: Mapping[str, str]

    @classmethod
    def of(cls, read: Iterable[str], write: Iterable[str]) -> View:
        """Follow the links of all paths; missing ones are left out; the others need to be listed once."""
        links: dict[str, str] = {}
        ends: dict[str, list[str]] = {"read": [], "write": []}
        for kind, paths in (("read", read), ("write", write)):
            for path in paths:
                chain, end = follow(path)
                links.update(chain)
                if os.path.lexists(end):
                    ends[kind].append(end)
        read_ends = _outermost(ends["read"])
        write_ends = tuple(dict.fromkeys(ends["write"]))
        hidden = {*read_ends, *write_ends}
        kept = {link: target for link, target in links.items() if not is_below(link, hidden)}
        return cls(read_ends, write_ends, kept)

    def bubblewrap(self) -> list[str]:
        """The options that make this view, parents before children."""
        bound = {*self.read, *self.write}
        folders = {folder for path in (*bound, *self.links) for folder in above(path)}
        options: list[str] = []
        # By default, bubblewrap closes the folders it makes to everyone but root.
        for folder in sorted(folders):
            if folder not in bound and not is_below(folder, bound):
                options += ["--perms", "0755", "--dir", folder]
        for link in sorted(self.links):
            options += ["--symlink", self.links[link], link]
        binds = [("--ro-bind", path) for path in self.read] + [("--bind", path) for path in self.write]
        for option, path in sorted(binds, key=lambda bind: (bind[1].count("/"), bind[1])):
            options += [option, path, path]
        return options


def above(path: str) -> list[str]:
    """The folders that lead to ``path``, without the root."""
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(2, len(parts))]


def _outermost(paths: Sequence[str]) -> tuple[str, ...]:
    """``paths`` without those inside another one of them."""
    unique = dict.fromkeys(paths)
    return tuple(path for path in unique if not is_below(path, unique))


def is_below(path: str, folders: Container[str]) -> bool:
    """Whether ``path`` is inside one of ``folders``."""
    return any(folder in folders for folder in above(path))
