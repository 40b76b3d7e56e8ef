"""Compiles and evaluates the code of cells, with ``await`` at the top level. Runs inside the kernel process.

Every place that compiles a cell uses ``compiled``, so that all of them accept the same code. A cell's event
loop lives as long as the cell: nothing runs between cells, and a repeated cell behaves the same.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType
    from typing import Any

FLAGS = 0x2000  # ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, without the import of ``ast``
_COROUTINE = 0x80  # inspect.CO_COROUTINE
# Taken now: a cell may rebind them.
_compile, _eval = compile, eval


def compiled(source: Any, filename: str, mode: str = "exec", flags: int = 0) -> Any:
    """The code (or tree) of a cell. Raises what ``compile`` raises."""
    return _compile(source, filename, mode, flags | FLAGS, dont_inherit=True)


def awaits(code: CodeType) -> bool:
    """Whether ``code`` awaits at its top level, so that evaluating it returns a coroutine."""
    return bool(code.co_flags & _COROUTINE)


def evaluate(codes: Sequence[CodeType], namespace: dict[str, Any], cancelled: list[str]) -> object:
    """Run ``codes`` in order; returns the value of the last one.

    ``cancelled`` receives the names of tasks that were still running at the end, and were cancelled.
    """
    if any(map(awaits, codes)):
        from .event_loop import run

        return run(codes, namespace, cancelled)
    value: object = None
    for code in codes:
        value = _eval(code, namespace)
    return value
