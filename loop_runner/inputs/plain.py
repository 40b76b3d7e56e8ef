"""Collects text files unconverted, for audits: the files of a folder or glob, and why others are left out.

Relies on ``finding`` for the rules and on ``on_disk`` for the bytes. Every file is identified by its real
path. Converts nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loop_runner.inputs.finding import Root, find, root_of, shown_name
from loop_runner.inputs.inside import runs
from loop_runner.inputs.inside.patterns import parts
from loop_runner.inputs.on_disk import NotTextError, measure, words
from loop_runner.records import InputText

ODD_NAME = "its name holds control characters or is not UTF-8"


@dataclass(frozen=True, slots=True)
class Walked:
    """``files`` are (real path, path below ``folder``); ``left_out`` are (path below ``folder``, reason)."""

    folder: Path
    files: tuple[tuple[Path, str], ...]
    left_out: tuple[tuple[str, str], ...]


def walk(path: Path, exclude: Sequence[str] = ()) -> Walked:
    """The files that a folder or glob matches. Raises ``ConfigError`` if it does not exist."""
    patterns = tuple(map(parts, exclude))
    if path.is_dir():
        root = Root(str(path), path.resolve(), exclude=patterns)
    else:
        root = root_of({"path": os.path.relpath(path)}, Path.cwd(), tuple(exclude))
    skipped: list[tuple[str, str]] = []
    items = find(root, skipped)
    start = len(shown_name(root, ""))
    return Walked(
        root.folder,
        tuple((Path(item.path), item.rel) for item in items),
        tuple((name[start:], reason) for name, reason in skipped),
    )


def text_at(path: Path, name: str) -> InputText | str:
    """The text in the regular file ``path``, or the reason why it has none."""
    if not name.isprintable():
        return ODD_NAME
    if runs.around(path.parent) is not None or runs.is_letter(path.name):
        return runs.RUN
    try:
        facts = measure(str(path))
    except (NotTextError, OSError) as error:
        return words(error)
    return InputText(name, path, facts.size, facts.sha256, facts.replaced)
