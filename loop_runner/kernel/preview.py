"""Short descriptions of variables that cannot hang and cannot lie. Runs inside the kernel process.

Only exact builtin types are looked into, with the base classes' own methods; anything else is named by its
class. No ``__repr__``, ``__len__`` or ``__getattr__`` of the model's is ever called here.
"""

from __future__ import annotations

from types import BuiltinFunctionType, FunctionType, ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    pass

MAX_PREVIEW_CHARS = 120
_MAX_ITEMS = 8
_MAX_DEPTH = 2
_BIG_INT_BITS = 400
_PLAIN_INT = 1 << 64

_type_name = type.__dict__["__name__"].__get__
_SIZED = (str, bytes, bytearray, list, tuple, dict, set, frozenset)
_BRACKETS: dict[type, str] = {list: "[]", tuple: "()", set: "{}", frozenset: "{}", dict: "{}"}


def type_name(value: object) -> str:
    """Name of the value's class, whatever its metaclass says."""
    return str.__str__(_type_name(type(value)))[:80]


def length(value: object) -> int | None:
    """Number of items of a builtin container (or of its part, for a subclass); None for the rest."""
    for base in _SIZED:
        if issubclass(type(value), base):
            return int(base.__len__(value))  # type: ignore[arg-type]
    return None


def preview(value: object, max_chars: int = MAX_PREVIEW_CHARS) -> str:
    """What ``value`` looks like, in one line of at most ``max_chars`` characters."""
    text = _show(value, max_chars, 0)
    return text if len(text) <= max_chars else text[: max_chars - 1] + "…"


def _show(value: object, room: int, depth: int) -> str:
    kind = type(value)
    if kind is int:
        if -_PLAIN_INT < value < _PLAIN_INT:  # type: ignore[operator]
            return repr(value)
        bits = int.bit_length(value)  # type: ignore[arg-type]
        return repr(value) if bits < _BIG_INT_BITS else f"<int of {bits} bits>"
    if kind is str or kind is bytes or kind is bytearray:
        return repr(value[: max(room, 0) + 1])  # type: ignore[index]
    if value is None or kind is bool or kind is float or kind is complex:
        return repr(value)
    if kind in _BRACKETS:
        return _show_items(value, room, depth)
    if kind is FunctionType or kind is BuiltinFunctionType:
        return f"<function {value.__name__!s:.60}>"  # type: ignore[attr-defined]
    if kind is ModuleType:
        return "<module>"
    if issubclass(kind, type):
        return f"<class {_type_name(value)}>"
    return f"<{type_name(value)} object>"


def _as_python_shows(values: list[object] | tuple[object, ...]) -> str:
    """A few plain values as ``repr`` writes them, which is quick; "" when that could be long."""
    if not 0 < len(values) <= _MAX_ITEMS:
        return ""
    for value in values:
        kind = type(value)
        if kind is int:
            if not -_PLAIN_INT < value < _PLAIN_INT:  # type: ignore[operator]
                return ""
        elif kind is str:
            if len(value) > MAX_PREVIEW_CHARS:  # type: ignore[arg-type]
                return ""
        elif kind is not float and kind is not bool and value is not None:
            return ""
    return repr(values)


def _show_items(value: object, room: int, depth: int) -> str:
    if not depth and type(value) in (list, tuple):
        plain = _as_python_shows(value)  # type: ignore[arg-type]
        if plain and len(plain) <= room:
            return plain
    opening, closing = tuple(_BRACKETS[type(value)])
    count = length(value) or 0
    if count and depth >= _MAX_DEPTH:
        return f"{opening}…{closing}"
    parts: list[str] = []
    left, depth = room, depth + 1
    if type(value) is dict:
        for index, (key, item) in enumerate(dict.items(value)):
            if index == _MAX_ITEMS or left <= 0:
                parts.append("…")
                break
            parts.append(f"{_show(key, left, depth)}: {_show(item, left, depth)}")
            left -= len(parts[-1]) + 2
    else:
        for index, item in enumerate(value):  # type: ignore[arg-type]
            if index == _MAX_ITEMS or left <= 0:
                parts.append("…")
                break
            parts.append(_show(item, left, depth))
            left -= len(parts[-1]) + 2
    if not count and type(value) in (set, frozenset):
        return "set()"
    comma = "," if type(value) is tuple and count == 1 else ""
    return f"{opening}{', '.join(parts)}{comma}{closing}"
