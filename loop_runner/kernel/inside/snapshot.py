r"""Variables to bytes and back. Runs inside the kernel process only: loading a pickle runs code.

A blob is ``LRVARS1\n``, a four-byte length, a JSON object, then one pickle per name. The JSON holds
``{"names": [[name, bytes], …], "cells": {"<cell 7>": source}}``; the pickles share one memo, in that order,
so that names which reach the same object share it again after loading.

Never in a blob: ``context`` and its texts, the helpers, ``answer``, the streams and the namespace itself.
They are *pinned*: named by a persistent id and found again in the new process.

Equal variables give equal bytes, even after a restart in between, because a run's journal is compared by its
hashes. Python does not promise that; these sources of difference are removed:

- whether two equal texts are one object: every text and bytes object is written through its first equal
- the order of a set: sets of plain values are put in sorted order, the live one too, so both stay alike
- whether two functions share one code object: written through the first equal one, like texts
- whether code objects share a tuple of constants: each is written with its own
- other packages: functions, classes and code are written by ``by_value`` and by nothing else
- hash seeds: ``PYTHONHASHSEED=0``
"""

from __future__ import annotations

import copyreg
import dataclasses
import importlib
import io
import json
import pickle
import re
import struct
import sys
import types
from collections import ChainMap

from . import by_value, reducing
from .cell_sources import qualname_of
from .preview import type_name
from .reducing import is_by_reference
from .touched import words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, ClassVar

    from .links import Links

MAGIC = b"LRVARS1\n"
_LENGTH = struct.Struct(">I")
WHOLE_BLOB = ""  # in place of a name: nothing in the blob could be read
_MAX_REASON_CHARS = 200
MAX_UNPINNED_CHARS = 100  # shorter texts of the context are saved like any other


class SnapshotError(Exception):
    """The bytes are not a snapshot that this version can read."""


class Pins:
    """Objects that are named in a blob instead of being saved in it."""

    def __init__(
        self, namespace: dict[str, Any], protected: Mapping[str, Any], texts: Callable[[], Mapping[str, str]]
    ) -> None:
        self._namespace = namespace
        self._protected = protected
        self._texts = texts

    def by_id(self, all_texts: Mapping[str, str]) -> dict[int, tuple[str, ...]]:
        """``id`` of each pinned object → its name. ``all_texts``: the texts that were read so far."""
        pins: dict[int, tuple[str, ...]] = {
            id(text): ("text", name) for name, text in all_texts.items() if len(text) > MAX_UNPINNED_CHARS
        }
        pins |= {id(value): ("name", name) for name, value in sorted(self._protected.items(), reverse=True)}
        pins |= {id(sys.stdout): ("stream", "stdout"), id(sys.stderr): ("stream", "stderr")}
        for name in ("MISSING", "KW_ONLY", "_HAS_DEFAULT_FACTORY", "_EMPTY_METADATA"):
            pins[id(getattr(dataclasses, name))] = ("dataclasses", name)
        pins[id(self._namespace)] = ("namespace",)
        pins[id(self._namespace["answer"])] = ("answer",)
        return pins

    def find(self, pin: tuple[str, ...]) -> object:
        """The object that ``pin`` names, in this process."""
        if pin[0] == "text":
            return self._texts()[pin[1]]
        if pin[0] == "name":
            return self._protected[pin[1]]
        if pin[0] == "stream":
            return getattr(sys, pin[1])
        if pin[0] == "module":
            return importlib.import_module(pin[1]).__dict__
        if pin[0] == "dataclasses":
            return getattr(dataclasses, pin[1])
        return self._namespace if pin[0] == "namespace" else self._namespace["answer"]


# ── writing ─────────────────────────────────────────────────────────────────────────────────────────


class _Frozen:
    """Stands for a ``frozenset`` in a blob, its items in sorted order."""

    __slots__ = ("items",)

    def __init__(self, items: list[object]) -> None:
        self.items = items

    def __reduce__(self) -> tuple[object, ...]:
        return _Frozen, (self.items,)


class Reached:
    """The pickler's finds, name by name: code, sets and, through ``links``, shared objects.

    ``records``: whether later picklers can look up this one's finds.
    """

    def __init__(self, links: Links, *, records: bool) -> None:
        self.links = links
        self.records = records
        self.name = 0  # the ``links`` number of the name being written
        self.cells: set[str] = set()
        self.classes: set[str] = set()  # qualified names of the classes saved by value
        self.words: dict[int, set[str]] = {}
        self.sets: dict[int, object] = {}  # id → the set, which we keep alive
        self.sorted_sets: list[int] = []

    def code(self, code: types.CodeType) -> None:
        """Note where ``code`` comes from and which names it may use."""
        self.cells.add(code.co_filename)
        self.words.setdefault(self.name, set()).update(words_of(code))

    def sort_set(self, live: set[object]) -> None:
        """Put a set of plain values into its stable order."""
        if len(live) > 1 and id(live) not in self.sets:
            self.sets[id(live)] = live
            items = _in_order(live)
            if items is not None:
                set.__init__(live, items)
                self.sorted_sets.append(id(live))

    def frozen(self, value: frozenset[object]) -> object:
        """The stand-in for ``value``; None when it is written as itself."""
        held = self.sets.get(id(value))
        if held is None:
            items = _in_order(value)
            held = self.sets[id(value)] = (value, None if items is None else _Frozen(items))
        return held[1]  # type: ignore[index]


# The kind decides, never the object: its ``__class__`` may be a property of the model's.
# Kinds that are written by value or by reference: sharing one of them connects no names.
_NO_LINK = frozenset({bool, type(None), type(...), type(NotImplemented), _Frozen, types.CodeType})
_BY_REFERENCE = (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)


def _naming(reached: Reached) -> Callable[[object], object]:
    """The pickler's ``persistent_id``: called for every object, millions of them, so it is flat and terse."""
    seen: dict[object, object] = {}
    links, records = reached.links, reached.records
    owner, known = links.owner, seen.get

    def persistent_id(obj: Any) -> object:
        kind = type(obj)
        if kind is str or kind is bytes:
            first = known(obj)
            if first is not None:
                return first  # even for the same object: chance must not show
            pin = owner.get(id(obj))
            if pin is None:
                seen[obj] = obj
            return pin
        if kind is int or kind is float:
            return None
        if kind is dict or kind is list:
            key = id(obj)
            if key in owner:
                return met_again(key)
            if records:
                owner[key] = reached.name
            return None
        return of_rare_kind(obj, kind)

    def met_again(key: int) -> object:
        first = owner[key]
        if type(first) is tuple:
            return first
        links.join(first, reached.name)  # type: ignore[arg-type]
        return None

    def of_rare_kind(obj: Any, kind: type) -> object:
        if kind is types.CodeType:
            reached.code(obj)
            # Equality ignores the file, which tracebacks need.
            return seen.setdefault((obj.co_filename, obj), obj)
        key = id(obj)
        if key in owner:
            pin = met_again(key)
            if pin is not None:
                return pin
        elif records and not (kind in _NO_LINK or issubclass(kind, _BY_REFERENCE) or _is_empty(obj, kind)):
            owner[key] = reached.name
        if kind is set:
            reached.sort_set(obj)
        elif kind is frozenset and len(obj) > 1:
            return reached.frozen(obj)
        return None

    return persistent_id


def _is_empty(obj: Any, kind: type) -> bool:
    """Whether ``obj`` is one of the two empty constants that all code shares."""
    return (kind is tuple or kind is frozenset) and not obj


class Pickler(pickle.Pickler):
    """A pickler with pins, functions on the live namespace, and bytes that depend on values only."""

    dispatch_table: ClassVar = ChainMap(reducing.REDUCERS, copyreg.dispatch_table)  # type: ignore[arg-type,misc]

    def __init__(self, file: io.BytesIO, namespace: dict[str, Any], reached: Reached) -> None:
        super().__init__(file, protocol=5)
        self._namespace = namespace
        self._reached = reached
        self._private: dict[int, dict[str, Any]] = {}  # id of globals of no module → their stand-in
        self.persistent_id = _naming(reached)  # type: ignore[method-assign]

    def reducer_override(self, obj: object) -> Any:
        """How ``obj`` is written, unless it is of a plain kind."""
        kind = type(obj)
        if kind is types.FunctionType:
            return self._reduce_function(obj)  # type: ignore[arg-type]
        if kind is types.CodeType:
            return reducing.reduce_code(obj)  # type: ignore[arg-type]
        if kind is types.CellType:
            return reducing.reduce_cell(obj)  # type: ignore[arg-type]
        if kind is types.ModuleType:
            return reducing.reduce_module(obj)  # type: ignore[arg-type]
        if issubclass(kind, type):
            reduced = reducing.reduce_class(obj)
            if reduced is not NotImplemented:
                self._made_here(obj)
                self._reached.classes.add(qualname_of(obj))  # type: ignore[arg-type]
            return reduced
        if issubclass(kind, io.IOBase) and not issubclass(kind, (io.BytesIO, io.StringIO)):
            raise pickle.PicklingError("an open file or stream cannot be saved")
        return NotImplemented

    def _made_here(self, obj: object) -> None:
        """A function or class saved by value connects the names that reach it."""
        self._reached.links.owner.setdefault(id(obj), self._reached.name)

    def _reduce_function(self, func: types.FunctionType) -> Any:
        """By reference if its name leads to it, else by value on the globals that it lives on."""
        if func.__globals__ is not self._namespace:
            if is_by_reference(func):
                return NotImplemented
            if not self._is_of_a_module(func):
                self._made_here(func)
                private = self._private.setdefault(id(func.__globals__), {})
                return reducing.reduce_function(func, private)
        self._made_here(func)
        return reducing.reduce_function(func, None)

    def _is_of_a_module(self, func: types.FunctionType) -> bool:
        """Whether ``func`` was made inside a module, as a wrapper is. Pins that module's globals."""
        name: Any = func.__globals__.get("__name__")
        module = sys.modules.get(name) if type(name) is str else None
        if getattr(module, "__dict__", None) is not func.__globals__:
            return False
        self._reached.links.owner.setdefault(id(func.__globals__), ("module", name))
        return True


def _in_order(items: Iterable[object]) -> list[object] | None:
    """The items sorted by kind and value; None when one of them has no order of its own."""
    keyed = []
    for item in items:
        key = _order_key(item)
        if key is None:
            return None
        keyed.append((key, item))
    try:
        keyed.sort(key=lambda pair: pair[0])
    except TypeError:
        return None
    return [item for _, item in keyed]


def _order_key(item: object) -> tuple[str, Any] | None:
    kind = type(item)
    if kind in (int, float, bool):
        return "number", item
    if kind in (str, bytes):
        return kind.__name__, item
    if item is None:
        return "none", 0
    if kind is tuple:
        keys = [_order_key(member) for member in item]  # type: ignore[attr-defined]
        return None if None in keys else ("tuple", keys)
    return None


# Used in blobs from before ``by_value``: they stay importable for as long as such blobs are read.
_make_cell = by_value.make_cell
_fill_cell = by_value.fill_cell
_make_function = by_value.make_function
_set_function_state = by_value.set_function_state


def reason_of(error: BaseException) -> str:
    """Why some of the model's code failed, in a line; its own text may be hostile."""
    if isinstance(error, RecursionError) or isinstance(error.__cause__, RecursionError):
        return "it is nested too deeply"
    try:
        # Without addresses: a restarted run must give the same text.
        return re.sub(r"\b0x[0-9a-f]+", "0x…", f"{type_name(error)}: {error}"[:_MAX_REASON_CHARS])
    except Exception:  # noqa: BLE001 - see above
        return type_name(error)


def encode(index: Mapping[str, Any], body: bytes | memoryview) -> bytes:
    """A blob."""
    text = json.dumps(index, separators=(",", ":")).encode()
    return b"".join((MAGIC, _LENGTH.pack(len(text)), text, body))


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────
