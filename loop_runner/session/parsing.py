"""Parses what may be Python, with a limit on the work for one reply."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

_PARSE_BUDGET = 1_500_000  # characters over all attempts; about a second


_PARSE_COST = 150  # what one attempt costs at least, in characters


HELPERS = frozenset({"context", "input_data", "answer", "last_output"})


_UNFINISHED = re.compile("never closed|triple-quoted|EOF|indented block|expected 'except'")


class Parser:
    """``ast.parse`` that never raises, never warns and stops when its budget is used up."""

    def __init__(self) -> None:
        self._left = _PARSE_BUDGET
        self._known: dict[str, tuple[ast.Module | None, bool]] = {}
        self.is_unfinished = False  # the last failure was an open bracket, string or block

    def parse(self, code: str) -> ast.Module | None:
        """The tree, or None for what is not Python or comes too late."""
        if code not in self._known:
            self._left -= len(code) + _PARSE_COST
            self._known[code] = self._try(code) if self._left >= 0 else (None, False)
        tree, self.is_unfinished = self._known[code]
        return tree

    def _try(self, code: str) -> tuple[ast.Module | None, bool]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "\d" in a plain string is the model's business
                return ast.parse(code), False
        except SyntaxError as error:
            return None, bool(_UNFINISHED.search(error.msg or ""))
        except (ValueError, RecursionError, MemoryError, OverflowError):
            return None, False  # NUL characters, or nested deeper than the parser goes

    def acts(self, code: str) -> bool:
        """True for Python that does something: prose that happens to parse ("Done") does not."""
        tree = self.parse(code)
        return tree is not None and acts(tree)


def acts(tree: ast.Module) -> bool:
    """Whether running it does something: a name alone does nothing."""
    return any(_statement_acts(statement) for statement in tree.body)


def _statement_acts(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        return any(isinstance(node, ast.Call | ast.Await) for node in walk(statement)) or (
            isinstance(statement.value, ast.Subscript | ast.Attribute) and bool(names_in(statement) & HELPERS)
        )
    if isinstance(statement, ast.AnnAssign):
        return statement.value is not None  # "answer: 42" is prose
    if isinstance(statement, ast.Raise):
        return statement.exc is not None
    idle = (ast.Pass, ast.Break, ast.Continue, ast.Return, ast.Global, ast.Nonlocal)
    return not isinstance(statement, idle)


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below ``node``, but no more than a reply may have."""
    return islice(ast.walk(node), 10_000)


def names_in(node: ast.AST) -> set[str]:
    """The names that occur below ``node``."""
    return {child.id for child in walk(node) if isinstance(child, ast.Name)}


CODE_TAGS = frozenset({"repl", "python", "py", "python3", "py3", "ipython", "pycon", "tool_code", "code"})


@dataclass(frozen=True, slots=True)
class ReadReply:
    """``code`` is None when the reply holds none; ``prose`` is what stood around it."""

    code: str | None
    prose: str


Kind = Literal["code", "bare", "output", "other"]
