"""Breaks the long lines of a document's paragraphs and lists: `make docs`. Code, tables and headings stay."""

from __future__ import annotations

import re
import textwrap

COLUMNS = 120
_WIDTH = 118
_FENCE = re.compile(r" *(`{3,}|~{3,})")
_ITEM = re.compile(r" *([-*] |\d+\. |> )")
_AS_IT_IS = ("#", "|", "<", "![")


def wrapped(text: str) -> str:
    """``text`` with each paragraph that has a line over ``COLUMNS`` broken; the others are left alone."""
    done: list[str] = []
    block: list[str] = []
    fence = ""
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        is_prose = not (fence or mark or not line.strip() or line.startswith(_AS_IT_IS))
        if not is_prose or _ITEM.match(line):
            done += _broken(block)
            block = []
        if is_prose:
            block.append(line)
        else:
            done.append(line)
        if mark and (not fence or line.strip() == fence):
            fence = "" if fence else mark[1]
    return "\n".join([*done, *_broken(block)])


def _broken(block: list[str]) -> list[str]:
    """A paragraph or a list entry. A line that ends with a backslash stays the last of its part."""
    if all(len(line) <= COLUMNS or " " not in line.strip() for line in block):
        return block
    lead = re.match(r"( *)([-*] |\d+\. |> )?", block[0])
    first = lead[0] if lead else ""
    rest = ("> " if first.endswith("> ") else "").rjust(len(first))
    parts = re.split(r"(?<=\\)\n", "\n".join(block)[len(first) :])
    lines: list[str] = []
    for part in parts:
        words = " ".join(part.split())
        lines += textwrap.wrap(
            words,
            _WIDTH,
            initial_indent=rest if lines else first,
            subsequent_indent=rest,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines
