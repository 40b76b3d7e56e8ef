"""Finds the places of a file that an audit's rule is about. Runs inside the kernel process.

Owns the pre-filters: a regular expression, a query on the syntax tree, or none, which means the whole file
in windows. The files are hostile: they are parsed here, where a crash of the parser costs one cell, and are
never run.
"""

from __future__ import annotations

import ast
import re
from fnmatch import fnmatchcase
from functools import lru_cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

    Span = tuple[int, int]  # first and last line, from 1

_MAX_MATCHED_CHARS = 20_000  # of a line: a pattern may never finish on a longer one
_MAX_NODE_LINES = 12  # to judge, for a node that is neither a function nor a handler
_OVERLAP = 10  # lines that two windows share
PYTHON = (".py", ".pyi", ".pyw")
UNPARSABLE = (SyntaxError, ValueError, RecursionError, MemoryError)  # raised by ``parsed``
_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def spans(rule: Mapping[str, Any], name: str, text: str, window_lines: int) -> tuple[list[Span], str]:
    """The places that ``rule`` is about, and why some could not be searched ("" if all were)."""
    if rule["regex"]:
        return _matching(rule["regex"], lines_of(text))
    if rule["ast"]:
        return _nodes(rule["ast"], text) if name.endswith(PYTHON) else ([], "")
    return list(_windows(len(lines_of(text)), window_lines)), ""


@lru_cache(maxsize=4)
def lines_of(text: str) -> list[str]:
    """The lines of ``text``; they end at line feeds only, as everywhere in loop-runner."""
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines[:-1] if len(lines) > 1 and not lines[-1] else lines


def _matching(pattern: str, lines: list[str]) -> tuple[list[Span], str]:
    search = re.compile(pattern).search
    matched = [
        (number, number)
        for number, line in enumerate(lines, 1)
        if len(line) <= _MAX_MATCHED_CHARS and search(line)
    ]
    long = sum(len(line) > _MAX_MATCHED_CHARS for line in lines)
    lines_have = "1 line has" if long == 1 else f"{long:,} lines have"
    return matched, f"{lines_have} over {_MAX_MATCHED_CHARS:,} characters: not matched" if long else ""


def _windows(total: int, size: int) -> Iterator[Span]:
    first = 1
    while True:
        last = min(first + size - 1, total)
        yield first, last
        if last == total:
            return
        first = last + 1 - min(_OVERLAP, size // 2)


# ── syntax trees ────────────────────────────────────────────────────────────────────────────────────


def _nodes(query: Mapping[str, Any], text: str) -> tuple[list[Span], str]:
    try:
        tree = parsed(text)
    except UNPARSABLE as error:
        return [], f"no Python that this version can parse: {type(error).__name__}"
    fits = _test(query)
    return sorted({_span(node) for node in ast.walk(tree) if fits(node)}), ""


@lru_cache(maxsize=2)
def parsed(text: str) -> ast.AST:
    """The syntax tree of ``text``. Raises one of ``UNPARSABLE``."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of invalid escapes, for example: nobody asked for them
        return ast.parse(text)


def _test(query: Mapping[str, Any]) -> Callable[[ast.AST], bool]:
    """A query is ``{"name": NAMED}`` or ``{"node": TYPE, "where": {FIELD: pattern of its source}}``."""
    if "name" in query:
        return NAMED[query["name"]]
    kind, where = getattr(ast, query["node"]), query["where"]
    return lambda node: (
        isinstance(node, kind)
        and all(_fits(getattr(node, name, None), pattern) for name, pattern in where.items())
    )


def _fits(value: object, pattern: object) -> bool:
    """Whether a field matches: None requires an empty one, a text is a pattern for its source code."""
    if pattern is None:
        return value is None or value == []
    values = value if isinstance(value, list) else [value]
    return any(fnmatchcase(_source(part), str(pattern)) for part in values if part is not None)


def _source(value: object) -> str:
    return ast.unparse(value) if isinstance(value, ast.AST) else str(value)


def _span(node: ast.AST) -> Span:
    """The lines to judge: a function's head, a handler's ``except``."""
    first = getattr(node, "lineno", 1)
    last = getattr(node, "end_lineno", None) or first
    body = getattr(node, "body", None)
    if isinstance(body, list) and body:
        return first, max(first, min(last, body[0].lineno - 1))
    return first, min(last, first + _MAX_NODE_LINES - 1)


def _defaults(node: ast.AST) -> Iterable[ast.expr]:
    if not isinstance(node, _Function):
        return ()
    return [default for default in (*node.args.defaults, *node.args.kw_defaults) if default is not None]


def is_mutable(value: ast.expr) -> bool:
    """Whether a default value is one object that all calls share and can change."""
    if isinstance(value, ast.Call):
        return ast.unparse(value.func).rsplit(".", 1)[-1] in _MAKES_MUTABLE
    return isinstance(value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp)


_MAKES_MUTABLE = frozenset(
    {"list", "dict", "set", "bytearray", "defaultdict", "OrderedDict", "deque", "Counter"}
)


def _is_constant(value: ast.expr) -> bool:
    while isinstance(value, ast.UnaryOp):
        value = value.operand
    return isinstance(value, ast.Constant)


def _is_broad(node: ast.AST) -> bool:
    if not isinstance(node, ast.ExceptHandler) or node.type is None:
        return False
    named = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    return any(isinstance(name, ast.Name) and name.id in {"Exception", "BaseException"} for name in named)


def _is_empty(statement: ast.stmt) -> bool:
    is_value = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return is_value or isinstance(statement, ast.Pass)


# The named queries; docs/audit.md describes each.
NAMED: Mapping[str, Callable[[ast.AST], bool]] = {
    "mutable-default": lambda node: any(map(is_mutable, _defaults(node))),
    "computed-default": lambda node: not all(map(_is_constant, _defaults(node))),
    "bare-except": lambda node: isinstance(node, ast.ExceptHandler) and node.type is None,
    "broad-except": _is_broad,
    "silent-except": lambda node: isinstance(node, ast.ExceptHandler) and all(map(_is_empty, node.body)),
}
