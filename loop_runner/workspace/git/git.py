"""The only module that starts git, except ``changes``, which takes its environment and settings from here.

Every git runs with an environment built from nothing, no system or user configuration, no hooks, no
fsmonitor, no signing, fsync on, a time limit and its own session (the runner handles Ctrl-C: a git in the
middle of a commit may finish). ``GIT_DIR`` is always given and the working directory is the git directory,
so no git here ever reads a file of the model. Nor does it read the settings of a run folder, which may come
from anyone (``settings``). Those that write inherit the run folder's lock.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import time
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from loop_runner.errors import EnvironmentFault, LoopRunnerError, WorkspaceError
from loop_runner.process import PipeReader, kill_group
from loop_runner.text import shell
from loop_runner.workspace import faults
from loop_runner.workspace.git.settings import common_dir

IDENTITY = b"loop-runner <loop-runner@localhost>"

_CONFIG = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.fsync": "all,-index",  # the index is for a person's `git status`; it can be rebuilt
    "core.attributesFile": "/dev/null",
    "core.excludesFile": "/dev/null",
    "core.logAllRefUpdates": "false",
    "core.commitGraph": "false",  # a file beside the history, which could contradict it
    "protocol.allow": "never",
    "commit.gpgsign": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    # One pack per checkpoint: two files to fsync however many objects it holds. ``packs`` joins them later.
    # 0, not 1: a pack with fewer objects would be unpacked, and the folders of loose objects are not fsynced.
    "fastimport.unpackLimit": "0",
    "core.compression": "1",
}
_TIMEOUT_S = 120.0
_OLDEST = (2, 32)


def environment(git_dir: Path) -> dict[str, str]:
    """The whole environment of our git processes; no ``GIT_*`` is inherited (a hook may run us)."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C",
        "HOME": "/dev/null",  # git before 2.32 does not know GIT_CONFIG_GLOBAL
        "XDG_CONFIG_HOME": "/dev/null",
        "GIT_DIR": str(git_dir),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_NO_LAZY_FETCH": "1",
    }


def isolated(git_dir: Path) -> dict[str, str]:
    """``environment`` for a run folder, whose settings may come from anyone and are not read."""
    return environment(git_dir) | {
        "GIT_COMMON_DIR": str(common_dir(git_dir)),
        "GIT_OBJECT_DIRECTORY": str(git_dir / "objects"),
    }


def settings() -> list[str]:
    """The arguments before the command that give every git our settings."""
    return [part for key, value in _CONFIG.items() for part in ("-c", f"{key}={value}")]


def may_have_refs(git_dir: Path, prefix: str) -> bool:
    """Whether git must be asked for refs below ``prefix`` ("refs/tags/x/"); False: there are none."""
    if (git_dir / "reftable").exists() or os.path.lexists(git_dir / prefix):
        return True
    try:
        return prefix.encode() in (git_dir / "packed-refs").read_bytes()
    except FileNotFoundError:
        return False
    except OSError:
        return True


def git_works() -> bool:
    """Whether the git on PATH prints a version that is new enough."""
    try:
        done = subprocess.run(["git", "--version"], capture_output=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    version = re.match(rb"git version (\d+)\.(\d+)", done.stdout)
    return version is not None and tuple(map(int, version.groups())) >= _OLDEST


class GitFailed(Exception):  # noqa: N818 - says what happened; becomes one of our errors further up
    """A git that ended with an error; ``fault`` turns it into an error for the user."""

    def __init__(self, command: str, exit_code: int, stderr: str) -> None:
        super().__init__(f"git {command} ended with {exit_code}: {stderr.strip()}")
        self.command = command
        self.exit_code = exit_code
        self.stderr = stderr

    def fault(self, folder: Path, doing: str) -> LoopRunnerError:
        """The error to raise for it, depending on whose fault it was."""
        last_line = self.stderr.strip().splitlines()[-1:] or [f"exit code {self.exit_code}"]
        is_full = re.search(r"No space left|Out of disk ?space|Disk quota", self.stderr, re.IGNORECASE)
        if is_full or faults.is_full(folder):
            return faults.disk_full(folder, doing)
        if "Permission denied" in self.stderr or "Read-only file system" in self.stderr:
            return faults.unwritable(folder, doing, "git was refused")
        return WorkspaceError(
            f"git {self.command} failed in {folder} while {doing}: {last_line[0]}",
            why="the history in the run folder is the run; continuing without it would lose work",
            hint=f"look at it with `git -C {shell(folder)} fsck`; what was committed before is untouched",
            exit_code=4,
        )


@dataclass(frozen=True, slots=True)
class Git:
    """Git on one repository. ``lock_fd`` is the run folder's lock, which every git here inherits.

    ``index`` is used instead of the repository's own. ``obeys_config``: the repository is the user's own,
    and its settings apply; those of a run folder never do.
    """

    git_dir: Path
    lock_fd: int | None = None
    index: Path | None = None
    obeys_config: bool = False

    def run(self, *args: str, stdin: bytes = b"", timeout_s: float = _TIMEOUT_S) -> bytes:
        """Run one git to its end and return its output. Raises ``GitFailed`` when it ends badly."""
        process = self.start(args)
        try:
            stdout, stderr = process.communicate(stdin, timeout_s)
        except BaseException as error:
            kill_group(process.pid)
            process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                raise GitFailed(args[0], -9, f"no end after {timeout_s:g} s") from error
            raise
        if process.returncode:
            raise GitFailed(args[0], process.returncode, stderr.decode("utf-8", "replace"))
        return bytes(stdout)

    def start(self, args: Iterable[str]) -> subprocess.Popen[bytes]:
        """Start a git with pipes on all sides; raises ``EnvironmentFault`` when there is none."""
        try:
            return subprocess.Popen(
                ["git", *settings(), *args],
                cwd=self.git_dir,
                env=self._environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                pass_fds=() if self.lock_fd is None else (self.lock_fd,),
            )
        except FileNotFoundError as error:
            if not self.git_dir.exists() or error.filename != "git":
                raise
            raise EnvironmentFault(
                "git was not found",
                why="a run folder is a git repository: every turn is a commit",
                hint="install git (2.32 or later) and see that it is on PATH",
            ) from error

    def _environment(self) -> dict[str, str]:
        env = environment(self.git_dir) if self.obeys_config else isolated(self.git_dir)
        return env if self.index is None else env | {"GIT_INDEX_FILE": str(self.index)}


@dataclass(frozen=True, slots=True)
class GitObject:
    """One object, as git stores it."""

    oid: str
    kind: str  # "commit", "tree", "blob" or "tag"
    data: bytes


class ObjectReader:
    """Reads objects through one ``git cat-file --batch``, started on first use.

    Ends with ``close``, or when nothing refers to it any more.
    """

    def __init__(self, git_dir: Path, *, obeys_config: bool = False) -> None:
        self._git = Git(git_dir, obeys_config=obeys_config)
        self._process: subprocess.Popen[bytes] | None = None
        self._output: PipeReader | None = None  # of the process that runs
        self._end: weakref.finalize[..., ObjectReader] | None = None

    def get(self, name: str) -> GitObject | None:
        """The object ``name`` (an id, ``HEAD``, ``REV:path``); None when it does not exist.

        Raises ``GitFailed`` when git dies over it, as it does over a damaged object.
        """
        request = os.fsencode(name)
        if b"\n" in request:
            return self._get_alone(name)
        try:
            output = self._send(request + b"\n")
            header = output.line()
            parts = header.split(b" ")
            if parts[-1] in (b"missing", b"ambiguous") or len(parts) != 3:
                return None
            data = output.take(int(parts[2]) + 1)[:-1]
        except (BrokenPipeError, EOFError) as error:
            raise self._died() from error
        return GitObject(parts[0].decode(), parts[1].decode(), data)

    def close(self) -> None:
        """End the process, if one runs. Reading again starts another."""
        if self._end is not None:
            self._end()
        self._process = self._output = self._end = None

    def _get_alone(self, name: str) -> GitObject | None:
        # The batch protocol has one name per line; a path with a newline is passed as an argument instead.
        try:
            oid = self._git.run("rev-parse", "--verify", "--quiet", "--end-of-options", name).decode().strip()
        except GitFailed:
            return None
        return self.get(oid)

    def _send(self, line: bytes) -> PipeReader:
        if self._process is None or self._output is None or self._process.poll() is not None:
            self.close()
            self._process = self._git.start(["cat-file", "--batch"])
            self._end = weakref.finalize(self, _end, self._process)
            self._output = PipeReader(partial(_more, self._process))
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()
        return self._output

    def _died(self) -> GitFailed:
        assert self._process is not None
        assert self._process.stderr is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        code = self._process.poll()
        stderr = b"it did not answer" if code is None else self._process.stderr.read()
        self.close()
        return GitFailed("cat-file", -1 if code is None else code, stderr.decode("utf-8", "replace"))


def _more(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], _TIMEOUT_S)
    chunk = os.read(process.stdout.fileno(), 1 << 20) if ready else b""
    if not chunk:
        raise EOFError
    return chunk


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a reading git: it stops at the end of its input; if not, it is killed."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    deadline = time.monotonic() + 2.0
    process.stdout.close()
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    if process.poll() is None:
        kill_group(process.pid)
        process.wait()
    process.stderr.close()
