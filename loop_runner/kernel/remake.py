"""Puts variables back: those that were saved from their blobs, the others by running their cells again.

Runs inside the kernel process, at its start and, in a copy that is thrown away, to find out whether it works.

A generator over a list that was saved must go on over *that* list. So names that share objects with one that
was made again are taken from the replay too, all of them, if they are there byte for byte what was saved;
if not, what was made again is given up.
"""

from __future__ import annotations

import contextlib
import gc
import io
import sys
import types

from loop_runner.kernel import replay, snapshot
from loop_runner.kernel.links import Links

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from loop_runner.kernel.answer_box import AnswerBox
    from loop_runner.kernel.cells import CellRunner
    from loop_runner.kernel.lm_client import LmClient

_NAMED = 3  # variables that a reason names
# What has no identity that a cell could rely on, or is never a variable's own.
_ATOMS = frozenset({str, int, float, bool, bytes, complex, type(None), types.CodeType, types.ModuleType})


class Remaker:
    """Fills one namespace that no cell of the model has run in."""

    def __init__(
        self,
        namespace: dict[str, Any],
        runner: CellRunner,
        answer: AnswerBox,
        models: LmClient,
        *,
        pins: Callable[[], snapshot.Pins],
        pin_ids: Callable[[], dict[int, tuple[str, ...]]],
        workspace: str,
    ) -> None:
        self._namespace = namespace
        self._runner = runner
        self._answer = answer
        self._models = models
        self._pins = pins
        self._pin_ids = pin_ids
        self._workspace = workspace

    def fill(
        self,
        groups: list[dict[str, Any]],
        blobs: list[bytes],
        sources: dict[str, str],
        at: Callable[[str], object] = bool,
    ) -> list[tuple[str, str]]:
        """Load ``blobs`` and make the names of ``groups`` again; (name, reason) of what failed.

        A group is ``{"names", "tries"}``, a try as ``replay.run_again`` takes it; its names are there all or
        none. ``at``: as for ``load``.
        """
        made = []
        for group in groups:
            at(group["names"][0])
            made.append([self._replayed(group["names"], one_try, blobs) for one_try in group["tries"]])
        failed = snapshot.load_all(blobs, self._namespace, self._pins().find, sources, at)
        loaded = {name: self._namespace[name] for name in self._names_in(blobs) if name in self._namespace}
        used: set[str] = set()  # names that are taken from a replay already
        for group, outcomes in zip(groups, made, strict=True):
            names = group["names"]
            at(names[0])
            taken, why = self._shared(names, outcomes, loaded, used)
            failed += [(name, why) for name in names if why]
            used |= taken.keys()
            self._namespace.update(taken)
        return failed

    def _replayed(
        self, names: list[str], one_try: Mapping[str, Any], blobs: list[bytes]
    ) -> tuple[dict[str, Any], str]:
        """The names that the cells make; and why it failed. Nothing else is changed."""
        namespace = self._namespace
        before = dict(namespace)
        draft = dict(self._answer.live())
        self._answer.put_back({"content": "", "ready": False})  # what it was then is not known: the same for all
        why = ""
        try:
            replay.run_again(one_try, namespace, self._models.serve, _sources(blobs), self._workspace)
        except replay.NotRepeatableError as error:
            why = str(error)
        made = {name: namespace[name] for name in (*names, *one_try["near"]) if name in namespace}
        self._runner.forget()
        namespace.clear()
        namespace.update(before)
        self._answer.put_back(draft)
        if not why and not set(names) <= made.keys():
            why = "the cells that made it do not make it again"
        return made, why

    def _shared(
        self,
        names: list[str],
        outcomes: list[tuple[dict[str, Any], str]],
        loaded: dict[str, Any],
        used: set[str],
    ) -> tuple[dict[str, Any], str]:
        """The values of ``names`` and of those that share with them; or why there are none."""
        why = ""
        for values, failure in outcomes:
            if failure:
                return {}, why or failure
            sharers = _sharers(names, values, self._common()) & loaded.keys()
            # Also what shares with them as saved: it would be left behind.
            left = _sharers(sharers, loaded, self._common()) - sharers if sharers else set()
            as_saved = {name: loaded[name] for name in sharers}
            if not left and not sharers & used:
                taken = {name: values[name] for name in sharers}
                if not sharers or self._bytes(taken) == self._bytes(as_saved) is not None:
                    return taken | {name: values[name] for name in names}, ""
            shown = sorted(left or sharers)
            more = f" and {len(shown) - _NAMED} more" if len(shown) > _NAMED else ""
            why = (
                f"it shares objects with {', '.join(shown[:_NAMED])}{more},"
                " which its cells do not make again as it is now"
            )
        return {}, why

    def _names_in(self, blobs: Iterable[bytes]) -> list[str]:
        names: list[str] = []
        for blob in blobs:
            with contextlib.suppress(snapshot.SnapshotError, KeyError, TypeError, ValueError):
                names += [name for name, _ in snapshot.read_index(blob)[0]["names"]]
        return names

    def _bytes(self, values: dict[str, Any]) -> bytes | None:
        file = io.BytesIO()
        reached = snapshot.Reached(Links(self._pin_ids()), records=False)
        pickler = snapshot.Pickler(file, self._namespace, reached)
        try:
            for name in sorted(values):
                reached.name = reached.links.number(name)
                pickler.dump(values[name])
        except Exception:  # noqa: BLE001 - objects of the model's decide what they raise
            return None
        return file.getvalue()

    def _common(self) -> set[int]:
        """Ids of what all variables may reach without sharing anything."""
        found = set(self._pin_ids()) | {id(self._namespace), id(sys.modules)}
        return found | {id(getattr(module, "__dict__", None)) for module in list(sys.modules.values())}


def _sources(blobs: Iterable[bytes]) -> dict[str, str]:
    """Label → code of the cells that the functions in ``blobs`` come from."""
    found: dict[str, str] = {}
    for blob in blobs:
        with contextlib.suppress(snapshot.SnapshotError, KeyError, TypeError, ValueError):
            found.update(snapshot.read_index(blob)[0]["cells"])
    return found


def _sharers(names: Iterable[str], values: Mapping[str, Any], common: set[int]) -> set[str]:
    """The other names in ``values`` that reach an object which ``names`` reach, also by way of each other."""
    reached = _reach([values[name] for name in names], common)
    left = {name: _reach([value], common) for name, value in values.items() if name not in names}
    found: set[str] = set()
    while joined := [name for name, ids in left.items() if not ids.keys().isdisjoint(reached)]:
        for name in joined:
            reached |= left.pop(name)
            found.add(name)
    return found


def _reach(values: list[Any], common: set[int]) -> dict[int, Any]:
    """Everything with an identity that ``values`` lead to."""
    met: dict[int, Any] = {}
    while values:
        value = values.pop()
        kind = type(value)
        if kind in _ATOMS or id(value) in met or id(value) in common:
            continue
        if _is_by_reference(value, kind):
            common.add(id(value))
            continue
        met[id(value)] = value
        values += gc.get_referents(value)
    return {key: value for key, value in met.items() if type(value) not in (tuple, frozenset)}


def _is_by_reference(value: Any, kind: type) -> bool:
    """Whether ``value`` is a function or class of a module, the same one for everybody."""
    if kind is types.BuiltinFunctionType:
        return value.__self__ is None or type(value.__self__) is types.ModuleType
    if kind is types.FunctionType or issubclass(kind, type):
        return bool(snapshot.is_by_reference(value))
    return kind in (types.WrapperDescriptorType, types.MethodDescriptorType, types.GetSetDescriptorType)
