"""Keeps the settings of a received run folder away from git, which would start programs that they name.

Git has no switch to ignore a repository's own ``config``, ``info/attributes``, ``info/grafts`` and hooks. It
takes them from the "common" folder of a repository, which an environment variable names. So every git on a
run folder gets a common folder made by this process: its settings are the runner's, and its refs are links
to those of the run folder. Objects, HEAD and the index are the run folder's own.
"""

from __future__ import annotations

import atexit
import os
import re
import tempfile
import threading
from pathlib import Path

from loop_runner import scratch

CONFIG = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n"
_LINKED = ("refs", "packed-refs", "shallow", "reftable")
_MAX_CONFIG_BYTES = 1 << 20
# The settings for how objects and refs are stored; a later git may write these into a clone.
_EXTENSIONS = {"objectformat": ("sha1", "sha256"), "refstorage": ("files", "reftable")}
_lock = threading.Lock()
_rooms: dict[int, scratch.Scratch] = {}  # by process: one descriptor, however many run folders it opens
_made: dict[tuple[int, str], Path] = {}  # by process and git folder


def common_dir(git_dir: Path) -> Path:
    """The replacement for the folder that all worktrees of ``git_dir`` share; deleted with this process."""
    key = (os.getpid(), str(git_dir))
    with _lock:
        if key not in _made or not _made[key].is_dir():
            _made[key] = _make(git_dir)
        return _made[key]


def _make(git_dir: Path) -> Path:
    made = Path(tempfile.mkdtemp(dir=_room()))
    for name in _LINKED:
        (made / name).symlink_to(git_dir.absolute() / name)
    (made / "config").write_text(_config(git_dir / "config"), encoding="utf-8")
    return made


def _room() -> Path:
    """This process's temporary folder, which contains everything made here."""
    if not _rooms:
        atexit.register(_remove)
    room = _rooms.get(os.getpid())
    if room is None or not room.path.is_dir():
        if room is not None:
            room.remove()
        room = _rooms[os.getpid()] = scratch.make("git")
    return room.path


def _remove() -> None:
    if (room := _rooms.get(os.getpid())) is not None:
        room.remove()


def _config(path: Path) -> str:
    """The runner's settings, and how the objects and refs of the repository are stored."""
    wanted = {name: value for name, value in _extensions(path) if value in _EXTENSIONS.get(name, ())}
    if not wanted:
        return CONFIG
    lines = "".join(f"\t{name} = {value}\n" for name, value in wanted.items())
    return f"{CONFIG.replace('version = 0', 'version = 1')}[extensions]\n{lines}"


def _extensions(path: Path) -> list[tuple[str, str]]:
    """The keys of ``[extensions]``, read without git: git would follow what the file includes."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123
            text = file.read(_MAX_CONFIG_BYTES).decode("utf-8", "replace").lower()
    except OSError:
        return []
    pairs: list[tuple[str, str]] = []
    for section in re.findall(r"^[ \t]*\[extensions\]([^\[]*)", text, re.MULTILINE):
        pairs += re.findall(r"^[ \t]*(\w+)[ \t]*=[ \t]*(\w+)[ \t]*$", section, re.MULTILINE)
    return pairs
