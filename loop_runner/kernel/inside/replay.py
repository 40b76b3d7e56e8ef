"""Which cells made a variable, and running them again without an effect on anything. In the kernel process.

Generators, locks, connections cannot be written, but the cells that made them are there, and so are the
replies that their sub-calls got. ``plan`` tells from the names in the cells which of them are needed, on the
safe side. ``run_again`` runs those in order with the recorded replies: a cell that would write a file, start
a process or a thread, or ask a model something new ends the attempt.

Relies on nothing but the cells and their replies, so that the same run gives the same outcome everywhere.
"""

from __future__ import annotations

import ast
import builtins
import os
import resource
import symtable
import sys

from .cell_code import awaits, compiled, evaluate
from .touched import words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from types import CodeType, FrameType
    from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_FORBIDDEN = (
    "os.", "shutil.", "subprocess.", "socket.", "_posixsubprocess.", "ctypes.", "pty.", "fcntl.", "signal.",
    "_thread.start_new_thread", "mmap.", "winreg.", "syslog.", "tempfile.",
)  # fmt: skip
_HARMLESS = frozenset({"os.listdir", "os.scandir", "os.walk", "os.fwalk"})
# A cell with one of these may lead to any variable: it is always among the needed ones.
_ANY_NAME = frozenset({"eval", "exec", "globals", "locals", "vars", "__main__"})
_AF_UNIX = 1  # socket.AF_UNIX, without the import
MAX_GROUPS = 8  # that are tried; each may take seconds


class NotRepeatableError(BaseException):
    """The cells cannot be run again. Not an ``Exception``: the cells' own handlers must not catch it."""


class PastCell:
    """A cell that ran: its code, how it ended, and the names in it."""

    def __init__(self, number: int, code: str, end: str) -> None:
        self.number = number
        self.code = code
        self.end = end
        self.imports: list[ast.Import | ast.ImportFrom] = []
        self.imported: set[str] = set()
        self.bound: set[str] = set()
        self.names: set[str] = set()
        self.may_reach_any = False
        self._defined: dict[str, set[str]] = {}  # top-level function or class → the names in its statement
        try:
            tree = ast.parse(code)
            body = tree.body
            self.imports = [each for each in body if isinstance(each, ast.Import | ast.ImportFrom)]
            self._note_definitions(body)
            whole = compiled(code, "<cell>")
            plain = _without_awaits(tree) if awaits(whole) else code
            self._read(symtable.symtable(plain, "<cell>", "exec"), is_top=True)
            self.may_reach_any = bool(words_of(whole) & _ANY_NAME)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return  # it did not run then either

    def _note_definitions(self, body: list[ast.stmt]) -> None:
        for statement in body:
            if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                within = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
                self._defined.setdefault(statement.name, set()).update(within)

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

    def carries(self, needed: set[str], *, with_definitions: bool) -> set[str]:
        """The names that, when this cell runs, may come to lead to what ``needed`` leads to.

        All that it uses or binds; but not a function or class that mentions none of ``needed``, unless asked.
        """
        if with_definitions:
            return self.names
        return self.names - {name for name, within in self._defined.items() if not within & needed} | (
            self.names & needed
        )


class _Synchronous(ast.NodeTransformer):
    """The same names in the same scopes, without anything that is awaited."""

    def visit_Await(self, node: ast.Await) -> ast.AST:
        """Only what is awaited."""
        return self.visit(node.value)  # type: ignore[no-any-return]

    def visit_AsyncFor(self, node: ast.AsyncFor) -> ast.AST:
        """A plain loop."""
        return self.generic_visit(ast.For(**_fields(node)))

    def visit_AsyncWith(self, node: ast.AsyncWith) -> ast.AST:
        """A plain ``with``."""
        return self.generic_visit(ast.With(**_fields(node)))

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        """A plain comprehension."""
        return self.generic_visit(ast.comprehension(**{**_fields(node), "is_async": 0}))


def _fields(node: ast.AST) -> dict[str, Any]:
    return dict(ast.iter_fields(node)) | {"lineno": getattr(node, "lineno", 0), "col_offset": 0}


def _without_awaits(tree: ast.Module) -> str:
    """Source with the names of ``tree``. Symbol tables of Python 3.13 and later refuse a top-level await."""
    return ast.unparse(_Synchronous().visit(tree))


# ── which cells ─────────────────────────────────────────────────────────────────────────────────────


def plan(cells: Sequence[PastCell], wanted: Iterable[str], given: Iterable[str]) -> list[dict[str, Any]]:
    """How to make ``wanted``: groups of names whose cells overlap, none of which needs another's.

    A group is ``{"names", "tries", "why"}``; ``why`` it is hopeless, or "". The second try, ``{"cells":
    positions, "near": other names of those cells, "imports": statements}``, is for when the first brings
    along a class or function that cells use which it leaves out. ``given``: names that are always there.
    """
    bound = set().union(*(cell.bound for cell in cells))
    always = (set(given) | set(builtins.__dict__) | set().union(*(cell.imported for cell in cells))) - (
        bound - set(given)
    )
    groups: list[tuple[set[str], set[int]]] = []
    for name in wanted:
        names, positions = {name}, _closure(cells, {name}, always)
        apart = []
        for group in groups:
            if group[1] & positions:
                names, positions = names | group[0], positions | group[1]
            else:
                apart.append(group)
        groups = [*apart, (names, positions)]
    groups.sort(key=lambda group: min(group[0]))
    return [
        {
            "names": sorted(names),
            "tries": [
                _try(cells, names, each)
                for each in (positions, _closure(cells, names, always, with_definitions=True))
            ],
            "why": _hopeless(cells, positions, at),
        }
        for at, (names, positions) in enumerate(groups)
    ]


def _closure(
    cells: Sequence[PastCell], names: Iterable[str], always: set[str], *, with_definitions: bool = False
) -> set[int]:
    """The positions of the cells that ``names`` may depend on."""
    needed = set(names)
    found: set[int] = set()
    while True:
        before = len(found), len(needed)
        for at, cell in enumerate(cells):
            if cell.end != "died" and (at in found or cell.may_reach_any or cell.names & needed):
                found.add(at)
                needed |= cell.carries(needed, with_definitions=with_definitions) - always
        if before == (len(found), len(needed)):
            return found


def _hopeless(cells: Sequence[PastCell], positions: set[int], at: int) -> str:
    if at >= MAX_GROUPS:
        return "too many others have to be made again, too"
    if any(cells[position].end == "timed_out" for position in positions):
        return "a cell that is needed for it ran out of time"
    return ""


def _try(cells: Sequence[PastCell], names: set[str], positions: set[int]) -> dict[str, Any]:
    used = set().union(*(cells[at].names for at in positions))
    return {
        "cells": sorted(positions),
        "near": sorted(used - names),
        "imports": list(dict.fromkeys(_imports(cells, used))),
    }


def _imports(cells: Sequence[PastCell], used: set[str]) -> Iterator[str]:
    """The import statements of all cells that bind a name in ``used``."""
    for cell in cells:
        for statement in cell.imports if cell.end != "died" else ():
            if any((each.asname or each.name.partition(".")[0]) in used | {"*"} for each in statement.names):
                yield ast.unparse(statement)


# ── running them ────────────────────────────────────────────────────────────────────────────────────


def run_again(
    one_try: Mapping[str, Any],
    namespace: dict[str, Any],
    serve: Callable[[list[tuple[str, str]] | None], None],
    sources: Mapping[str, str],
    workspace: str,
) -> None:
    """Run the cells of one try in ``namespace``. Raises ``NotRepeatableError``.

    Here each of ``one_try["cells"]`` is ``[number, code, end, [[prompt, reply], …]]``. ``serve`` is given the
    recorded replies of each cell before it runs, and None in the end. ``sources``: label → code of cells
    that saved functions come from; the same code gets the same label, so that equal functions are equal.
    Modules below ``workspace`` are the model's own and are held to what its cells are held to.
    """
    threads = len(sys._current_frames())  # noqa: SLF001 - starting one is no audit event before Python 3.12
    try:
        with _Guard(workspace):
            for statement in one_try["imports"]:  # modules that cells use which are not needed otherwise
                _run_import(statement, namespace)
            for number, code, end, replies in one_try["cells"]:
                serve(replies)
                _run(compile_cell(code, _label(number, code, sources)), end, namespace)
                if len(sys._current_frames()) > threads:  # noqa: SLF001
                    raise NotRepeatableError("a cell that is needed for it starts a thread")
    finally:
        serve(None)


def _label(number: int, code: str, sources: Mapping[str, str]) -> str:
    label = f"<cell {number}>"
    again = [each for each in sources if each.startswith(f"<cell {number}.") and sources[each] == code]
    return again[0] if again and sources.get(label, code) != code else label


def compile_cell(code: str, label: str) -> CodeType | None:
    """``code`` ready to run; None when it is no Python."""
    try:
        return compiled(code, label)  # type: ignore[no-any-return]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _run_import(statement: str, namespace: dict[str, Any]) -> None:
    try:
        exec(compile(statement, "<imports>", "exec", dont_inherit=True), namespace)  # noqa: S102 - as a cell is
    except Exception:  # noqa: BLE001 - it may have failed then, too; whoever needs it will say so
        return


def _run(code: CodeType | None, end: str, namespace: dict[str, Any]) -> None:
    if end == "timed_out":
        raise NotRepeatableError("a cell that is needed for it ran out of time")
    if code is None:
        return
    try:
        evaluate([code], namespace, [])
    except NotRepeatableError:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever the model's code raises
        if end == "ok":
            name = type.__dict__["__name__"].__get__(type(error))
            raise NotRepeatableError(f"running a cell again that it needs raised {name}") from None
    else:
        if end == "raised":
            raise NotRepeatableError("a cell that is needed for it failed then and does not now")


class _Guard:
    """While it is entered, what would be felt outside the process is refused."""

    _is_on = False
    _is_installed = False
    _workspace = ""

    def __init__(self, workspace: str) -> None:
        _Guard._workspace = workspace

    def __enter__(self) -> None:
        if not _Guard._is_installed:
            sys.addaudithook(_Guard.check)
            _Guard._is_installed = True
        # Also against what writes without telling Python: no file can grow.
        self._limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, self._limits[1]))
        _Guard._is_on = True

    def __exit__(self, *_: object) -> None:
        _Guard._is_on = False
        resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)

    @staticmethod
    def check(event: str, args: tuple[Any, ...]) -> None:
        """The audit hook: Python tells it before it acts."""
        if (
            _Guard._is_on
            and (why := _felt_outside(event, args))
            and not _imports_installed(_Guard._workspace)
        ):
            raise NotRepeatableError(f"a cell that is needed for it {why}")


def _felt_outside(event: str, args: tuple[Any, ...]) -> str:
    """What the event does that others than this process would feel; "" for nothing."""
    if event in _HARMLESS:
        return ""
    if event == "open":
        mode, flags = args[1], args[2]
        is_writing = (type(mode) is str and set(mode) & set("wax+")) or (
            type(flags) is int and flags & _WRITES
        )
        return "writes files" if is_writing else ""
    if (
        event == "socket.__new__"
    ):  # an event loop wakes itself up by a pair; using another one is an event too
        return "" if args[1] == _AF_UNIX else f"acts outside the kernel ({event})"
    if event == "sqlite3.connect":
        return "" if args[0] == ":memory:" else "opens a database file"
    return f"acts outside the kernel ({event})" if event.startswith(_FORBIDDEN) else ""


def _imports_installed(workspace: str) -> bool:
    """Whether an installed module is being imported: whether it was before must make no difference."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001
    while frame is not None:
        if frame.f_code.co_name == "_load_unlocked" and "importlib" in frame.f_code.co_filename:
            origin = getattr(frame.f_locals.get("spec"), "origin", None)
            return type(origin) is str and not origin.startswith(workspace)
        frame = frame.f_back
    return False
