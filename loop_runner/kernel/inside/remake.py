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

from . import replay, snapshot
from .by_value import is_by_reference
from .links import Links

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from .answer_box import AnswerBox
    from .cells import CellRunner
    from .lm_client import LmClient

_COMMON = ("common",)  # in the place of a pin: what all may reach without sharing anything
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
        at: Callable[[str], object] = bool,
    ) -> list[tuple[str, str]]:
        """Load ``blobs`` and make the names of ``groups`` again; (name, reason) of what failed.

        A group is ``{"names", "tries"}``, a try as ``replay.run_again`` takes it; its names are there all or
        none. ``at``: as for ``load``.
        """
        fresh = dict(self._namespace)
        failed = snapshot.load_all(blobs, self._namespace, self._pins().find, self._runner.sources, at)
        loaded = {name: self._namespace[name] for name in _names_in(blobs) if name in self._namespace}
        used: set[str] = set()  # names that are taken from a replay already
        for group in groups:
            at(group["names"][0])
            taken, why = self._made(group, fresh, loaded, used)
            failed += [(name, why) for name in group["names"] if why]
            used |= taken.keys()
            self._namespace.update(taken)
        return failed

    def _made(
        self, group: Mapping[str, Any], fresh: dict[str, Any], loaded: dict[str, Any], used: set[str]
    ) -> tuple[dict[str, Any], str]:
        """The names of ``group`` and those that share with them, made again; or why there are none."""
        why = ""
        for one_try in group["tries"]:
            values, failure = self._replayed(group["names"], one_try, fresh)
            if failure:
                return {}, why or failure
            taken, why = self._shared(group["names"], values, loaded, used)
            if not why:
                return taken, ""
        return {}, why

    def _replayed(
        self, names: list[str], one_try: Mapping[str, Any], fresh: dict[str, Any]
    ) -> tuple[dict[str, Any], str]:
        """The names that the cells make; and why it failed. Nothing else is changed."""
        namespace = self._namespace
        before = dict(namespace)
        draft = dict(self._answer.live())
        namespace.clear()
        namespace.update(fresh)
        self._answer.put_back(
            {"content": "", "ready": False}
        )  # what it was then is not known: the same for all
        why = ""
        try:
            replay.run_again(one_try, namespace, self._models.serve, self._runner.sources, self._workspace)
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
        self, names: list[str], values: dict[str, Any], loaded: dict[str, Any], used: set[str]
    ) -> tuple[dict[str, Any], str]:
        """What is to be taken of ``values``: ``names`` and those that share with them; or why nothing is."""
        sharers = self._sharers(names, values) & loaded.keys()
        # Also what shares with them as saved: it would be left behind.
        left = self._sharers(sharers, loaded) - sharers if sharers else set()
        taken = {name: values[name] for name in sharers}
        if not left and not sharers & used:
            as_saved = self._bytes({name: loaded[name] for name in sharers})
            if not sharers or (as_saved is not None and self._bytes(taken) == as_saved):
                return taken | {name: values[name] for name in names}, ""
        shown = sorted(left or sharers)
        more = f" and {len(shown) - _NAMED} more" if len(shown) > _NAMED else ""
        return {}, (
            f"it shares objects with {', '.join(shown[:_NAMED])}{more},"
            " which its cells do not make again as it is now"
        )

    def _sharers(self, names: Iterable[str], values: Mapping[str, Any]) -> set[str]:
        """The other names in ``values`` that reach an object of ``names``, also by way of each other."""
        links = Links(self._pin_ids())
        for module in list(sys.modules.values()):
            links.owner[id(getattr(module, "__dict__", None))] = _COMMON
        links.owner[id(self._namespace)] = links.owner[id(sys.modules)] = _COMMON
        numbers = dict(zip(values, links.number(list(values)), strict=True))
        for name, value in values.items():
            _walk(value, numbers[name], links)
        roots = {links.root(numbers[name]) for name in names}
        return {name for name, number in numbers.items() if links.root(number) in roots} - set(names)

    def _bytes(self, values: dict[str, Any]) -> bytes | None:
        file = io.BytesIO()
        reached = snapshot.Reached(Links(self._pin_ids()), records=False)
        pickler = snapshot.Pickler(file, self._namespace, reached)
        try:
            names = sorted(values)
            for name, number in zip(names, reached.links.number(names), strict=True):
                reached.name = number
                pickler.dump(values[name])
        except Exception:  # noqa: BLE001 - objects of the model's decide what they raise
            return None
        return file.getvalue()


def _names_in(blobs: Iterable[bytes]) -> list[str]:
    names: list[str] = []
    for blob in blobs:
        with contextlib.suppress(snapshot.SnapshotError, KeyError, TypeError, ValueError):
            names += [name for name, _ in snapshot.read_index(blob)[0]["names"]]
    return names


def _walk(start: Any, number: int, links: Links) -> None:
    """Note that the name of ``number`` reaches everything with an identity that ``start`` leads to."""
    owner, left = links.owner, [start]
    while left:
        value = left.pop()
        kind = type(value)
        first = owner.get(id(value))
        if kind in _ATOMS or type(first) is tuple:
            continue
        if first is None:
            is_common = _is_by_reference(value, kind)
            owner[id(value)] = _COMMON if is_common else number
            if is_common:
                continue
        elif kind is not tuple and kind is not frozenset:  # these may be constants of code
            links.join(first, number)  # type: ignore[arg-type]
            continue
        elif first == number:
            continue
        left += [each for each in gc.get_referents(value) if type(each) not in _ATOMS]


def _is_by_reference(value: Any, kind: type) -> bool:
    """Whether ``value`` is a function or class of a module, the same one for everybody."""
    if kind is types.BuiltinFunctionType:
        return value.__self__ is None or type(value.__self__) is types.ModuleType
    if kind is types.FunctionType or issubclass(kind, type):
        return is_by_reference(value)
    return kind in (types.WrapperDescriptorType, types.MethodDescriptorType, types.GetSetDescriptorType)
