"""The one line of an answer that states it, and whether a text contains that line as whole words.

Owns what "the short answer" means; ``docs/verifiers.md`` explains it to users, prompts to models.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from loop_runner.verify.wording import is_unspaced

_LABEL = re.compile(r"(?i)^(?:the\s+)?(?:final\s+|short\s+)?answer\s*(?:is\s*:|:|=)\s*")
_QUOTES = {'"': '"', "'": "'", "`": "`", "\u201c": "\u201d", "\u2018": "\u2019"}
_WRAPPINGS = _QUOTES | {"(": ")", "[": "]", "{": "}", "<": ">"}
_SCANNED_CHARS = 200_000  # a short answer must begin within these


def is_citation_line(line: str) -> bool:
    """True for a line that starts with one ``>``; a Python prompt (``>>>``) is text."""
    start = line.lstrip(" \t")
    return start.startswith(">") and not start.startswith(">>")


def short_answer(answer: str) -> str:
    """The first line that is neither empty nor a citation, without label and wrapping; "" if none."""
    for line in answer[:_SCANNED_CHARS].split("\n"):
        if not is_citation_line(line) and (text := _unlabelled(line)):
            return text
    return ""


def stands_in(needle: str, text: str, *, ignore_case: bool = False) -> bool:
    """True when ``text`` contains ``needle`` as whole words: ``12`` is not in ``128``, nor in ``12.5``."""
    if ignore_case:
        needle, text = needle.casefold(), text.casefold()
    return next(places(needle, text), None) is not None


def spellings(short: str) -> tuple[str, ...]:
    """The short answer as it is, and without brackets around it, a final mark or a call's ``()``."""
    bare = _unwrapped(short, _WRAPPINGS, ".,;:!")
    return tuple(dict.fromkeys(spelling for spelling in (short, bare, bare.removesuffix("()")) if spelling))


_BESIDE_MARKS = " \t\n\"'`,"  # may be next to an answer that consists of punctuation


def _unlabelled(line: str) -> str:
    bare = _without_marks(line.strip())
    bare = _without_marks(_LABEL.sub("", bare, count=1))
    return _unwrapped(bare, _QUOTES, ".")


def _unwrapped(text: str, pairs: Mapping[str, str], marks: str) -> str:
    """``text`` without pairs of marks around all of it and without one final mark."""
    text = text.strip()
    while len(text) > 1:
        inside = text[1:-1]
        if text[-1] in marks and text[-2] not in marks:
            text = text[:-1].rstrip()
        elif pairs.get(text[0]) == text[-1] and text[0] not in inside and text[-1] not in inside:
            text = inside.strip()
        else:
            break
    return text


def _without_marks(text: str) -> str:
    """Without Markdown's heading and bold marks; the underscores of a name such as ``__init__`` stay."""
    text = re.sub(r"^#+\s+", "", text)
    text = re.sub(r"^\*\*(.+?)\*\*", r"\1", text)
    return text.strip().removeprefix("**").strip()


def places(needle: str, text: str) -> Iterator[int]:
    """Where ``needle`` is in ``text``, as whole words."""
    return (at for at in _occurrences(needle, text) if _is_whole(text, at, at + len(needle)))


def _occurrences(needle: str, text: str) -> Iterator[int]:
    at = text.find(needle) if needle else -1
    while at >= 0:
        yield at
        at = text.find(needle, at + 1)


def _is_whole(text: str, start: int, end: int) -> bool:
    before, after = text[max(start - 2, 0) : start], text[end : end + 5]
    first, last = text[start], text[end - 1]
    if _goes_on(before[-1:], first) or _goes_on(last, after[:1]):
        return False
    if re.search(r"[^\W\d_]-$", before) and first.isalpha():
        return False  # `profit` is not in `non-profit`
    if re.match(r"-[^\W\d_]", after) and last.isalpha():
        return False
    if not any(_is_word(char) for char in text[start:end]):
        # Punctuation alone, such as `...`: inside `[...]` it is something else.
        beside = before[-1:] + after[:1]
        return all(_is_word(char) or char in _BESIDE_MARKS for char in beside)
    if first.isdigit() and _continues_a_number(before) and not _is_listed(text, start, end):
        return False
    goes_on = last.isdigit() and re.match(r"[.,:/'\u2019-]\d", after)
    return not goes_on or _is_listed(text, start, end)


def _continues_a_number(before: str) -> bool:
    """True when the digits continue to the left: ``3.``, ``3,``, ``10:``, ``2021-`` or a sign."""
    if re.search(r"(?:^|[^.])\.$|\d[.,:/'\u2019-]$", before):
        return True
    return bool(re.search(r"(?:^|[^\w)\]])[-\u2212]$", before))


def _is_listed(text: str, start: int, end: int) -> bool:
    """Whether a number is one of several between commas (``1,2,3``), not part of ``3,14`` or ``12,000``."""
    low, high = start, end
    while low and (text[low - 1].isdigit() or text[low - 1] == ","):
        low -= 1
    while high < len(text) and (text[high].isdigit() or text[high] == ","):
        high += 1
    numbers = text[low:high].strip(",").split(",")
    return len(numbers) > 2 and not all(len(number) == 3 for number in numbers[1:])


def _goes_on(left: str, right: str) -> bool:
    """Whether a word continues from one character to the next; without spaces it may end anywhere."""
    if not (left and right and _is_word(left) and _is_word(right)):
        return False
    return not (is_unspaced(left) or is_unspaced(right))


def _is_word(char: str) -> bool:
    return char.isalnum() or char == "_"
