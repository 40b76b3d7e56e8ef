"""Shows a name from an untrusted source, or a count, in a text for a model. Standard library only.

``label`` is the one function for every such place; the host has it as ``loop_runner.text.label``. Without
it, the name of a file, a key or a sheet could pose as an instruction, a heading or the end of a fence.
"""

from __future__ import annotations

import re

_PLAIN = re.compile(r"[\w@+*-][\w./@+*:~=,-]*")


def label(name: str, max_chars: int = 200) -> str:
    """A name outside of fences: a plain file name unchanged, any other as a quoted string on one line.

    Blanks, backticks, line breaks and marks of headings or templates could make a name pose as instructions.
    """
    if _PLAIN.fullmatch(name) and len(name) <= max_chars:
        return name
    return repr(name if len(name) <= max_chars else f"{name[: max_chars - 1]}…")


def plural(count: int, noun: str, plural_noun: str | None = None) -> str:
    """``3 passes``; ``1 pass``; ``2,000 passes``."""
    return f"{count:,} {noun if count == 1 else plural_noun or noun + 's'}"
