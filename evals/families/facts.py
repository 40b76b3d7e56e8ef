"""Facts of one source file that have exactly one answer, as ``ast`` sees them."""

from __future__ import annotations

import ast
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from evals.questions import Key

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact: its kind, the name that it is about, the question and the key."""

    kind: str
    subject: str
    question: str
    key: Key


def facts_of(name: str, source: str) -> list[Fact]:
    """The facts of a file, for example ``json/decoder.py``. Names that are defined twice have none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):
            return []
    module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    defined = _definitions(tree)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and defined[node.name] == 1]
    functions = [node for node in tree.body if isinstance(node, _Function) and defined[node.name] == 1]
    facts = [*_constants(tree, module)]
    for node in functions:
        facts += [*_of_function(node, f"{module}.{node.name}"), _where(node.name, "function", name, module)]
    for owner in classes:
        facts += [*_of_class(owner, module), _where(owner.name, "class", name, module)]
    return facts


def _definitions(tree: ast.Module) -> Counter[str]:
    """How often each name is bound at the top of the file, also below an ``if`` or ``try``."""
    names: Counter[str] = Counter()
    stack: list[ast.AST] = list(tree.body)
    while stack:
        node = stack.pop()
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                names[name] += 1
                continue  # what is inside is another scope
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                names[name] += 1
            case ast.alias():
                names[(node.asname or node.name).partition(".")[0]] += 1
            case ast.Global(names=several):
                names.update(several)
        stack.extend(ast.iter_child_nodes(node))
    return names


def _constants(tree: ast.Module, module: str) -> Iterator[Fact]:
    defined = _definitions(tree)
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=value)) if (
                name.isupper() and defined[name] == 1 and (key := _key(value))
            ):
                yield Fact("constant", name, f"In the module {module}, what is the value of {name}?", key)


def _of_function(node: _Function, full: str) -> Iterator[Fact]:
    parameters = [*node.args.posonlyargs, *node.args.args]
    defaults = list(zip(parameters[::-1], node.args.defaults[::-1], strict=False))
    keywords = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    defaults += [(parameter, default) for parameter, default in keywords if default]
    for parameter, default in defaults:
        if isinstance(default, ast.Constant) and (key := _key(default.value)):
            question = f"What is the default value of {parameter.arg} in {full}?"
            yield Fact("default", parameter.arg, question, key)
    raised = {name for part in ast.walk(node) if (name := _raised(part))}
    bare = any(isinstance(part, ast.Raise) and not _raised(part) for part in ast.walk(node))
    if len(raised) == 1 and not bare:
        (name,) = raised
        question = f"Which exception does the code of {full} raise with a raise statement?"
        yield Fact("raised", name, question, Key("name", (name,)))
    names = [argument.arg for argument in parameters]
    if 2 <= len(names) <= 6 and not (node.args.kwonlyargs or node.args.vararg or node.args.kwarg):
        question = f"What are the names of the parameters of {full}, in their order?"
        yield Fact("signature", full, question, Key("list", tuple(names), is_ordered=True))


def _raised(node: ast.AST) -> str:
    """The class that a ``raise`` names; "" for another statement or another value."""
    if not isinstance(node, ast.Raise):
        return ""
    raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
    name = raised.id if isinstance(raised, ast.Name) else ""
    return name if name[:1].isupper() else ""


def _of_class(owner: ast.ClassDef, module: str) -> Iterator[Fact]:
    full = f"{module}.{owner.name}"
    match owner.bases:
        case [ast.Name(id=base)] if base != "object":
            question = f"Which class is the direct base class of {full}?"
            yield Fact("base", base, question, Key("name", (base,)))
    methods = [node for node in owner.body if isinstance(node, _Function)]
    names = [node.name for node in methods]
    is_plain = all(not isinstance(node, ast.If | ast.Try | ast.With | ast.For) for node in owner.body)
    if len(set(names)) == len(names) >= 3 and is_plain:
        question = (
            f"How many functions does the body of the class {full} define with def, nested ones left out?"
        )
        yield Fact("count", owner.name, question, Key("number", (str(len(names)),)))
    for node in methods:
        if names.count(node.name) == 1 and is_plain and not node.decorator_list:
            yield from (fact for fact in _of_function(node, f"{full}.{node.name}") if fact.kind == "default")


def _where(subject: str, what: str, name: str, module: str) -> Fact:
    question = f"In which file is the {what} {subject} defined?"
    return Fact("where", subject, question, Key("name", (name, module)))


def _key(value: object) -> Key | None:
    """The key of a constant: a number, or a short text of one line."""
    if isinstance(value, bool):
        return Key("name", (str(value),), (str(not value),))
    if isinstance(value, int | float):
        return Key("number", (repr(value),)) if abs(value) < 1e15 else None
    if isinstance(value, str) and 2 <= len(value) <= 40 and value.isprintable() and value.strip() == value:
        return Key("name", (value,)) if value[0].isalnum() and value[-1].isalnum() else None
    return None
