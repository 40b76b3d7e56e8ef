"""Checks a model's claim about a line: where its quote is, and whether its reason denies its verdict.

Pure functions; standard library only. The program of an audit and its gate share them.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_ALIKE = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032`\u00b4", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"),
    }
)
_DENIALS = re.compile(
    r"(?i)\b(?:no|not a|isn't a|never a|without a) (?:violation|breach|issue|problem|finding)"
    r"(?= here| in | with | of |[.,;]|$)"
    r"|\b(?:does|do|did) ?(?:not|n't) (?:break|violate|breach)\b|\bdoesn't (?:break|violate|breach)\b"
    r"|\b(?:line|code|this|it|which|that|clause|entry|usage) (?:is|are|looks|seems|appears)"
    r"(?: (?:perfectly|entirely|completely|already|thus|therefore))?"
    r" (?:right|fine|correct|ok|okay|compliant|acceptable|allowed|permitted|valid)\b"
    r"|\b(?:complies|is in line|conforms) with\b|\b(?:follows|meets|satisfies|obeys|respects) the rule\b"
    r"|\bnothing (?:is )?wrong\b|\brule (?:is met|is followed|does not apply|doesn't apply)\b"
)
_TURNS = re.compile(r"(?i)\b(?:but|however|although|though|yet|except|unless|only if|would|should|if)\b|[?]")


def spelled(text: str) -> str:
    """``text`` with one kind of blank, dash and quote mark."""
    return " ".join(text.translate(_ALIKE).split())


def is_on(quote: str, line: str) -> bool:
    """Whether ``quote`` is on ``line``, ignoring kinds of blanks, dashes and quote marks."""
    wanted = spelled(quote)
    return any(char.isalnum() for char in wanted) and wanted in spelled(line)


def place_of(quote: str, claimed: int, lines: Sequence[str], first: int, last: int) -> int | None:
    """The line (from 1) that a claim is about; None when it is outside ``first`` to ``last``."""
    inside = first <= claimed <= last
    if inside and is_on(quote, lines[claimed - 1]):
        return claimed
    quoted = [at for at in range(first, last + 1) if is_on(quote, lines[at - 1])]
    if len(quoted) == 1 and not inside:
        return quoted[0]
    if not inside and 1 <= claimed <= len(lines) and is_on(quote, lines[claimed - 1]):
        return None
    return min(max(claimed, first), last)


def denies(reason: str) -> bool:
    """Whether the reason for a finding says that the line is right."""
    return _DENIALS.search(reason) is not None and _TURNS.search(reason) is None
