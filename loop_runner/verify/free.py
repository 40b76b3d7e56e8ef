"""The free verifiers: they only need to read the answer, so a session may run them at any time.

They run no user program, ask no model and compare no passes. A verifier with limited ``evidence`` is left
out: repeated checks would reveal what the task withholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from loop_runner.verify.combinations import Group, Weighted
from loop_runner.verify.verifier import Verifier


@dataclass(frozen=True, slots=True)
class Free:
    """``verifiers`` are free; ``others`` are the names of those that are not."""

    verifiers: tuple[Verifier, ...]
    others: tuple[str, ...]

    @property
    def reads_files(self) -> bool:
        """Whether one of them reads files of the workspace."""
        return any(verifier.reads_files for verifier in self.verifiers)


def free(verifiers: Sequence[Verifier]) -> Free:
    """Split ``verifiers``. From a group that needs all of its members, the free members are taken."""
    parts = [(verifier, _free_part(verifier)) for verifier in verifiers]
    return Free(
        tuple(part for _, part in parts if part is not None),
        tuple(name for verifier, part in parts for name in _left_out(verifier, part)),
    )


def _free_part(verifier: Verifier) -> Verifier | None:
    if isinstance(verifier, Weighted):
        inner = _free_part(verifier.verifier) if verifier.evidence == "full" else None
        return None if inner is None else replace(verifier, verifier=inner)
    if not isinstance(verifier, Group):
        return verifier if verifier.is_free else None
    members = tuple(part for member in verifier.members if (part := _free_part(member)) is not None)
    is_whole = len(members) == len(verifier.members) and not any(map(_left_out, verifier.members, members))
    if verifier.mode == "any" and not is_whole:
        return None  # another member may accept what these reject
    return replace(verifier, members=members) if members else None


def _left_out(verifier: Verifier, part: Verifier | None) -> list[str]:
    """The names of the verifiers in ``verifier`` that ``part`` does not contain."""
    if part is None:
        return [verifier.name]
    inner = verifier.verifier if isinstance(verifier, Weighted) else verifier
    if not isinstance(inner, Group):
        return []
    parts = [_free_part(member) for member in inner.members]
    return [
        name
        for member, free_part in zip(inner.members, parts, strict=True)
        for name in _left_out(member, free_part)
    ]
