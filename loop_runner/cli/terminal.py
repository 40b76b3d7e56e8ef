"""Colour and line breaks for a person at a terminal; a pipe and a file get the plain text.

Owns which words have which colour. Text from a model or an input must be made safe before it comes here: the
escape sequences that are added here are the only ones that a terminal receives.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from typing import TextIO

import click

_GOOD = ("VERIFIED",)
_BAD = ("BROKEN", "DIFFERENT")
_STATUS = re.compile(r"[A-Z]+(?: [A-Z]+)*\b(?=:|$| again:)")
_MIN_COLUMNS = 40  # a narrower terminal wraps lines as well as we could
# Never wrapped: code in backticks, and a command up to the end of its line, so that it can be copied.
_WORD = re.compile(r"(?:(?<=: )loop-runner|uv pip|git -C|\S*/python[\d.]* -m) .+|[^\s`]*`[^`\n]*`\S*|\S+")
_LABELS = ("  why it matters:", "  what to do:")


def is_terminal(stream: TextIO) -> bool:
    """Whether ``stream`` is a terminal."""
    try:
        return stream.isatty()
    except (OSError, ValueError):  # ValueError: it is closed
        return False


def has_colour(stream: TextIO) -> bool:
    """Whether ``stream`` is a terminal that shows colours, and nobody asked for none (no-color.org)."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def columns(stream: TextIO) -> int:
    """The width of the terminal behind ``stream``; 0 for none, or one that is too narrow to matter."""
    if not is_terminal(stream):
        return 0
    try:
        width = int(os.environ.get("COLUMNS", "0")) or os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        return 0
    return width if width >= _MIN_COLUMNS else 0


# ── colour ──────────────────────────────────────────────────────────────────────────────────────────


def headline(line: str, stream: TextIO) -> str:
    """``line`` with the status at its beginning in colour."""
    match = _STATUS.match(line)
    if match is None or not has_colour(stream):
        return line
    status = match[0]
    colour = "green" if status in _GOOD else "red" if status in _BAD else "yellow"
    return click.style(status, fg=colour, bold=True) + line[match.end() :]


def error(text: str, stream: TextIO) -> str:
    """The text of an error with its heading and its labels in colour."""
    if not has_colour(stream):
        return text
    heading, newline, rest = text.partition("\n")
    name, colon, message = heading.partition(":")
    heading = click.style(name + colon, fg="red", bold=True) + message if colon else heading
    return heading + newline + "\n".join(map(_label, rest.split("\n")))


def _label(line: str) -> str:
    label = next((label for label in _LABELS if line.startswith(label)), "")
    return click.style(label, bold=True) + line[len(label) :] if label else line


# ── line breaks ─────────────────────────────────────────────────────────────────────────────────────


def wrapped(text: str, width: int) -> str:
    """``text`` with its long lines broken between words, except in a fence; 0 columns break none."""
    return "\n".join(_wrapped_lines(text, width)) if width else text


def _wrapped_lines(text: str, width: int) -> Iterator[str]:
    fence = ""
    for line in text.split("\n"):
        ticks = line[: len(line) - len(line.lstrip("`"))]
        if fence or len(ticks) >= 3:
            fence = "" if fence == line else fence or ticks
            yield line
        elif _shown(line) <= width:
            yield line
        else:
            yield from _broken(line, width)


def _broken(line: str, width: int) -> Iterator[str]:
    """The pieces of a long line; those after the first are indented by two more."""
    indent = line[: len(line) - len(line.lstrip(" "))]
    piece = ""
    for match in _WORD.finditer(line):
        word = match[0]
        longer = f"{piece} {word}" if piece else f"{indent}{word}"
        if piece and _shown(longer) > width:
            yield piece
            piece = f"{indent}  {word}"
        else:
            piece = longer
    yield piece


def _shown(text: str) -> int:
    """How many columns ``text`` takes."""
    if text.isascii():
        return len(text)
    return sum(_columns_of(char) for char in text)


def _columns_of(char: str) -> int:
    return 0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "FW" else 1
