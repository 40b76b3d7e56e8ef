"""The signals that stop a command: asked once it ends in order, asked twice it ends at once.

A signal that the parent process ignores stays ignored, as is the convention of Unix (``nohup``, and a shell
that starts a program in the background). The user is then shown which signal stops the run.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_STOP = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


@contextmanager
def handled(on_signal: Callable[[int, object], None], note: Callable[[str], None]) -> Iterator[None]:
    """Call ``on_signal`` for SIGINT and SIGTERM within the block; ``note`` gets a line if one is ignored."""
    ignored = [number for number in _STOP if signal.getsignal(number) is signal.SIG_IGN]
    if ignored:
        note(_explain(ignored))
    previous = {number: signal.signal(number, on_signal) for number in _STOP if number not in ignored}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def collect_exit_codes() -> None:
    """Undo an inherited SIGCHLD that is ignored: without it no program's exit code can be known."""
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _explain(ignored: list[signal.Signals]) -> str:
    """Which signals do not stop this process, why, and what does."""
    what = " and ".join(_STOP[number] for number in ignored)
    names = " and ".join(number.name for number in ignored)
    verb = "is" if len(ignored) == 1 else "are"
    if left := [number for number in _STOP if number not in ignored]:
        way = f"stop this run with kill -{left[0].name.removeprefix('SIG')} {os.getpid()}"
    else:
        way = f"only kill -KILL {os.getpid()} stops this run; resume continues it"
    return f"{what} {verb} ignored because the parent process ignores {names}; {way}"
