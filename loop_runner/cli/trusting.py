"""Asks for ``--trust`` before a command starts what a run folder names."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

TRUST = click.option(
    "--trust",
    "is_trusted",
    is_flag=True,
    help="Start what the run folder names, though it was not created here; needed only once.",
)


def require(
    folder: Path, overrides: Sequence[tuple[str, Any]] = (), *, is_trusted: bool, command: str
) -> None:
    """Raise an error that lists what ``folder`` would start, unless it was created or trusted here."""
    from loop_runner.runs import trust

    trust.require_folder(folder, os.environ, overrides, command=command, is_trusted=is_trusted)


@contextmanager
def kept(folder: Path) -> Iterator[None]:
    """Keep the mark of a trusted folder while the run changes what it covers (``--repin``)."""
    from loop_runner.runs import trust

    try:
        yield
    finally:
        trust.mark(folder, os.environ)


def mark_unplaced(folder: Path, repository: Path) -> None:
    """Record that ``folder`` is the user's own, before its ``repository`` is in its place."""
    from loop_runner.runs import trust

    trust.mark(folder, os.environ, unplaced=repository)


def mark(folder: Path) -> None:
    """Record that ``folder`` is the user's own."""
    from loop_runner.runs import trust

    trust.mark(folder, os.environ)


def is_own(folder: Path, *, is_trusted: bool = False) -> bool:
    """Whether ``folder`` was created or trusted here; ``is_trusted`` trusts it now."""
    from loop_runner.runs import trust
    from loop_runner.workspace.history import History

    with History(folder) as history:
        if trust.is_marked(history, os.environ):
            return True
    return is_trusted and not trust.mark(folder, os.environ)
