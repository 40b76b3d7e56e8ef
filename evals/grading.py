"""Whether an answer is right: one function per kind of answer, all on plain text.

Owns what counts as the same answer in another form, and what is only near it. Relies on nothing but the key;
never asks a model.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from evals.questions import Key

_LABEL = re.compile(r"(?i)^(?:the\s+)?(?:final\s+|short\s+)?answer\s*(?:is\s*:?|:|=)\s*")
_CITATION = re.compile(r"^\s*>(?!>)")
_ABSENT = re.compile(
    r"(?i)\b(?:not?\b.{0,30}\b(?:in|by|from)\s+(?:the|these|any of the)\s+(?:given\s+|provided\s+)?"
    r"(?:texts?|inputs?|files?|context|documents?|sources?)"
    r"|(?:is|are|was|were)\s+not\s+(?:stated|mentioned|given|specified|recorded|named|known|defined|provided|found)"
    r"|(?:do(?:es)?|did)\s+not\s+(?:say|state|mention|give|contain|specify|name|record|have)"
    r"|(?:cannot|can't|could not)\s+be\s+(?:determined|answered|found)"
    r"|no\s+(?:such\s+)?(?:information|answer|statement|line|default)\b)"
)
_ABSENT_ALONE = {
    "none",
    "unknown",
    "n/a",
    "not found",
    "not stated",
    "not mentioned",
    "not specified",
    "no answer",
}
_NUMBER = re.compile(
    r"(?<![\w.])[-\u2212+]?(?:\d{1,3}(?:[, \u00a0']\d{3})+|\d+)(?:\.\d+)?(?:e[-+]?\d+)?(?!\w|\.\d)",
    re.IGNORECASE,
)
_TO_TWENTY = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
    " sixteen seventeen eighteen nineteen twenty"
)
_MAX_WORDS = 40  # a short answer; more is a text that happens to contain the words


@dataclass(frozen=True, slots=True)
class Grade:
    """Whether an answer is right, and why not."""

    is_right: bool
    reason: str = ""


def grade(answer: str, key: Key, question: str = "") -> Grade:
    """Compare ``answer`` with ``key``. Numbers that ``question`` itself has are not taken as the answer."""
    value = _KINDS[key.kind](answer, key, question)
    if value.is_right and (missing := [quote for quote in key.quotes if not _is_quoted(quote, answer)]):
        return Grade(is_right=False, reason=f"the value is right, but {len(missing)} lines are not quoted")
    return value


def short_answer(answer: str) -> str:
    """The first line that is neither empty nor a citation, without label, marks and a final full stop."""
    for line in answer.splitlines():
        if not _CITATION.match(line) and (text := _bare(line)):
            return text
    return ""


def says_absent(answer: str) -> bool:
    """Whether the answer is that the texts do not contain it."""
    short = short_answer(answer)
    return short.casefold() in _ABSENT_ALONE or _ABSENT.search(short) is not None


def _bare(line: str) -> str:
    text = re.sub(r"^\s*#+\s+", "", line).strip().strip("*").strip()
    text = _LABEL.sub("", text, count=1).strip().strip("*").strip()
    text = re.sub(r"(?<=\w)\.$|(?<=[\"'`)])\.$", "", text)
    return text.strip("\"'`\u201c\u201d").strip()


def _number(answer: str, key: Key, question: str) -> Grade:
    (right,) = key.accepted
    values = numbers(short_answer(answer))
    if len(values) > 1:
        values -= numbers(question) - {float(right)}
    if values == {float(right)}:
        return Grade(is_right=True)
    return Grade(is_right=False, reason=f"numbers {sorted(values)}, not {right}" if values else "no number")


def numbers(text: str) -> set[float]:
    """The numbers in ``text``; words for them count where there are no digits."""
    values = {
        float(re.sub(r"[, \u00a0']", "", item).replace("\u2212", "-")) for item in _NUMBER.findall(text)
    }
    if not values:
        names = _TO_TWENTY.split()
        words = re.findall(r"[a-z]+", text.casefold())
        values = {float(names.index(word)) for word in words if word in names}
    return values


def _name(answer: str, key: Key, question: str) -> Grade:
    short = short_answer(answer)
    if len(short.split()) > _MAX_WORDS:
        return Grade(is_right=False, reason="no short answer")
    matches = [form for form in key.accepted if _has(form, short)]
    if not matches:
        return Grade(is_right=False, reason="none of the accepted forms")
    rest = _without(short, matches)
    if rivals := [rival for rival in key.rivals if _has(rival, rest)]:
        return Grade(is_right=False, reason=f"it also names {rivals[0]}")
    if re.search(
        rf"(?i)\b(?:not|never|isn't|rather than|instead of)\s+(?:\w+\s+)?{re.escape(matches[0])}", short
    ):
        return Grade(is_right=False, reason="it denies the right answer")
    return Grade(is_right=True)


def _has(form: str, text: str) -> bool:
    """Whether ``form`` is in ``text`` as whole words; case, quote marks and blanks aside."""
    pattern = r"\s+".join(map(re.escape, form.split()))
    return re.search(rf"(?<![\w.-]){pattern}(?![\w-]|\.\w)", text, re.IGNORECASE) is not None


def _without(text: str, forms: list[str]) -> str:
    for form in sorted(forms, key=len, reverse=True):
        text = re.sub(r"\s+".join(map(re.escape, form.split())), " ", text, flags=re.IGNORECASE)
    return text


def _list(answer: str, key: Key, question: str) -> Grade:
    items = _items(answer)
    wanted = [tuple(_plain(form) for form in item.split("|")) for item in key.accepted]
    where = [next((at for at, forms in enumerate(wanted) if _plain(item) in forms), None) for item in items]
    if None in where:
        return Grade(is_right=False, reason=f"{items[where.index(None)][:60]!r} is not in the list")
    if missing := [wanted[at][0] for at in range(len(wanted)) if at not in where]:
        return Grade(is_right=False, reason=f"{missing[0]!r} is missing")
    if key.is_ordered and where != sorted(range(len(wanted))):
        return Grade(is_right=False, reason="the order is another one")
    return Grade(is_right=True)


def _items(answer: str) -> list[str]:
    """The items of a list in one line with commas, in lines with bullets, or in brackets."""
    lines = [line for line in answer.splitlines() if line.strip() and not _CITATION.match(line)]
    bullets = [re.sub(r"^\s*(?:[-*\u2022]|\d+[.)])\s+", "", line) for line in lines if _is_bullet(line)]
    if bullets:
        return [_bare(item) for item in bullets]
    short = short_answer(answer)
    short = short.rpartition(":")[2] if ": " in short else short
    parts = re.split(r"\s*(?:[,;]\s*(?:and\s+)?|\s+and\s+)", short.strip("[]{}() "))
    return [item for part in parts if (item := _bare(part))]


def _is_bullet(line: str) -> bool:
    return re.match(r"\s*(?:[-*\u2022]|\d+[.)])\s+\S", line) is not None


def _plain(text: str) -> str:
    text = re.sub(r"^(?:the|clause|section|user|and)\s+", "", text.strip().casefold())
    return " ".join(re.sub(r"[\"'`()]", "", text).split())


def _yes_no(answer: str, key: Key, question: str) -> Grade:
    (right,) = key.accepted
    words = re.findall(r"[a-z]+", short_answer(answer).casefold())
    first = words[0] if words else ""
    value = {"true": "yes", "false": "no"}.get(first, first)
    if value not in ("yes", "no"):
        return Grade(is_right=False, reason="neither yes nor no")
    if {"yes", "no"} <= set(words[:3]):
        return Grade(is_right=False, reason="both yes and no")
    return Grade(is_right=value == right, reason="" if value == right else f"{value}, not {right}")


def _absent(answer: str, key: Key, question: str) -> Grade:
    is_right = says_absent(answer)
    return Grade(is_right, "" if is_right else "it gives an answer that the texts do not contain")


def _is_quoted(line: str, answer: str) -> bool:
    return " ".join(line.split()) in " ".join(answer.split())


_KINDS: dict[str, Callable[[str, Key, str], Grade]] = {
    "number": _number,
    "name": _name,
    "list": _list,
    "yes_no": _yes_no,
    "absent": _absent,
}
