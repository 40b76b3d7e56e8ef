"""The block of lines at the bottom of a terminal while a run runs, and which display a command uses.

Owns the block, its keys and the settings of the terminal while keys are read. What there is to see comes from
``lr.RunView``; lines that stay are those of ``display.Progress``. Text of a model or an input is escaped and
is never markup. rich is imported here, so only a terminal pays for it.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import select
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TextIO

import loop_runner as lr
from loop_runner import text
from loop_runner.cli import output, terminal
from loop_runner.cli.display import Progress
from loop_runner.errors import LoopRunnerError

if TYPE_CHECKING:
    from loop_runner.inputs import long_steps

Display = Literal["live", "plain", "json"]
DISPLAYS = ("auto", "live", "plain", "json")
_TICK_S = 0.4
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_KEYS = "n note   p pause   s stop   ? help"
_HELP = "n note to the model   p pause or go on   s stop after this turn   Ctrl-C now"
_STAYING = frozenset({"run_started", "pass_ended", "notice", "child_finished", "operator"})


def chosen(wanted: str, env: Mapping[str, str]) -> Display:
    """The display to use: the one that is ``wanted``, else a block where the terminal can show it."""
    if wanted in ("live", "plain", "json"):
        return wanted  # type: ignore[return-value]
    is_plain = bool(env.get("CI")) or not terminal.has_colour(sys.stderr)
    return "plain" if is_plain or not terminal.columns(sys.stderr) else "live"


@contextmanager
def shown(
    display: Display, progress: Progress, folder: Path | None, stop: Callable[[], object]
) -> Iterator[Callable[[lr.Event], None]]:
    """What shows the events of a run; ``stop`` asks the run to stop, where its folder cannot be asked."""
    if display == "json":
        yield _as_json
    elif display == "plain":
        yield progress
    else:
        with Block(progress, folder, stop) as block:
            yield block


def _as_json(event: lr.Event) -> None:
    """The event as one line, as `log --follow --json` prints it."""
    output.note(json.dumps({"version": output.JSON_VERSION, **event.to_line()}))


class Block:
    """Lines that are drawn again while the run runs, below those that stay."""

    def __init__(
        self,
        progress: Progress,
        folder: Path | None,
        stop: Callable[[], object],
        stream: TextIO | None = None,
    ) -> None:
        """``stop`` asks the run to stop while it has no folder; ``stream``: None for standard error."""
        self._stream = stream
        self._progress = progress
        self._folder = folder
        self._stop = stop
        self._view = lr.RunView()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._says = ""  # the answer to the last key
        self._typed: str | None = None  # a note that is being written
        self._waiting: list[str] = []  # lines that stay, and are not printed yet
        self._long_step: long_steps.Step | None = None  # what is done before the run, or beside it

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.live import Live

        from loop_runner.inputs import long_steps

        self._console = Console(
            file=self._stream or sys.stderr,
            force_terminal=True,
            highlight=False,
            markup=False,
            emoji=False,
        )
        self._live = Live(console=self._console, auto_refresh=False, transient=True, redirect_stdout=False)
        self._live.start()
        self._listening = long_steps.listening(self._on_long_step)
        self._listening.__enter__()
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._draw, self._read)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._listening.__exit__(None, None, None)
        for thread in self._threads:
            thread.join(2)
        self._print_waiting()
        self._live.stop()

    def __call__(self, event: lr.Event) -> None:
        """Take in one event. The run waits meanwhile, so nothing is drawn here."""
        if self._folder is None and isinstance(event, lr.types.RunStarted):
            self._folder = Path(event.run)
        line = self._progress.line(event)
        with self._lock:
            self._view.apply(event)
            if event.kind == "operator":
                self._says = ""  # its answer stays above the block
            if line is not None and (event.kind in _STAYING or self._progress.is_verbose):
                self._waiting.append(line)

    def _on_long_step(self, step: long_steps.Step | None) -> None:
        self._long_step = step

    # ── drawing ─────────────────────────────────────────────────────────────────────────────────────

    def _draw(self) -> None:
        step = 0
        while not self._ended.wait(_TICK_S):
            step += 1
            with contextlib.suppress(OSError, ValueError):  # the terminal may be gone: the run is not
                self._print_waiting()
                self._live.update(self._lines(step), refresh=True)

    def _print_waiting(self) -> None:
        with self._lock:
            lines, self._waiting = self._waiting, []
        for line in lines:
            self._console.print(terminal.wrapped(output.safe(line), self._console.width), soft_wrap=True)

    def _lines(self, step: int) -> Any:
        from rich.text import Text

        now = time.time()
        with self._lock:
            lines = list(lines_of(self._view, now, self._console.width))
            says, typed = self._says, self._typed
        if (long_step := self._long_step) is not None:
            share = text.bar(long_step.share)
            lines.insert(1, (f"  {long_step.what:<10} {share} {long_step}", ""))
        lines[0] = (f"{_SPINNER[step % len(_SPINNER)]} {lines[0][0]}", lines[0][1])
        if typed is not None:
            lines.append((f"note: {typed}▏  (Enter sends it, Esc drops it)", "bold"))
        lines.append((says or _KEYS, "dim"))
        shown_lines = [Text(_fitting(line, self._console.width), style=style) for line, style in lines]
        return Text("\n").join(shown_lines)

    # ── keys ────────────────────────────────────────────────────────────────────────────────────────

    def _read(self) -> None:
        with keys_of(sys.stdin) as fd:
            if fd is None:
                return
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            while not self._ended.is_set():
                if select.select([fd], [], [], _TICK_S)[0]:
                    data = os.read(fd, 1024)
                    if not data:
                        return
                    for key in decoder.decode(data):
                        self._on_key(key)

    def _on_key(self, key: str) -> None:
        if self._typed is not None:
            self._type(key)
        elif key == "n":
            self._typed, self._says = "", ""
        elif key == "p":
            self._ask("resume" if self._is_paused() else "pause")
        elif key == "s":
            if not self._ask("stop"):
                self._stop()
                self._says = "stopping: replies on their way are kept"
        elif key == "?":
            self._says = "" if self._says == _HELP else _HELP

    def _is_paused(self) -> bool:
        """Whether it is paused, or was asked to pause."""
        if self._view.is_paused:
            return True
        with contextlib.suppress(LoopRunnerError, OSError):
            return self._folder is not None and lr.Run(self._folder).is_paused
        return False

    def _type(self, key: str) -> None:
        typed = self._typed or ""
        if key in "\r\n":
            self._typed = None
            if typed.strip():
                self._ask("note", typed)
        elif key == "\x1b":
            self._typed = None
        elif key in "\x7f\b":
            self._typed = typed[:-1]
        elif key.isprintable():
            self._typed = typed + key

    def _ask(self, name: str, *args: str) -> bool:
        """Ask the run for ``name``; False where there is no run folder that could be asked."""
        try:
            if self._folder is None or not (self._folder / ".git").is_dir():
                self._says = f"{name}: the run has not begun"
                return False
            getattr(lr.Run(self._folder), name)(*args)
        except (LoopRunnerError, OSError) as error:
            self._says = str(error).splitlines()[0]
            return True
        self._says = f"{name}: the run takes it at the end of this turn"
        return True


def lines_of(view: lr.RunView, now: float, width: int) -> Iterator[tuple[str, str]]:
    """The lines of the block with their styles; what an input or a model wrote is escaped."""
    limits = {limit.name: limit for limit in view.limits(now)}
    places = [_place(name, limits.get(f"{name}s"), number) for name, number in _places(view)]
    activity = view.activity(now)
    yield " · ".join([*places, str(activity) or "starting"]), "bold"
    if activity.subcalls:
        share = (activity.answered + activity.failed) / activity.subcalls
        failed = f", {activity.failed:,} failed" if activity.failed else ""
        done = f"{activity.answered:,} of {activity.subcalls:,}, {activity.out:,} in flight{failed}"
        yield f"  sub-calls {text.bar(share)} {done}", "red" if activity.failed else ""
    for name in ("usd", "tokens", "wall", "subcalls", "passes"):
        limit = limits.get(name)
        if limit is not None and limit.share is not None:
            yield f"  {name:<9} {text.bar(limit.share)} {limit}", "yellow" if limit.share >= 0.8 else ""
    last = view.last_verdict
    if last is not None and last.outcome == "rejected":
        yield f"  pass {last.number} was rejected: {text.one_line(last.reason, max(width, 40))}", "yellow"
    for sign in view.anomalies(now):
        yield f"  look: {text.one_line(sign.text, 200)}", "red"
    if view.waits_for:
        yield f"  waits: {text.one_line(view.waits_for, 200)}", "magenta"


def _places(view: lr.RunView) -> Iterator[tuple[str, int]]:
    if view.pass_number:
        yield "pass", view.pass_number
    if view.turn:
        yield "turn", view.turn


def _place(name: str, limit: Any, number: int) -> str:
    return f"{name} {number}" + (f" of {limit.limit:g}" if limit is not None and limit.limit else "")


def _fitting(line: str, width: int) -> str:
    """One line of the block: what does not fit is cut, or the block would grow."""
    safe = output.safe(line)
    return safe if len(safe) < width else safe[: max(width - 2, 1)] + "…"


@contextmanager
def keys_of(stream: Any) -> Iterator[int | None]:
    """A descriptor from which single keys can be read; None where a person cannot type here.

    The terminal's settings are restored at the end, and when the process is ended in a hurry. A process in
    the background leaves the terminal alone: a change would stop it.
    """
    try:
        fd = stream.fileno()
        is_ours = os.isatty(fd) and os.tcgetpgrp(fd) == os.getpgrp()
        before = termios.tcgetattr(fd) if is_ours else []
    except (OSError, ValueError, AttributeError, termios.error):
        is_ours = False
    if not is_ours:
        yield None
        return
    changed = termios.tcgetattr(fd)
    changed[3] &= ~(termios.ICANON | termios.ECHO)
    termios.tcsetattr(fd, termios.TCSADRAIN, changed)

    def restore() -> None:
        with contextlib.suppress(termios.error, OSError):
            if os.tcgetpgrp(fd) == os.getpgrp():
                termios.tcsetattr(fd, termios.TCSADRAIN, before)

    from loop_runner.cli import signals

    signals.at_hurried_exit.append(restore)
    try:
        yield fd
    finally:
        signals.at_hurried_exit.remove(restore)
        restore()
