"""Verifiers on the command line: ``--verify``, ``--verify-python``, ``--schema`` and ``--min-citations``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

_FILE = click.Path(path_type=Path)
_OPTIONS = (
    click.option(
        "--verify", "verify", multiple=True, metavar="COMMAND", help="Accept only if COMMAND exits with 0."
    ),
    click.option(
        "--verify-python",
        "verify_python",
        multiple=True,
        type=_FILE,
        metavar="FILE",
        help="Accept only if check() in FILE accepts.",
    ),
    click.option("--schema", type=_FILE, metavar="FILE", help="Accept only JSON that fits this schema."),
    click.option("--min-citations", type=click.IntRange(0), metavar="N", help="Require N quotations."),
)
NAMES = ("verify", "verify_python", "schema", "min_citations")


def options(command: Any) -> Any:
    """Attach the options."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def taken(flags: dict[str, Any], citations: Callable[[int], dict[str, Any]] | None = None) -> list[Any]:
    """The verifiers of the options, as a task file has them; they are removed from ``flags``."""
    verify, python, schema, minimum = (flags.pop(name) for name in NAMES)
    made: list[Any] = [{"command": {"run": ["sh", "-c", line]}, "name": line[:80]} for line in verify]
    made += [{"python": str(path.absolute())} for path in python]
    made += [] if schema is None else [{"schema": str(schema.absolute())}]
    if minimum is not None:
        made.append({"citations": {"min": minimum}} if citations is None else citations(minimum))
    return made
