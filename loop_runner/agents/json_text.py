"""Changes a JSON text in one place and leaves every other byte as a person wrote it.

Owns a small reader that knows where each value stands. Only strict JSON is read; for anything else ``parse``
raises ``ValueError``, and the text stays as it is.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from json import decoder
from typing import Any

_SPACE = re.compile(r"[ \t\r\n]*")
_SCAN: Any = vars(decoder)["scanstring"]  # (text, behind the quote) → (string, behind the closing quote)
_ATOM = re.compile(r"[^\s,\]}:]+")


@dataclass(slots=True)
class Node:
    """One value and where it stands: ``text[start:end]``. ``starts`` are where each entry begins."""

    kind: str  # "object", "array" or "atom"
    start: int
    end: int = 0
    keys: list[str] = field(default_factory=list)
    values: list[Node] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)

    def get(self, key: str) -> Node | None:
        """The value of ``key`` in an object; of two with the same key the last, as readers take it."""
        values = [value for name, value in zip(self.keys, self.values, strict=False) if name == key]
        return values[-1] if values else None


def parse(text: str) -> Node:
    """The value that ``text`` is. Raises ``ValueError`` for what is not strict JSON."""
    json.loads(text, parse_constant=_refuse)  # so that what follows may be simple
    return _value(text, _skip(text, 0))


def add(text: str, path: tuple[str, ...], item: Any) -> str:
    """``text`` with ``item`` behind the last of the array at ``path``; what is missing on the way is made.

    Raises ``ValueError`` when something else than an object, or than an array at the end, is in the way.
    """
    node = parse(text)
    for depth, key in enumerate(path):
        if node.kind != "object":
            raise ValueError(f"{'.'.join(path[:depth]) or 'the file'} is not an object")
        below = node.get(key)
        if below is None:
            value: Any = [item]
            for name in reversed(path[depth + 1 :]):
                value = {name: value}
            return _insert(text, node, value, f"{json.dumps(key)}: ", depth)
        node = below
    if node.kind != "array":
        raise ValueError(f"{'.'.join(path)} is not an array")
    return _insert(text, node, item, "", len(path))


def remove(text: str, path: tuple[str | int, ...], index: int) -> str:
    """``text`` without entry ``index`` of the array at ``path``; arrays and objects left empty go too.

    A number in ``path`` is an entry of an array.
    """
    chain = [parse(text)]
    for key in path:
        below = chain[-1].values[key] if isinstance(key, int) else chain[-1].get(key)
        if below is None:
            raise ValueError(f"there is no {'.'.join(map(str, path))}")
        chain.append(below)
    at = index
    node = chain.pop()
    for key in reversed(path):
        if len(node.values) > 1:
            break
        node = chain.pop()
        at = key if isinstance(key, int) else len(node.keys) - 1 - node.keys[::-1].index(key)
    return _cut(text, node, at)


def _insert(text: str, node: Node, value: Any, prefix: str, depth: int) -> str:
    unit, newline = _style(text)
    inner, outer = unit * (depth + 1), unit * depth
    dumped = json.dumps(value, indent=unit, ensure_ascii=False).replace("\n", newline + inner)
    if node.values:
        at = node.values[-1].end
        is_on_one_line = "\n" not in text[node.start : node.end]
        gap = " " if is_on_one_line and node.end - node.start > 2 else newline + inner
        return f"{text[:at]},{gap}{prefix}{dumped}{text[at:]}"
    return f"{text[: node.start + 1]}{newline}{inner}{prefix}{dumped}{newline}{outer}{text[node.end - 1 :]}"


def _cut(text: str, node: Node, at: int) -> str:
    if len(node.values) == 1:
        return text[: node.start + 1] + text[node.end - 1 :]
    if at == 0:
        return text[: node.starts[0]] + text[node.starts[1] :]
    return text[: node.values[at - 1].end] + text[node.values[at].end :]


def _style(text: str) -> tuple[str, str]:
    """The indentation and the line break that the text uses."""
    match = re.search(r"\n([ \t]+)\S", text)
    return (match[1] if match else "  "), ("\r\n" if "\r\n" in text else "\n")


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _value(text: str, at: int) -> Node:
    if text[at] == "{":
        return _members(text, Node("object", at), "}")
    if text[at] == "[":
        return _members(text, Node("array", at), "]")
    if text[at] == '"':
        return Node("atom", at, _SCAN(text, at + 1)[1])
    match = _ATOM.match(text, at)
    assert match is not None
    return Node("atom", at, match.end())


def _members(text: str, node: Node, closing: str) -> Node:
    at = _skip(text, node.start + 1)
    while text[at] != closing:
        node.starts.append(at)
        if node.kind == "object":
            key, at = _SCAN(text, at + 1)
            node.keys.append(key)
            at = _skip(text, _skip(text, at) + 1)
        node.values.append(_value(text, at))
        at = _skip(text, node.values[-1].end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    node.end = at + 1
    return node
