"""The signals that stop a command: after the first it sends nothing more, after the second it hurries.

A signal that the parent process ignores stays ignored, as is the convention of Unix (``nohup``, and a shell
that starts a program in the background). The user is then shown which signal stops the run.
"""

from __future__ import annotations

import os
import shlex
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import loop_runner as lr

_STOP = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}
_STOPPING = (signal.SIGINT, signal.SIGTERM)  # expected to stop it; SIGHUP is ignored under nohup
_HURRY_S = 1.5  # from the second signal to the end, whatever hangs
at_hurried_exit: list[Callable[[], None]] = []  # what restores the terminal
_FIRST = b"\nstopping: no new request is sent, and replies on their way are kept; once more to hurry\n"


@contextmanager
def handled(on_signal: Callable[[int, object], None], note: Callable[[str], None]) -> Iterator[None]:
    """Call ``on_signal`` for SIGINT, SIGTERM and SIGHUP; ``note`` gets a line if one is ignored."""
    ignored = [number for number in _STOP if signal.getsignal(number) is signal.SIG_IGN]
    if explained := [number for number in ignored if number in _STOPPING]:
        note(_explain(explained))
    previous = {number: signal.signal(number, on_signal) for number in _STOP if number not in ignored}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def stopping(stop: lr.Stop, note: Callable[[str], None], run: Callable[[], Path | None]) -> Iterator[None]:
    """Let signals set ``stop`` within the block; a second one names the folder that ``run`` gives."""

    def on_signal(_number: int, _frame: object) -> None:
        times = stop.ask()
        if times > 2:
            _end_now()  # the kernel and a local model die with this process; what is committed is safe
        _print(_FIRST if times == 1 else _second(run()))
        if times == 2:
            end = threading.Timer(_HURRY_S, _end_now)
            end.daemon = True
            end.start()

    with handled(on_signal, note):
        yield


def _end_now() -> None:
    for restore in at_hurried_exit:
        restore()
    os._exit(130)


def _print(line: bytes) -> None:
    with suppress(OSError):  # the terminal may be gone
        os.write(2, line)


def _second(run: Path | None) -> bytes:
    command = f"loop-runner resume {shlex.quote(str(run))}" if run else "loop-runner resume RUN"
    return (
        "\nstopping now: every committed turn and every reply that has arrived is kept; requests that are"
        f" still open are abandoned, and may be billed\ncontinue with: {command}\n"
    ).encode("utf-8", "surrogateescape")


def collect_exit_codes() -> None:
    """Undo an inherited, ignored SIGCHLD: with it no program's exit code can be known."""
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _explain(ignored: list[signal.Signals]) -> str:
    """Which signals do not stop this process, why, and what does."""
    what = " and ".join(_STOP[number] for number in ignored)
    names = " and ".join(number.name for number in ignored)
    verb = "is" if len(ignored) == 1 else "are"
    if left := [number for number in _STOPPING if number not in ignored]:
        way = f"stop this run with kill -{left[0].name.removeprefix('SIG')} {os.getpid()}"
    else:
        way = f"only kill -KILL {os.getpid()} stops this run; resume continues it"
    return f"{what} {verb} ignored because the parent process ignores {names}; {way}"
