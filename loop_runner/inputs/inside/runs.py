"""Recognises a run folder of loop-runner by its content, under any name, whole or in part.

An earlier run's output is not evidence: it could make a rejected invention citable. Standard library only:
used by the runner and by the child that reads repositories.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

RUN = "a run of loop-runner: what earlier runs wrote is no evidence"
LETTERS = "a mailbox of a manual model: what was asked and answered in a run is no evidence"
# Names that only occur together in a folder of a run.
_MARKS = (
    *({"loop-runner.json", name} for name in ("answer.json", "inputs.json", "task.yaml", "passes")),
    {"answer.json", "answer.md", "passes"},
    {"answer.json", "answer.md", "inputs.json"},
    {"task.yaml", "inputs.json", "prompt.md"},
    {"pass.json", "verdict.json"},
    {"pass.json", "injected.md"},
    {"reply.md", "turn.json"},
    {"output.txt", "turn.json"},
    {"child.json", "answer.md"},
)
_LETTER = re.compile(r"\d{4,}-[a-z]+-[0-9a-f]{12}\.(?:request|reply)\.md")


def is_run(names: Collection[str]) -> bool:
    """Whether a folder with entries of these ``names`` is a run folder or a part of one."""
    present = set(names)
    return any(mark <= present for mark in _MARKS)


def is_letter(name: str) -> bool:
    """Whether a file is a request or a reply of a ``manual:`` model."""
    return _LETTER.fullmatch(name.rsplit("/", 1)[-1]) is not None


def around(path: Path) -> Path | None:
    """The outermost run folder at or above ``path``; None when there is none."""
    marked = [folder for folder in (path, *path.parents) if _is_marked(folder)]
    return marked[-1] if marked else None


def _is_marked(folder: Path) -> bool:
    return any(all(os.path.lexists(folder / name) for name in mark) for mark in _MARKS)


def found_in(paths: Iterable[str]) -> frozenset[str]:
    """The outermost run folders among files that are named by their paths; "" is the top."""
    entries: dict[str, set[str]] = {}
    for path in paths:
        parts = path.split("/")
        for depth, part in enumerate(parts):
            entries.setdefault("/".join(parts[:depth]), set()).add(part)
    marked = {folder for folder, names in entries.items() if is_run(names)}
    return frozenset(folder for folder in marked if not _above(folder) & marked)


def why_not(path: str, runs: Collection[str]) -> tuple[str, str] | None:
    """(what is left out, why) for a file in one of ``runs``, or a letter; None for any other file."""
    for folder in _above(path):
        if folder in runs:
            return folder, RUN
    return (path.rpartition("/")[0], LETTERS) if is_letter(path) else None


def _above(path: str) -> set[str]:
    parts = path.split("/")
    return {"/".join(parts[:depth]) for depth in range(len(parts))} - {path}


def left_out(paths: Iterable[str]) -> Mapping[str, tuple[str, str]]:
    """The files among ``paths`` that a run wrote, each with what is left out and why."""
    listed = list(paths)
    runs = found_in(listed)
    reasons = {path: why_not(path, runs) for path in listed}
    return {path: reason for path, reason in reasons.items() if reason is not None}
