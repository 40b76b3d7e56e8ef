"""Restores variables from a snapshot's bytes: as a whole, or name by name where something is missing."""

from __future__ import annotations

import gc
import io
import json
import pickle
import struct
import types

from . import by_value
from .reducing import is_by_reference
from .snapshot import (
    _LENGTH,
    _MAX_REASON_CHARS,
    MAGIC,
    WHOLE_BLOB,
    SnapshotError,
    _Frozen,
    _in_order,
    reason_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, ClassVar


_PythonUnpickler: Any = pickle._Unpickler  # noqa: SLF001 - its memo, unlike the C one's, may have gaps


class _Named(dict[object, object]):
    """The objects for persistent ids. A ``dict``, so that no Python code runs for texts, which are most."""

    def __init__(self, find_pin: Callable[[tuple[str, ...]], object]) -> None:
        super().__init__()
        self._find_pin = find_pin

    def __missing__(self, pid: object) -> object:
        kind = type(pid)
        if kind is types.CodeType or kind is by_value.MissingCode:
            return pid  # not kept: equal code may come from another file
        if kind is str or kind is bytes:
            self[pid] = pid
        elif kind is _Frozen:
            self[pid] = frozenset(pid.items)  # type: ignore[attr-defined]
        else:
            return self._find_pin(pid)  # type: ignore[arg-type]
        return self[pid]


_OF_ONE_PYTHON = {("dataclasses", "_DataclassParams"), ("dataclasses", "_replace")}  # not the same in all


def _find_class(module: str, name: str, usual: Callable[[str, str], Any]) -> Any:
    if module.partition(".")[0] != "cloudpickle" and (module, name) not in _OF_ONE_PYTHON:
        return usual(module, name)
    from . import cloudpickle_names

    return cloudpickle_names.find(name) or usual(module, name)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, named: _Named) -> None:
        super().__init__(file)
        self.persistent_load = named.__getitem__  # type: ignore[method-assign]

    def find_class(self, module: str, name: str) -> Any:
        return _find_class(module, name, super().find_class)


class _Broken:
    """Stands for an object that could not be loaded: ``why`` is shown for the names that need it."""

    def __init__(self, why: str) -> None:
        self.why = why


class _CarefulUnpickler(_PythonUnpickler):  # type: ignore[misc]
    """Continues after a failure, within a name and after it. In Python, so it is slow.

    Later names can use the texts and other plain values that a failed name loaded, but no other object of it:
    that may be half built.
    """

    dispatch: ClassVar = dict(_PythonUnpickler.dispatch)

    def __init__(self, file: io.BytesIO, named: _Named, memo: dict[int, Any]) -> None:
        super().__init__(file)
        self.persistent_load = named.__getitem__
        self.memo = memo
        self.errors: list[str] = []

    def find_class(self, module: str, name: str) -> Any:
        return _find_class(module, name, super().find_class)

    def failed(self, why: str) -> _Broken:
        """Record a failure; returns the stand-in for it."""
        self.errors.append(why)
        return _Broken(why)

    def give_up(self, name: str, since: int) -> None:
        """Keep only the plain values of a failed name, memoized from index ``since`` on."""
        for index in range(since, len(self.memo)):
            if not _is_whole(self.memo[index]):
                self.memo[index] = _Broken(f"it shares something with {name}, which could not be loaded")

    def load_binget(self) -> None:
        self._get(self.read(1)[0])

    def load_long_binget(self) -> None:
        (index,) = struct.unpack("<I", self.read(4))
        self._get(index)

    def _get(self, index: int) -> None:
        value = self.memo[index]
        self.stack.append(self.failed(value.why) if type(value) is _Broken else value)

    dispatch[pickle.BINGET[0]] = load_binget
    dispatch[pickle.LONG_BINGET[0]] = load_long_binget


def _is_whole(value: object) -> bool:
    """Whether a value cannot be half built: a plain one, or one that was found in a module."""
    kind = type(value)
    if issubclass(kind, (type, types.FunctionType)):
        return is_by_reference(value)
    return kind in (str, bytes, int, float, bool, types.NoneType, types.ModuleType, types.BuiltinFunctionType)


# What may run code of the model's or of a library's, and whether its result is still to be put on the stack.
_MAY_FAIL = {
    pickle.REDUCE: False,
    pickle.BUILD: None,
    pickle.NEWOBJ: True,
    pickle.NEWOBJ_EX: True,
    pickle.STACK_GLOBAL: True,
    pickle.BINPERSID: True,
    pickle.SETITEM: None,
    pickle.SETITEMS: None,
    pickle.APPEND: None,
    pickle.APPENDS: None,
    pickle.ADDITEMS: None,
    pickle.FROZENSET: True,
}


def _carefully(step: Callable[[Any], None], is_missing: bool | None) -> Callable[[Any], None]:
    def load(unpickler: _CarefulUnpickler) -> None:
        try:
            step(unpickler)
        except Exception as error:  # noqa: BLE001 - what a pickle runs decides what it raises
            broken = unpickler.failed(reason_of(error))
            if is_missing:
                unpickler.stack.append(broken)
            elif is_missing is not None:
                unpickler.stack[-1] = broken

    return load


for _opcode, _is_missing in _MAY_FAIL.items():
    _CarefulUnpickler.dispatch[_opcode[0]] = _carefully(_PythonUnpickler.dispatch[_opcode[0]], _is_missing)


def load_all(
    blobs: Iterable[bytes],
    namespace: dict[str, Any],
    find_pin: Callable[[tuple[str, ...]], object],
    sources: dict[str, str],
    at: Callable[[str], object] = bool,
) -> list[tuple[str, str]]:
    """Put the names of all ``blobs`` into ``namespace``, in a fixed order; returns failures, as ``load``.

    ``at`` is called with each name before it is loaded.
    """
    was_enabled = gc.isenabled()
    gc.disable()  # it would visit every object of a large blob repeatedly
    try:
        failed: list[tuple[str, str]] = []
        for blob in sorted(blobs):
            failed += load(blob, namespace, find_pin, sources, at)
    finally:
        if was_enabled:
            # Existing objects count as old: else each collection would visit all of them.
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
    """Put the names of ``blob`` into ``namespace``; returns (name or ``WHOLE_BLOB``, reason) for failures."""
    try:
        index, start = read_index(blob)
    except SnapshotError as error:
        return [(WHOLE_BLOB, str(error))]
    sources.update(index["cells"])
    by_value.reading.begin(index["cells"])
    file = io.BytesIO(blob)
    file.seek(start)
    named = _Named(find_pin)
    unpickler = _Unpickler(file, named)
    names = index["names"]
    for position, (name, _) in enumerate(names):
        at(name)
        try:
            value = unpickler.load()
            by_value.reading.refuse_missing()
            namespace[name] = value
        except Exception:  # noqa: BLE001 - what a pickle runs decides what it raises
            by_value.reading.missing = []
            return _load_rest(blob, start, names, position, unpickler.memo.copy(), named, namespace)
    if index["sets"]:  # copying the memo of a large blob takes long
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
    """Load the name at ``position``, which failed, and those after it; names that need it fail, too."""
    count = sum(_memoized(blob[at : at + size]) for at, size in _places(start, names[:position]))
    file = io.BytesIO(blob)
    unpickler = _CarefulUnpickler(file, named, {index: memo[index] for index in range(count)})
    failed: list[tuple[str, str]] = []
    for (name, _), (at, _) in list(zip(names, _places(start, names), strict=True))[position:]:
        file.seek(at)
        since, unpickler.errors = len(unpickler.memo), []
        value = unpickler.load()
        try:
            by_value.reading.refuse_missing()
        except by_value.ForeignCodeError as error:
            unpickler.errors.insert(0, str(error))
        if unpickler.errors:
            failed.append((name, unpickler.errors[0][:_MAX_REASON_CHARS]))
            unpickler.give_up(name, since)
        else:
            namespace[name] = value
    _settle_sets(unpickler.memo)
    return failed


def _places(start: int, names: list[tuple[str, int]]) -> list[tuple[int, int]]:
    """Where the pickle of each name begins, and its size."""
    places = []
    for _, size in names:
        places.append((start, size))
        start += size
    return places


def _memoized(data: bytes) -> int:
    """How many objects a pickle puts into the memo."""
    from pickletools import genops

    return sum(opcode.name == "MEMOIZE" for opcode, _, _ in genops(data))


def _settle_sets(memo: dict[int, Any]) -> None:
    """Loaded sets may iterate in another order than the live ones they were saved from."""
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
