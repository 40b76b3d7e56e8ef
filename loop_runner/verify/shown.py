"""Cuts texts of unknown origin and size to what a person or a model can read as evidence."""

from __future__ import annotations


def one_line(text: str, cap: int = 200) -> str:
    """At most ``cap`` characters in one line; what cannot be printed stands as an escape, tabs stay."""
    cut = text[:cap]
    shown = "".join(char if char.isprintable() or char == "\t" else _escape(char) for char in cut)
    return shown + (f" […{len(text) - cap} more characters]" if len(text) > cap else "")


def head_and_tail(text: str, cap: int) -> str:
    """At most about ``cap`` characters, the first and the last; a line between says how many are missing."""
    if len(text) <= cap:
        return text
    half = max(cap // 2, 1)
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters left out …]\n{text[-half:]}"


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
