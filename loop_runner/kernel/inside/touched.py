"""Which variables a cell may have touched, judged by the names in its code. Inside the kernel process.

Errs on the side of "touched": an unnecessary write costs only time. The one thing that must not happen is to
call a changed variable untouched. So code that reaches variables other than by their names (frames,
``globals()``, threads, hooks of the library) makes everything touched.
"""

from __future__ import annotations

from types import CodeType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# Ways to reach a variable without naming it, and places where code or objects are kept for later.
_BACK_WAYS = frozenset(
    {"__builtins__", "__closure__", "__code__", "__dict__", "__globals__", "__import__", "__main__"}
    | {"__self__", "__subclasses__", "_getframe", "asyncio", "atexit", "builtins", "cell_contents"}
    | {"concurrent", "contextvars", "ctypes", "currentframe", "eval", "exec", "exec_module", "f_globals"}
    | {"f_locals", "FINAL_VAR", "gc", "get_objects", "get_referrers", "gi_frame", "globals", "importlib"}
    | {"inspect", "locals", "logging", "multiprocessing", "pickle", "run_path", "runpy", "sched", "setattr"}
    | {"setprofile", "settrace", "signal", "sys", "tb_frame", "threading", "tracemalloc", "vars", "weakref"}
)


def words_of(code: CodeType) -> frozenset[str]:
    """Every name that ``code`` and its nested code may look up: globals, attributes, imports."""
    words = set(code.co_names)
    for constant in code.co_consts:
        if type(constant) is CodeType:
            words |= words_of(constant)
    return frozenset(words)


def reach(words: Iterable[str], parts: Iterable[tuple[Iterable[str], Iterable[str]]]) -> set[str] | None:
    """The names that running code with ``words`` in it may touch; None if that may be any name.

    ``parts``: for variables that hold code, (names, words of that code).
    """
    reached = set(words)
    left = [(set(names), set(their_words)) for names, their_words in parts]
    while True:
        if reached & _BACK_WAYS:
            return None
        called = [part for part in left if part[0] & reached]
        if not called:
            return reached
        left = [part for part in left if part not in called]
        for names, their_words in called:
            reached |= names | their_words
