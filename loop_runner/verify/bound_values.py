"""What a function of the calling program was bound to when the run began, besides its source.

Owns which values count: the arguments of a ``functools.partial``, defaults, the variables of an enclosing
function, the object of a bound method and the attributes of a callable object. Only values that cannot
change are hashed, such as numbers, texts and tuples of them: a list may grow and a counter may count while
the run works, and the function is the same all the same. The names of all others are listed, so that the
proof says what its hash leaves out. Variables of the function's module are not looked at.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import dis
import enum
import hashlib
import inspect
import pathlib
import re
import types
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

_PLAIN = {type(None), bool, int, float, complex, str, bytes, range, type(...), decimal.Decimal, uuid.UUID}
_PLAIN |= {dt.date, dt.datetime, dt.time, dt.timedelta, dt.timezone}
_MOST_NAMES = 50


def of(function: Callable[..., Any]) -> dict[str, Any]:
    """``sha256`` of the values, ``names`` that it covers and, if there are any, names ``not_covered``."""
    stable, others = {}, []
    for name, value in _bound(function, set()):
        try:
            stable[name] = _canonical(value)
        except (TypeError, RecursionError):
            others.append(name)
    text = "\n".join(f"{name}={stable[name]}" for name in sorted(stable))
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    covered = {"sha256": digest, "names": sorted(stable)[:_MOST_NAMES]}
    return covered | ({"not_covered": sorted(others)[:_MOST_NAMES]} if others else {})


def _bound(function: Any, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """The values by their names; those of an inner function have its name in front."""
    if id(function) in seen:
        return
    seen.add(id(function))
    if hasattr(function, "func") and hasattr(function, "keywords"):  # functools.partial
        yield from ((f"argument {number}", value) for number, value in enumerate(function.args, 1))
        yield from ((f"argument {name}", value) for name, value in function.keywords.items())
        yield from _bound(function.func, seen)
    elif inspect.ismethod(function):
        yield from _attributes(function.__self__)
        yield from _bound(function.__func__, seen)
    elif inspect.isfunction(function):
        yield from _of_function(function, seen)
    elif hasattr(function, "__wrapped__"):  # functools.cache
        yield from _bound(function.__wrapped__, seen)
    elif not isinstance(function, type):
        yield from _attributes(function)


def _of_function(function: types.FunctionType, seen: set[int]) -> Iterator[tuple[str, Any]]:
    if hasattr(function, "__wrapped__"):  # the source that is hashed is that of what it wraps
        yield "decorator", _source(function)
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    defaults = function.__defaults__ or ()
    yield from zip(names[len(names) - len(defaults) :], defaults, strict=True)
    yield from (function.__kwdefaults__ or {}).items()
    rebound = _stored([function.__code__], "STORE_DEREF")
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
        if inspect.isfunction(value):
            yield name, _source(value)
            yield from ((f"{name}.{inner}", bound) for inner, bound in _bound(value, seen))
        else:
            yield name, object() if name in rebound else value


def _attributes(instance: object) -> Iterator[tuple[str, Any]]:
    """The attributes of an object; those that its methods assign may change."""
    if isinstance(instance, type | types.ModuleType):
        return
    codes = [
        value.__code__
        for base in type(instance).__mro__
        for name, value in vars(base).items()
        if inspect.isfunction(value) and name not in ("__init__", "__new__", "__post_init__")
    ]
    assigned = _stored(codes, "STORE_ATTR")
    names = [*getattr(instance, "__dict__", ()), *_slots(type(instance))]
    for name in names:
        value = getattr(instance, name, None)
        yield f"self.{name}", object() if name in assigned else value


def _slots(of_type: type) -> Iterator[str]:
    for base in of_type.__mro__:
        slots = base.__dict__.get("__slots__", ())
        names = (slots,) if isinstance(slots, str) else slots
        yield from (name for name in names if name not in ("__dict__", "__weakref__"))


def _stored(codes: Iterable[types.CodeType], operation: str) -> set[str]:
    """The names that the codes, and functions within them, assign by ``operation``."""
    result: set[str] = set()
    for code in codes:
        result |= {step.argval for step in dis.get_instructions(code) if step.opname == operation}
        result |= _stored((inner for inner in code.co_consts if isinstance(inner, types.CodeType)), operation)
    return result


def _source(function: types.FunctionType) -> str:
    try:
        return inspect.getsource(function.__code__)  # of a function itself, it would be that of what it wraps
    except (OSError, TypeError):
        return function.__code__.co_code.hex() + repr(function.__code__.co_names)


def _canonical(value: Any) -> str:
    """A text that is the same for an equal value in each process. ``TypeError`` if the value may change."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if type(value) in _PLAIN:
        return f"{kind} {value!r}"
    if isinstance(value, enum.Enum):
        return f"{kind} {value.name}"
    if isinstance(value, pathlib.PurePath):
        return f"{kind} {str(value)!r}"
    if isinstance(value, re.Pattern):
        return f"{kind} {value.pattern!r} {value.flags}"
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
        return f"{kind} {value.__module__}.{value.__qualname__}"
    if isinstance(value, types.ModuleType):
        return f"{kind} {value.__name__}"
    return f"{kind} ({', '.join(_members(value))})"


def _members(value: Any) -> list[str]:
    if isinstance(value, tuple):
        return [_canonical(member) for member in value]
    if isinstance(value, frozenset):
        return sorted(_canonical(member) for member in value)
    if isinstance(value, types.MappingProxyType):
        return sorted(f"{_canonical(key)}: {_canonical(member)}" for key, member in value.items())
    if _is_frozen(value):
        return [
            f"{field.name}={_canonical(getattr(value, field.name))}" for field in dataclasses.fields(value)
        ]
    raise TypeError(f"a {type(value).__name__} may change")


def _is_frozen(value: Any) -> bool:
    parameters = getattr(type(value), "__dataclass_params__", None)
    return dataclasses.is_dataclass(value) and bool(parameters and parameters.frozen)


def difference(recorded: object, now: Mapping[str, Any]) -> str:
    """How the values of a function differ from those that a run recorded; "" if they do not.

    Runs of older versions recorded none.
    """
    if not isinstance(recorded, Mapping) or recorded.get("sha256") == now["sha256"]:
        return ""
    names = {*map(str, recorded.get("names", ())), *now["names"]}
    return f"the values that it is bound to ({', '.join(sorted(names)[:10])}) are not those of then"
