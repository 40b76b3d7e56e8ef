"""What verifiers require of the machine beyond reading the answer, so that a caller can grant or refuse it.

A run folder from another person claims itself what its verifiers may do. This module trusts none of it:
each demand is written as the word that a caller must give (``network``, ``show=PATH``, ``program=PATH``,
``plugin=NAME``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from loop_runner.verify.built_in import BESIDE, KINDS, OF_PROGRAMS
from loop_runner.verify.verifier import NETWORK, Need

__all__ = ["NETWORK", "TIER_C", "Need", "is_granted", "of", "plugins_of", "program"]
TIER_C = "tier=C"
# Every sandbox shows these folders; a program in them belongs to the system.
_SYSTEM = ("/usr/", "/bin/", "/sbin/", "/lib/", "/lib32/", "/lib64/", "/opt/", "/nix/store/", "/gnu/store/")
_MAX_DEPTH = 50


def plugins_of(specs: Iterable[Any], depth: int = 0) -> Iterator[Need]:
    """The verifiers of installed packages in ``specs``: code that the run folder does not contain."""
    for spec in specs if depth < _MAX_DEPTH else ():
        kinds = [spec] if isinstance(spec, str) else list(spec) if isinstance(spec, Mapping) else []
        for kind in kinds:
            if kind in ("all", "any") and isinstance(spec, Mapping) and isinstance(spec[kind], list | tuple):
                yield from plugins_of(spec[kind], depth + 1)
            elif kind not in (*KINDS, *BESIDE, OF_PROGRAMS):
                yield Need(f"plugin={kind}", str(kind))


def is_granted(need: Need, granted: Iterable[str]) -> bool:
    """Whether one of the words ``granted`` covers ``need``; paths may be written with ``~``."""
    return _normal(need.word) in {_normal(word) for word in granted}


def of(name: str, network: bool, show: Sequence[str]) -> Iterator[Need]:
    """The network and the paths of this machine that the verifier ``name`` uses."""
    if network:
        yield Need(NETWORK, name)
    yield from (Need(f"show={path}", name) for path in show)


def program(name: str, program: str) -> Iterator[Need]:
    """The path of a program that is in neither a system folder nor the checkout."""
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
    except RuntimeError:  # the home of an unknown user
        return word
