"""Whether two answers to one question say the same, as far as code can tell without asking a model.

Owns which parts of an answer are compared: its first line and every labelled part, list, table or JSON
value, but not the reasons that follow. ``SAME`` and ``DIFFERENT`` are certain; a juror decides ``OPEN``.
"""

from __future__ import annotations

import enum
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from loop_runner.verify.short_answer import is_citation_line
from loop_runner.verify.spelling import day, normalise, quantity

_MAX_CHARS = 200_000
_LABEL = r"[^\W_](?:[\w .#/&'-]{0,40}?[\w.)])??"
_LABELLED = re.compile(rf"\(?(?P<label>{_LABEL})\)?\s*(?::|=(?!=)|\)(?=\s))(?:\s+(?P<value>.*)|$)")
_NUMBERED = re.compile(r"\(?(?P<label>\d{1,3})[.)]\s+(?P<value>.+)")
_BULLET = re.compile(r"[-*+\u2022\u2013\u2014\u25cf]\s+(?P<value>.+)")
_INLINE = re.compile(rf"\s+/\s+|\s*;\s+|\s+\|\s+|,\s+(?={_LABEL}\s*[:=]\s)")
_ANSWER = re.compile(r"(?:the )?(?:(?:final|short|correct) )?answers?(?: is| are)?")
_REASONS = frozenset(
    {
        *("why", "because", "reason", "reasons", "reasoning", "explanation", "evidence", "source", "sources"),
        *("citation", "citations", "quote", "quotes", "reference", "references", "details", "confidence"),
    }
)
_LIST = re.compile(r"(?i)\s*;\s+|,\s+(?:and\s+|&\s+)?|\s+and\s+|\s+&\s+")
_LIMITS = re.compile(r"(?i)(?:but|however|except|unless|only|not|nor|or|and|also|provided|if)\b")
_SENTENCE = re.compile(
    r"(?i)(?:because|since|so|thus|hence|therefore|as|see|it|this|that|from|in|per|according|i|the source)\b"
    r"|.*[.!?:]$"
)
_MAX_VALUE_WORDS = 6
_MAX_ITEM_WORDS = 2  # a clause such as "A beats B" has more
# In such a list the position of an item may have a meaning.
_BOUND = frozenset(
    {
        *("is", "are", "was", "were", "be", "not", "no", "never", "none", "nor", "neither", "only", "except"),
        *("unless", "without", "than", "then", "to", "from", "of", "for", "with", "by", "before", "after"),
        *("in", "on", "at", "under", "over", "respectively", "first", "second", "last", "if", "or", "but"),
        *("has", "have", "had", "may", "must", "can"),
    }
)
_ORDER = re.compile(
    r"(?i)\b(?:order(?:ed)?|sort(?:ed)?|rank(?:ed|ing)?|sequence|steps?|chronolog\w*|alphabetic\w*|ascending|"
    r"descending|respectively|timeline|stages?|phases?|(?:from|to) (?:first|last|highest|lowest|largest))\b"
    r"|\([a-dA-D1-4]\)|\b[A-D1-4]\)|\b[A-D]:"
)
_ASKS = re.compile(r"(?i)\b(?:who|whom|what|which|when|where|why|how)\b")


class Sameness(enum.Enum):
    """The result of comparing two answers by their text."""

    SAME = "same"
    DIFFERENT = "different"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Part:
    """One statement of an answer. ``label`` is "" if it has none."""

    label: str
    value: str


def compare(answer: str, other: str, question: str = "") -> Sameness:
    """Compare the statements of two answers, part by part."""
    mine, others = compared_parts(answer, question), compared_parts(other, question)
    if not mine or not others:
        return Sameness.DIFFERENT
    if _is_same(mine, others, is_ordered=_has_order(question)):
        return Sameness.SAME
    return Sameness.DIFFERENT if _is_certain(mine, others) else Sameness.OPEN


def compare_whole(answer: str, other: str) -> Sameness:
    """Compare every word of two answers, in their order."""
    mine, others = _json(answer), _json(other)
    if mine is not None and others is not None:
        return Sameness.SAME if mine == others else Sameness.OPEN
    if not answer.strip() or not other.strip():
        return Sameness.DIFFERENT
    if normalised_lines(answer) == normalised_lines(other):
        return Sameness.SAME
    return Sameness.DIFFERENT if _differ(answer, other) else Sameness.OPEN


def normalised_lines(text: str) -> str:
    """One spelling of all lines of ``text``."""
    return "\n".join(normalise(line) for line in text.strip().splitlines() if line.strip())


def compared_parts(answer: str, question: str = "") -> tuple[Part, ...]:
    """The parts of an answer that are compared, without the reasons for them."""
    value = _json(answer[:_MAX_CHARS])
    if value is not None:
        return tuple(_json_parts("", value))
    return tuple(_parts(_lines(answer[:_MAX_CHARS]), question.casefold()))


# ── reading an answer ───────────────────────────────────────────────────────────────────────────────


def _lines(answer: str) -> list[str]:
    """The answer's lines without citations, fences and table rules. A heading becomes a label."""
    kept = []
    for line in re.split(r"\r\n|[\n\r\u2028\u2029\v\f\x85]", answer.removeprefix("\ufeff")):
        bare = re.sub(r"^#+\s+(.*?):?$", r"\1:", line.strip())
        if (
            is_citation_line(line)
            or re.match(r"(?:```|~~~)", bare)
            or re.fullmatch(r"[|\s:=+-]*-{2,}[|\s:=+-]*", bare)
        ):
            continue
        kept.append(bare)
    return kept


def _parts(lines: Sequence[str], question: str) -> Iterator[Part]:
    section, is_reason, is_first, is_block = "", False, True, True
    for line in lines:
        if not line:
            is_block = is_first
            continue
        structured = list(_structured(line))
        if len(structured) == 1 and structured[0].label and not structured[0].value:
            section = _label(structured[0].label)
            is_reason = section in _REASONS and section not in question
            section = "" if is_reason else section
            continue
        for part in structured:
            label = _label(part.label)
            if part.label:
                is_reason = label in _REASONS and label not in question
            if not is_reason:
                yield Part(f"{section}/{label}" if section and label else section or label, part.value)
                is_first = False
        if not structured and not is_reason and (is_first or _is_part_of_answer(line, is_block=is_block)):
            yield Part(section, line)
            is_first = False
    if is_first and section:
        yield Part("", section)


def _is_part_of_answer(line: str, *, is_block: bool) -> bool:
    """Whether a line after the first one belongs to the answer: a value, or a limit on what comes before."""
    if _LIMITS.match(line) or quantity(line) is not None or day(line):
        return True
    return is_block and len(line.split()) <= _MAX_VALUE_WORDS and not _SENTENCE.match(line)


def _structured(line: str) -> Iterator[Part]:
    """The parts of a line that is a bullet, a row of a table, or labelled; none for a line of prose."""
    if line.startswith("|") and line.count("|") > 2:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        yield Part(cells[0], " | ".join(normalise(cell) for cell in cells[1:]))
        return
    bullet = _BULLET.fullmatch(line)
    bare = bullet["value"] if bullet else line
    if numbered := _NUMBERED.fullmatch(bare):
        yield Part(numbered["label"], numbered["value"])
        return
    segments = [segment for segment in _INLINE.split(bare) if segment]
    matches = [_labelled(segment) for segment in segments]
    if all(matches):
        yield from (match for match in matches if match)
    elif match := _labelled(bare):
        yield match
    elif bullet:
        yield Part("", bare)


def _labelled(text: str) -> Part | None:
    match = _LABELLED.fullmatch(re.sub(r"^\*\*([^*]+)\*\*", r"\1", text))
    return Part(match["label"], (match["value"] or "").strip(" *")) if match else None


def _label(label: str) -> str:
    """A label as it is compared: "" for "The final answer"."""
    folded = " ".join(label.casefold().strip(" .()*").split())
    return "" if _ANSWER.fullmatch(folded) else folded.removeprefix("part ").removeprefix("question ")


def _json(answer: str) -> object | None:
    """The JSON object or array that is all of an answer; None when there is none, or it is ambiguous."""
    text = answer.strip().removeprefix("\ufeff").strip()
    if fenced := re.fullmatch(r"```\w*\n(.*)\n```", text, re.DOTALL):
        text = fenced[1]
    if not text.strip().startswith(("{", "[")):
        return None
    try:
        value = json.loads(text, parse_float=Decimal, object_pairs_hook=_distinct)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len({key for key, _ in pairs}) < len(pairs):
        msg = "duplicate key"
        raise ValueError(msg)
    return dict(pairs)


def _json_parts(label: str, value: object) -> Iterator[Part]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            name = _label(key)
            yield from _json_parts(f"{label}/{name}" if label and name else label or name, item)
    elif isinstance(value, list) and value and not any(isinstance(item, dict | list) for item in value):
        for item in value:
            yield from _json_parts(label, item)
    else:
        is_text = isinstance(value, str) and value.strip()
        yield Part(label, str(value) if is_text else json.dumps(value, default=str, sort_keys=True))


# ── comparing ───────────────────────────────────────────────────────────────────────────────────────


def _is_same(mine: Sequence[Part], others: Sequence[Part], *, is_ordered: bool) -> bool:
    own, other = _by_label(mine), _by_label(others)
    if own.keys() != other.keys():
        # A numbered list and a plain one are the same when they are in the same order.
        return _is_count(own) != _is_count(other) and _in_order(own) == _in_order(other)
    if not is_ordered and _lists(mine) == _lists(others):
        return True
    return all(_are_same(own[label], other[label], is_ordered=is_ordered) for label in own)


def _lists(parts: Sequence[Part]) -> Counter[tuple[str, str]]:
    """The parts in no order. Each must be a line, a row or a value of its own, with a clear end."""
    return Counter((part.label, "\0".join(_items(part.value))) for part in parts)


def _by_label(parts: Sequence[Part]) -> dict[str, list[str]]:
    """The items under each label, in normal spelling and in order."""
    items: dict[str, list[str]] = {}
    for part in parts:
        items.setdefault(part.label, []).extend(_items(part.value))
    return items


def _items(value: str) -> list[str]:
    whole = normalise(value)
    if quantity(value) is not None or day(value):
        return [whole]
    # Normalised before it is split: a date contains a comma, and a thousands number may.
    items = [normalise(item) for item in _LIST.split(whole.removeprefix("both ")) if item.strip()]
    return items or [whole]


def _is_count(by_label: dict[str, list[str]]) -> bool:
    return list(by_label) == [str(number) for number in range(1, len(by_label) + 1)]


def _in_order(by_label: dict[str, list[str]]) -> list[str] | None:
    """The items of a list without labels, or of a numbered one; None for anything else."""
    if _is_count(by_label) or list(by_label) == [""]:
        return [item for items in by_label.values() for item in items]
    return None


def _are_same(mine: list[str], others: list[str], *, is_ordered: bool) -> bool:
    if mine == others:
        return True
    return not is_ordered and Counter(mine) == Counter(others) and all(map(_is_free, mine))


def _is_free(item: str) -> bool:
    """Whether an item means the same at another position in its list: a name does, a clause may not."""
    words = item.casefold().split()
    return len(words) <= _MAX_ITEM_WORDS and not _BOUND.intersection(words)


def _has_order(question: str) -> bool:
    return bool(_ORDER.search(question)) or len(_ASKS.findall(question)) > 1


def _is_certain(mine: Sequence[Part], others: Sequence[Part]) -> bool:
    """Whether two answers certainly differ: they have another number or date under the same label."""
    own, other = _firsts(mine), _firsts(others)
    return own.keys() == other.keys() and any(_differ(own[label], other[label]) for label in own)


def _firsts(parts: Sequence[Part]) -> dict[str, str]:
    """The first value under each label."""
    return {part.label: part.value for part in reversed(parts)}


def _differ(value: str, other: str) -> bool:
    if day(value) and day(other):
        return day(value) != day(other)
    mine, others = quantity(value), quantity(other)
    if mine is None or others is None or mine.unit != others.unit or mine.value == others.value:
        return False
    places = min(len(mine.digits), len(others.digits))
    return round(mine.value, places) != round(others.value, places)  # 3.14 may stand for 3.1416
