"""Makes text that others wrote safe to show: in a prompt, in a terminal, in a file.

Control characters, terminal escapes and direction overrides become visible escapes; long text keeps its head
and its tail. Relies on nothing but the standard library, and on ``label``, which the kernel process has too.
"""

from __future__ import annotations

import re
import shlex
import unicodedata

from loop_runner.kernel.inside import names

_ALLOWED_CONTROLS = "\n\t"
_MAX_NAME_CHARS = 300
_BACKTICKS = re.compile(r"`{3,}")
label, plural = names.label, names.plural  # the same functions, inside the kernel process and here


def escape_controls(text: str) -> str:
    """Replace control, format and unpaired surrogate characters by visible escapes.

    Newlines and tabs stay. A CRLF becomes a newline: a carriage return alone can overwrite a terminal line.
    """
    text = text.replace("\r\n", "\n")
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(_escape(char) for char in text)


def _escape(char: str) -> str:
    if char in _ALLOWED_CONTROLS or unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Co", "Cn"}:
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def cut_middle(text: str, max_chars: int) -> str:
    """Keep the head and the tail of ``text``; a line between them says how much is missing."""
    if len(text) <= max_chars:
        return text
    half = max(max_chars // 2, 1)
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters left out …]\n{text[-half:]}"


def fence(text: str, label: str = "") -> str:
    """Put ``text`` into a Markdown fence that nothing inside it can close."""
    safe = escape_controls(text)
    longest = max((len(run) for run in _BACKTICKS.findall(safe)), default=2)
    ticks = "`" * (longest + 1)
    return f"{ticks}{label}\n{safe.rstrip(chr(10))}\n{ticks}"


def fence_named(name: str, text: str) -> str:
    """Put ``text`` into a fence that begins with its name: a name can pose as an instruction, too."""
    return fence(f"name: {one_line(name, _MAX_NAME_CHARS)}\n\n{text}")


def place(label_of_place: str) -> str:
    """A place of an original, such as "page 12" or "sheet Prices"; the name in it as ``label`` shows it."""
    kind, _, rest = label_of_place.partition(" ")
    if re.fullmatch(r"[0-9]+( on)?", rest):
        return f"{label(kind)} {rest}"
    return f"{label(kind)} {label(rest)}" if rest else label(kind)


def code(name: str) -> str:
    """A name as a code span; one that could end the span, or break its line, as a quoted string instead."""
    return (
        f"`{name}`"
        if name.isprintable() and "`" not in name and len(name) <= _MAX_NAME_CHARS
        else label(name)
    )


def one_line(text: str, max_chars: int = 120) -> str:
    """``text`` as a single safe line of at most ``max_chars`` characters."""
    if len(text) <= max_chars and text.isascii() and text.isprintable() and "  " not in text:
        return text.strip(" ")  # what most are; a thousand rows of variables are read at every turn
    flat = " ".join(escape_controls(text).split())
    return flat if len(flat) <= max_chars else flat[: max_chars - 1] + "…"


def name(path: str, max_chars: int = 200) -> str:
    """A file's name on one line: as it is, or in quotes with escapes where it could play tricks."""
    shown = path if path.isprintable() else repr(path)
    return shown if len(shown) <= max_chars else f"{shown[: max_chars - 1]}…"


def shell(*words: object) -> str:
    """``words`` as one command line that a POSIX shell reads back to the same words."""
    return shlex.join(map(str, words))


def bar(share: float, columns: int = 16) -> str:
    """A bar that is full at 1."""
    done = min(max(round(share * columns), 0), columns)
    return "█" * done + "░" * (columns - done)


_MOST_TOKENS = 10**9  # of one request; no model takes or gives more


def sane_count(value: object) -> int:
    """A number of tokens from 0 to a billion; 0 for what is no number (NaN, infinity, a text, a list)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # noqa: PLR0124 - NaN
        return 0
    if value in (float("inf"), float("-inf")):
        return 0
    return min(max(int(value), 0), _MOST_TOKENS)
