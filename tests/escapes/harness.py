"""A case, the room in which it is tried, and what became of it.

A room is a run folder with real git, a kernel in it that is confined as one tier says, and bait around it:
files and sockets open to everyone, a process of the host's, a secret in the host's environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from loop_runner.inputs import load
from loop_runner.kernel.kernel import Kernel
from loop_runner.kernel.launch import INSIDE
from loop_runner.kernel.lm_handler import SubCallError
from loop_runner.records import Answer, CellResult, Snapshot
from loop_runner.sandbox import probe
from loop_runner.sandbox.inside import seccomp
from loop_runner.sandbox.probe import SandboxReport
from loop_runner.sandbox.wrap import Layers
from loop_runner.task.kernel_settings import KernelSettings
from loop_runner.workspace.workspace import Workspace
from tests.support.turns import turn

SOURCE = Path(__file__).parents[2]
SECRET = "sk-bait-5f2c"
IS_ROOT = os.geteuid() == 0
_PLACE = "/var/tmp" if os.access("/var/tmp", os.W_OK) else None  # in tier A, /tmp is hidden as a whole


# One line is a tier: how its sandbox is made on this machine.
TIERS: Mapping[str, Callable[[], SandboxReport]] = {
    "A": probe.probe,
    "B": lambda: probe.probe(None, "/nowhere"),
    "C": lambda: SandboxReport("C", (), ("all but limits",), (), Layers(uid=IS_ROOT)),
}


def report_of(tier: str) -> SandboxReport | str:
    """The sandbox of ``tier`` here, or why there is none."""
    report = TIERS[tier]()
    return report if report.tier == tier else f"this machine gives tier {report.tier}"


@dataclass(frozen=True)
class Case:
    """One thing to try. ``contained`` asserts that it failed, and says in a few words what happened.

    ``tiers``: those that must contain it; in the others it is tried too, and what happened is only recorded.
    ``untried``: tiers in which trying it could harm the machine or leave it.
    """

    number: int  # in part F of the research note
    title: str
    code: str
    contained: Callable[[Room, CellResult], str]
    tiers: str = "ABC"
    untried: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    before: Callable[[Room], None] | None = None
    needs: Callable[[SandboxReport], str] = lambda _report: ""  # why this machine's tier cannot contain it

    @property
    def id(self) -> str:
        return f"{self.number:02}-{self.title.replace(' ', '-')}"


class Model:
    """Answers ``echo: prompt``; refuses after ``budget`` calls."""

    def __init__(self) -> None:
        self.prompts: list[str] = []
        self.budget = 100

    async def query(self, prompt: str) -> str:
        if len(self.prompts) >= self.budget:
            raise SubCallError("the budget of sub-calls is used up")
        self.prompts.append(prompt)
        return f"echo: {prompt}"


PREPARE = """
import ctypes, gc, json, os, resource, signal, socket, stat, subprocess, sys, threading, time
kept = {'n': 41, 'more': [1, 2]}
kept['same'] = kept['more']
def attempt(name, action):
    try: value = action()
    except BaseException as error: print(f'{name}: {type(error).__name__}: {str(error)[:90]}')
    else: print(f'{name}: IT WORKED {value!r:.70}')
def call(name, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(ctypes.c_long(given['numbers'][name]), *map(ctypes.c_long, arguments)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
def in_child(action):
    pid = os.fork()
    if not pid:
        try: action()
        except BaseException: os._exit(1)
        os._exit(0)
    if os.waitpid(pid, 0)[1]: raise OSError('refused')
def is_socket(fd):
    try: return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError: return False
def lines():
    'The descriptors of the two lines to the host, found as a hostile cell would find them.'
    lm = llm_query.__self__._models._fd
    return next(fd for fd in range(3, 99) if is_socket(fd) and fd != lm), lm
"""


class Room:
    """A run folder, a kernel in one tier, and bait. Used in a ``with`` statement."""

    def __init__(self, tier: str, report: SandboxReport, settings: Mapping[str, Any]) -> None:
        self.tier, self.report = tier, report
        self.folder = Path(tempfile.mkdtemp(prefix="loop-runner-room-", dir=_PLACE))
        self.folder.chmod(0o755)
        self._stack = contextlib.ExitStack()
        self._stack.callback(self._remove)
        self.model = Model()
        self.outside = self.folder / "outside"
        self._settings = {"timeout_s": 10.0, "grace_s": 0.5, "memory_mb": 512, **settings}
        self._number = 0
        self._turn = 0
        self.last = Snapshot()

    def __enter__(self) -> Self:
        try:
            self._lay_bait()
            self.loop = self._start_loop()
            self.workspace = self._stack.enter_context(
                Workspace.create(self.folder / "run", name="room", files={"prompt.md": b"Count.\n"})
            )
            self.kernel = self._kernel()
            self.kernel.start(Snapshot(), Answer())
            assert self.run(f"given = {self._given()!r}{PREPARE}").end == "ok"
            self.snapshot()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # ── what a case does ────────────────────────────────────────────────────────────────────────────

    def run(self, code: str) -> CellResult:
        """One cell."""
        self._number += 1
        return self.kernel.run_cell(code, self._number)

    def value(self, expression: str) -> str:
        """What an expression prints as."""
        result = self.run(f"print({expression})")
        assert result.end == "ok", result.output
        return result.output.strip()

    def snapshot(self) -> Snapshot:
        """As after every turn."""
        self.last = self.kernel.snapshot()
        return self.last

    def restart(self) -> tuple[str, ...]:
        """As after a crash of the host: from the last snapshot; names that could not be restored."""
        return tuple(item.name for item in self.kernel.start(self.last, Answer()))

    def commit(self) -> None:
        """Commit a turn with what lies in the model's folder now."""
        self._turn += 1
        self.workspace.commit_turn(turn(1, self._turn), {})

    @property
    def files(self) -> Path:
        """The model's folder."""
        return self.workspace.model_folder

    def git(self, *args: str) -> str:
        """Run git in the run folder as a person would."""
        done = subprocess.run(
            ["git", "-C", str(self.folder / "run"), *args], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def goes_on(self) -> str:
        """An ordinary cell works, with the variables that there were before; how many cells that took."""
        for tries in (1, 2, 3):
            result = self.run(
                "kept['n'] += 1\nprint(kept['n'], kept['same'] is kept['more'])\nkept['n'] -= 1"
            )
            if (result.end, result.output) == ("ok", "42 True\n"):
                return "the next cell went on" if tries == 1 else f"cell {tries} after it went on"
        raise AssertionError(f"the loop did not go on: {result}")

    # ── bait ────────────────────────────────────────────────────────────────────────────────────────

    def untouched(self) -> bool:
        """Whether everything outside is as it was."""
        return (
            sorted(os.listdir(self.outside)) == self._listing
            and all((self.outside / name).read_text() == SECRET for name in ("secret", "verifier.py"))
            and (self.outside / "secret").stat().st_mode & 0o7777 == 0o666
            and (self.outside / "secret").stat().st_nlink == 1
        )

    def was_reached(self) -> bool:
        """Whether anything arrived at one of the host's sockets."""
        return any(_has_caller(listener) for listener in self._listeners.values())

    @property
    def victim_lives(self) -> bool:
        return self._victim.poll() is None

    def _lay_bait(self) -> None:
        self.outside.mkdir()
        self.outside.chmod(0o777)
        for name in ("secret", "verifier.py"):
            (self.outside / name).write_text(SECRET)
            (self.outside / name).chmod(0o666)
        self._listeners = {
            "tcp": _listen(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            "udp": _listen(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
            "path": _listen(socket.AF_UNIX, socket.SOCK_STREAM, str(self.outside / "socket")),
            "abstract": _listen(socket.AF_UNIX, socket.SOCK_STREAM, f"\0{self.folder.name}"),
        }
        (self.outside / "socket").chmod(0o777)
        for listener in self._listeners.values():
            self._stack.callback(listener.close)
        secret = os.open(self.outside / "secret", os.O_RDONLY)
        os.set_inheritable(secret, True)
        self._stack.callback(os.close, secret)
        self._victim = subprocess.Popen(
            [sys.executable, "-S", "-c", f"import time; time.sleep(600); {SECRET!r}"],
            env={"KEY": SECRET},
            start_new_session=True,
        )
        self._stack.callback(self._victim.wait)
        self._stack.callback(self._victim.kill)
        self._listing = sorted(os.listdir(self.outside))
        (self.folder / "input.txt").write_text("The answer is 42.\n")

    def _given(self) -> dict[str, Any]:
        column = 1 if os.uname().machine == "aarch64" else 0
        return {
            "tier": self.tier,
            "outside": str(self.outside),
            "secret": str(self.outside / "secret"),
            "verifier": str(self.outside / "verifier.py"),
            "source": str(SOURCE),
            "bootstrap": str(INSIDE / "child.py"),
            "git": str(self.folder / "run" / ".git"),
            "host": os.getpid(),
            "victim": self._victim.pid,
            "tcp": self._listeners["tcp"].getsockname()[1],
            "udp": self._listeners["udp"].getsockname()[1],
            "socket": str(self.outside / "socket"),
            "abstract": self.folder.name,
            "numbers": {name: numbers[column] for name, numbers in seccomp.NUMBERS.items()},
        }

    # ── life ────────────────────────────────────────────────────────────────────────────────────────

    def _kernel(self) -> Kernel:
        settings = KernelSettings(**self._settings, require_tier=self.tier)  # type: ignore[arg-type]
        inputs = load([str(self.folder / "input.txt")], self.folder)
        kernel = Kernel(settings, inputs, self.workspace.model_folder, self.model, self.loop)
        self._stack.callback(kernel.close)
        return kernel

    def _start_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()

        def stop() -> None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

        self._stack.callback(stop)
        return loop

    def _remove(self) -> None:
        # Trees that are too deep for Python's own removal are among the cases.
        subprocess.run([shutil.which("rm") or "rm", "-rf", str(self.folder)], check=False)


def _listen(family: int, kind: int, address: Any) -> socket.socket:
    listener = socket.socket(family, kind)
    listener.bind(address)
    listener.setblocking(False)
    if kind == socket.SOCK_STREAM:
        listener.listen()
    return listener


def _has_caller(listener: socket.socket) -> bool:
    try:
        if listener.type == socket.SOCK_DGRAM:
            listener.recv(100)
        else:
            listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def signal_name(number: int) -> str:
    """For messages."""
    return signal.Signals(number).name


# ── what most cases assert ──────────────────────────────────────────────────────────────────────────


def refused(room: Room, result: CellResult) -> str:
    """Nothing that was attempted worked, no secret was seen, and nothing outside was touched or reached."""
    assert "IT WORKED" not in result.output, result.output
    assert SECRET not in result.output
    assert room.untouched(), "something outside was changed"
    assert not room.was_reached(), "a socket of the host was reached"
    assert room.victim_lives, "a process of the host was ended"
    attempts = result.output.count(": ")
    assert attempts or result.end in {"died", "timed_out"}, result
    return result.output.splitlines()[0][:100] if result.output else result.end


def ended_as(*ends: str, saying: str = "") -> Callable[[Room, CellResult], str]:
    """The cell, and only it, ended in one of these ways; the model is informed."""

    def check(room: Room, result: CellResult) -> str:
        assert result.end in ends, result
        shown = " ".join((result.error or "", *result.notices, result.output))
        assert saying in shown, shown
        assert room.victim_lives
        return f"{result.end}: {(result.error or '')[:90]}"

    return check


def restored(*names: str) -> Callable[[Room, CellResult], str]:
    """The harness put these names back and said so."""

    def check(room: Room, result: CellResult) -> str:
        shown = " ".join(result.notices)
        for name in names:
            assert f"`{name}`" in shown, result
        return shown[:100]

    return check
