"""Runs as a program: reports what is wrong with the Python source on standard input, without running it.

Arguments: the file's name in messages, and the name of the function that it must define ("" for none).
Prints one line, or nothing. Imports the standard library only: an interpreter other than the runner's may
start it.
"""

import ast
import difflib
import sys
import warnings
from collections.abc import Iterator

FAULT = 3  # the exit code when a fault was printed
_DYNAMIC = {
    "exec",
    "globals",
    "locals",
    "setattr",
    "vars",
}  # names may be bound in ways that are not seen here


def main() -> int:
    """Read the source and print its fault."""
    name, function = sys.argv[1:3]
    warnings.simplefilter("ignore")
    problem = fault(sys.stdin.buffer.read(), name, function)
    if not problem:
        return 0
    sys.stdout.buffer.write(problem.encode("utf-8", "replace"))
    return FAULT


def fault(source: bytes, name: str, function: str) -> str:
    """The fault; "" when there is none."""
    try:
        tree = ast.parse(source, name)
        compile(source, name, "exec", dont_inherit=True)
    except SyntaxError as error:
        return f"{name} does not compile: line {error.lineno}: {error.msg}"
    except (ValueError, RecursionError, MemoryError) as error:
        return f"{name} does not compile: {error or type(error).__name__}"
    return _without_function(tree, name, function) if function else ""


def _without_function(tree: ast.Module, name: str, function: str) -> str:
    bound = dict(_bound(tree))
    if function in bound:
        return _cannot_be_called(bound[function], name, function)
    if "*" in bound or "__getattr__" in bound or _is_dynamic(tree, function):
        return ""
    near = difflib.get_close_matches(function, bound, n=1)
    return f"{name} has no function `{function}`" + (f"; did you mean `{near[0]}`?" if near else "")


def _cannot_be_called(bound: ast.AST, name: str, function: str) -> str:
    """Why a plain function does not take its one argument."""
    if not isinstance(bound, ast.FunctionDef | ast.AsyncFunctionDef) or bound.decorator_list:
        return ""
    if isinstance(bound, ast.AsyncFunctionDef):
        return f"`{function}` in {name} is an `async` function: its verdict would never be awaited"
    given = [*bound.args.posonlyargs, *bound.args.args]
    needed = len(given) - len(bound.args.defaults)
    if needed > 1 or (not given and bound.args.vararg is None):
        takes = "no argument" if not given else f"{needed} arguments"
        return f"`{function}` in {name} takes {takes}; it is given one, the submission"
    return ""


def _bound(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """The names that a module binds at its top level, and the statements that bind them."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield child.name, child
            continue
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name.partition(".")[0], child) for alias in child.names)
        elif isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            yield child.id, child
        if not isinstance(child, ast.Lambda):
            yield from _bound(child)


def _is_dynamic(tree: ast.Module, function: str) -> bool:
    """Whether something that the source does not show could bind ``function``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in _DYNAMIC:
            return True
        if isinstance(node, ast.Global) and function in node.names:
            return True
    return False


if __name__ == "__main__":
    sys.exit(main())
