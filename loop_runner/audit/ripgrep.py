"""Leaves out files in which a rule's expression cannot be found, with ripgrep where it is installed.

It only narrows: the kernel matches the remaining lines with Python's ``re``, which decides. So ripgrep only
gets an expression that both read alike; for every other one, and without ripgrep, all files remain.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from loop_runner import process
from loop_runner.inputs.on_disk import BOM, NotTextError, head
from loop_runner.records import InputText

_TIMEOUT_S = 120.0
_MAX_ARGV_BYTES = 100_000
_MAX_OUTPUT_BYTES = 4_000_000
_NO_MATCH = 1
# What Python and Rust read alike: atoms, each with at most one mark of how often; no sets in classes.
_ALIKE = re.compile(
    r"(?:\(\?i\))?"
    r"(?:(?:\\[bsdwSDW.()\[\]{}*+?|^$\\/]|\(\?:|\((?!\?)|[\w ,;:!=<>@%#\"'/`.^$|)-]"
    r"|\[\^?(?:\\[sdw.\]\\]|[\w ,;:!=<>@%#\"'/.+*?(){}$-])+\])"
    r"(?:[*+?]\??|\{\d+(?:,\d*)?\}\??)?)+"
)


def narrowed(pattern: str, texts: Sequence[InputText], program: str | None = None) -> set[int] | None:
    """Numbers of the ``texts`` that may hold a match of ``pattern``; None: unknown, take all."""
    program = program or shutil.which("rg")
    is_alike = pattern.isascii() and "--" not in pattern and _ALIKE.fullmatch(pattern)
    if program is None or not is_alike:
        return None
    odd = {number for number, text in enumerate(texts) if text.replaced_bytes or _has_bom(text)}
    by_path = {os.fsencode(text.path): number for number, text in enumerate(texts)}
    indexes = set(odd)
    for paths in _portions(list(by_path)):
        matching = _search(program, pattern, paths)
        if matching is None:
            return None
        if not by_path.keys() >= set(matching):  # a name that is not UTF-8 comes back as another
            return None
        indexes |= {by_path[path] for path in matching}
    return indexes


def _has_bom(text: InputText) -> bool:
    """Whether its first line begins, for ripgrep, with a mark that is no part of the text."""
    try:
        return head(str(text.path), len(BOM)) == BOM
    except (NotTextError, OSError):
        return True


def _search(program: str, pattern: str, paths: Sequence[bytes]) -> list[bytes] | None:
    options = ["--no-config", "--files-with-matches", "--null", "--no-messages", "--crlf", "--text"]
    ended = process.run(
        [program, *options, "--encoding", "none", "--regexp", pattern, "--", *map(os.fsdecode, paths)],
        cwd=Path("/"),
        env={"PATH": os.defpath},
        timeout_s=_TIMEOUT_S,
        max_output_bytes=_MAX_OUTPUT_BYTES,
    )
    if ended.exit_code == _NO_MATCH:
        return []
    if ended.exit_code != 0 or ended.timed_out or ended.dropped_bytes:
        return None
    return [os.fsencode(path) for path in ended.output.split("\0") if path]


def _portions(paths: Sequence[bytes]) -> Iterator[list[bytes]]:
    portion: list[bytes] = []
    size = 0
    for path in paths:
        if portion and size + len(path) > _MAX_ARGV_BYTES:
            yield portion
            portion, size = [], 0
        portion.append(path)
        size += len(path) + 1
    if portion:
        yield portion
