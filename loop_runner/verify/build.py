"""Makes verifiers out of a task file's ``verifiers:`` list.

Owns the names of the kinds and how each may be written in short. Every mistake is a ``VerifierError``
before anything runs; nothing is looked up on disk but what ``pinned_programs`` reads.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from loop_runner import plugins
from loop_runner.errors import VerifierError
from loop_runner.records import Inputs
from loop_runner.verify import programs
from loop_runner.verify.evidence import LEVELS, Evidence, level
from loop_runner.verify.groups import Group, Weighted
from loop_runner.verify.kinds import is_a
from loop_runner.verify.options import Options, unknown
from loop_runner.verify.programs import Programs
from loop_runner.verify.shown import exact_line
from loop_runner.verify.verifier import Means, Verifier

if TYPE_CHECKING:
    from loop_runner.verify.agreement import Agreement
    from loop_runner.verify.command import Command
    from loop_runner.verify.judge import Judge
    from loop_runner.verify.python import Python

KINDS = (
    *("command", "python", "schema", "contains", "regex", "citations"),
    *("judge", "agreement", "stable", "promise", "findings", "all", "any"),
)
SHORT = {  # the setting that a plain value stands for; required, but for kinds that may be bare
    "command": "run",
    "python": "file",
    "schema": "schema",
    "judge": "rubric",
    "agreement": "replies",
    "contains": "text",
    "regex": "pattern",
    "stable": "passes",
    "promise": "phrase",
    "findings": "rules",
    "citations": "min",
}
MAY_BE_BARE = ("citations", "agreement", "stable")
BESIDE = ("name", "weight", "evidence", "says")


def build(
    specs: Sequence[str | Mapping[str, Any]], base_dir: Path, means: Means | None = None
) -> tuple[Verifier, ...]:
    """One verifier for each spec: ``{kind: settings}``, ``name`` and ``weight`` beside it, or a bare kind.

    ``base_dir`` is the task file's folder. Without ``means``, what lies there now is taken as pinned, nobody
    can be asked and programs run unconfined. Names are made unique. Raises ``VerifierError``.
    """
    base_dir = base_dir.resolve()
    if means is None:
        means = Means(programs=pinned_programs(specs, base_dir))
    return _Builder(base_dir, means).list(specs)


def pinned_programs(
    specs: Sequence[str | Mapping[str, Any]], base_dir: Path, known: Programs | None = None
) -> Programs:
    """The files that the verifiers are made of, as they are now; ``known`` ones stay as they were pinned.

    Raises ``VerifierError`` for a ``pin:`` that names nothing.
    """
    known = known or Programs()
    base_dir = base_dir.resolve()
    missing = [path for path in sources(specs, base_dir) if known.place(path) is None]
    return known.with_missing(programs.pin(missing, base_dir))


def sources(specs: Sequence[str | Mapping[str, Any]], base_dir: Path) -> list[Path]:
    """The files and folders that the verifiers name as what they are made of."""
    base_dir = base_dir.resolve()
    return [path for leaf in leaves(_Builder(base_dir, Means()).list(specs)) for path in _sources(leaf)]


def describe(specs: Sequence[str | Mapping[str, Any]], base_dir: Path) -> str:
    """What the verifiers ask of an answer, for the prompt: a sentence, or a list with a line for each."""
    asked = [f"{exact_line(one.requirement, len(one.requirement))}." for one in build(specs, base_dir)]
    return asked[0] if len(asked) == 1 else "\n".join(f"- {one}" for one in asked)


def refuse(verifiers: Sequence[Verifier], inputs: Inputs) -> None:
    """Raise ``VerifierError`` for verifiers that could never work on these inputs."""
    for one in leaves(verifiers):
        if _is_agreement(one):
            one.refuse(inputs)


def models(verifiers: Sequence[Verifier]) -> tuple[str, ...]:
    """The models that verifiers name."""
    named = [one.model for one in leaves(verifiers) if _asks_a_model(one) and one.model]
    return tuple(dict.fromkeys(named))


def without_model(verifiers: Sequence[Verifier]) -> tuple[str, ...]:
    """The names of those that ask a model and do not say which."""
    asking = [one for one in leaves(verifiers) if _asks_a_model(one)]
    return tuple(one.name for one in asking if not one.model)


def wants_network(verifiers: Sequence[Verifier]) -> bool:
    """Whether one of them runs a program that may use the network."""
    return any(one.network for one in leaves(verifiers) if _runs_a_program(one))


def leaves(verifiers: Sequence[Verifier]) -> Iterator[Verifier]:
    """The verifiers that check something themselves, out of their groups."""
    for one in verifiers:
        inner = one.verifier if isinstance(one, Weighted) else one
        if isinstance(inner, Group):
            yield from leaves(inner.members)
        else:
            yield inner


def _sources(verifier: Verifier) -> list[Path]:
    made_of_files = ("command.Command", "python.Python", "schema.Schema", "judge.Judge")
    found: list[Path] = verifier.sources() if is_a(verifier, *made_of_files) else []  # type: ignore[attr-defined]
    return found


def _is_agreement(verifier: Verifier) -> TypeGuard[Agreement]:
    return is_a(verifier, "agreement.Agreement")


def _asks_a_model(verifier: Verifier) -> TypeGuard[Judge | Agreement]:
    return is_a(verifier, "judge.Judge", "agreement.Agreement")


def _runs_a_program(verifier: Verifier) -> TypeGuard[Command | Python]:
    return is_a(verifier, "command.Command", "python.Python")


class _Builder:
    """Makes the verifiers of one task; names are unique over all of them, those in groups included."""

    def __init__(self, base_dir: Path, means: Means) -> None:
        self._base_dir = base_dir
        self._means = means
        self._taken: set[str] = set()

    def list(self, specs: Sequence[str | Mapping[str, Any]]) -> tuple[Verifier, ...]:
        """One verifier for each of ``specs``."""
        return tuple(self._one(spec) for spec in specs)

    def _one(self, spec: object) -> Verifier:
        kind, value, name, weight = _parts(spec)
        value, evidence = _evidence(kind, value, spec)
        if kind in ("all", "any"):
            made = self._group(kind, value, name)
        else:
            # Made before it is named: only the verifier knows what to call itself.
            first = self._make(kind, value, name)
            called = self._unique(first.name)
            made = first if called == first.name else self._make(kind, value, called)
        says = _says(kind, spec)
        is_plain = (weight, evidence, self._means.is_agent, says) == (1, "full", False, "")
        return made if is_plain else Weighted(made, weight, evidence, self._means.is_agent, says)

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
        base_dir, means = self._base_dir, self._means
        if kind not in KINDS:  # a package's: it gets the settings as they stand in the task file
            theirs: Verifier = plugins.load(plugins.VERIFIERS, kind)(name, value, base_dir)
            return theirs
        if kind == "command":
            from loop_runner.verify.command import Command

            settings = _settings(kind, value)
            options = Options(kind, settings, Command.KEYS)
            return Command.from_options(name, options, settings.get("run"), base_dir, means)
        if kind == "python":
            from loop_runner.verify.python import Python

            return Python.from_options(name, _options(kind, value, Python.KEYS), base_dir, means)
        if kind == "schema":
            from loop_runner.verify.schema import Schema

            if isinstance(value, Mapping) and "schema" not in value and set(value) - set(Schema.KEYS):
                value = {"schema": value}  # the schema itself, in place of its settings
            return Schema.from_options(name, _options(kind, value, Schema.KEYS), base_dir, means)
        if kind == "judge":
            from loop_runner.verify.judge import Judge

            return Judge.from_options(name, _options(kind, value, Judge.KEYS), base_dir, means)
        if kind == "agreement":
            from loop_runner.verify.agreement import Agreement

            return Agreement.from_options(name, _options(kind, value, Agreement.KEYS), means)
        return _of_text(kind, value, name)


def _of_text(kind: str, value: Any, name: str) -> Verifier:
    """One that needs nothing but the answer and the inputs."""
    if kind in ("contains", "regex"):
        from loop_runner.verify.text import Contains, Regex

        if kind == "contains":
            return Contains.from_options(name, _options(kind, value, Contains.KEYS))
        return Regex.from_options(name, _options(kind, value, Regex.KEYS))
    if kind in ("stable", "promise"):
        from loop_runner.verify.stable import Promise, Stable

        if kind == "stable":
            return Stable.from_options(name, _options(kind, value, Stable.KEYS))
        return Promise.from_options(name, _options(kind, value, Promise.KEYS))
    if kind == "findings":
        from loop_runner.verify.findings import Findings

        return Findings.from_options(name, _options(kind, value, Findings.KEYS))
    from loop_runner.verify.citations import Citations

    return Citations.from_options(name, _options(kind, value, Citations.KEYS))


def _parts(spec: object) -> tuple[str, Any, str, float]:
    """Kind, settings, name and weight of one spec."""
    if isinstance(spec, str):
        spec = {spec: None}
    if not isinstance(spec, Mapping):
        raise _unreadable(spec)
    name, weight = spec.get("name", ""), spec.get("weight", 1)
    kinds = [key for key in spec if key not in BESIDE]
    for kind in kinds:
        if kind not in KINDS and kind not in plugins.find(plugins.VERIFIERS):
            raise unknown("there is no verifier", str(kind), (*KINDS, *plugins.find(plugins.VERIFIERS)))
    if len(kinds) != 1 or not isinstance(name, str) or not name.isprintable():
        raise _unreadable(spec)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
        raise VerifierError(
            f"a verifier has the weight {weight!r}",
            why="it says how much the verifier counts in the score",
            hint="it must be a number over 0",
        )
    return kinds[0], spec[kinds[0]], name, float(weight)


def _evidence(kind: str, value: Any, spec: object) -> tuple[Any, Evidence]:
    """The settings without ``evidence``, and its value, which may be among them or beside the kind.

    ``python`` handles its own: it must not even send the source of a failed line where that is not shown.
    """
    beside: dict[str, Any] = (
        {"evidence": spec["evidence"]} if isinstance(spec, Mapping) and "evidence" in spec else {}
    )
    inside = isinstance(value, Mapping) and kind in KINDS and value.get("evidence") in LEVELS
    if kind == "python":
        return ({**_settings(kind, value), **beside} if beside else value), "full"
    if inside and not beside:
        beside = {"evidence": value["evidence"]}
    if inside:
        value = {key: item for key, item in value.items() if key != "evidence"}
    return value, level(kind, beside.get("evidence", "full"))


def _says(kind: str, spec: object) -> str:
    """What the task tells the model that the verifier requires; "" when it says nothing."""
    says = spec.get("says", "") if isinstance(spec, Mapping) else ""
    if not isinstance(says, str) or ("says" in spec and not says.strip()):  # type: ignore[operator]
        raise VerifierError(
            f"verifier `{kind}`: `says` is {says!r}",
            why="the model is told it as what the verifier requires of the answer",
            hint="write a sentence, for example: says: all tests in tests/ must pass",
        )
    return " ".join(says.split())


def _options(kind: str, value: Any, known: Iterable[str]) -> Options:
    bare = value is None and kind in MAY_BE_BARE
    return Options(kind, {} if bare else _settings(kind, value), known)


def _settings(kind: str, value: Any) -> Mapping[str, Any]:
    """The settings as a mapping; a plain value stands for the one setting that ``SHORT`` names."""
    return value if isinstance(value, Mapping) else {SHORT[kind]: value}


def _unreadable(spec: object) -> VerifierError:
    return VerifierError(
        f"a verifier is not written as expected: {spec!r}",
        why="each entry of `verifiers:` is one check",
        hint=f"one of {', '.join(KINDS)} with its settings, and a `name:` or `weight:` beside it if you like",
    )
