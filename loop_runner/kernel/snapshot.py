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
import struct
import sys
import types
import typing

import cloudpickle

from loop_runner.kernel.preview import preview, type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, ClassVar

MAGIC = b"LRVARS1\n"
_LENGTH = struct.Struct(">I")
WHOLE_BLOB = ""  # in the place of a name: nothing of the blob could be read
_MAX_REASON_CHARS = 200
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
            id(text): ("text", name) for name, text in all_texts.items() if len(text) > 100
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


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle with pins, functions on the live namespace, and bytes that depend on values only."""

    dispatch_table = cloudpickle.Pickler.dispatch_table.new_child({typing.TypeVar: _reduce_typevar})

    def __init__(self, file: io.BytesIO, namespace: dict[str, Any], pins: dict[int, tuple[str, ...]]) -> None:
        super().__init__(file, protocol=5)
        self._namespace = namespace
        self._pins = pins
        self._first_equal: dict[tuple[object, object], object] = {}
        self._sets: dict[int, object] = {}
        self.cells: set[str] = set()

    def persistent_id(self, obj: object) -> object:
        kind = type(obj)
        if kind is int or kind is float or (kind is dict and id(obj) not in self._pins):
            return None
        pin = self._pins.get(id(obj))
        if pin is not None:
            return pin
        if kind is str or kind is bytes:
            return self._first_equal.setdefault((kind, obj), obj)
        if kind is set:
            self._sort_set(obj)  # type: ignore[arg-type]
        elif kind is frozenset:
            return self._frozen(obj)  # type: ignore[arg-type]
        elif kind is types.CodeType:
            # Equality leaves the file out, which tracebacks need.
            self.cells.add(obj.co_filename)  # type: ignore[attr-defined]
            return self._first_equal.setdefault((obj.co_filename, obj), obj)  # type: ignore[attr-defined]
        return None

    def _sort_set(self, live: set[object]) -> None:
        if len(live) > 1 and id(live) not in self._sets:
            self._sets[id(live)] = live
            items = _in_order(live)
            if items is not None:
                set.__init__(live, items)

    def _frozen(self, value: frozenset[object]) -> object:
        if len(value) < 2:
            return None
        held = self._sets.get(id(value))
        if held is None:
            items = _in_order(value)
            held = self._sets[id(value)] = (value, None if items is None else _Frozen(items))
        return held[1]  # type: ignore[index]

    def reducer_override(self, obj: object) -> Any:
        kind = type(obj)
        if kind is types.FunctionType and self._keeps_globals(obj):  # type: ignore[arg-type]
            return self._reduce_function(obj)  # type: ignore[arg-type]
        if kind is types.CellType:
            return _reduce_cell(obj)  # type: ignore[arg-type]
        if isinstance(obj, io.IOBase) and not isinstance(obj, io.BytesIO | io.StringIO):
            raise pickle.PicklingError("an open file or stream cannot be saved")
        reduced = super().reducer_override(obj)
        return _steady_class(obj, reduced)

    def _keeps_globals(self, func: types.FunctionType) -> bool:
        """Whether ``func`` lives on the namespace, or was made inside a module, as a wrapper is."""
        if func.__globals__ is self._namespace:
            return True
        name: Any = func.__globals__.get("__name__")
        module = sys.modules.get(name) if type(name) is str else None
        if getattr(module, "__dict__", None) is not func.__globals__:
            return False
        if _internals._should_pickle_by_reference(func):  # noqa: SLF001
            return False
        self._pins.setdefault(id(func.__globals__), ("module", name))
        return True

    def _reduce_function(self, func: types.FunctionType) -> tuple[object, ...]:
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


class _Writer:
    """Writes one blob, leaving out the names that cannot be pickled, each with its reason."""

    def __init__(
        self,
        namespace: dict[str, Any],
        pins: dict[int, tuple[str, ...]],
        sources: Mapping[str, str],
        max_bytes: int,
    ) -> None:
        self._namespace = namespace
        self._pins = pins
        self._sources = sources
        self._max_bytes = max_bytes
        self.lost: dict[str, str] = {}
        self.sizes: dict[str, int] = {}
        self.cells: dict[str, str] = {}

    def write(self, names: list[str], suspects: Iterable[str]) -> bytes:
        """The blob of ``names``. ``suspects`` failed before: they are tried alone first."""
        for name in suspects:
            self._try_alone(name)
        while True:
            blob = self._attempt([name for name in names if name not in self.lost])
            if blob is not None:
                return blob

    def _pickler(self, file: io.BytesIO) -> _Pickler:
        return _Pickler(file, self._namespace, self._pins)

    def _try_alone(self, name: str) -> None:
        if name in self._namespace:
            self._dump(self._pickler(io.BytesIO()), name)

    def _attempt(self, names: list[str]) -> bytes | None:
        """All names in one go; None when one failed: it is then in ``lost``, and the shared memo is void."""
        file = io.BytesIO()
        pickler = self._pickler(file)
        self.sizes = {}
        for name in names:
            start = file.tell()
            if not self._dump(pickler, name):
                return None
            self.sizes[name] = file.tell() - start
            if file.tell() > self._max_bytes:
                self.lost[name] = f"the saved variables would take more than {self._max_bytes:,} bytes"
                return None
        self.cells = {
            label: self._sources[label] for label in sorted(pickler.cells) if label in self._sources
        }
        index = {"names": [[name, self.sizes[name]] for name in names], "cells": self.cells}
        text = json.dumps(index, separators=(",", ":")).encode()
        return b"".join((MAGIC, _LENGTH.pack(len(text)), text, file.getbuffer()))

    def _dump(self, pickler: _Pickler, name: str) -> bool:
        try:
            pickler.dump(self._namespace[name])
        except Exception as error:  # noqa: BLE001 - objects of the model's decide what they raise
            self.lost[name] = _reason(error)
            return False
        return True


def _reason(error: BaseException) -> str:
    if isinstance(error, RecursionError) or isinstance(error.__cause__, RecursionError):
        return "it is nested too deeply"
    try:
        return f"{type_name(error)}: {error}"[:_MAX_REASON_CHARS]
    except Exception:  # noqa: BLE001 - see above
        return type_name(error)


def save(
    namespace: dict[str, Any],
    names: list[str],
    pins: dict[int, tuple[str, ...]],
    sources: dict[str, str],
    suspects: Iterable[str],
    max_bytes: int,
) -> tuple[bytes, list[dict[str, Any]]]:
    """The blob of all ``names`` that can be saved, and one row for every name.

    A row is ``{"name", "type", "size", "preview", "status", "reason"}``. ``sources`` is left with the cells
    that saved code comes from, so that it is the same as after a restart.
    """
    writer = _Writer(namespace, pins, sources, max_bytes)
    was_enabled = gc.isenabled()
    gc.disable()  # a collection in the middle of a large dump costs a third of its time
    try:
        blob = writer.write(names, suspects)
    finally:
        if was_enabled:
            gc.enable()
    sources.clear()
    sources.update(writer.cells)
    rows = [_row(namespace, name, writer) for name in names]
    return (blob if writer.sizes else b""), rows


def _row(namespace: dict[str, Any], name: str, writer: _Writer) -> dict[str, Any]:
    value = namespace[name]
    reason = writer.lost.get(name, "")
    return {
        "name": name,
        "type": type_name(value),
        "size": 0 if reason else writer.sizes[name],
        "preview": preview(value),
        "status": "lost" if reason else "saved",
        "reason": reason,
    }


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────


class _Pinned:
    """What both unpicklers share: pins and frozensets."""

    def __init__(self, find_pin: Callable[[tuple[str, ...]], object]) -> None:
        self._find_pin = find_pin
        self._frozen: dict[int, tuple[object, frozenset[object]]] = {}

    def __call__(self, pid: object) -> object:
        kind = type(pid)
        if kind in (str, bytes, types.CodeType):
            return pid
        if kind is _Frozen:
            if id(pid) not in self._frozen:
                self._frozen[id(pid)] = (pid, frozenset(pid.items))  # type: ignore[attr-defined]
            return self._frozen[id(pid)][1]
        return self._find_pin(pid)  # type: ignore[arg-type]


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, pinned: _Pinned) -> None:
        super().__init__(file)
        self.persistent_load = pinned  # type: ignore[method-assign]


class _CarefulUnpickler(_PythonUnpickler):  # type: ignore[misc]
    """Goes on after a name that failed. Slow, in Python: only here can the memo have gaps.

    A memo index is implied by the number of objects before it, so a pickle that was left half-way would shift
    all later ones; and what it left half-built must not be found again.
    """

    dispatch: ClassVar = dict(_PythonUnpickler.dispatch)

    def __init__(self, file: io.BytesIO, pinned: _Pinned) -> None:
        super().__init__(file)
        self.persistent_load = pinned
        self.next_index = 0

    def load_memoize(self) -> None:
        self.memo[self.next_index] = self.stack[-1]
        self.next_index += 1

    dispatch[pickle.MEMOIZE[0]] = load_memoize


def load(
    blob: bytes,
    namespace: dict[str, Any],
    find_pin: Callable[[tuple[str, ...]], object],
    sources: dict[str, str],
) -> list[tuple[str, str]]:
    """Put the names of ``blob`` into ``namespace``; (name or ``WHOLE_BLOB``, reason) of what failed."""
    try:
        index, start = _read_index(blob)
    except SnapshotError as error:
        return [(WHOLE_BLOB, str(error))]
    sources.update(index["cells"])
    file = io.BytesIO(blob)
    file.seek(start)
    pinned = _Pinned(find_pin)
    unpickler = _Unpickler(file, pinned)
    names = index["names"]
    for position, (name, _) in enumerate(names):
        try:
            namespace[name] = unpickler.load()
        except Exception as error:  # noqa: BLE001 - what a pickle runs decides what it raises
            rest = _load_rest(blob, start, names, position, unpickler.memo.copy(), pinned, namespace)
            return [(name, _reason(error)), *rest]
    _settle_sets(unpickler.memo.copy())
    return []


def _load_rest(
    blob: bytes,
    start: int,
    names: list[tuple[str, int]],
    position: int,
    memo: dict[int, Any],
    pinned: _Pinned,
    namespace: dict[str, Any],
) -> list[tuple[str, str]]:
    """Load the names after ``position``, whose pickle failed; what needs a failed one fails too."""
    file = io.BytesIO(blob)
    unpickler = _CarefulUnpickler(file, pinned)
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
                failed.append((name, _reason(error)))
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


def _read_index(blob: bytes) -> tuple[dict[str, Any], int]:
    if not blob.startswith(MAGIC):
        raise SnapshotError("the blob is not one of this version's snapshots")
    try:
        (size,) = _LENGTH.unpack_from(blob, len(MAGIC))
        start = len(MAGIC) + _LENGTH.size
        return json.loads(blob[start : start + size]), start + size
    except (ValueError, struct.error) as error:
        raise SnapshotError(f"the blob's index cannot be read: {error}") from None
