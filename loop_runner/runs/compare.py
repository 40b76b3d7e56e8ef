"""Says what differs between two moments of a run: answer, files, variables, spend.

Plain data from what is committed; nothing is checked out and nothing is unpickled. Texts are compared line by
line up to a size; the rest is said to differ. Everything in here was written by models: whoever shows it
escapes it.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from loop_runner.records import Checkpoint, Spend, Usage, Variable
from loop_runner.runs import cost
from loop_runner.workspace.history import History

_MAX_TEXT_BYTES = 1_000_000  # a longer file is said to differ, without the lines
_MAX_LINES = 5000  # of one side: difflib takes time that grows with the square

ChangeKind = Literal["added", "changed", "deleted"]


@dataclass(frozen=True, slots=True)
class FileChange:
    """One of the model's files that differs; ``diff`` has no lines when it is no text, or too long."""

    kind: ChangeKind
    path: str
    diff: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class VariableChange:
    """One name that differs. ``before`` None: added, ``after`` None: deleted."""

    name: str
    before: Variable | None
    after: Variable | None

    @property
    def kind(self) -> ChangeKind:
        """``added``, ``changed`` or ``deleted``."""
        return "added" if self.before is None else "deleted" if self.after is None else "changed"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs from ``before`` to ``after``; empty parts are the same in both."""

    before: Checkpoint
    after: Checkpoint
    answer: tuple[str, ...]  # unified diff, a line each
    files: tuple[FileChange, ...]
    variables: tuple[VariableChange, ...]
    unsure: tuple[str, ...]  # names that look the same and are stored with others that changed
    spend: Spend  # of ``after`` less that of ``before``; negative when ``after`` is the earlier one


def compare(history: History, before: Checkpoint, after: Checkpoint) -> Comparison:
    """Compare two commits of one run folder."""
    price = cost.price_in(history)
    variables, unsure = _variables(history.variables(before.commit), history.variables(after.commit))
    return Comparison(
        before,
        after,
        _unified(history.answer(before.commit).content, history.answer(after.commit).content, "answer.md"),
        tuple(
            FileChange(kind, path, _file_diff(history, before, after, path))
            for kind, path in history.changes_between(before.commit, after.commit)
        ),
        variables,
        unsure,
        _less(history.spend(price, before.commit), history.spend(price, after.commit)),
    )


def _file_diff(history: History, before: Checkpoint, after: Checkpoint, path: str) -> tuple[str, ...]:
    texts = [_as_text(history.read(path, checkpoint.commit)) for checkpoint in (before, after)]
    old, new = texts
    return () if old is None or new is None else _unified(old, new, path)


def _as_text(data: bytes | None) -> str | None:
    """The text of a file, empty for one that is not there; None for what is shown as no text."""
    if data is None:
        return ""
    if len(data) > _MAX_TEXT_BYTES or b"\0" in data:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _unified(old: str, new: str, name: str) -> tuple[str, ...]:
    if old == new:
        return ()
    # Split at newlines only: a form feed or a line separator of a model's is a character like any other.
    if max(old.count("\n"), new.count("\n")) > _MAX_LINES:
        return (f"--- a/{name}", f"+++ b/{name}", "@@ too long to compare line by line @@")
    return tuple(difflib.unified_diff(_lines(old), _lines(new), f"a/{name}", f"b/{name}", lineterm=""))


def _lines(text: str) -> Sequence[str]:
    if not text:
        return []
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else [*lines[:-1], f"{lines[-1]} [no newline at the end]"]


def _variables(
    before: Sequence[Variable], after: Sequence[Variable]
) -> tuple[tuple[VariableChange, ...], tuple[str, ...]]:
    """What changed, and the names of which nobody can tell: a blob may hold several variables."""
    old, new = ({variable.name: variable for variable in side} for side in (before, after))
    alone = [
        {blob for blob, count in Counter(variable.blob for variable in side).items() if count == 1}
        for side in (before, after)
    ]
    changed, unsure = [], []
    for name in sorted({*old, *new}):
        earlier, other = old.get(name), new.get(name)
        if earlier == other:
            continue
        if (
            earlier
            and other
            and replace(earlier, blob=other.blob) == other
            and not _stand_alone(earlier, other, alone)
        ):
            unsure.append(name)
        else:
            changed.append(VariableChange(name, earlier, other))
    return tuple(changed), tuple(unsure)


def _stand_alone(variable: Variable, other: Variable, alone: Sequence[set[str]]) -> bool:
    """Each is the only one in its blob, so that different blobs are different values."""
    return variable.blob in alone[0] and other.blob in alone[1]


def _less(before: Spend, after: Spend) -> Spend:
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    usage = {name: getattr(after.usage, name) - getattr(before.usage, name) for name in names}
    counts: dict[str, Any] = {
        name: getattr(after, name) - getattr(before, name)
        for name in ("passes", "turns", "requests", "subcalls", "seconds")
    }
    usd = None if after.usd is None or before.usd is None else after.usd - before.usd
    return replace(after, usage=Usage(**usage), usd=usd, **counts)
