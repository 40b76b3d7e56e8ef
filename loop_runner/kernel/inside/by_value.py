"""Functions, classes, code and modules as values, and back. Runs inside the kernel process.

The project alone determines the bytes of a snapshot: they only name functions of this module and of the
standard library, so no version of another package can change them. A restored function keeps its metadata:
file, lines and names.

Bytecode belongs to one version of Python. Under another one, code is compiled again from its cell, and
methods that ``dataclass`` or ``namedtuple`` generated are generated again. Other code is missing, and the
names that need it fail to load with that reason. Committed blobs use the names defined here: the names stay
for as long as such blobs are read.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import importlib
import importlib.util
import re
import sys
import types
import typing

from .cell_code import compiled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

PYTHON = ".".join(map(str, sys.version_info[:3]))
BYTECODE = int.from_bytes(importlib.util.MAGIC_NUMBER[:2], "little")  # of this version of Python
_COMPREHENSION = re.compile(r"<(?:list|dict|set)comp>\.")
_UNNAMED = "<dynamic-code>"  # the file of all code in blobs that cloudpickle 3.1.3 wrote
_OF_DATACLASSES = frozenset(
    {"__init__", "__repr__", "__eq__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__", "__replace__"}
    | {"__setattr__", "__delattr__", "_dataclass_getstate", "_dataclass_setstate"}
)
_class_dict: Any = type.__dict__["__dict__"].__get__


class ForeignCodeError(Exception):
    """Code that another version of Python compiled, and whose source is not known."""


# ── writing ─────────────────────────────────────────────────────────────────────────────────────────


def _annotations(value: Any) -> dict[str, object]:
    try:
        return dict(value.__annotations__)
    except Exception:  # noqa: BLE001 - they are code of the model's, which may name what is not there
        return {}


_DataclassParams: Any = dataclasses._DataclassParams  # type: ignore[attr-defined]  # noqa: SLF001 - of no public name

# ── reading ─────────────────────────────────────────────────────────────────────────────────────────


class Missing:
    """Stands for a function whose code is unavailable in this version of Python."""

    def __init__(self, code: MissingCode) -> None:
        self.code = code


class MissingCode:
    """Stands for unavailable code."""

    def __init__(self, qualname: str, bytecode: int) -> None:
        self.qualname = qualname
        self.bytecode = bytecode


class Reading:
    """State while blobs are loaded: the sources of cells, and missing code."""

    def __init__(self) -> None:
        self.sources: Mapping[str, str] = {}
        self.missing: list[MissingCode] = []
        self._compiled: dict[str, list[types.CodeType]] = {}
        self.is_foreign = False  # a blob without a version turned out to be from another Python

    def begin(self, sources: Mapping[str, str]) -> None:
        """Begin a blob whose cells are ``sources``."""
        self.sources = sources
        self.missing = []
        self._compiled = {}
        self.is_foreign = False

    def found_again(self, prefix: str, codes: Sequence[MissingCode]) -> None:
        """These codes, and those whose names begin with theirs, are no longer missing."""
        self.missing = [
            code for code in self.missing if code not in codes and not code.qualname.startswith(prefix)
        ]

    def refuse_missing(self) -> None:
        """Raise ``ForeignCodeError`` if anything loaded since the last call needs missing code."""
        missing, self.missing = self.missing, []
        if missing:
            names = ", ".join(dict.fromkeys(code.qualname for code in missing))
            raise ForeignCodeError(
                f"it needs code that another version of Python compiled, and the source is not known: {names}"
            )

    def from_source(self, filename: str, qualname: str, line: int, like: tuple[Any, ...]) -> Any:
        """The code with that name and line in its cell's source; ``like``: arguments and free names."""
        codes = [
            code
            for code in self._codes(filename)
            if (_in_any_version(code.co_qualname), code.co_firstlineno, *_likeness(code))
            == (_in_any_version(qualname), line, *like)
        ]
        return codes[0] if len(codes) == 1 else None

    def _codes(self, filename: str) -> list[types.CodeType]:
        if filename not in self._compiled:
            places = self.sources if filename == _UNNAMED else [filename]
            self._compiled[filename] = [
                code for place in places for code in _codes_in(self.sources.get(place), place)
            ]
        return self._compiled[filename]


reading = Reading()


def _codes_in(source: str | None, filename: str) -> Iterator[types.CodeType]:
    """The code of every function and class in the source of a cell."""
    if source is None:
        return
    try:
        todo: list[types.CodeType] = [compiled(source, filename)]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    while todo:
        inner = [const for const in todo.pop().co_consts if type(const) is types.CodeType]
        yield from inner
        todo += inner


def _in_any_version(qualname: str) -> str:
    """Without the comprehensions that Python 3.12 and later compile into the code around them."""
    return _COMPREHENSION.sub("", qualname)


def _likeness(code: types.CodeType) -> tuple[Any, ...]:
    count = code.co_argcount + code.co_kwonlyargcount
    return code.co_argcount, code.co_kwonlyargcount, code.co_varnames[:count], code.co_freevars


def make_code(bytecode: int, *fields: Any) -> types.CodeType | MissingCode:
    """Code as ``reduce_code`` wrote it; if another Python wrote it, compiled from its source."""
    if bytecode == BYTECODE:
        return types.CodeType(*fields)
    return _foreign_code(bytecode, fields)


def _foreign_code(bytecode: int, fields: tuple[Any, ...]) -> types.CodeType | MissingCode:
    filename, qualname, line = fields[10], fields[12], fields[13]
    count = fields[0] + fields[2]
    like = (fields[0], fields[2], fields[9][:count], fields[16])
    code: types.CodeType | None = reading.from_source(filename, qualname, line, like)
    if code is not None:
        return code
    missing = MissingCode(qualname, bytecode)
    reading.missing.append(missing)
    return missing


def unversioned_code(*fields: Any) -> types.CodeType | MissingCode:
    """Code from a blob that does not name its version of Python: compared with its source, if known."""
    like = (fields[0], fields[2], fields[9][: fields[0] + fields[2]], fields[16])
    code = reading.from_source(fields[10], fields[12], fields[13], like)
    if code is not None:
        reading.is_foreign |= code.co_code != fields[6]
        return code  # type: ignore[no-any-return]
    if reading.is_foreign:
        return _foreign_code(0, fields)
    return types.CodeType(*fields)


def make_function(
    code: types.CodeType | MissingCode,
    namespace: dict[str, Any],
    name: str,
    closure: tuple[types.CellType, ...] | None,
) -> types.FunctionType | Missing:
    """A function without its state."""
    if isinstance(code, MissingCode):
        return Missing(code)
    return types.FunctionType(code, namespace, name, None, closure)


def set_function_state(func: types.FunctionType | Missing, state: tuple[Any, ...]) -> None:
    """Give a function the state that ``reduce_function`` wrote."""
    if isinstance(func, Missing):
        return
    func.__defaults__, func.__kwdefaults__ = state[0], state[1]
    if state[2]:
        func.__dict__.update(state[2])
    if state[3]:
        func.__annotations__ = state[3]
    func.__doc__, func.__module__, func.__qualname__ = state[4:7]
    if len(state) > 7:
        func.__globals__.update(state[7])


def make_class(metaclass: Any, name: str, bases: Any, namespace: dict[str, Any]) -> type:
    """A class without its attributes."""
    return types.new_class(name, bases, {"metaclass": metaclass}, lambda body: body.update(namespace))


def make_enum(
    bases: tuple[type, ...], name: str, qualname: str, members: Mapping[str, object], module: str
) -> type:
    """An enumeration with its members, without its other attributes."""
    metaclass: Any = type(bases[-1])
    namespace = metaclass.__prepare__(name, bases)
    for member, value in members.items():
        namespace[member] = value
    cls: type = metaclass.__new__(metaclass, name, bases, namespace)
    cls.__module__, cls.__qualname__ = module, qualname
    return cls


def make_named_tuple(
    name: str, fields: tuple[str, ...], defaults: Mapping[str, object], module: str, qualname: str
) -> type:
    """The result of ``namedtuple``."""
    make: Any = collections.namedtuple  # noqa: PYI024 - its fields are known only now
    cls: type = make(name, fields, defaults=list(defaults.values()), module=module)
    cls.__qualname__ = qualname
    return cls


def set_attributes(cls: Any, attributes: Mapping[str, Any]) -> None:
    """Give a class its attributes. Generated methods whose code is missing are generated again."""
    missing = {name: code for name, value in attributes.items() if (code := _missing_code(value))}
    for name, value in attributes.items():
        if name == "_abc_impl":
            for registered in value:
                cls.register(registered)
        elif name not in missing:
            type.__setattr__(cls, name, value)
    if "__dataclass_params__" in attributes and (replace := getattr(dataclasses, "_replace", None)):
        type.__setattr__(cls, "__replace__", replace)
    if "__firstlineno__" in attributes:  # setting others deletes it
        type.__setattr__(cls, "__firstlineno__", attributes["__firstlineno__"])
    if _OF_DATACLASSES & missing.keys() and "__dataclass_params__" in attributes:
        if attributes.get("__hash__", cls) is None:
            type.__delattr__(cls, "__hash__")
        reading.found_again("__create_fn__.", [missing[name] for name in _OF_DATACLASSES & missing.keys()])
        _generate_again(cls, attributes["__dataclass_fields__"], attributes["__dataclass_params__"])
    elif missing and cls.__bases__ == (tuple,) and "_fields" in attributes:
        twin = make_named_tuple("twin", attributes["_fields"], attributes["_field_defaults"], "", "")
        reading.found_again("namedtuple.", list(missing.values()))
        for name in missing.keys() & _class_dict(twin).keys():
            type.__setattr__(cls, name, _class_dict(twin)[name])


def _missing_code(value: Any) -> MissingCode | None:
    """The first missing code among the attribute's, or None."""
    if isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    return value.code if isinstance(value, Missing) else None


def _generate_again(cls: Any, fields: Mapping[str, Any], params: Any) -> None:
    own = [name for name in _annotations(cls) if name in fields]
    for name in own:
        if fields[name]._field_type is dataclasses._FIELD:  # type: ignore[attr-defined]  # noqa: SLF001
            type.__setattr__(cls, name, fields[name])
    options = ("init", "repr", "eq", "order", "unsafe_hash", "frozen")
    dataclasses.dataclass(cls, **{option: getattr(params, option) for option in options})


def make_typevar(
    name: str, bound: object, constraints: tuple[Any, ...], covariant: bool, contravariant: bool
) -> Any:
    """A type variable."""
    return typing.TypeVar(name, *constraints, bound=bound, covariant=covariant, contravariant=contravariant)


def make_cell() -> types.CellType:
    """A cell of a closure, empty."""
    return types.CellType()


def fill_cell(cell: types.CellType, state: tuple[object]) -> None:
    """Give a cell its contents."""
    cell.cell_contents = state[0]


def fill_module(module: types.ModuleType, held: Mapping[str, object]) -> None:
    """Give a module made by code its contents."""
    module.__dict__.update(held)


def view_of(kind: str, items: dict[object, object]) -> object:
    """The keys, values or items of a dict."""
    return getattr(items, kind)()


def type_called(name: str) -> type:
    """A type of the interpreter that only the module ``types`` names."""
    return getattr(types, name)  # type: ignore[no-any-return]


def make_field(slots: Mapping[str, object]) -> dataclasses.Field[Any]:
    """A field of a dataclass, without settings that this version of Python does not know."""
    field: dataclasses.Field[Any] = dataclasses.Field.__new__(dataclasses.Field)
    _fill_slots(field, slots)
    return field


def make_params(slots: Mapping[str, object]) -> object:
    """A dataclass's parameters, without those that this version of Python does not know."""
    params = _DataclassParams.__new__(_DataclassParams)
    _fill_slots(params, slots)
    return params


def _fill_slots(value: object, slots: Mapping[str, object]) -> None:
    for name, held in slots.items():
        with contextlib.suppress(AttributeError):
            setattr(value, name, held)


def field_kind(name: str) -> object:
    """One of the markers for the kinds of dataclass fields."""
    return getattr(dataclasses, name)
