"""Finds code that stands in a reply without a fence, a tag or a tool call."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loop_runner.session.parsing import CODE_TAGS, HELPERS, Parser, ReadReply, acts, names_in, walk

_MERGES_TRIED = 40


_CONTINUES = re.compile(r"[ \t)\]}]|(?:else|elif|except|finally)\b")


@dataclass(frozen=True, slots=True)
class _Piece:
    """A top-level statement with the lines that belong to it, or a stretch of prose (``tree`` None)."""

    text: str
    tree: ast.Module | None


def find_bare(text: str, parser: Parser) -> ReadReply | None:
    """The code that stands alone in ``text``, or at its end or its start; None if there is none."""
    ticked = re.compile(r"^[ \t]*`([^`]+)`[ \t]*$")
    lines = [ticked.sub(r"\1", line) for line in text.strip("\n").split("\n")]
    if lines[0].strip().lower() in CODE_TAGS:
        lines = lines[1:]  # the tag of a fence that the chat template swallowed
    if any(line.lstrip().startswith(">>> ") for line in lines):
        lines = without_prompts(lines).split("\n")
    whole = textwrap.dedent("\n".join(lines))
    if parser.acts(whole):
        return ReadReply(whole, "")
    run = code_in(lines, parser)
    return ReadReply(run, text.replace(run, "", 1).strip()) if run else None


def code_in(lines: Sequence[str], parser: Parser) -> str | None:
    """The longest run of lines that is Python and does something."""
    return max(_runs(lines, parser), key=lambda run: len(run.split("\n")), default=None)


def code_at_end(lines: Sequence[str], parser: Parser) -> str | None:
    """The code that the lines end with: what a closing fence without an opening one closes."""
    if not any(line.strip() for line in lines):
        return None
    lines = lines[1:] if lines[0].strip().lower() in CODE_TAGS else lines
    whole = textwrap.dedent("\n".join(lines))
    if parser.acts(whole):
        return whole
    pieces = list(_pieces(lines, parser))
    runs = list(_runs_of(pieces))
    is_last = bool(pieces) and pieces[-1].tree is not None
    return runs[-1] if runs and is_last else None


def code_at_start(lines: Sequence[str], parser: Parser) -> str | None:
    """The code that the lines begin with, when prose or a torn statement stands behind it."""
    pieces: list[_Piece] = []
    for piece in _pieces(lines, parser):
        if piece.tree is None:
            break
        pieces.append(piece)
    return next(_runs_of(pieces), None)


def _runs(lines: Sequence[str], parser: Parser) -> Iterator[str]:
    return _runs_of(_pieces(lines, parser))


def _runs_of(pieces: Sequence[_Piece] | Iterator[_Piece]) -> Iterator[str]:
    run: list[_Piece] = []
    known: set[str] = set(HELPERS)
    for piece in [*pieces, _Piece("", None)]:
        if piece.tree is not None and (acts(piece.tree) or names_in(piece.tree) <= known):
            run.append(piece)
            known |= {
                node.id
                for node in walk(piece.tree)
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            }
            continue
        if any(line.tree is not None and acts(line.tree) for line in run):
            yield "\n".join(line.text for line in _trimmed(run)).strip("\n")
        run, known = [], set(HELPERS)


def _trimmed(run: list[_Piece]) -> list[_Piece]:
    """Without headings and words at its ends; a last variable stays: the REPL shows its value."""
    keeps = [line.tree is not None and (acts(line.tree) or bool(names_in(line.tree))) for line in run]
    first = next(at for at, line in enumerate(run) if line.tree is not None and acts(line.tree))
    last = len(run) - next(at for at, keep in enumerate(reversed(keeps)) if keep)
    return run[first:last]


def _pieces(lines: Sequence[str], parser: Parser, depth: int = 2) -> Iterator[_Piece]:
    """Cut lines into top-level statements; one with lines at column 0 inside is put together again."""
    groups = _groups(lines)
    at = 0
    while at < len(groups):
        text = "\n".join(groups[at])
        tree = parser.parse(text)
        used = 1
        if tree is None and parser.is_unfinished:
            text, tree, used = _merged(groups, at, parser)
        if tree is None and depth and len(groups[at]) > 1:
            # A line of prose with an indented listing under it.
            yield _Piece(groups[at][0], None)
            yield from _pieces(textwrap.dedent("\n".join(groups[at][1:])).split("\n"), parser, depth - 1)
        else:
            yield _Piece(text, tree)
        at += used


def _merged(groups: list[list[str]], at: int, parser: Parser) -> tuple[str, ast.Module | None, int]:
    text = "\n".join(groups[at])
    for more in range(1, min(_MERGES_TRIED, len(groups) - at)):
        text += "\n" + "\n".join(groups[at + more])
        tree = parser.parse(text)
        if tree is not None:
            return text, tree, more + 1
        if not parser.is_unfinished:
            break
    return "\n".join(groups[at]), None, 1


def _groups(lines: Sequence[str]) -> list[list[str]]:
    """Lines that begin a statement at column 0, each with its continuation lines."""
    groups: list[list[str]] = []
    for line in lines:
        is_more = not line.strip() or _CONTINUES.match(line)
        if groups and (is_more or groups[-1][-1].startswith("@")):
            groups[-1].append(line)
        else:
            groups.append([line])
    return groups


def without_prompts(lines: Sequence[str]) -> str:
    """The input lines of an interpreter's transcript, without their prompts."""
    matches = (re.match(r"[ \t]*(?:>>>|\.\.\.)(?: (.*))?$", line) for line in lines)
    return "\n".join(match[1] or "" for match in matches if match)
