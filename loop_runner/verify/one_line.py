"""Shows texts of unknown origin as evidence: in one line, cut, with their blanks unchanged.

``loop_runner.text.one_line`` folds blanks; a quote that differs only in them must not look the same.
"""

from __future__ import annotations

from loop_runner.text import escape_controls


def exact_line(text: str, cap: int = 200) -> str:
    """At most ``cap`` characters in one line; unprintable characters become escapes, tabs stay."""
    shown = escape_controls(text[:cap]).replace("\n", "\\n")
    return shown + (f" […{len(text) - cap} more characters]" if len(text) > cap else "")
