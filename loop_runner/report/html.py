"""How texts that a model or an input wrote become HTML: escaped, made visible, highlighted.

Owns every place where markup is put around such a text. ``shown`` comes first, always: control characters and
direction overrides become visible escapes, and no secret of this environment is shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from loop_runner import redaction, text

if TYPE_CHECKING:
    from pygments.lexer import Lexer

_MAX_HIGHLIGHTED_CHARS = 100_000
# The kinds of words that have a colour, by the beginning of pygments' own short name.
_COLOURED = ("k", "s", "c", "m", "nf", "nc", "nb", "nd", "nt", "ow")
_LONGEST_MATCH = 60


def shown(value: str) -> str:
    """``value`` as it may be shown: no secret, no control character that hides or moves text."""
    return text.escape_controls(redaction.clean(value))


def safe(value: Any) -> Any:
    """What a template prints: a text is made safe to show; markup of this package stays as it is."""
    return shown(value) if type(value) is str else value


def cut(value: str, max_chars: int) -> str:
    """``value`` with its head and tail, and a line that says how much is missing."""
    return text.cut_middle(value, max_chars)


# ── code ────────────────────────────────────────────────────────────────────────────────────────────


def code(value: str, language: str = "python") -> Markup:
    """``value`` with the words of ``language`` in colour."""
    value = shown(value).rstrip("\n")
    if len(value) > _MAX_HIGHLIGHTED_CHARS:
        return escape(value)
    return Markup("").join(_coloured(value, language))


def _coloured(value: str, language: str) -> Iterator[Markup]:
    for kind, part in _merged(value, language):
        yield Markup('<span class="{}">{}</span>').format(kind, part) if kind else escape(part)


def _merged(value: str, language: str) -> Iterator[tuple[str, str]]:
    """(class, text): neighbours of one class together, which makes the page half as large."""
    before = ""
    parts: list[str] = []
    for token, part in _lexer(language).get_tokens(value):
        kind = _class_of(token)
        if kind != before and parts:
            yield before, "".join(parts)
            parts = []
        before = kind
        parts.append(part)
    yield before, "".join(parts).rstrip("\n")


@lru_cache(maxsize=1024)
def _class_of(token: Any) -> str:
    from pygments.token import STANDARD_TYPES

    name = STANDARD_TYPES.get(token, "")
    return next((kind for kind in _COLOURED if name.startswith(kind)), "")


@lru_cache(maxsize=8)
def _lexer(language: str) -> Lexer:
    from pygments.lexers import get_lexer_by_name

    return get_lexer_by_name(language, stripnl=False, ensurenl=False)


def difference(value: str) -> Markup:
    """A unified diff: each line with its class."""
    kinds = {"+": "ins", "-": "del", "@": "hunk"}
    rows = (
        Markup('<span class="{}">{}</span>').format(kinds.get(line[:1], "same"), line or " ")
        for line in shown(value).split("\n")
    )
    return Markup("\n").join(rows)


# ── excerpts ────────────────────────────────────────────────────────────────────────────────────────


def excerpt(lines: Any, quote: str = "") -> Markup:
    """The numbered lines of an excerpt, the meant ones marked, and the quotation in them."""
    width = len(str(lines.first + len(lines.lines)))
    rows = []
    for number, line in enumerate(lines.lines, lines.first):
        is_meant = lines.start <= number <= lines.end
        body = _marked(shown(line), shown(quote)) if is_meant else escape(shown(line))
        kind = "line meant" if is_meant else "line"
        rows.append(
            Markup('<span class="{}"><span class="number">{}</span> {}</span>').format(
                kind, str(number).rjust(width), body
            )
        )
    return Markup("\n").join(rows)


def _marked(line: str, quote: str) -> Markup:
    before, result, after = line.partition(quote) if quote else (line, "", "")
    return (
        escape(before) + Markup("<mark>{}</mark>").format(result) + escape(after) if result else escape(line)
    )


# ── the answer ──────────────────────────────────────────────────────────────────────────────────────


def as_json(answer: str) -> str | None:
    """``answer`` indented, when it is a JSON object or list; None when it is not."""
    if not answer.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.dumps(json.loads(answer), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return None


def answer_lines(answer: str, cited: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """The answer line by line, nothing left out: its kind, its text, and the citations that it holds."""
    places = _placed(answer.split("\n"), cited)
    is_code = False
    for number, line in enumerate(answer.split("\n")):
        bare = line.lstrip()
        is_fence = bare.startswith(("```", "~~~"))
        kind = "code" if is_code or is_fence else _kind(bare)
        is_code = is_code != is_fence
        yield {"kind": kind, "text": line, "cited": places.get(number, [])}


def _kind(line: str) -> str:
    if line.startswith("#"):
        return "heading"
    if line.startswith(">"):
        return "quote"
    if line.startswith(("- ", "* ", "+ ")) or (line[:1].isdigit() and line.lstrip("0123456789")[:2] == ". "):
        return "item"
    return "blank" if not line else "prose"


def _placed(lines: Sequence[str], cited: Sequence[Any]) -> dict[int, list[Any]]:
    """The citations by the number of the answer's line that they are on; -1 for those on none."""
    result: dict[int, list[Any]] = {}
    start = 0
    for entry in cited:
        number = _line_of(entry.citation, lines, start)
        result.setdefault(number, []).append(entry)
        start = max(start, number)
    return result


def _line_of(citation: Any, lines: Sequence[str], start: int) -> int:
    quote: str = citation.quote.split("\n")[0][:_LONGEST_MATCH]
    place = f"{citation.name.rpartition('/')[2]}:{citation.line}"
    order: list[int] = [*range(start, len(lines)), *range(start)]
    for number in order:
        line = lines[number]
        if (quote and quote in line) or (not quote and place in line):
            return number
    return -1


def unplaced(answer: str, cited: Sequence[Any]) -> list[Any]:
    """The citations that are on no line of the answer as it is typed."""
    return _placed(answer.split("\n"), cited).get(-1, [])
