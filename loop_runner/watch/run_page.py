"""``RunPage``: one run, as it is now. It follows the run's events in a thread and draws twice a second."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Footer, Input, Static, TabbedContent, TabPane

import loop_runner as lr
from loop_runner.watch import parts

_DRAW_S = 0.5
_STATUS_S = 1.0


class RunPage(Screen[None]):
    """The page of one run."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "note", "note"),
        Binding("p", "pause", "pause"),
        Binding("s", "stop", "stop"),
        Binding("a", "approve", "approve"),
        Binding("r", "reject", "reject"),
        Binding("escape", "back", "back"),
        Binding("question_mark", "explain", "help"),
    ]
    TABS = ("now", "passes", "variables", "answer", "notes")

    def __init__(self, run: lr.Run) -> None:
        super().__init__()
        self._handle = run
        self._view = lr.RunView()
        self._lock = threading.Lock()
        self._left = threading.Event()
        self._status = run.status()
        self._passes = run.passes if self._status.state != "unreadable" else ()
        self._variables: tuple[Any, ...] = ()
        self._before: dict[str, Any] = {}
        self._citations: tuple[Any, ...] = ()
        self._read_at: tuple[int, int] | None = None
        self._writing = "note"

    def compose(self) -> ComposeResult:
        """The head, the pass strip and the budget, and a tab for everything else."""
        yield Static(id="head", markup=False)
        yield Static(id="strip", markup=False)
        yield Static(id="budget", markup=False)
        with TabbedContent(*(name.capitalize() for name in self.TABS)):
            for name in self.TABS:
                with TabPane(name.capitalize(), id=name), VerticalScroll():
                    yield Static(id=f"{name}-text", markup=False)
        yield Static(id="says", markup=False)
        yield Input(id="note")
        yield Footer()

    def on_mount(self) -> None:
        """Begin to follow the run."""
        self.query_one("#note", Input).display = False
        for target in (self._follow, self._look):
            threading.Thread(target=target, daemon=True).start()
        self.set_interval(_DRAW_S, self._draw)
        self._draw()

    def on_unmount(self) -> None:
        """End the threads."""
        self._left.set()

    # ── what happens, in threads ────────────────────────────────────────────────────────────────────

    def _follow(self) -> None:
        seq = 0
        while not self._left.is_set():
            with contextlib.suppress(lr.LoopRunnerError, OSError):
                for event in self._handle.events(since=seq):
                    with self._lock:
                        self._view.apply(event)
                    seq = event.seq
                    if self._left.is_set():
                        return
            self._left.wait(_STATUS_S)  # it has ended; another process may continue it

    def _look(self) -> None:
        """Read the status, and what every turn changes, from time to time."""
        while not self._left.is_set():
            with contextlib.suppress(lr.LoopRunnerError, OSError):
                status = self._handle.status()
                place = (status.pass_number, status.turn)
                if place != self._read_at:
                    self._read_turn(place)
                self._status = status
            self._left.wait(_STATUS_S)

    def _read_turn(self, place: tuple[int, int]) -> None:
        variables, passes, citations = self._handle.variables, self._handle.passes, self._handle.citations
        before = {variable.name: variable for variable in self._variables}
        self._before, self._variables = before, variables
        self._passes, self._citations, self._read_at = passes, citations, place

    # ── drawing ─────────────────────────────────────────────────────────────────────────────────────

    def _draw(self) -> None:
        now, status = time.time(), self._status
        with self._lock:
            view = self._view
            texts = {
                "head": parts.head(status, view, now),
                "strip": parts.strip(self._passes, self.size.width),
                "budget": parts.budget(view.limits(now) if status.is_active else status.limits),
                "now-text": parts.now_part(view, now),
                "passes-text": parts.passes_part(self._passes),
                "variables-text": parts.variables_part(self._variables, self._before),
                "answer-text": parts.answer_part(status.answer, self._citations),
                "notes-text": parts.notes_part(view),
            }
        for name, shown in texts.items():
            self.query_one(f"#{name}", Static).update(shown)

    def says(self, what: str) -> None:
        """Show the answer to a key."""
        self.query_one("#says", Static).update(parts.safe(what, "cyan"))

    # ── keys ────────────────────────────────────────────────────────────────────────────────────────

    def action_note(self) -> None:
        """Write a note."""
        self._write("note", "a note for the model; Enter sends it, Esc drops it")

    def action_approve(self) -> None:
        """Approve the answer that the run waits with."""
        self._ask("approve")

    def action_reject(self) -> None:
        """Reject it, with a reason."""
        self._write("reject", "why it is rejected; Enter sends it, Esc drops it")

    def _write(self, what: str, placeholder: str) -> None:
        self._writing = what
        field = self.query_one("#note", Input)
        field.placeholder, field.display = placeholder, True
        field.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Send what was written."""
        self._close_note()
        if event.value.strip():
            self._ask(self._writing, event.value)

    def action_pause(self) -> None:
        """Pause the run, or end the pause."""
        self._ask("resume" if self._view.is_paused or self._handle.is_paused else "pause")

    def action_stop(self) -> None:
        """Stop the run after its turn."""
        self._ask("stop")

    def action_explain(self) -> None:
        """Say what the keys do."""
        self.says("n note for the model  p pause or go on  s stop after this turn  a, r decide  q leave")

    def action_back(self) -> None:
        """Drop the note, or go back to the list."""
        if self.query_one("#note", Input).display:
            self._close_note()
        elif len(self.app.screen_stack) > 2:
            self.app.pop_screen()

    def _close_note(self) -> None:
        field = self.query_one("#note", Input)
        field.value, field.display = "", False
        self.set_focus(None)

    def _ask(self, name: str, *args: str) -> None:
        try:
            placed = getattr(self._handle, name)(*args)
        except (lr.LoopRunnerError, OSError) as error:
            self.says(str(error).splitlines()[0])
        else:
            kept = "no process runs it: `resume` applies this"
            self.says(f"{name}: {'the run takes it at the end of this turn' if placed.is_running else kept}")
