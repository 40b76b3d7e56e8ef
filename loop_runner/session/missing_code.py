"""Why a reply held no code that could be run, in words for the model that wrote it.

Owns the words. What the reply holds is shown only as a short label: it is the model's own, and may hold
anything.
"""

from __future__ import annotations

import re

from loop_runner.text import label

_FENCE = re.compile(r"(?m)^[ \t]*(?:`{3,}|~{3,})[ \t]*([\w+#.-]*)")
_PYTHON = frozenset({"repl", "python", "py", "python3", "py3", "ipython", "pycon", "tool_code", "code", ""})
_MAX_CHARS = 200_000


def describe(reply: str) -> str:
    """A sentence on what was missing."""
    text = reply[:_MAX_CHARS].strip()
    if not text:
        return "Your reply was empty."
    if "<think>" in text and "</think>" not in text:
        return "Your reply ended within a thought, before any code."
    tags = [match[1].lower() for match in _FENCE.finditer(text)][::2]
    if others := [tag for tag in tags if tag not in _PYTHON]:
        return f"Your code block is marked as {label(others[0], 20)}; only Python is run."
    if tags:
        return "Your code block contained nothing that could be run as Python."
    return "Your reply contained no Python code, so nothing was run."
