r"""Variables to bytes and back. Runs inside the kernel process only: loading a pickle runs code.

A blob is ``LRVARS1\n``, a four-byte length, a JSON object, then one pickle per name. The JSON holds
``{"names": [[name, bytes], …], "cells": {"<cell 7>": source}}``; the pickles share one memo, in that order,
so that names which reach the same object share it again after loading.

What never enters a blob: ``context`` and its texts, the helpers, ``answer``, the streams and the namespace
itself. They are *pinned*: named by a persistent id and found again in the new process.

Equal variables give equal bytes, also after a restart in between, because the journal of a run is compared by
its hashes. Python does not promise that; these are the sources of difference that are taken away:

- whether two equal texts are one object: every text and bytes object is written through its first equal
- the order of a set: sets of plain values are put in sorted order, the live one too, so both stay alike
- whether two functions share one code object: written through the first equal one, like texts
- whether code objects share a tuple of constants: each is written with its own
- cloudpickle's random class ids: left out (one memo keeps identity)
- hash seeds: ``PYTHONHASHSEED=0``
"""

from __future__ import annotations

import dataclasses
import gc
import importlib
import io
import json
import pickle
import re
import struct
import sys
import types
import typing

import cloudpickle

from loop_runner.kernel.preview import type_name
from loop_runner.kernel.touched import words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, ClassVar

    from loop_runner.kernel.links import Links

MAGIC = b"LRVARS1\n"
_LENGTH = struct.Struct(">I")
WHOLE_BLOB = ""  # in the place of a name: nothing of the blob could be read
_MAX_REASON_CHARS = 200
MAX_UNPINNED_CHARS = 100  # shorter texts of the context are saved like any other
_internals = cloudpickle.cloudpickle
_PythonUnpickler: Any = pickle._Unpickler  # noqa: SLF001 - its memo, unlike the C one's, may have gaps


class SnapshotError(Exception):
    """The bytes are not a snapshot that this version reads."""


class Pins:
    """Objects that are named in a blob instead of being saved in it."""

    def __init__(
        self, namespace: dict[str, Any], protected: Mapping[str, Any], texts: Callable[[], Mapping[str, str]]
    ) -> None:
        self._namespace = namespace
        self._protected = protected
        self._texts = texts

    def by_id(self, all_texts: Mapping[str, str]) -> dict[int, tuple[str, ...]]:
        """``id`` of each pinned object → its name. ``all_texts``: those that were read so far."""
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


def _reduce_typevar(obj: object) -> Any:
    reduced = _internals._typevar_reduce(obj)  # noqa: SLF001
    if reduced[0] is _internals._make_typevar:  # noqa: SLF001
        return reduced[0], (*reduced[1][:-1], None)
    return reduced


class Reached:
    """What a pickler met, name by name: code, sets and, through ``links``, objects that names share.

    ``records`` says whether later picklers are to find what this one met.
    """

    def __init__(self, links: Links, *, records: bool) -> None:
        self.links = links
        self.records = records
        self.name = 0  # the number that ``links`` gave to the name that is being written
        self.cells: set[str] = set()
        self.words: dict[int, set[str]] = {}
        self.sets: dict[int, object] = {}  # id → the set, which stays alive with us
        self.sorted_sets: list[int] = []

    def code(self, code: types.CodeType) -> None:
        """Note where ``code`` comes from and which names it may use."""
        self.cells.add(code.co_filename)
        self.words.setdefault(self.name, set()).update(words_of(code))

    def sort_set(self, live: set[object]) -> None:
        """Put a set of plain values in its steady order."""
        if len(live) > 1 and id(live) not in self.sets:
            self.sets[id(live)] = live
            items = _in_order(live)
            if items is not None:
                set.__init__(live, items)
                self.sorted_sets.append(id(live))

    def frozen(self, value: frozenset[object]) -> object:
        """What stands for ``value``; None when it may stand for itself."""
        held = self.sets.get(id(value))
        if held is None:
            items = _in_order(value)
            held = self.sets[id(value)] = (value, None if items is None else _Frozen(items))
        return held[1]  # type: ignore[index]


# The kind is asked, never the object: its ``__class__`` may be a property of the model's.
# Kinds that are written by value or by reference: sharing one of them ties no names together.
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
                return first  # also for the same object again: chance must not show
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
            # Equality leaves the file out, which tracebacks need.
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


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle with pins, functions on the live namespace, and bytes that depend on values only."""

    dispatch_table = cloudpickle.Pickler.dispatch_table.new_child({typing.TypeVar: _reduce_typevar})

    def __init__(self, file: io.BytesIO, namespace: dict[str, Any], reached: Reached) -> None:
        super().__init__(file, protocol=5)
        self._namespace = namespace
        self._reached = reached
        self.persistent_id = _naming(reached)

    def reducer_override(self, obj: object) -> Any:
        """How ``obj`` is written, unless it is of a plain kind."""
        kind = type(obj)
        if kind is types.FunctionType and self._keeps_globals(obj):  # type: ignore[arg-type]
            return self._reduce_function(obj)  # type: ignore[arg-type]
        if kind is types.CodeType:
            return _reduce_code(obj)  # type: ignore[arg-type]
        if kind is types.CellType:
            return _reduce_cell(obj)  # type: ignore[arg-type]
        if issubclass(kind, io.IOBase) and not issubclass(kind, (io.BytesIO, io.StringIO)):
            raise pickle.PicklingError("an open file or stream cannot be saved")
        reduced = _steady_class(obj, super().reducer_override(obj))
        if reduced is not NotImplemented and issubclass(kind, _BY_REFERENCE):
            self._made_here(obj)
        return reduced

    def _made_here(self, obj: object) -> None:
        """A function or class that is saved by value ties the names that reach it together."""
        if type(obj) is not types.ModuleType:
            self._reached.links.owner.setdefault(id(obj), self._reached.name)

    def _keeps_globals(self, func: types.FunctionType) -> bool:
        """Whether ``func`` lives on the namespace, or was made inside a module, as a wrapper is."""
        if func.__globals__ is self._namespace:
            return True
        name: Any = func.__globals__.get("__name__")
        module = sys.modules.get(name) if type(name) is str else None
        if getattr(module, "__dict__", None) is not func.__globals__:
            return False
        if is_by_reference(func):
            return False
        self._reached.links.owner.setdefault(id(func.__globals__), ("module", name))
        return True

    def _reduce_function(self, func: types.FunctionType) -> tuple[object, ...]:
        self._made_here(func)
        state = (
            func.__defaults__,
            func.__kwdefaults__,
            func.__dict__ or None,
            func.__annotations__ or None,
            func.__doc__,
            func.__module__,
            func.__qualname__,
        )
        args = (func.__code__, func.__globals__, func.__name__, func.__closure__)
        return _make_function, args, state, None, None, _set_function_state


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
        keys = [_order_key(each) for each in item]  # type: ignore[attr-defined]
        return None if None in keys else ("tuple", keys)
    return None


def _steady_class(cls: Any, reduced: Any) -> Any:
    """A class as cloudpickle reduces it, without what differs from process to process."""
    makers = (_internals._make_skeleton_class, _internals._make_skeleton_enum)  # noqa: SLF001
    if not isinstance(reduced, tuple) or reduced[0] not in makers:
        return reduced
    make, args, state, *rest = reduced
    attributes = state[0]
    attributes.pop("__slotnames__", None)  # a cache that the first pickling of an instance fills
    inherited: dict[str, object] = {}
    for base in reversed(cls.__bases__):
        inherited.update(base.__dict__)
    for name, value in list(attributes.items()):
        # Left out by cloudpickle when it is the same object as the base's; for texts that is chance.
        if type(value) is str and type(inherited.get(name)) is str and inherited[name] == value:
            del attributes[name]
    # In the place of None: a random id that the class would be known by elsewhere; one memo does that here.
    return (make, (*args[:-2], None, args[-1]), state, *rest)


def _reduce_code(code: types.CodeType) -> tuple[object, ...]:
    """Code whose tuples are nobody else's: the compiler shares equal ones within a cell, loading does not."""
    make, args = _internals._code_reduce(code)  # noqa: SLF001
    return make, tuple(map(_own, args))


def _own(value: object) -> object:
    return tuple([_own(item) for item in value]) if type(value) is tuple else value


def _reduce_cell(cell: types.CellType) -> tuple[object, ...]:
    """The cell first and its contents later: a function may reach itself through it."""
    try:
        return _make_cell, (), (cell.cell_contents,), None, None, _fill_cell
    except ValueError:
        return _make_cell, ()


# The four names below are in blobs: they stay importable for as long as blobs of this format are read.


def _make_cell() -> types.CellType:
    return types.CellType()


def _fill_cell(cell: types.CellType, state: tuple[object]) -> None:
    cell.cell_contents = state[0]


def _make_function(
    code: types.CodeType, namespace: dict[str, Any], name: str, closure: tuple[types.CellType, ...] | None
) -> types.FunctionType:
    return types.FunctionType(code, namespace, name, None, closure)


def _set_function_state(func: types.FunctionType, state: tuple[Any, ...]) -> None:
    func.__defaults__, func.__kwdefaults__ = state[0], state[1]
    if state[2]:
        func.__dict__.update(state[2])
    if state[3]:
        func.__annotations__ = state[3]
    func.__doc__, func.__module__, func.__qualname__ = state[4:]


def is_by_reference(value: object) -> bool:
    """Whether a function or class is found again in its module, by its name."""
    return bool(_internals._should_pickle_by_reference(value))  # noqa: SLF001


def reason_of(error: BaseException) -> str:
    """Why something of the model's failed, in a line; its own text may be hostile."""
    if isinstance(error, RecursionError) or isinstance(error.__cause__, RecursionError):
        return "it is nested too deeply"
    try:
        # Without addresses: a run that was restarted must say the same.
        return re.sub(r"\b0x[0-9a-f]+", "0x…", f"{type_name(error)}: {error}"[:_MAX_REASON_CHARS])
    except Exception:  # noqa: BLE001 - see above
        return type_name(error)


def encode(index: Mapping[str, Any], body: bytes | memoryview) -> bytes:
    """A blob."""
    text = json.dumps(index, separators=(",", ":")).encode()
    return b"".join((MAGIC, _LENGTH.pack(len(text)), text, body))


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────


class _Named(dict[object, object]):
    """What persistent ids stand for. A ``dict``, so that for texts, which are most, no Python runs."""

    def __init__(self, find_pin: Callable[[tuple[str, ...]], object]) -> None:
        super().__init__()
        self._find_pin = find_pin

    def __missing__(self, pid: object) -> object:
        kind = type(pid)
        if kind is types.CodeType:
            return pid  # not kept: equal code may be of another file
        if kind is str or kind is bytes:
            self[pid] = pid
        elif kind is _Frozen:
            self[pid] = frozenset(pid.items)  # type: ignore[attr-defined]
        else:
            return self._find_pin(pid)  # type: ignore[arg-type]
        return self[pid]


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, named: _Named) -> None:
        super().__init__(file)
        self.persistent_load = named.__getitem__  # type: ignore[method-assign]


class _CarefulUnpickler(_PythonUnpickler):  # type: ignore[misc]
    """Goes on after a name that failed. Slow, in Python: only here can the memo have gaps.

    A memo index is implied by the number of objects before it, so a pickle that was left half-way would shift
    all later ones; and what it left half-built must not be found again.
    """

    dispatch: ClassVar = dict(_PythonUnpickler.dispatch)

    def __init__(self, file: io.BytesIO, named: _Named) -> None:
        super().__init__(file)
        self.persistent_load = named.__getitem__
        self.next_index = 0

    def load_memoize(self) -> None:
        self.memo[self.next_index] = self.stack[-1]
        self.next_index += 1

    dispatch[pickle.MEMOIZE[0]] = load_memoize


def load_all(
    blobs: Iterable[bytes],
    namespace: dict[str, Any],
    find_pin: Callable[[tuple[str, ...]], object],
    sources: dict[str, str],
    at: Callable[[str], object] = bool,
) -> list[tuple[str, str]]:
    """Put the names of all ``blobs`` into ``namespace``, always in the same order; what failed, as ``load``.

    ``at`` is called with each name before it is loaded.
    """
    was_enabled = gc.isenabled()
    gc.disable()  # it would look at every object of a large blob again and again
    try:
        failed: list[tuple[str, str]] = []
        for blob in sorted(blobs):
            failed += load(blob, namespace, find_pin, sources, at)
    finally:
        if was_enabled:
            # What is there counts as old: else it would all be looked at for being new, and again later.
            gc.freeze()
            gc.unfreeze()
            gc.enable()
    return failed


def load(
    blob: bytes,
    namespace: dict[str, Any],
    find_pin: Callable[[tuple[str, ...]], object],
    sources: dict[str, str],
    at: Callable[[str], object] = bool,
) -> list[tuple[str, str]]:
    """Put the names of ``blob`` into ``namespace``; (name or ``WHOLE_BLOB``, reason) of what failed."""
    try:
        index, start = read_index(blob)
    except SnapshotError as error:
        return [(WHOLE_BLOB, str(error))]
    sources.update(index["cells"])
    file = io.BytesIO(blob)
    file.seek(start)
    named = _Named(find_pin)
    unpickler = _Unpickler(file, named)
    names = index["names"]
    for position, (name, _) in enumerate(names):
        at(name)
        try:
            namespace[name] = unpickler.load()
        except Exception as error:  # noqa: BLE001 - what a pickle runs decides what it raises
            rest = _load_rest(blob, start, names, position, unpickler.memo.copy(), named, namespace)
            return [(name, reason_of(error)), *rest]
    if index["sets"]:  # the memo of a large blob takes long to copy
        _settle_sets(unpickler.memo.copy())
    return []


def _load_rest(
    blob: bytes,
    start: int,
    names: list[tuple[str, int]],
    position: int,
    memo: dict[int, Any],
    named: _Named,
    namespace: dict[str, Any],
) -> list[tuple[str, str]]:
    """Load the names after ``position``, whose pickle failed; what needs a failed one fails too."""
    file = io.BytesIO(blob)
    unpickler = _CarefulUnpickler(file, named)
    failed: list[tuple[str, str]] = []
    first_index = 0
    for each, (name, size) in enumerate(names):
        count = _memoized(blob[start : start + size])
        if each == position:
            unpickler.memo = {index: value for index, value in memo.items() if index < first_index}
        elif each > position:
            file.seek(start)
            unpickler.next_index = first_index
            try:
                namespace[name] = unpickler.load()
            except Exception as error:  # noqa: BLE001 - see above
                failed.append((name, reason_of(error)))
                for index in range(first_index, first_index + count):
                    unpickler.memo.pop(index, None)
        start += size
        first_index += count
    _settle_sets(unpickler.memo)
    return failed


def _memoized(data: bytes) -> int:
    """How many objects a pickle puts into the memo."""
    from pickletools import genops

    return sum(opcode.name == "MEMOIZE" for opcode, _, _ in genops(data))


def _settle_sets(memo: dict[int, Any]) -> None:
    """Sets as loaded may iterate in another order than the live ones they were saved from."""
    for value in memo.values():
        if type(value) is set and len(value) > 1:
            items = _in_order(value)
            if items is not None:
                set.__init__(value, items)


def read_index(blob: bytes) -> tuple[dict[str, Any], int]:
    """A blob's JSON, and where its pickles begin. Raises ``SnapshotError``."""
    if not blob.startswith(MAGIC):
        raise SnapshotError("the blob is not one of this version's snapshots")
    try:
        (size,) = _LENGTH.unpack_from(blob, len(MAGIC))
        start = len(MAGIC) + _LENGTH.size
        return json.loads(blob[start : start + size]), start + size
    except (ValueError, struct.error) as error:
        raise SnapshotError(f"the blob's index cannot be read: {error}") from None
