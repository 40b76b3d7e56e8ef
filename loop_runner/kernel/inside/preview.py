"""Short descriptions of variables that cannot hang and cannot lie. Runs inside the kernel process.

Values are read with the methods of builtin and immutable types alone. No ``__repr__``, ``__len__``,
``__getattr__`` or property of the model's is ever called here. A value of an unknown kind is shown by its
class name.
"""

from __future__ import annotations

import sys
from itertools import islice
from types import BuiltinFunctionType, FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

MAX_PREVIEW_CHARS = 120
_MAX_FUNCTION_CHARS = 200  # a signature and a docstring
_MAX_ITEMS = 8
_MAX_FIELDS = 12
_MAX_DEPTH = 2
_BIG_INT_BITS = 400
_PLAIN_INT = 1 << 64
_MAX_PLAIN_BYTES = 400  # larger immutable numbers are not written out
_IMMUTABLE = 1 << 8  # Py_TPFLAGS_IMMUTABLETYPE: no class of the model's can have it
_VARARGS, _VARKEYWORDS = 4, 8  # of a code object's flags

_type_name = type.__dict__["__name__"].__get__
_type_dict = type.__dict__["__dict__"].__get__
_type_mro = type.__dict__["__mro__"].__get__
_type_flags = type.__dict__["__flags__"].__get__
_type_module = type.__dict__["__module__"].__get__
_MISSING = object()  # a field that is not set
_SIZED = (str, bytes, bytearray, list, tuple, dict, set, frozenset)
_BRACKETS: dict[type, str] = {list: "[]", tuple: "()", set: "{}", frozenset: "{}", dict: "{}"}
# Immutable types whose own repr shows nothing of other objects: dates without a time zone, and numbers.
_PLAIN_TYPES = {
    "datetime": ("date", "timedelta", "time", "datetime"),
    "decimal": ("Decimal",),
    "builtins": ("range",),
}


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
    """A view of ``value`` in one line of at most ``max_chars`` characters (functions: 200)."""
    if type(value) is FunctionType:
        max_chars = max(max_chars, _MAX_FUNCTION_CHARS)
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
    return _show_other(value, kind, room, depth)


def _as_python_shows(values: list[object] | tuple[object, ...]) -> str:
    """A few plain values as ``repr`` writes them, which is fast; "" if that could be long."""
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
    items = dict.items(value) if type(value) is dict else value
    return _bracketed(type(value), items, length(value) or 0, room, depth)  # type: ignore[arg-type]


def _bracketed(base: type, items: Iterable[Any], count: int, room: int, depth: int) -> str:
    """The items of a container of the type ``base`` (pairs, for a dict), as shown."""
    opening, closing = tuple(_BRACKETS[base])
    if count and depth >= _MAX_DEPTH:
        return f"{opening}…{closing}"
    if not count and base in (set, frozenset):
        return "set()"
    shown: Iterable[str]
    if base is dict:
        shown = (f"{_show(key, room, depth + 1)}: {_show(item, room, depth + 1)}" for key, item in items)
    else:
        shown = (_show(item, room, depth + 1) for item in items)
    comma = "," if base is tuple and count == 1 else ""
    return f"{opening}{_joined(shown, room)}{comma}{closing}"


def _joined(shown: Iterable[str], room: int, at_most: int = _MAX_ITEMS) -> str:
    """As many of ``shown`` as fit into ``room``, with commas, and dots for the rest."""
    parts: list[str] = []
    for text in islice(shown, at_most + 1):
        if len(parts) == at_most or room <= 0:
            parts.append("…")
            break
        parts.append(text)
        room -= len(text) + 2
    return ", ".join(parts)


# ── functions and classes ───────────────────────────────────────────────────────────────────────────


def _show_other(value: object, kind: type, room: int, depth: int) -> str:
    if kind is FunctionType:
        return _show_function(value, room, depth)  # type: ignore[arg-type]
    if kind is BuiltinFunctionType:
        return _imported(value.__module__, value.__name__) or "<function>"  # type: ignore[attr-defined]
    if kind is ModuleType:
        return "<module>"
    if issubclass(kind, type):
        return _show_class(value, depth)  # type: ignore[arg-type]
    if depth >= _MAX_DEPTH:
        return f"<{type_name(value)} object>"
    return (
        _show_plain(value, kind)
        or _written(value, kind)
        or _show_subclass(value, kind, room, depth)
        or _show_object(value, kind, room, depth)
    )


def _imported(module: object, name: object) -> str:
    """How an object of a module was imported; "" for one that a cell defined."""
    if type(module) is not str or type(name) is not str or module == "__main__":
        return ""
    return f"from {_public(module, name):.60} import {name:.60}"


def _public(module: str, name: str) -> str:
    """Where a person imports it from: ``pathlib``, although its own module is ``pathlib._local``."""
    package, _, last = module.rpartition(".")
    above = sys.modules.get(package)
    if not last.startswith("_") or type(above) is not ModuleType:
        return module
    same = above.__dict__.get(name)
    is_same = isinstance(same, type | FunctionType) and same.__module__ == module
    return package if is_same else module


def _show_function(function: FunctionType, room: int, depth: int) -> str:
    """The signature and the first line of the docstring of one of the model's functions."""
    name = function.__name__
    if imported := _imported(function.__module__, name):
        return imported if not depth else f"<function {name:.60}>"
    call = f"{name:.60}({', '.join(_parameters(function))})"
    doc = function.__doc__
    first = doc.strip().split("\n", 1)[0][:room] if type(doc) is str else ""
    return f"{call}: {first}" if first and not depth else call


def _parameters(function: FunctionType) -> Iterator[str]:
    """Each parameter with its default; annotations are left out, because they help little."""
    code, defaults = function.__code__, function.__defaults__ or ()
    names = code.co_varnames
    count, keywords = code.co_argcount, code.co_kwonlyargcount
    for at, name in enumerate(names[:count]):
        back = at - count + len(defaults)
        yield name if back < 0 else f"{name}={_show(defaults[back], 40, 1)}"
        if at + 1 == code.co_posonlyargcount:
            yield "/"
    rest = count + keywords
    if code.co_flags & _VARARGS:
        yield f"*{names[rest]}"
    elif keywords:
        yield "*"
    given = function.__kwdefaults__ or {}
    for name in names[count:rest]:
        yield f"{name}={_show(dict.get(given, name), 40, 1)}" if dict.__contains__(given, name) else name
    if code.co_flags & _VARKEYWORDS:
        yield f"**{names[rest + bool(code.co_flags & _VARARGS)]}"


def _show_class(value: type, depth: int) -> str:
    """One of the model's classes with its fields, else its functions."""
    name, own = _type_name(value), _type_dict(value)
    if (imported := _imported(_type_module(value), name)) and not depth:
        return imported
    fields = list(_field_names(value))
    functions = [key for key, item in own.items() if type(item) is FunctionType and key[:1] != "_"]
    if fields or not functions:
        return f"<class {name:.60}({', '.join(fields)})>" if fields else f"<class {name:.60}>"
    return f"<class {name:.60} with {', '.join(functions[:_MAX_FIELDS])}>"


def _field_names(kind: type) -> Iterator[str]:
    """The fields of a dataclass or a named tuple, in order."""
    for base in _type_mro(kind):
        own = _type_dict(base)
        for key in ("__dataclass_fields__", "_fields"):
            fields = own.get(key)
            if type(fields) in (dict, tuple):
                yield from (name for name in islice(fields, _MAX_FIELDS) if type(name) is str)
                return


# ── values of other types ───────────────────────────────────────────────────────────────────────────


def _size(kind: Any, value: object) -> int:
    """Bytes that a value of an immutable type takes."""
    return int(kind.__sizeof__(value))


def _show_plain(value: object, kind: type) -> str:
    """A date or a number of the standard library; "" for the rest."""
    if not _type_flags(kind) & _IMMUTABLE or _size(kind, value) > _MAX_PLAIN_BYTES:
        return ""
    own, name = _type_dict(kind), _type_name(kind)
    if name == "Pattern" and type(pattern := own["pattern"].__get__(value)) is str:
        return f"Pattern({pattern[:MAX_PREVIEW_CHARS]!r})"
    if name not in _PLAIN_TYPES.get(_type_module(kind), ()):
        return ""
    zone = own["tzinfo"].__get__(value) if "tzinfo" in own else None
    if zone is not None and not _type_flags(type(zone)) & _IMMUTABLE:
        return ""  # code that may be the model's computes its offset
    return repr(value) if name in ("range", "Decimal") else f"{name}({str(value)!r})"


def _show_subclass(value: Any, kind: type, room: int, depth: int) -> str:
    """A value of a subclass of a builtin type, shown like the builtin; "" for the rest."""
    name = _type_name(kind)
    if issubclass(kind, tuple) and (names := list(_field_names(kind))):
        return f"{name}({_joined(_named(names, tuple.__iter__(value), room, depth), room, _MAX_FIELDS)})"
    for base in _BRACKETS:
        if issubclass(kind, base):
            items = _pairs(value, kind) if base is dict else base.__iter__(value)  # type: ignore[attr-defined]
            shown = _bracketed(base, items, base.__len__(value), room, depth)  # type: ignore[attr-defined]
            return f"{name}({_factory(value, kind)}{shown})"
    for base in (str, bytes):
        if issubclass(kind, base):
            return f"{name}({base.__getitem__(value, slice(max(room, 0) + 1))!r})"
    if name == "deque" and _type_flags(kind) & _IMMUTABLE:
        return f"deque({_bracketed(list, value, 1, room, depth)})"
    return ""


def _named(names: Iterable[str], values: Iterable[object], room: int, depth: int) -> Iterator[str]:
    return (f"{name}={_show(item, room, depth + 1)}" for name, item in zip(names, values, strict=False))


def _pairs(value: dict[Any, Any], kind: type) -> Iterable[tuple[Any, Any]]:
    """The items of a mapping; for a ``Counter``, the most frequent first."""
    is_counter = any(_type_name(base) == "Counter" for base in _type_mro(kind))
    if not is_counter or any(type(count) is not int for count in dict.values(value)):
        return dict.items(value)
    return sorted(dict.items(value), key=lambda pair: -pair[1])


def _factory(value: object, kind: type) -> str:
    """The factory of a ``defaultdict``."""
    for base in _type_mro(kind):
        if _type_name(base) == "defaultdict" and _type_flags(base) & _IMMUTABLE:
            factory = _type_dict(base)["default_factory"].__get__(value)
            name = _type_name(factory) if issubclass(type(factory), type) else _show(factory, 40, 1)
            return f"{name}, "
    return ""


def _written(value: object, kind: type) -> str:
    """A path or a fraction of the standard library; "" for the rest."""
    if _type_name(kind) == "Fraction":
        top, bottom = (_slot(value, kind, name) for name in ("_numerator", "_denominator"))
        return f"Fraction({_show(top, 60, 1)}, {_show(bottom, 60, 1)})"
    if _type_name(kind).endswith(("PosixPath", "PurePath")):
        parts = _slot(value, kind, "_raw_paths")  # from Python 3.12 on
        parts = _slot(value, kind, "_parts") if parts is _MISSING else parts
        if type(parts) is list and all(type(part) is str for part in parts):
            return f"{_type_name(kind)}({'/'.join(parts).replace('//', '/')!r})"
    return ""


def _show_object(value: object, kind: type, room: int, depth: int) -> str:
    """An object with its content: fields of a dataclass, else its own attributes."""
    name, own = type_name(value), _attributes(value, kind)
    if type(member := own.get("_name_")) is str and "_value_" in own:
        return f"{name}.{member:.60}"  # of an enumeration
    names = list(_field_names(kind))
    fields = {field: own.get(field, _slot(value, kind, field)) for field in names} if names else own
    shown = {key: item for key, item in fields.items() if item is not _MISSING}
    if names:
        return f"{name}({_joined(_named(shown, shown.values(), room, depth), room, _MAX_FIELDS)})"
    if shown and _type_module(kind) in ("__main__", "types"):
        return f"<{name} object: {_joined(_named(shown, shown.values(), room, depth), room)}>"
    return f"<{name} object>"


def _attributes(value: object, kind: type) -> dict[str, object]:
    """The first attributes that are in the object's own dict."""
    for base in _type_mro(kind):
        descriptor = _type_dict(base).get("__dict__")
        if type(descriptor) is GetSetDescriptorType or (
            descriptor is not None and _type_flags(base) & _IMMUTABLE
        ):
            items = dict.items(descriptor.__get__(value))
            return {key: item for key, item in islice(items, 2 * _MAX_FIELDS) if type(key) is str}
        if descriptor is not None:
            break  # a property of the model's
    return {}


def _slot(value: object, kind: type, name: str) -> object:
    """The value of a field that is kept in a slot."""
    for base in _type_mro(kind):
        descriptor = _type_dict(base).get(name)
        if type(descriptor) is MemberDescriptorType:
            try:
                return descriptor.__get__(value)
            except AttributeError:
                return _MISSING
    return _MISSING
