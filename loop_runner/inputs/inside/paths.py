"""Which members' names are accepted. Nothing is unpacked to disk; a name becomes part of a text's name."""

from __future__ import annotations

import re
import unicodedata

from loop_runner.inputs.inside.sink import Limits

_DRIVE = re.compile(r"^[A-Za-z]:")
_LEFT_OUT = frozenset(
    {
        *("__pycache__", "__pypackages__", "site-packages", "dist-packages", "venv", "__MACOSX"),
        *("node_modules", "bower_components", "CVS"),
    }
)


# Control characters, halves of surrogate pairs (bytes that are not UTF-8), and ends of lines.
_ODD = {"Cc", "Cs", "Zl", "Zp"}


def is_odd(name: str) -> bool:
    """Whether ``name`` holds a character that no text's name may hold; unusual blanks are allowed."""
    return not name.isprintable() and any(unicodedata.category(char) in _ODD for char in name)


def why_not(name: str, limits: Limits) -> str:
    """Why a member with this ``name`` is left out; "" when it is taken."""
    if is_odd(name):
        return "its name holds control characters or is not UTF-8"
    if name.startswith(("/", "\\")) or _DRIVE.match(name):
        return "its path is absolute: it leads out of the archive"
    parts = name.replace("\\", "/").split("/")
    if ".." in parts:
        return "its path leads out of the archive"
    if len(name) > limits.path_chars or len(parts) > limits.path_parts:
        return "its path is too long"
    for part in parts:
        if part in _LEFT_OUT:
            return "a tool's folder"
        if part.startswith(".") and part != ".":
            return "hidden"
    return ""


def plain(name: str) -> str:
    """``name`` with single "/" between its parts and without empty or "." parts."""
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))


def shown(name: str) -> str:
    """``name`` for a message, printable whatever it contains."""
    text = name.encode("utf-8", "backslashreplace").decode()
    return "".join(f"\\x{ord(char):02x}" if is_odd(char) else char for char in text)[:200]
