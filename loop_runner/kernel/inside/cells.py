"""Runs cells in the one namespace and repairs what they break. Runs inside the kernel process.

The namespace is the ``__dict__`` of ``__main__`` and lives as long as the process: functions see later
assignments, and a cell that raises keeps its earlier ones. Anything that the model's code does to builtins,
streams, signals or protected names is undone after the cell, with a notice for the model.
"""

from __future__ import annotations

import builtins
import os
import signal
import sys
from _ast import Expr, Expression, Module
from types import ModuleType

from .answer_box import AnswerBox
from .capture import MAX_KEPT_CHARS, Capture, Kept
from .cell_code import awaits, compiled, evaluate
from .cell_sources import offer
from .names import label
from .touched import words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, FrameType
    from typing import Any, NoReturn, TextIO

    from .helpers import Helpers
    from .lm_client import LmClient

_ONLY_AST = 0x400  # ast.PyCF_ONLY_AST, without the import of ``ast``
_MAX_TRACE_CHARS = 6000
_BALLAST_BYTES = 16 * 1024 * 1024
_RECURSION_LIMIT = 1000

_TASKS_IN_NOTICE = 5


class Leave:
    """`exit` and `quit`: end the cell, as `sys.exit` does. Without site-packages, Python has none."""

    def __init__(self, name: str) -> None:
        self.__name__ = self.__qualname__ = name
        self.__module__ = "builtins"

    def __call__(self, code: object = None) -> NoReturn:
        """End the cell; the kernel and its variables stay."""
        raise SystemExit(code)

    def __repr__(self) -> str:
        return f"Use {self.__name__}() to end the cell"

    def __reduce__(self) -> str:
        return self.__name__


vars(builtins).update(exit=Leave("exit"), quit=Leave("quit"))
# Taken now: a cell may rebind them, and repairs must still work.
_getpid, _exit = os.getpid, os._exit
_builtins = builtins.__dict__
_good_builtins = dict(_builtins)
_set_recursion_limit, _recursion_limit = sys.setrecursionlimit, sys.getrecursionlimit
_set_trace, _set_profile = sys.settrace, sys.setprofile
_signal = signal.signal
_SIGINT = signal.SIGINT
# What only the frames or the value of a cell held dies before the next cell: a warning about it, as of a
# coroutine that was never awaited, belongs to this cell, and names this place rather than one of our files.
_DROP = compile("left.clear()", "<end of the cell>", "exec")


def new_namespace() -> dict[str, Any]:
    """A fresh ``__main__``: pickle, dataclasses and typing look classes up there."""
    main = ModuleType("__main__")
    sys.modules["__main__"] = main
    main.__dict__["__builtins__"] = builtins
    return main.__dict__


class CellRunner:
    """Runs cells one after the other; knows what the namespace must look like between them."""

    def __init__(
        self,
        namespace: dict[str, Any],
        helpers: Helpers,
        answer: AnswerBox,
        models: LmClient,
        max_output_chars: int,
    ) -> None:
        self._namespace = namespace
        self._helpers = helpers
        self._answer = answer
        self._models = models
        self._max_output_chars = max_output_chars
        self._kept = Kept()
        self.streams = Capture(self._kept, 1, "<stdout>"), Capture(self._kept, 2, "<stderr>")
        self._pid = _getpid()
        self._in_cell = False
        self._left: list[object] = []  # what is to die at the end of the cell
        self._stdin: TextIO | None = None
        self._known_names: set[str] = set()
        self._words: set[str] = set()
        self._cancelled: list[str] = []  # names of tasks that a cell left running
        self._ballast: bytearray | None = bytearray(_BALLAST_BYTES)
        self.sources: dict[str, str] = {}  # "<cell 7>" → its code, for tracebacks
        namespace.update(helpers.protected | helpers.yielding)

    def run(self, number: int, source: str) -> dict[str, Any]:
        """Run one cell; returns the header of its ``done`` frame."""
        filename = self._label(number, source)
        self._prepare()
        error = self._run_guarded(filename, source)
        if _getpid() != self._pid:
            _exit(0)  # a process that the cell forked returned to this point; only the kernel may report
        notices = self._repair() + self._cancelled_tasks()
        end, trace, last_line = self._explain(error, notices)
        answer, answer_notices = self._answer.end_cell(raised=error is not None)
        self._left.append(error)
        del error
        exec(_DROP, {"left": self._left})  # noqa: S102 - our own code
        head, tail, missing = self._output(trace)
        added, removed = self._changed_names()
        return {
            "type": "done",
            "number": number,
            "end": end,
            "head": head,
            "tail": tail,
            "missing": missing,
            "trace": trace,
            "error": last_line,
            "answer": answer,
            "notices": notices + answer_notices,
            "added": added,
            "removed": removed,
        }

    def _label(self, number: int, source: str) -> str:
        """The cell's file name. Numbers start again in each pass, but functions keep their lines."""
        label, again = f"<cell {number}>", 1
        while self.sources.get(label, source) != source:
            again += 1
            label = f"<cell {number}.{again}>"
        self.sources[label] = source
        return label

    # ── before ──────────────────────────────────────────────────────────────────────────────────────

    def _prepare(self) -> None:
        sys.stdout, sys.stderr = self.streams
        if self._stdin is None or self._stdin.closed:
            self._stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123 - reading input ends at once
        sys.stdin = self._stdin
        _signal(_SIGINT, self._on_interrupt)
        self._answer.begin_cell()
        # Only before a real cell: one that is run again to rebuild a variable must not see "" instead.
        self._namespace.setdefault("last_output", "")
        if self._ballast is None:
            try:
                self._ballast = bytearray(_BALLAST_BYTES)
            except MemoryError:
                return

    def _on_interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self._in_cell and not self._models.hold_interrupt():
            raise KeyboardInterrupt

    # ── during ──────────────────────────────────────────────────────────────────────────────────────

    def _run_guarded(self, filename: str, source: str) -> BaseException | None:
        try:
            self._in_cell = True
            try:
                self._execute(filename, source)
            finally:
                self._in_cell = False
        except BaseException as error:  # noqa: BLE001 - the border: whatever the model's code raises is data
            self._ballast = None  # room for the work that follows a MemoryError
            return error
        return None

    def _execute(self, filename: str, source: str) -> None:
        tree = compiled(source, filename, flags=_ONLY_AST)
        last = tree.body[-1] if tree.body and type(tree.body[-1]) is Expr else None
        body = Module(tree.body[:-1] if last else tree.body, type_ignores=[])
        codes = [self._noted(compiled(body, filename))]
        if last is not None:
            codes.append(self._noted(compiled(Expression(last.value), filename, "eval")))
        offer(self.sources, self._words)
        value = evaluate(codes, self._namespace, self._cancelled)
        if last is not None and value is not None:
            self._show(value)
            self._left.append(value)

    def _noted(self, code: CodeType) -> CodeType:
        self._words |= words_of(code)
        if awaits(code):
            self._words.add("asyncio")  # code that waits on the loop may touch any variable
        return code

    def take_words(self) -> set[str]:
        """Every name in the code of the cells since the last call: the names they may have touched."""
        words, self._words = self._words, set()
        return words

    def _show(self, value: object) -> None:
        printed_form = getattr(type(value), "printed_form", None)  # of what a tool returned
        if printed_form is not None:
            self._kept.add(printed_form(value) + "\n")
            return
        text = repr(value if type(value) is not str else value[:MAX_KEPT_CHARS])
        self._kept.add(text + "\n")

    def _cancelled_tasks(self) -> list[str]:
        """The notices about tasks that the cell did not wait for."""
        names, self._cancelled = self._cancelled, []
        if not names:
            return []
        shown = ", ".join(label(name, 60) for name in names[:_TASKS_IN_NOTICE])
        more = f" and {len(names) - _TASKS_IN_NOTICE} more" if len(names) > _TASKS_IN_NOTICE else ""
        fault = f"tasks that were still running when the cell ended were cancelled ({shown}{more})"
        return [f"{fault}: await them in the cell that starts them"]

    # ── after ───────────────────────────────────────────────────────────────────────────────────────

    def _repair(self) -> list[str]:
        """Undo what would break the next cell or the runner; returns the notices for the model."""
        notices: list[str] = []
        if _recursion_limit() < _RECURSION_LIMIT:
            _set_recursion_limit(_RECURSION_LIMIT)
            notices.append("the recursion limit was restored")
        _set_trace(None)
        _set_profile(None)
        damaged = [name for name, value in _good_builtins.items() if _builtins.get(name, self) is not value]
        _builtins.update(_good_builtins)
        notices += [f"builtin `{name}` was restored" for name in damaged[:10] if name != "_"]
        sys.stdout, sys.stderr = self.streams
        namespace = self._namespace
        if namespace.get("__builtins__") is not builtins:
            namespace["__builtins__"] = builtins
            notices.append("`__builtins__` was restored")
        if "print" in namespace:
            del namespace["print"]
            notices.append("`print` was restored: your variable of that name is gone")
        for name, value in self._helpers.yielding.items():
            namespace.setdefault(name, value)
        for name, value in self._helpers.protected.items():
            if namespace.get(name, self) is not value:
                namespace[name] = value
                notices.append(f"`{name}` was restored: it cannot be changed or deleted")
        return notices

    def _explain(self, error: BaseException | None, notices: list[str]) -> tuple[str, str, str | None]:
        """How the cell ended, the traceback to show and its last line."""
        if error is None:
            return "ok", "", None
        if isinstance(error, SystemExit):
            notices.append("sys.exit() ended the cell; the kernel and its variables are kept")
        from .traces import describe

        trace, last_line = describe(error, self.sources)
        if len(trace) > _MAX_TRACE_CHARS:
            half = _MAX_TRACE_CHARS // 2
            trace = (
                f"{trace[:half]}\n  [… {len(trace) - 2 * half:,} characters of traceback …]\n{trace[-half:]}"
            )
        return "raised", trace, last_line

    def _output(self, trace: str) -> tuple[str, str, int]:
        """The printed text, cut to head and tail; the whole of it is in ``last_output``."""
        text, not_kept = self._kept.take()
        limit = self._max_output_chars
        self._namespace["last_output"] = text + trace
        if len(text) <= limit:
            return text, "", 0  # the host cuts the rest: it knows the whole
        half = limit // 2
        return text[:half], text[-half:], len(text) - 2 * half + not_kept

    def adopt_names(self) -> list[str]:
        """The current names, which the host knows from now on."""
        self._known_names = set(self._helpers.own_names())
        return sorted(self._known_names)

    def _changed_names(self) -> tuple[list[str], list[str]]:
        now = set(self._helpers.own_names())
        added, removed = sorted(now - self._known_names), sorted(self._known_names - now)
        self._known_names = now
        return added, removed
