"""Words, sentences, and the words that a quotation may not leave out.

Owns where a word or a number begins and ends, in scripts with spaces and without, and which words reverse a
sentence when they are left out (``not``, ``unless``, ``only``). Knows nothing of answers or inputs.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

Span = tuple[int, int]

_CONTEXT_CHARS = 300  # how far to each side of a quotation its sentence is looked for
_JOINS = "'\u2019-\u2010\u2011"  # inside a word, between letters
_NUMBER_JOINS = ".,:/'\u2019_-"  # inside a number, a version, a date or a time, between digits
_SENTENCE_END = re.compile(
    r"[.!?][\"')\]\u201d\u2019]*(?=\s+[\"'(\[\u201c\u2018]*[A-Z\u00c0-\u00de\u0391-\u042f])|[\u3002\uff01\uff1f]"
)
_ABBREVIATION = re.compile(
    r"(?:\b(?:[A-Za-z]|e\.g|i\.e|art|no|nos|nr|mr|mrs|ms|dr|prof|st|vs|etc|cf|inc|ltd|co|p|pp|sec|fig|approx|resp|al)\.)$",
    re.IGNORECASE,
)
_LIMITING = re.compile(
    r"\b(?:not|never|no(?!\.[ ]?\d)|nor|neither|none(?=\s+of\b)|nobody|nothing|nowhere|cannot|unless"
    r"|except(?:ing|ed)?|excluding|only|solely|merely|without|hardly|barely|scarcely|rarely|seldom|but|if|until"
    r"|provided that|unable|impossible|prohibited|forbidden|instead of|rather than"
    r"|nicht|kein\w{0,3}|niemals|nie|nur|au\u00dfer|ausser|ohne|sofern|wenn|aber"
    r"|jamais|sauf|seulement|aucune?|pas|mais|nunca|jam\u00e1s|excepto|pero|senza|eccetto|tranne"
    r"|niet|geen|nooit|alleen|zonder|tenzij|maar|inte|ikke)\b"
    r"|\b\w+n['\u2019]t\b"
    r"|[\u4e0d\u6ca1\u6c92\u7121\u65e0\u975e\u672a\u52ff\u83ab\u5225\u522b\u6bcb\u7981]|\u306a\u3044|\u307e\u305b\u3093|\u306a\u3057"
    r"|[\uc54a\uc5c6]|\uc544\ub2c8",
    re.IGNORECASE,
)
_CODE = re.compile(r"[={}\[\]<>|_\\#]|\w\(|\);")


def is_word(char: str) -> bool:
    """True for characters of words and numbers."""
    return char.isalnum() or char == "_" or unicodedata.category(char) in ("Mn", "Mc")


def is_unspaced(char: str) -> bool:
    """True for letters of scripts that put no spaces between words: a word may end beside any of them."""
    code = ord(char)
    return (
        0x2E80 <= code <= 0x31FF  # radicals, kana, bopomofo
        or 0x3400 <= code <= 0x9FFF
        or 0xF900 <= code <= 0xFAFF
        or 0x20000 <= code <= 0x3FFFF
        or 0x0E00 <= code <= 0x0EFF  # Thai, Lao
        or 0x1000 <= code <= 0x109F  # Myanmar
        or 0x1780 <= code <= 0x17FF  # Khmer
    )


def cuts_a_word(text: str, at: int) -> bool:
    """Whether a quotation that begins or ends at ``at`` begins or ends inside a word or a number."""
    if not 0 < at < len(text):
        return False
    before, after = text[at - 1], text[at]
    if is_word(before) and is_word(after):
        return not (is_unspaced(before) or is_unspaced(after)) or unicodedata.combining(after) > 0
    if is_word(after) and _joins(text, at - 1):
        return True
    if is_word(before) and _joins(text, at):
        return True
    return before in "!~\u00ac" and is_word(after) and (at < 2 or not is_word(text[at - 2]))


def _joins(text: str, at: int) -> bool:
    """Whether the sign at ``at`` is part of the word or the number around it."""
    left, right = text[at - 1 : at] if at else "", text[at + 1 : at + 2]
    sign = text[at]
    if sign in "-\u2212" and right.isdigit() and (not left or not (is_word(left) or left in ")]")):
        return True  # a minus before a number
    if not (left and right) or is_unspaced(left) or is_unspaced(right):
        return False
    if left.isdigit() and right.isdigit():
        return sign in _NUMBER_JOINS
    return sign in _JOINS and left.isalpha() and right.isalpha()


def sentence(text: str, start: int, end: int) -> Span:
    """Where the sentence (or sentences) around ``text[start:end]`` begins and ends."""
    low, high = max(start - _CONTEXT_CHARS, 0), min(end + _CONTEXT_CHARS, len(text))
    first = max((match.end() for match in _ends(text, low, start)), default=low)
    last = next((match.end() for match in _ends(text, max(end - 1, 0), high)), high)
    return first, max(last, end)


def _ends(text: str, low: int, high: int) -> Iterator[re.Match[str]]:
    for match in _SENTENCE_END.finditer(text, low, min(high + 2, len(text))):
        dot = match.start() + 1
        if match.end() <= high and not _ABBREVIATION.search(text, max(dot - 8, 0), dot):
            yield match


def left_out(text: str, spans: Sequence[Span]) -> list[str]:
    """The limiting words that ``spans``, quoted from ``text``, leave out of their sentences."""
    reach = [sentence(text, start, end) for start, end in spans]
    words: list[str] = []
    before = 0
    for number, (start, end) in enumerate(spans):
        low, high = reach[number]
        limit = spans[number + 1][0] if number + 1 < len(spans) else len(text)
        words += limiting(text, max(low, before), start)
        words += limiting(text, end, min(high, limit))
        before = max(end, min(high, limit))
    return list(dict.fromkeys(words))


def limiting(text: str, start: int = 0, end: int | None = None) -> list[str]:
    """The limiting words in ``text[start:end]``, as they are written."""
    return [match[0] for match in _LIMITING.finditer(text[start:end])]


def is_prose(line: str) -> bool:
    """Whether a line reads as running text, so that a sentence may continue from the line before it."""
    return not _CODE.search(line) and len(line.split()) > 2


def words_of(text: str) -> int:
    """How many words ``text`` has; two characters of a script without spaces are one."""
    unspaced = sum(map(is_unspaced, text))
    spaced = "".join(" " if is_unspaced(char) else char for char in text)
    return unspaced // 2 + sum(any(map(str.isalnum, word)) for word in spaced.split())
