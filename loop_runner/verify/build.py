"""Makes verifiers out of a task file's ``verifiers:`` list.

Owns how an entry of the list is written. Every mistake is a ``VerifierError`` before anything runs. Files
are read only to pin them. Only a package's code is started, in the sandbox, to ask what it requires.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from loop_runner import plugins
from loop_runner.errors import LoopRunnerError, VerifierError
from loop_runner.verify.built_in import BESIDE, BUILT_IN, KINDS, OF_PROGRAMS
from loop_runner.verify.combinations import Group, Weighted
from loop_runner.verify.evidence import LEVELS, Evidence, level
from loop_runner.verify.options import Options, unknown
from loop_runner.verify.programs import Pinning
from loop_runner.verify.verifier import Fence, Verifier

Spec = str | Mapping[str, Any]


class Builder:
    """Makes the verifiers of one task. Names are unique across all of them, including members of groups.

    ``pinning`` reads the verifiers' files. ``faults`` are the entries from which no verifier could be made.
    """

    def __init__(
        self,
        base_dir: Path,
        pinning: Pinning,
        fence: Fence | None,
        functions: Mapping[str, Callable[..., Any]] | None = None,
    ) -> None:
        self.faults: list[LoopRunnerError] = []
        self._base_dir = base_dir
        self._pinning = pinning
        self._fence = fence
        self._functions = functions or {}
        self._taken: set[str] = set()

    def list(self, specs: Sequence[Spec]) -> tuple[Verifier, ...]:
        """A verifier for each of ``specs`` that makes one."""
        return tuple(self.added(partial(self._verifier_of, spec) for spec in specs))

    def added(self, makers: Iterable[Callable[[], Verifier]]) -> Iterator[Verifier]:
        """The verifiers from ``makers``, with their files pinned; an error becomes an entry of ``faults``."""
        for make in makers:
            try:
                made = make()
                if not self._pinning.is_frozen:
                    self._pinning.add(made.sources())
            except LoopRunnerError as error:
                self.faults.append(error)
            else:
                yield made

    def _verifier_of(self, spec: Spec) -> Verifier:
        kind, value, name, weight = _parts(spec, self._pinning)
        value, evidence = _evidence(kind, value, spec)
        if kind in ("all", "any"):
            made = self._group(kind, value, name)
        else:
            # Made before it gets a name: only the verifier knows its default name.
            first: Any = self._make(kind, value, name)
            made = replace(first, name=self._unique(first.name))
        says = _says(kind, spec)
        return made if (weight, evidence, says) == (1, "full", "") else Weighted(made, weight, evidence, says)

    def _unique(self, name: str) -> str:
        called, count = name, 1
        while called in self._taken:
            count += 1
            called = f"{name} ({count})"
        self._taken.add(called)
        return called

    def _group(self, kind: str, value: object, name: str) -> Verifier:
        if not isinstance(value, list | tuple) or not value:
            raise VerifierError(
                f"verifier `{kind}`: {value!r} is not a list of verifiers",
                why="a group is made of the checks in it",
                hint=f"write a list, for example: {kind}: [{{contains: yes}}, {{command: make check}}]",
            )
        called = self._unique(name or f"{kind} of {len(value)}")
        return Group(called, "all" if kind == "all" else "any", self.list(value))

    def _make(self, kind: str, value: Any, name: str) -> Verifier:
        if kind in BUILT_IN:
            return _built_in(kind, value, name, self._base_dir)
        if kind == OF_PROGRAMS:
            from loop_runner.verify.function import Function

            return Function.of(value, name, self._functions)
        from loop_runner.verify.package import PackageVerifier

        return PackageVerifier.of(kind, value, name, self._base_dir, self._pinning, self._fence)


def _built_in(kind: str, value: Any, name: str, base_dir: Path) -> Verifier:
    row = BUILT_IN[kind]
    made = row.load()
    options = Options(kind, _settings(kind, made.settings_from(value)), made.KEYS)
    return made.from_options(name, options, base_dir)


def _settings(kind: str, value: Any) -> Mapping[str, Any]:
    """The settings as a mapping; a plain value stands for the one setting that the kind's row names."""
    row = BUILT_IN[kind]
    if value is None and row.may_be_bare:
        return {}
    return value if isinstance(value, Mapping) else {row.short: value}


def _parts(spec: object, pinning: Pinning) -> tuple[str, Any, str, float]:
    """Kind, settings, name and weight of one spec."""
    if isinstance(spec, str):
        spec = {spec: None}
    if not isinstance(spec, Mapping):
        raise _unreadable(spec)
    name, weight = spec.get("name", ""), spec.get("weight", 1)
    kinds = [key for key in spec if key not in BESIDE]
    for kind in kinds:
        if kind not in (*KINDS, OF_PROGRAMS) and not _is_of_package(str(kind), pinning):
            raise _no_such_kind(str(kind), pinning)
    if len(kinds) != 1 or not isinstance(name, str) or not name.isprintable():
        raise _unreadable(spec)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
        raise VerifierError(
            f"a verifier has the weight {weight!r}",
            why="it says how much the verifier counts in the score",
            hint="it must be a number over 0",
        )
    return kinds[0], spec[kinds[0]], name, float(weight)


def _is_of_package(kind: str, pinning: Pinning) -> bool:
    """Whether a package adds this kind: an installed package or, for a re-run elsewhere, a pinned one."""
    if kind in plugins.find(plugins.VERIFIERS):
        return True
    from loop_runner.verify import package_files

    return pinning.is_frozen and package_files.pinned(kind, pinning.programs) is not None


def _no_such_kind(kind: str, pinning: Pinning) -> VerifierError:
    from loop_runner.verify import package_files

    package = package_files.pinned_name(kind, pinning.programs)
    if not package:
        return unknown("there is no verifier", kind, (*KINDS, *plugins.find(plugins.VERIFIERS)))
    return VerifierError(
        f"the verifier `{kind}` comes from the package {package}, which is not installed here",
        why="the run began with it, and no other verifier can take its place",
        hint=f"install it into the Python of loop-runner: pip install {package.replace(' ', '==')}",
    )


def _evidence(kind: str, value: Any, spec: object) -> tuple[Any, Evidence]:
    """The settings without ``evidence``, and its value, which may be among them or beside the kind.

    A kind that has a setting of that name handles it itself: where evidence is limited, ``python`` must not
    even send the source of a failed line.
    """
    beside: dict[str, Any] = (
        {"evidence": spec["evidence"]} if isinstance(spec, Mapping) and "evidence" in spec else {}
    )
    if kind in BUILT_IN and "evidence" in BUILT_IN[kind].load().KEYS:
        return ({**_settings(kind, value), **beside} if beside else value), "full"
    inside = isinstance(value, Mapping) and kind in KINDS and value.get("evidence") in LEVELS
    if inside and not beside:
        beside = {"evidence": value["evidence"]}
    if inside:
        value = {key: item for key, item in value.items() if key != "evidence"}
    return value, level(kind, beside.get("evidence", "full"))


def _says(kind: str, spec: object) -> str:
    """The requirement that the prompt shows, in the task's own words; "" when the task gives none."""
    says = spec.get("says", "") if isinstance(spec, Mapping) else ""
    if not isinstance(says, str) or ("says" in spec and not says.strip()):  # type: ignore[operator]
        raise VerifierError(
            f"verifier `{kind}`: `says` is {says!r}",
            why="the prompt shows it as the requirement of this verifier",
            hint="write a sentence, for example: says: all tests in tests/ must pass",
        )
    return " ".join(says.split())


def _unreadable(spec: object) -> VerifierError:
    return VerifierError(
        f"a verifier is not written as expected: {spec!r}",
        why="each entry of `verifiers:` is one check",
        hint=f"one of {', '.join(KINDS)} with its settings, and a `name:` or `weight:` beside it if you like",
    )
