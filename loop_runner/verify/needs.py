"""What verifiers ask of the machine beyond a look at the answer, so that a caller can grant or refuse it.

A run folder from another person says for itself what its verifiers may do. Nothing here believes it: each
demand is written as the word that a caller must give (``network``, ``show=PATH``, ``program=PATH``,
``plugin=NAME``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loop_runner.verify.agreement import Agreement
from loop_runner.verify.build import BESIDE, KINDS, leaves
from loop_runner.verify.command import Command
from loop_runner.verify.python import Python
from loop_runner.verify.verifier import Verifier

NETWORK = "network"
TIER_C = "tier=C"
# Every sandbox shows these; a program in them is the system's own.
_SYSTEM = ("/usr/", "/bin/", "/sbin/", "/lib/", "/lib32/", "/lib64/", "/opt/", "/nix/store/", "/gnu/store/")
_MAX_DEPTH = 50


@dataclass(frozen=True, slots=True)
class Need:
    """One demand, as the word that grants it, and the verifier that makes it."""

    word: str
    verifier: str


def plugins_of(specs: Iterable[Any], depth: int = 0) -> Iterator[Need]:
    """The verifiers of installed packages in ``specs``: their code runs outside any sandbox."""
    for spec in specs if depth < _MAX_DEPTH else ():
        kinds = [spec] if isinstance(spec, str) else list(spec) if isinstance(spec, Mapping) else []
        for kind in kinds:
            if kind in ("all", "any") and isinstance(spec, Mapping) and isinstance(spec[kind], list | tuple):
                yield from plugins_of(spec[kind], depth + 1)
            elif kind not in (*KINDS, *BESIDE):
                yield Need(f"plugin={kind}", str(kind))


def of_verifiers(verifiers: Sequence[Verifier]) -> Iterator[Need]:
    """What built verifiers ask for, those in groups included."""
    for verifier in leaves(verifiers):
        if isinstance(verifier, Command):
            yield from of_command(verifier)
        elif isinstance(verifier, Python):
            yield from _of(verifier.name, verifier.network, verifier.show)
            yield from _program(verifier.name, verifier.interpreter)


def of_command(command: Command) -> Iterator[Need]:
    """What a program of ``command:`` or ``stop_hooks:`` asks for."""
    yield from _of(command.name, command.network, command.show)
    if command.means.programs.place(command.task_dir / command.argv[0]) is None:
        yield from _program(command.name, command.argv[0])


def runs_code(verifiers: Sequence[Verifier]) -> bool:
    """Whether one of them starts a program or a session with code, so that it needs a sandbox."""
    return any(
        isinstance(verifier, Command | Python)
        or (isinstance(verifier, Agreement) and verifier.session != "direct")
        for verifier in leaves(verifiers)
    )


def is_granted(need: Need, granted: Iterable[str]) -> bool:
    """Whether one of the words ``granted`` covers ``need``; paths may be written with ``~``."""
    return _normal(need.word) in {_normal(word) for word in granted}


def _of(name: str, network: bool, show: Sequence[str]) -> Iterator[Need]:
    if network:
        yield Need(NETWORK, name)
    yield from (Need(f"show={path}", name) for path in show)


def _program(name: str, program: str) -> Iterator[Need]:
    """A program by its path that is neither the system's nor in the checkout."""
    if "/" not in program:
        return
    path = os.path.normpath(program)
    is_in_checkout = not path.startswith(("/", "../"))
    if not is_in_checkout and not path.startswith(_SYSTEM):
        yield Need(f"program={program}", name)


def _normal(word: str) -> str:
    key, is_pair, value = word.partition("=")
    if not is_pair or "/" not in value:
        return word
    try:
        return f"{key}={os.path.normpath(Path(value).expanduser())}"
    except RuntimeError:  # the home of a user who is not known
        return word
