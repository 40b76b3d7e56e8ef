"""Decides which variables go into which blob, and writes only those that may have changed. Inside the kernel.

Names that reach a common object stay together. A set of such names larger than ``BIG_BYTES`` has its own
blob; all others share one. A big blob that the cell cannot have touched is not written again, and a forked
copy of the process writes big ones, so that the process itself only pauses for the fork.

The grouping of names depends on the variables and on the last snapshot's groups, never on which of them were
written again: a run with a restart in between produces the same blobs.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import sys
import warnings

from . import by_value, restoring, snapshot, wire
from .cell_sources import defining_cell
from .groups import (
    BIG_BYTES,
    LEAST_SECONDS,
    Failed,
    OversizeError,
    TooLargeHereError,
    Work,
    Written,
    monotonic,
    patience,
)
from .links import Links
from .preview import preview, type_name
from .touched import reach

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Never

_PLAIN = frozenset({str, int, float, bool, list, dict, tuple, set, bytes, type(None)})
_ATOMS = frozenset({str, int, float, bool, type(None)})
_KEPT_BYTES = 1000  # a larger immutable value is not kept alive for comparison
_ANYTHING_ELSE = object()  # in place of a value whose inside may have changed

# Taken now: a cell may rebind them.
_fork, _exit, _pipe, _dup, _close, _read, _waitpid = (
    os.fork,
    os._exit,
    os.pipe,
    os.dup,
    os.close,
    os.read,
    os.waitpid,
)
_current_frames = sys._current_frames  # noqa: SLF001 - the one list of threads that cannot be faked
_signal, _setitimer, _ALRM, _REAL = signal.signal, signal.setitimer, signal.SIGALRM, signal.ITIMER_REAL


class _Group:
    """One blob of the last snapshot, with what the next snapshot needs to know."""

    def __init__(self, index: Mapping[str, Any]) -> None:
        self.sizes: dict[str, int] = dict(index["names"])
        self.parts: list[tuple[list[str], list[str]]] = index["parts"]
        self.cells: dict[str, str] = index["cells"]
        self.is_big: bool = index["big"]
        self.values: dict[str, int] = {}  # name → id of the value it was bound to


class Saver:
    """Takes snapshots of one namespace; knows what the host has of the last one."""

    def __init__(
        self,
        namespace: dict[str, Any],
        sources: dict[str, str],
        *,
        own_names: Callable[[], list[str]],
        pins: Callable[[], dict[int, tuple[str, ...]]],
        own_threads: Callable[[], set[int]],
        workspace: str,
    ) -> None:
        self._namespace = namespace
        self._sources = sources
        self._own_names = own_names
        self._pins = pins
        self._own_threads = own_threads
        self._workspace = workspace
        self._groups: list[_Group] = []
        self._gone: dict[str, dict[str, Any]] = {}
        self._failing: list[str] = []
        # name → its value, if that cannot change; its size, and its type and preview, as the host has them
        self._reported: dict[str, tuple[object, int, list[str]]] = {}
        # name → its value, and why saving it is not tried again
        self._hopeless: dict[str, tuple[object, str]] = {}

    # ── what the host has ───────────────────────────────────────────────────────────────────────────

    def restored(self, blobs: Iterable[bytes], gone: Iterable[dict[str, Any]]) -> None:
        """The host's snapshot was loaded. ``gone``: rows of names that it lost, to be reported again."""
        self._groups = []
        for blob in blobs:
            try:
                group = _Group(restoring.read_index(blob)[0])
            except (snapshot.SnapshotError, KeyError, TypeError, ValueError):
                group = _Group({"names": [], "parts": [], "cells": {}, "big": False})
            self._groups.append(group)
        self._gone = {row["name"]: row for row in gone}
        self._reported = {}
        self._remember_values()

    def _remember_values(self) -> None:
        for group in self._groups:
            if group.is_big:
                group.values = {name: id(self._namespace.get(name)) for name in group.sizes}

    def _remember_rows(self, rows: Mapping[str, list[str]]) -> None:
        """``reported``: type and preview of the names whose rows were sent; the host has the others."""
        before, self._reported = self._reported, {}
        for group in self._groups:
            for name, size in group.sizes.items():
                if name in rows:
                    value = self._namespace[name]
                    is_kept = type(value) in _ATOMS and size <= _KEPT_BYTES
                    self._reported[name] = value if is_kept else _ANYTHING_ELSE, size, rows[name]
                else:
                    self._reported[name] = before[name]

    # ── taking a snapshot ───────────────────────────────────────────────────────────────────────────

    def save(self, request: Mapping[str, Any], words: Iterable[str] | None, out: int) -> None:
        """Write the frame that answers ``request`` to the descriptor ``out``.

        ``words``: the names in the cells since the last snapshot; None when they are unknown.
        """
        for name, why in request["unloadable"].items():
            if name in self._namespace:
                self._hopeless[name] = (self._namespace[name], why)
        untouched = [] if request["full"] else self._untouched(words)
        result = self._write(request, untouched, out)
        for name in list(self._gone):
            if name in self._namespace:
                del self._gone[name]
        self._failing = result["failing"]
        for name, why in result["overdue"]:
            self._hopeless[name] = (self._namespace[name], why)
        self._groups = [
            _Group(entry) if type(entry) is dict else self._groups[entry] for entry in result["groups"]
        ]
        self._remember_values()
        self._remember_rows(result["reported"])
        self._sources.clear()
        for group in self._groups:
            self._sources.update(group.cells)

    def _untouched(self, words: Iterable[str] | None) -> list[int]:
        """The positions of the big blobs that certainly have not changed."""
        big = [position for position, group in enumerate(self._groups) if group.is_big]
        if not big or words is None or self._is_reachable_unseen():
            return []
        parts = [part for group in self._groups for part in group.parts]
        touched = reach(words, parts)
        if touched is None or touched & set(self._failing):
            return []
        return [position for position in big if self._is_as_it_was(self._groups[position], touched)]

    def _is_as_it_was(self, group: _Group, touched: set[str]) -> bool:
        return bool(group.values) and all(
            name not in touched and name in self._namespace and id(self._namespace[name]) == value
            for name, value in group.values.items()
        )

    def _is_reachable_unseen(self) -> bool:
        """Whether a variable may be reachable other than by the names in a cell."""
        answer = self._namespace.get("answer")
        if type(answer) is not dict or any(type(value) not in _ATOMS for value in answer.values()):
            return True
        if self._has_threads():
            return True
        files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
        return any(type(path) is str and path.startswith(self._workspace) for path in files)

    def _has_threads(self) -> bool:
        return bool(_current_frames().keys() - self._own_threads())

    def _write(self, request: Mapping[str, Any], untouched: list[int], out: int) -> dict[str, Any]:
        """Write the frame, here or in a copy of the process; returns what to remember of it."""
        size = sum(sum(group.sizes.values()) for at, group in enumerate(self._groups) if at not in untouched)
        if self._has_threads():  # a copy would have their locks, but not the threads
            frame, result = self._compose(request, untouched, None)
            wire.write_all(out, frame)
            return result
        if size <= BIG_BYTES:
            try:
                frame, result = self._compose(request, untouched, BIG_BYTES)
            except TooLargeHereError:
                pass
            else:
                wire.write_all(out, frame)
                return result
        copied = self._write_in_copy(request, untouched, out)
        if copied is not None:
            return copied
        frame, result = self._compose(request, untouched, None)
        wire.write_all(out, frame)
        return result

    # ── in a copy ───────────────────────────────────────────────────────────────────────────────────

    def _write_in_copy(
        self, request: Mapping[str, Any], untouched: list[int], out: int
    ) -> dict[str, Any] | None:
        """Let a forked copy write; None when no copy can be made, or it ended before it began to write."""
        line, writer = _pipe()
        own_out = _dup(out)  # every other fork closes this one
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                pid = _fork()
        except OSError:
            for fd in (line, writer, own_out):
                _close(fd)
            return None
        if pid == 0:
            _close(line)
            self._be_the_copy(request, untouched, own_out, writer)
        _close(writer)
        _close(own_out)
        heard = b"".join(iter(lambda: _read(line, 1 << 16), b""))
        _close(line)
        with contextlib.suppress(ChildProcessError):  # a cell had children reaped by the system
            _waitpid(pid, 0)
        if not heard:
            return None
        if not heard.endswith(b"\n"):
            _exit(70)  # half a frame is on the line: it cannot be continued from here
        result: dict[str, Any] = json.loads(heard[1:])
        self._sort_live_sets(set(result["sets"]))
        return result

    def _be_the_copy(self, request: Mapping[str, Any], untouched: list[int], out: int, writer: int) -> Never:
        try:
            gc.disable()
            frame, result = self._compose(request, untouched, None)
            wire.write_all(writer, b"!")
            wire.write_all(out, frame)
            wire.write_all(writer, json.dumps(result).encode() + b"\n")
        finally:
            _exit(0)

    def _sort_live_sets(self, ids: set[int]) -> None:
        """Repeat here what the copy did to its sets: they are found among all objects, by their ids."""
        if not ids:
            return
        reached = snapshot.Reached(Links({}), records=False)
        for obj in gc.get_objects():
            if type(obj) is set and id(obj) in ids:
                reached.sort_set(obj)

    # ── the frame ───────────────────────────────────────────────────────────────────────────────────

    def _compose(
        self, request: Mapping[str, Any], untouched: list[int], pause_bytes: int | None
    ) -> tuple[bytes, dict[str, Any]]:
        """The frame, and what to remember of it."""
        kept = {name for position in untouched for name in self._groups[position].sizes}
        names = [name for name in self._own_names() if name not in kept]
        lost = self._lost_already(names)
        overdue: list[str] = []
        was_enabled = gc.isenabled()
        gc.disable()  # a collection in the middle of a large dump costs a third of its time
        previous = _signal(_ALRM, patience.tick)
        _setitimer(_REAL, LEAST_SECONDS, LEAST_SECONDS)  # one for all: a thousand names cost 1000 calls
        try:
            work, written = self._try(request, names, lost, overdue, untouched, pause_bytes)
        finally:
            _setitimer(_REAL, 0)
            _signal(_ALRM, previous if previous is not None else signal.SIG_DFL)
            if was_enabled:
                gc.enable()
        entries: list[tuple[str, int | tuple[bytes, dict[str, Any]]]] = [
            (pickled.names[0], self._blob(work, pickled, is_big)) for pickled, is_big in written
        ]
        entries += [(min(self._groups[position].sizes), position) for position in untouched]
        entries.sort(key=lambda entry: entry[0])
        frame, remembered = self._frame([entry for _, entry in entries], lost)
        return frame, remembered | {"overdue": [(name, lost[name]) for name in overdue]}

    def _lost_already(self, names: Iterable[str]) -> dict[str, str]:
        """Names whose values are known to fail on loading, or to take too long to write."""
        nothing = object()
        self._hopeless = {
            name: (value, why)
            for name, (value, why) in self._hopeless.items()
            if self._namespace.get(name, nothing) is value
        }
        return {name: self._hopeless[name][1] for name in names if name in self._hopeless}

    def _try(
        self,
        request: Mapping[str, Any],
        names: list[str],
        lost: dict[str, str],
        overdue: list[str],
        untouched: list[int],
        pause_bytes: int | None,
    ) -> tuple[Work, list[tuple[Written, bool]]]:
        """Write until no name fails any more. Ids are void after a failure, so each try starts anew."""
        suspects = [name for name in self._failing if name in names and name not in lost]
        oversize: list[str] = []
        deadline = monotonic() + request["seconds"]
        while True:
            work = Work(
                self._namespace,
                self._pins(),
                lost,
                max_bytes=request["max_bytes"],
                pause_bytes=pause_bytes,
                deadline=deadline,
                overdue=overdue,
            )
            while suspects:
                work.try_alone(suspects.pop())
            left = dict.fromkeys(name for name in names if name not in lost)
            hints = [
                [name for name in sorted(group.sizes) if name in left]
                for position, group in enumerate(self._groups)
                if group.is_big and position not in untouched
            ]
            hints += [[name] for name in oversize if name in left]
            hinted = {name for group in hints for name in group}
            try:
                rest = [name for name in left if name not in hinted]
                return work, work.group(sorted(group for group in hints if group), rest)
            except OversizeError:
                oversize.append(work.oversize)
            except Failed:
                continue

    def _blob(self, work: Work, written: Written, is_big: bool) -> tuple[bytes, dict[str, Any]]:
        reached = written.reached
        parts: dict[int, list[str]] = {}
        for name in written.names if work.words else ():  # only names that hold code are looked up
            parts.setdefault(work.roots[name], []).append(name)
        labels = reached.cells | {defining_cell(name, self._sources) or "" for name in reached.classes}
        index = {
            "names": list(written.sizes.items()),
            "cells": {label: self._sources[label] for label in sorted(labels) if label in self._sources},
            "parts": [
                [names, sorted(work.words[root])] for root, names in parts.items() if root in work.words
            ],
            "sets": bool(reached.sets),
            "big": is_big,
        }
        blob = snapshot.encode(index, written.body.getbuffer())
        return blob, index | {"sorted": reached.sorted_sets}

    def _frame(
        self,
        entries: list[int | tuple[bytes, dict[str, Any]]],
        lost: dict[str, str],
    ) -> tuple[bytes, dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        unchanged: list[list[str]] = []
        blobs: list[dict[str, int]] = []
        payload: list[bytes] = []
        groups: list[int | dict[str, Any]] = []
        sets: list[int] = []
        for position, entry in enumerate(entries):
            if isinstance(entry, int):
                sizes = self._groups[entry].sizes
                blobs.append({"again": entry})
                groups.append(entry)
            else:
                sizes = dict(entry[1]["names"])
                blobs.append({"bytes": len(entry[0])})
                payload.append(entry[0])
                sets += entry[1].pop("sorted")
                groups.append(entry[1])
            unchanged.append([])
            for name, size in sizes.items():
                if self._is_unchanged(name, size):
                    unchanged[-1].append(name)
                else:
                    rows.append(self._row(name, "saved", blob=position, size=size))
        reported = {row["name"]: [row["type"], row["preview"]] for row in rows}
        rows += [self._row(name, "lost", reason=reason) for name, reason in lost.items()]
        rows += [row for name, row in self._gone.items() if name not in self._namespace]
        header = {
            "type": "snapshot",
            "variables": rows,
            "unchanged": unchanged,
            "blobs": blobs,
            "python": by_value.PYTHON,
        }
        remembered = {"groups": groups, "failing": sorted(lost), "sets": sets, "reported": reported}
        return wire.encode(header, b"".join(payload)), remembered

    def _is_unchanged(self, name: str, size: int) -> bool:
        """Whether the host already has this row of a saved name."""
        known = self._reported.get(name)
        if known is None or known[1] != size:
            return False
        value = self._namespace[name]
        return known[0] is value or known[2] == [_kind_of(value), preview(value)]

    def _row(
        self, name: str, status: str, *, size: int = 0, reason: str = "", blob: int = -1
    ) -> dict[str, Any]:
        value = self._namespace[name]
        return {
            "name": name,
            "type": _kind_of(value),
            "size": size,
            "preview": preview(value),
            "status": status,
            "reason": reason,
            "blob": blob,
        }


def _kind_of(value: object) -> str:
    kind = type(value)
    return kind.__name__ if kind in _PLAIN else type_name(value)
