"""Makes verifiers out of a task file's ``verifiers:`` list.

Owns the names of the kinds and how each may be written in short. Every mistake is a ``VerifierError``
before anything runs; nothing is looked up on disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loop_runner import plugins
from loop_runner.errors import VerifierError
from loop_runner.verify.citations import Citations
from loop_runner.verify.command import Command
from loop_runner.verify.options import Options, unknown
from loop_runner.verify.text import Contains, Regex
from loop_runner.verify.verifier import Verifier

KINDS = ("command", "contains", "regex", "citations")


def build(specs: Sequence[str | Mapping[str, Any]], base_dir: Path) -> tuple[Verifier, ...]:
    """One verifier for each spec: ``{kind: settings}``, with a ``name`` beside it if wanted, or a bare kind.

    ``base_dir`` is the task file's folder. Names are made unique. Raises ``VerifierError``.
    """
    verifiers: list[Verifier] = []
    taken: set[str] = set()
    for spec in specs:
        kind, value, name = _parts(spec)
        # Made before it is named: only the verifier knows what to call itself.
        first = _make(kind, value, name, base_dir.resolve())
        called, count = first.name, 1
        while called in taken:
            count += 1
            called = f"{first.name} ({count})"
        taken.add(called)
        verifiers.append(first if called == first.name else _make(kind, value, called, base_dir.resolve()))
    return tuple(verifiers)


def describe(specs: Sequence[str | Mapping[str, Any]], base_dir: Path) -> str:
    """What the verifiers ask of an answer, for the prompt: a sentence, or a list with a line for each."""
    asked = [f"{one.requirement}." for one in build(specs, base_dir)]
    return asked[0] if len(asked) == 1 else "\n".join(f"- {one}" for one in asked)


def _parts(spec: object) -> tuple[str, Any, str]:
    """Kind, settings and name of one spec."""
    if isinstance(spec, str):
        spec = {spec: None}
    if not isinstance(spec, Mapping):
        raise _unreadable(spec)
    name = spec.get("name", "")
    kinds = [key for key in spec if key != "name"]
    for kind in kinds:
        if kind not in KINDS and kind not in plugins.find(plugins.VERIFIERS):
            raise unknown("there is no verifier", str(kind), (*KINDS, *plugins.find(plugins.VERIFIERS)))
    if len(kinds) != 1 or not isinstance(name, str) or not name.isprintable():
        raise _unreadable(spec)
    return kinds[0], spec[kinds[0]], name


def _make(kind: str, value: Any, name: str, base_dir: Path) -> Verifier:
    if kind not in KINDS:  # a package's: it gets the settings as they stand in the task file
        made: Verifier = plugins.load(plugins.VERIFIERS, kind)(name, value, base_dir)
        return made
    if kind == "command":
        settings = _settings(value, "run")
        return Command.from_options(
            name, Options(kind, settings, Command.KEYS), settings.get("run"), base_dir
        )
    if kind == "contains":
        return Contains.from_options(name, Options(kind, _settings(value, "text"), Contains.KEYS))
    if kind == "regex":
        return Regex.from_options(name, Options(kind, _settings(value, "pattern"), Regex.KEYS))
    settings = {} if value is None else _settings(value, "min")
    return Citations.from_options(name, Options(kind, settings, Citations.KEYS))


def _settings(value: Any, short: str) -> Mapping[str, Any]:
    """The settings as a mapping; a plain value stands for the one setting that ``short`` names."""
    return value if isinstance(value, Mapping) else {short: value}


def _unreadable(spec: object) -> VerifierError:
    return VerifierError(
        f"a verifier is not written as expected: {spec!r}",
        why="each entry of `verifiers:` is one check",
        hint=f"one of {', '.join(KINDS)} with its settings, and a `name:` beside it if you like",
    )
