"""One runner per run folder, by ``flock``.

The lock belongs to the system: it is released with the last process that holds the descriptor, however that
ends. Git processes that write inherit it, so an orphan of a killed runner keeps the next one out until it is
done and can never commit late; an orphan that does not end (a stopped one, for example) is killed. The file's
content (pid, host, since when) is for people and for the error message.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from loop_runner import failpoints, linux
from loop_runner.errors import WorkspaceError

_ORPHAN_WAIT_S = 10.0  # for git processes of a runner that was killed
_ORPHAN_GRACE_S = 2.0  # after which unfinished ones are killed
_READER_WAIT_S = 0.3  # for a reader that checks whether the lock is held
_STEP_S = 0.01


@dataclass(frozen=True, slots=True)
class Holder:
    """The holder of the lock, as that process recorded itself."""

    pid: int
    host: str
    since: float  # seconds since the epoch

    @property
    def is_gone(self) -> bool:
        """The process ran on this machine and is gone."""
        if self.host != socket.gethostname() or self.pid <= 0:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False


class Lock:
    """The lock on a run folder, held from ``take`` to ``release``. ``fd`` is what git processes inherit."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def take(cls, path: Path, folder: Path) -> Lock:
        """Take the lock at ``path``; raises ``WorkspaceError`` that names its holder."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            _wait_for(fd, folder)
            failpoints.passing("lock.write")
            _write(fd)
        except BaseException:
            os.close(fd)
            raise
        return cls(fd)

    def release(self) -> None:
        """Release the lock; more than once is fine."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def holder(path: Path) -> Holder | None:
    """The current holder of the lock at ``path``; None when it is free. Never waits."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        return None if _try(fd, fcntl.LOCK_SH) else (_read(fd) or Holder(0, "", 0.0))
    finally:
        os.close(fd)


def _wait_for(fd: int, folder: Path) -> None:
    started = time.monotonic()
    while not _try(fd, fcntl.LOCK_EX):
        holder = _read(fd)
        waited = time.monotonic() - started
        if waited > _ORPHAN_GRACE_S and holder and holder.is_gone:
            end_orphans(fd)
        if waited > (_ORPHAN_WAIT_S if holder and holder.is_gone else _READER_WAIT_S):
            raise _is_taken(folder, holder)
        time.sleep(_STEP_S)


def end_orphans(fd: int) -> None:
    """Kill each git that still holds the lock ``fd`` of a runner that is gone: it would commit late.

    Nothing is lost: a git that is killed in the middle of a commit leaves the branch as it was.
    """
    linux.kill_holders(fd, b"git")


def _try(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(fd: int) -> None:
    text = json.dumps(asdict(Holder(os.getpid(), socket.gethostname(), round(time.time(), 3)))) + "\n"
    os.ftruncate(fd, 0)
    os.pwrite(fd, text.encode(), 0)


def _read(fd: int) -> Holder | None:
    try:
        data = json.loads(os.pread(fd, 4096, 0))
        return Holder(int(data["pid"]), str(data["host"]), float(data["since"]))
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return None


def _is_taken(folder: Path, holder: Holder | None) -> WorkspaceError:
    who, stop = "another runner", "stop it"
    if holder is not None:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder.since))
        who = f"another runner (pid {holder.pid} on {holder.host}, since {since})"
        stop = f"stop it with `kill -INT {holder.pid}`"
    return WorkspaceError(
        f"{folder} is in use by {who}",
        why="two runners in one run folder would pay for the same turns and mix their commits",
        hint=f"wait until it ends, or {stop}; it commits before it ends",
    )
