"""Whether a short answer is of the kind that its question asks for: a number, yes or no, a text's name.

Only questions in English that say so without doubt are judged; for any other, every answer fits.
"""

from __future__ import annotations

import re

from loop_runner.verify.question_names import question_in
from loop_runner.verify.short_answer import short_answer

_NUMBER_WORDS = (
    "zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|"
    "seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand|million|"
    "half|third|quarter|dozen|once|twice|no|none|nobody|nothing|never|all|both|any|every|unlimited|infinite"
)
_HAS_NUMBER = re.compile(rf"(?i)\d|\b(?:{_NUMBER_WORDS})\b|[\u00bc-\u00be\u2150-\u215f\u221e]")
_ASKS_NUMBER = re.compile(r"(?i)\bhow many\b|\b(?:which|what) year\b|\bwhat is the (?:number|sum|total) of\b")
_ASKS_FOR_TEXT = re.compile(
    r"(?i)\b(?:which|what) (?:\w+ )?(?:file|text|document|module|script|page)\b"
    r"(?! type| format| name ext| size| mode| perm)"
)
_ASKS_YES_OR_NO = re.compile(
    r"(?i)(?:does|do|did|is|are|was|were|can|could|may|must|should|has|have|had|will|would)\s"
    r"(?!there\b|you\b|we\b|anyone\b|anybody\b|someone\b)"
    r"(?!.*\b(?:or|which|what|who|whose|when|where|why|how)\b)"
)
_YES_OR_NO = re.compile(
    r"(?i)\b(?:yes|no|not|true|false|never|always|only|neither|partly|sometimes|unclear|unknown|unless|if)\b"
    r"|\bit depends\b"
    r"|n['\u2019]t\b|\bcannot\b"
)


def asks_for_text(question: str) -> bool:
    """Whether the answer may be the name of a text: "In which file ...?"."""
    return _ASKS_FOR_TEXT.search(question_in(question)) is not None


def misfit(question: str, answer: str) -> str:
    """What the question asks for, if the short answer is something else; else ""."""
    text, short = question_in(question), short_answer(answer)
    last = re.split(r"(?<=[.!:;])\s+|\n+", text.strip())[-1] if text.strip() else ""
    if _ASKS_NUMBER.search(text) and not _HAS_NUMBER.search(short):
        return "a number"
    if _ASKS_YES_OR_NO.match(last) and last.endswith("?") and not _YES_OR_NO.search(short):
        return "yes or no"
    return ""
