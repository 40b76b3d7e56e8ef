"""Prints results: text for a person, one JSON object for a program.

Every JSON object has ``"version": 1``; keys may be added, never renamed or removed, within a version. Text
that a model or an input wrote is made safe for a terminal first. A reader that goes away (``| head``, a
closed terminal) never changes how a run ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

import click

import loop_runner as lr
from loop_runner import redaction, text
from loop_runner.cli import terminal

if TYPE_CHECKING:
    from loop_runner import types

plural = text.plural

JSON_VERSION = 1


def write_json(data: Mapping[str, Any]) -> None:
    """One object on standard output; non-ASCII is escaped, so it is safe in any terminal."""
    _print(json.dumps({"version": JSON_VERSION, **data}, indent=2))


def write(line: str = "") -> None:
    """One line, or several, for a person."""
    _print(text.escape_controls(line))


def prose(line: str) -> None:
    """The same for sentences: on a terminal, long ones are wrapped, and a status at the start is coloured."""
    safe = text.escape_controls(redaction.clean(line))
    broken = terminal.wrapped(safe, terminal.columns(sys.stdout))
    _print(terminal.headline(broken, sys.stdout))


def stream(line: str) -> bool:
    """One line of open-ended output; False when nobody reads it any more."""
    try:
        click.echo(text.escape_controls(redaction.clean(line)))
    except BrokenPipeError:
        _drop_the_rest(sys.stdout)
        return False
    return True


def safe(line: str) -> str:
    """``line`` without secrets, and without anything that a terminal would take for a command."""
    return text.escape_controls(redaction.clean(line))


def note(line: str) -> None:
    """Progress and remarks: standard error, so that results can be piped. Never fails."""
    _to_stderr(_for_stderr(line))


def error(message: str) -> None:
    """An error with its heading: standard error. Never fails."""
    _to_stderr(terminal.error(_for_stderr(f"loop-runner: {message}"), sys.stderr))


def _for_stderr(line: str) -> str:
    safe = text.escape_controls(redaction.clean(line))
    return terminal.wrapped(safe, terminal.columns(sys.stderr))


def _to_stderr(line: str) -> None:
    try:
        click.echo(line, err=True)
    except (OSError, ValueError):  # ValueError: it is closed
        _drop_the_rest(sys.stderr)


def _print(line: str) -> None:
    """A result on standard output. ``EnvironmentFault`` when it cannot be written (such as a full disk)."""
    try:
        click.echo(redaction.clean(line))
    except BrokenPipeError:
        # Nobody reads any more, which is the reader's decision: the rest is dropped, the exit code stays.
        _drop_the_rest(sys.stdout)
    except OSError as error:
        _drop_the_rest(sys.stdout)
        raise lr.EnvironmentFault(
            f"the result cannot be written to standard output: {error.strerror}",
            why="a reader would take the written part for the whole",
            hint="free some space and print it again with `loop-runner show RUN`; the run folder has it all",
        ) from error


def _drop_the_rest(stream: TextIO) -> None:
    """Discard a standard stream: buffered text would fail again when Python exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError, ValueError):
        os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def make_streams_safe() -> None:
    """Let no terminal change how a command ends: characters that it cannot show are escaped."""
    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            # Otherwise the next opened file would take the number, and receive the output.
            with contextlib.suppress(OSError):
                nowhere = os.open(os.devnull, os.O_RDWR)
                if nowhere != number:
                    os.dup2(nowhere, number)
                    os.close(nowhere)
            setattr(sys, name, open(os.devnull, "r" if number == 0 else "w", encoding="utf-8"))  # noqa: PTH123, SIM115
        elif number and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def duration(seconds: float) -> str:
    """``48 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def size(count: int) -> str:
    """``512 bytes``, ``3.4 kB``, ``37.2 MB``."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return plural(count, "byte")


def cost(spend: types.Spend) -> str:
    """Dollars and tokens in one line; an unknown price is reported as unknown."""
    usd = "price unknown" if spend.usd is None else f"{spend.usd:.4f} USD"
    usage = spend.usage
    cached = f", {usage.cache_read_tokens:,} from cache" if usage.cache_read_tokens else ""
    return f"{usd} ({usage.input_tokens:,} tokens in{cached}, {usage.output_tokens:,} out)"


def spend_as_json(spend: types.Spend) -> dict[str, Any]:
    """The keys that every result shares."""
    usage = spend.usage
    return {
        "passes": spend.passes,
        "turns": spend.turns,
        "seconds": round(spend.seconds, 3),
        "usage": {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "cache_read_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
            "requests": spend.requests,
            "subcalls": spend.subcalls,
            "unanswered": spend.unanswered,
            "tool_calls": spend.tool_calls,
        },
        "cost": {"usd": spend.usd},
    }
