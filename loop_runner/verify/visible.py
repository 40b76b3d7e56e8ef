"""What a reader sees of a text: the one place that handles markup, look-alikes and invisible characters.

Owns three readings of a text. ``visible`` is what an editor, a terminal or a Markdown viewer shows: entities
and tags are resolved, every line end is a line feed, invisible characters are removed. ``fold`` keeps the
length of its text and replaces look-alikes with ASCII, so that structure (marks, places, digits) can be
found. ``alike`` is for comparing: it ignores typography and white space, but keeps letters, digits and other
signs.
"""

from __future__ import annotations

import functools
import html
import re
import unicodedata

_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_BLANK_SHAPES = "\u115f\u1160\u3164\uffa0\u2800"  # letters and signs that are drawn as nothing
# Tags that do not affect what is shown. With attributes (`style`, `hidden`) anything may be shown, and
# <del> or <s> withdraw their content: those stay in the text, and no input contains them.
_TAG = re.compile(
    r"</?(?:a|b|cite|code|dd|details|div|dl|dt|em|i|kbd|mark|ol|p|pre|samp|small|strong|sub|summary|sup|table"
    r"|tbody|thead|td|th|tr|tt|u|ul|li|var)\s*/?>",
    re.IGNORECASE,
)
_BREAK = re.compile(r"<br\s*/?>|</(?:p|li|tr|div|dt|dd|summary)\s*>|<!--|-->", re.IGNORECASE)
_CELL = re.compile(r"<t[dh]\s*>", re.IGNORECASE)
_BLOCKQUOTE = re.compile(r"<blockquote\b[^>]{0,300}>(.*?)(?:</blockquote\s*>|\Z)", re.IGNORECASE | re.DOTALL)
# The same in Org, LaTeX and BBCode.
_OTHER_BLOCKQUOTES = re.compile(
    r"\#\+begin_quote\b[^\n]*\n(.*?)(?:\#\+end_quote\b|\Z)"
    r"|\\begin\{(?:display)?quot(?:e|ation)\}(.*?)(?:\\end\{(?:display)?quot(?:e|ation)\}|\Z)"
    r"|\[quote\b[^\]\n]{0,300}\](.*?)\[/quote\]",
    re.IGNORECASE | re.DOTALL,
)
_QUOTED = re.compile(r"<(/?)q\b[^>]{0,300}>", re.IGNORECASE)

GREATER = ">"
_GREATER = (
    "\uff1e\ufe65\u203a\u3009\u300b\u276f\u2771\u27e9\u27eb\u226b\u2aa2\u227b\u02c3\u1433\u226f"
    "\u232a\u29fd\u2a20"
)
BARS = (
    "\u2758\u2759\u275a\u2502\u2503\u258f\u258e\u258d\u258c\u258b\u258a\u2589\u2588\u01c0\uff5c\u2223\u23d0"
)
_COLONS = "\uff1a\ufe55\ufe13\ua789\u2236\u02d0\u05c3\ufe30\u02f8"
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d\u00ad"
_DOUBLE = "\u201c\u201d\u201e\u201f\u00ab\u00bb\u300c\u300d\u300e\u300f\uff02\u2033\u301d\u301e"
_SINGLE = "\u2018\u2019\u201a\u201b\u2039\u203a\uff07\u2032\u00b4\u02bc\u02b9"
_LIGATURES = {
    "\ufb00": "ff",
    "\ufb01": "fi",
    "\ufb02": "fl",
    "\ufb03": "ffi",
    "\ufb04": "ffl",
    "\ufb05": "st",
}
_ALIKE = str.maketrans(
    {
        **dict.fromkeys(_DASHES, "-"),
        **dict.fromkeys(_DOUBLE, '"'),
        **dict.fromkeys(_SINGLE, "'"),
        **_LIGATURES,
        "\u2026": "...",
    }
)
# Marks beside a word, on its outer side: of emphasis and code. `2**3` and `a * b` keep theirs.
_EMPHASIS = re.compile(r"(?<!\w)[*_`]{1,3}(?=\S)|(?<=\S)[*_`]{1,3}(?!\w)")


def visible(text: str) -> str:
    """``text`` as a reader sees it, in lines that end at line feeds."""
    if "<" in text:
        text = _BLOCKQUOTE.sub(_as_quoted_lines, text)
        text = _QUOTED.sub(lambda tag: "\u201d" if tag[1] else "\u201c", text)
        text = _CELL.sub(" | ", _BREAK.sub("\n", text))
        text = _TAG.sub("", text)
    if "quot" in text or "QUOT" in text:
        text = _OTHER_BLOCKQUOTES.sub(_as_quoted_lines, text)
    if "&" in text:
        text = html.unescape(text)
    text = _LINE_ENDS.sub("\n", text)
    return (
        text if text.isascii() and not _CONTROLS.search(text) else _shaped(unicodedata.normalize("NFC", text))
    )


_CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f]")


def fold(text: str) -> str:
    """``text`` with ASCII in place of look-alikes, character for character: offsets do not change."""
    if text.isascii():
        return text
    return text.translate({ord(char): _ascii(char) for char in set(text) if not char.isascii()})


def alike(text: str) -> str:
    """``text`` for comparing: quote marks, dashes and white space of every kind are the same."""
    if not text.isascii():
        text = _shaped(unicodedata.normalize("NFC", text)).translate(_ALIKE)
    return " ".join(text.split())


def unmarked(text: str) -> str:
    """``text`` without emphasis, backticks, tags and entities.

    Names such as ``__init__`` lose their marks too, so both sides of a comparison must be read so.
    """
    return _EMPHASIS.sub("", visible(text).replace("\n", " "))


def _as_quoted_lines(match: re.Match[str]) -> str:
    content = next(group for group in match.groups() if group is not None)
    lines = _BREAK.sub("\n", content).split("\n")
    return "\n" + "\n".join(f"> {line}" for line in lines if line.strip()) + "\n\n"


def _shaped(text: str) -> str:
    """The text without invisible characters, and without accents on signs that are not letters."""
    kept: list[str] = []
    for char in text:
        kind = _kind(char)
        if kind == "mark" and (not kept or not kept[-1].isalnum()):
            continue
        if kind != "nothing":
            kept.append(" " if kind == "blank" else char)
    return "".join(kept)


@functools.cache
def _kind(char: str) -> str:
    if char in "\n\t" or char.isascii():
        return "char" if char in "\n\t" or (char >= " " and char != "\x7f") else "nothing"
    if char in _BLANK_SHAPES or unicodedata.category(char) == "Zs":
        return "blank"
    category = unicodedata.category(char)
    if (
        category in ("Cf", "Cc")
        or char == "\u034f"
        or unicodedata.name(char, "").startswith("VARIATION SELECTOR")
    ):
        return "nothing"
    return "mark" if category in ("Mn", "Me") else "char"


@functools.cache
def _ascii(char: str) -> str:
    if char in _GREATER:
        return GREATER
    if char in _COLONS:
        return ":"
    if char in _DASHES:
        return "-"
    if (digit := unicodedata.decimal(char, None)) is not None:
        return str(digit)
    plain = unicodedata.normalize("NFKC", char)
    return plain if len(plain) == 1 else char
