"""Makes variables again that cannot be written: by running the cells that made them. In the kernel process.

Generators, locks, connections: there is no way to save them, but the cells are there and so are the replies
that their sub-calls got. Which cells are needed is told from the names in them, on the safe side. They run in
order, with the recorded replies and without any effect outside the process: a cell that would write a file,
start a process or a thread, or ask a model something new ends the attempt, and the variables are lost.
"""

from __future__ import annotations

import ast
import builtins
import os
import symtable
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_FORBIDDEN = (
    "os.", "shutil.", "subprocess.", "socket.", "_posixsubprocess.", "ctypes.", "pty.", "fcntl.", "signal.",
    "_thread.start_new_thread", "mmap.", "winreg.", "syslog.", "tempfile.",
)  # fmt: skip
_HARMLESS = frozenset({"os.listdir", "os.scandir", "os.walk", "os.fwalk"})


class NotRepeatableError(BaseException):
    """The cells cannot be run again. Not an ``Exception``: the cells' own handlers must not catch it."""


class PastCell:
    """A cell that ran: its code, how it ended, and the replies that its sub-calls got, by prompt."""

    def __init__(self, said: Mapping[str, Any]) -> None:
        self.code: str = said["code"]
        self.end: str = said["end"]
        self.replies: list[tuple[str, str]] = [(prompt, reply) for prompt, reply in said["replies"]]
        self.imports: list[ast.stmt] = []
        self.imported: set[str] = set()
        self.bound: set[str] = set()
        self.names: set[str] = set()
        self._defined: dict[str, set[str]] = {}  # top-level function or class → the names in its statement
        try:
            body = ast.parse(self.code).body
            self.imports = [each for each in body if isinstance(each, ast.Import | ast.ImportFrom)]
            self._note_definitions(body)
            self._read(symtable.symtable(self.code, "<cell>", "exec"), is_top=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return  # it did not run then either

    def _note_definitions(self, body: list[ast.stmt]) -> None:
        for statement in body:
            if isinstance(statement, ast.FunctionDef | ast.ClassDef):
                within = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
                self._defined.setdefault(statement.name, set()).update(within)

    def carries(self, needed: set[str]) -> set[str]:
        """The names that, when this cell runs, may come to lead to what ``needed`` leads to.

        All that it uses or binds; but not a function or class that mentions none of ``needed``.
        """
        return self.names - {name for name, within in self._defined.items() if not within & needed} | (
            self.names & needed
        )

    def _read(self, scope: symtable.SymbolTable, *, is_top: bool = False) -> None:
        """Note the names of the namespace that the code of ``scope`` uses; its own locals are none."""
        for symbol in scope.get_symbols():
            if is_top or symbol.is_global():
                self.names.add(symbol.get_name())
                if symbol.is_imported():
                    self.imported.add(symbol.get_name())
                elif symbol.is_assigned():
                    self.bound.add(symbol.get_name())
        for inner in scope.get_children():
            self._read(inner)


def needed_cells(cells: list[PastCell], wanted: Iterable[str], given: Iterable[str]) -> list[int]:
    """The positions of the cells that ``wanted`` may depend on. ``given``: names that are always there."""
    bound = set().union(*(cell.bound for cell in cells))
    always = set(given) | set(builtins.__dict__)
    always |= set().union(*(cell.imported for cell in cells)) - bound
    always -= bound - set(given)
    needed = set(wanted)
    found: set[int] = set()
    while True:
        before = len(found), len(needed)
        for at, cell in enumerate(cells):
            if cell.end != "died" and (at in found or cell.names & needed):
                found.add(at)
                needed |= cell.carries(needed) - always
        if before == (len(found), len(needed)):
            return sorted(found)


def run_again(
    cells: list[PastCell],
    positions: list[int],
    namespace: dict[str, Any],
    serve: Callable[[list[tuple[str, str]] | None], None],
) -> None:
    """Run the cells at ``positions`` in ``namespace``. Raises ``NotRepeatableError``.

    ``serve`` is given the recorded replies of each cell before it runs, and None in the end.
    """
    for at in positions:
        if cells[at].end == "timed_out":
            raise NotRepeatableError("a cell that is needed for it ran out of time")
    guard = _Guard()
    threads = len(sys._current_frames())  # noqa: SLF001 - starting one is no audit event before Python 3.12
    try:
        for cell in cells:  # imports of cells that are not needed may be of modules that are
            _imports(cell, namespace)
        for at in positions:
            serve(cells[at].replies)
            with guard:
                _run(cells[at], at, namespace)
                if len(sys._current_frames()) > threads:  # noqa: SLF001
                    raise NotRepeatableError("a cell that is needed for it starts a thread")
    finally:
        serve(None)


def _imports(cell: PastCell, namespace: dict[str, Any]) -> None:
    if cell.end == "died":
        return
    for statement in cell.imports:
        module = ast.Module([statement], type_ignores=[])
        try:
            exec(compile(module, "<imports>", "exec", dont_inherit=True), namespace)  # noqa: S102 - as a cell is
        except Exception:  # noqa: BLE001, S112 - it may have failed then, too; whoever needs it will say so
            continue


def _run(cell: PastCell, at: int, namespace: dict[str, Any]) -> None:
    try:
        code = compile(cell.code, f"<earlier cell {at + 1}>", "exec", dont_inherit=True)
        exec(code, namespace)  # noqa: S102 - as a cell is
    except NotRepeatableError:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever the model's code raises
        if cell.end == "ok":
            name = type.__dict__["__name__"].__get__(type(error))
            raise NotRepeatableError(f"running a cell again that it needs raised {name}") from None


class _Guard:
    """While it is entered, what would be felt outside the process is refused."""

    _is_on = False
    _is_installed = False

    def __enter__(self) -> None:
        if not _Guard._is_installed:
            sys.addaudithook(_Guard.check)
            _Guard._is_installed = True
        _Guard._is_on = True

    def __exit__(self, *_: object) -> None:
        _Guard._is_on = False

    @staticmethod
    def check(event: str, args: tuple[Any, ...]) -> None:
        """The audit hook: Python tells it before it acts."""
        if not _Guard._is_on or event in _HARMLESS:
            return
        if event == "open":
            mode, flags = args[1], args[2]
            if (type(mode) is str and set(mode) & set("wax+")) or (type(flags) is int and flags & _WRITES):
                raise NotRepeatableError("a cell that is needed for it writes files")
        elif event == "sqlite3.connect":
            if args[0] != ":memory:":
                raise NotRepeatableError("a cell that is needed for it opens a database file")
        elif event.startswith(_FORBIDDEN):
            raise NotRepeatableError(f"a cell that is needed for it acts outside the kernel ({event})")
