"""The verifiers that cost nothing: a look at the answer is enough, so a session may ask them at any time.

They run no program of the user's, ask no model and compare no passes. A verifier whose ``evidence`` is
limited is left out: asked again and again, it would give away what the task keeps to itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from loop_runner.verify.combinations import Group, Weighted
from loop_runner.verify.verifier import Verifier


@dataclass(frozen=True, slots=True)
class Free:
    """``verifiers`` cost nothing; ``others`` are the names of those that do."""

    verifiers: tuple[Verifier, ...]
    others: tuple[str, ...]

    @property
    def reads_files(self) -> bool:
        """Whether one of them looks at files of the workspace."""
        return any(verifier.reads_files for verifier in self.verifiers)


def free(verifiers: Sequence[Verifier]) -> Free:
    """Split ``verifiers``. Of a group that asks for all of its members, the free members are taken."""
    parts = [(one, _free_part(one)) for one in verifiers]
    return Free(
        tuple(part for _, part in parts if part is not None),
        tuple(name for one, part in parts for name in _left_out(one, part)),
    )


def _free_part(verifier: Verifier) -> Verifier | None:
    if isinstance(verifier, Weighted):
        inner = _free_part(verifier.verifier) if verifier.evidence == "full" else None
        return None if inner is None else replace(verifier, verifier=inner)
    if not isinstance(verifier, Group):
        return verifier if verifier.is_free else None
    found = tuple(part for one in verifier.members if (part := _free_part(one)) is not None)
    is_whole = len(found) == len(verifier.members) and not any(map(_left_out, verifier.members, found))
    if verifier.mode == "any" and not is_whole:
        return None  # another member may accept what these reject
    return replace(verifier, members=found) if found else None


def _left_out(verifier: Verifier, part: Verifier | None) -> list[str]:
    """The names of what ``part`` does not hold of ``verifier``."""
    if part is None:
        return [verifier.name]
    inner = verifier.verifier if isinstance(verifier, Weighted) else verifier
    if not isinstance(inner, Group):
        return []
    parts = [_free_part(one) for one in inner.members]
    return [name for one, each in zip(inner.members, parts, strict=True) for name in _left_out(one, each)]
