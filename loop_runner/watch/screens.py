"""``WatchApp``: all runs as a list, and a page for the one that is chosen."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import DataTable, Footer, Static

import loop_runner as lr
from loop_runner.watch import parts
from loop_runner.watch.run_page import RunPage

_LOOK_S = 2.0
_SCROLLBAR = 2
_COLUMNS = ("run", "state", "pass", "last event", "USD", "what")


class _Runs(DataTable[Text]):
    """The table, whose key for opening a run is in the last line of the screen."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "select_cursor", "open")]


class RunList(Screen[None]):
    """All runs of a folder, the newest first."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._matches: list[lr.Status] = []
        self._left = threading.Event()

    def compose(self) -> ComposeResult:
        """A table, and a line for what it lacks."""
        yield Static(id="title", markup=False)
        yield _Runs(cursor_type="row", zebra_stripes=False)
        yield Footer()

    def on_mount(self) -> None:
        """Fill the table, and look again from time to time."""
        self.query_one(DataTable).add_columns(*_COLUMNS)
        self.query_one(DataTable).focus()
        threading.Thread(target=self._look, daemon=True).start()

    def on_unmount(self) -> None:
        """End the thread."""
        self._left.set()

    def _look(self) -> None:
        while not self._left.is_set():
            try:
                result = lr.list_runs(self._folder)
            except (lr.LoopRunnerError, OSError) as error:
                self._call(self._title, str(error).splitlines()[0])
            else:
                self._call(self._fill, result)
            self._left.wait(_LOOK_S)

    def _call(self, do: object, *args: object) -> None:
        if not self._left.is_set() and self.is_running:
            self.app.call_from_thread(do, *args)  # type: ignore[arg-type]

    def _fill(self, result: list[lr.Status]) -> None:
        table: DataTable[Text] = self.query_one(DataTable)
        row = table.cursor_row
        self._matches = result
        table.clear(columns=True)  # a column never becomes narrower
        table.add_columns(*_COLUMNS)
        for row_cells in fitted([_cells(status) for status in result], self.size.width):
            table.add_row(*row_cells)
        table.move_cursor(row=min(row, max(len(result) - 1, 0)))
        count = f"{len(result)} run{'' if len(result) == 1 else 's'} in {self._folder}"
        self._title(
            count if result else f"no runs in {self._folder}: start one with loop-runner run TASK.yaml"
        )

    def on_resize(self) -> None:
        """Fit the lines to the new width."""
        if self._matches:
            self._fill(self._matches)

    def _title(self, line: str) -> None:
        self.query_one("#title", Static).update(parts.safe(line, "bold"))

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Open the page of the run."""
        if event.cursor_row < len(self._matches):
            status = self._matches[event.cursor_row]
            if status.state == "unreadable":
                self._title(f"{status.folder} cannot be read: {status.reason}")
            else:
                self.app.push_screen(RunPage(lr.Run(status.folder)))


def _cells(status: lr.Status) -> list[Text]:
    usd = status.spend.usd
    age = "" if status.age_s is None else _short(status.age_s)
    what = str(status.activity) or status.reason or " ".join(status.answer.split())
    turn = f".{status.turn}" if status.turn else ""
    shown = [status.folder.name, status.state, f"{status.pass_number}{turn}", age]
    shown += ["?" if usd is None else f"{usd:.4f}", what[:300]]
    cells = [parts.safe(value) for value in shown]
    cells[1].stylize(parts.state_style(status.state))
    return cells


def fitted(rows: list[list[Text]], width: int) -> list[list[Text]]:
    """``rows`` with long names and what they say last cut, so that they need no more than ``width``."""
    for row in rows:
        row[0].truncate(max(width // 4, 12), overflow="ellipsis")
    columns = [
        max([len(title), *(row[number].cell_len for row in rows)])
        for number, title in enumerate(_COLUMNS[:-1])
    ]
    left = width - sum(columns) - 2 * len(_COLUMNS) - _SCROLLBAR
    for row in rows:
        row[-1].truncate(max(left, len(_COLUMNS[-1])), overflow="ellipsis")
    return rows


def _short(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


class WatchApp(App[None]):
    """Shows runs until the user leaves; what they do is not changed by it."""

    TITLE = "loop-runner"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head, #strip, #budget, #title, #says { height: auto; padding: 0 1; }
    TabbedContent { height: 1fr; }
    DataTable { height: 1fr; }
    #note { dock: bottom; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("q", "quit", "leave")]

    def __init__(self, folder: Path, run: lr.Run | None = None) -> None:
        super().__init__()
        self._folder = folder
        self._run_shown = run

    def on_mount(self) -> None:
        """Show the list, or the page of the run that was named."""
        self.push_screen(RunList(self._folder) if self._run_shown is None else RunPage(self._run_shown))
