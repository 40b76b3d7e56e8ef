"""The structure of texts: headings, functions and classes, keys, rows. Runs inside the kernel process.

Decided from the name's extension and the text itself, with caution: a doubtful line is not a heading. Pure
functions over one text; lines are counted from 1. Only invalid text that should be JSON raises.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections import namedtuple
from itertools import pairwise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

Mark = namedtuple("Mark", "line level text")  # noqa: PYI024 - no ``typing`` in the kernel

_CODE = frozenset(
    (  # noqa: SIM905 - a list of fifty quoted words is harder to read
        "py pyi pyx js mjs cjs jsx ts tsx c h cc cpp cxx hh hpp hxx m mm java kt kts scala go rs rb php cs "
        "swift lua pl pm r jl sh bash zsh ps1 dart ex exs erl hs ml nim zig sql vb proto"
    ).split()
)
_MAX_TITLE_CHARS = 90  # of a line without heading marks
_MAX_ALONE_CHARS = 60  # of one that only blank lines set apart
_MAX_SHOWN_CHARS = 160
_MAX_PARSED_CHARS = 5_000_000  # of Python; longer ones are read line by line


def kind_of(name: str, text: str) -> str:
    """``json``, ``jsonl``, ``csv``, ``tsv``, ``code`` or ``prose``."""
    ending = name.rsplit(".", 1)[-1].lower() if "." in name else ""
    if ending in ("jsonl", "ndjson"):
        return "jsonl"
    if ending in ("csv", "tsv", "json"):
        return ending
    if ending in _CODE:
        return "code"
    return "json" if not ending and text[:1] in "{[" and text.rstrip()[-1:] in ("}", "]") else "prose"


# ── headings ────────────────────────────────────────────────────────────────────────────────────────

_HASHES = re.compile(r" {0,3}(#{1,6})[ \t]+(\S.*?)[ \t]*#*[ \t]*$")
_UNDERLINE = re.compile(r"([=\-~^*+#\"'`:._>])\1+[ \t]*$")
_TAG = re.compile(r"<h([1-6])\b[^>]*>(.*?)(?:</h\1>|$)", re.IGNORECASE)
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)$")
_NUMBERED = re.compile(
    r"\s{0,8}((?:(?:chapter|section|article|part|appendix|annex|schedule|clause|exhibit|kapitel|artikel|abschnitt|"
    r"title|titel)\s+(?:\d+|[IVXLC]+\b|[A-Z]\b)[\d.]*|§+\s*\d+[a-z]?)[.:)]?|\d{1,3}(?:\.\d{1,3})*[.)]?)(?=\s|$)(.*)$",
    re.IGNORECASE,
)
_SETEXT_LEVELS = {"=": 1, "-": 2}
_MAX_UNDERLINED_CHARS = 200


def headings(text: str) -> list[Mark]:
    """The headings of prose.

    They are ``#`` and underlined ones, those that a table of contents lists, or the lines at the margin of a
    text of entries (a changelog, a manual page), whichever finds most. If none of these exist, they are
    numbered lines and lines in capitals; next to numbered ones, also short lines set apart by blank lines.
    """
    lines = text.split("\n")
    marked = list(_marked_headings(lines))
    most = max(_listed_headings(lines), _entries(lines), key=len)
    if len(most) > 2 * len(marked):
        return most
    return marked or most or _with_unnumbered(lines, list(_plain_headings(lines)))


def _entries(lines: list[str]) -> list[Mark]:
    """The lines at the margin of a text whose other lines are indented below them; else none."""
    filled = [index for index, line in enumerate(lines) if line.strip()]
    margin = {index for index in filled if not lines[index][0].isspace()}
    if len(margin) < 2 or 2 * len(margin) > len(filled) or len(filled) < 6:
        return []
    entries = [
        index
        for index, after in pairwise(filled)
        if index in margin
        and after not in margin
        and (index == 0 or not lines[index - 1].strip())
        and lines[index][:1] not in "#-*+>|`~=[{(<."
    ]
    return (
        [Mark(index + 1, 1, _title(lines[index])) for index in entries]
        if len(entries) >= 0.6 * len(margin)
        else []
    )


def _marked_headings(lines: list[str]) -> Iterator[Mark]:
    levels: dict[tuple[str, bool], int] = {}
    fence_end = -1
    for index, line in enumerate(lines):
        if index <= fence_end:
            continue
        if "#" in line[:4] and (match := _HASHES.match(line)):
            levels = levels or {("=", False): 1, ("-", False): 2}
            yield Mark(index + 1, len(match[1]), _title(match[2]))
        elif "<" in line and (match := _TAG.search(line)):
            yield Mark(index + 1, int(match[1]), _title(re.sub(r"<[^>]*>", "", match[2])))
        elif index + 1 < len(lines) and _is_underlined(lines, index):
            yield Mark(index + 1, _level_of(levels, lines, index), _title(line))
        elif not (index and _is_underlined(lines, index - 1)):
            fence_end = _end_of_fence(lines, index)


def _end_of_fence(lines: list[str], index: int) -> int:
    """The index of the line that closes the block of code that line ``index`` opens; -1 if it opens none."""
    opening = _FENCE.match(lines[index]) if lines[index][:4].lstrip(" ")[:1] in ("`", "~") else None
    if opening is None or (opening[1][0] == "`" and "`" in opening[2]):
        return -1
    for end in range(index + 1, len(lines)):
        closing = _FENCE.match(lines[end])
        if closing and closing[1].startswith(opening[1]) and not closing[2].strip():
            return end
    return -1


def _level_of(levels: dict[tuple[str, bool], int], lines: list[str], index: int) -> int:
    """Of an underlined title: by the order in which its kind first occurs; in Markdown, ``=`` 1, ``-`` 2."""
    mark = lines[index + 1][0]
    is_overlined = index > 0 and lines[index - 1].rstrip() == lines[index + 1].rstrip()
    if not levels and mark in _SETEXT_LEVELS and not is_overlined:
        levels[mark, False] = _SETEXT_LEVELS[mark] if _is_markdown(lines) else 1
    return levels.setdefault((mark, is_overlined), max(levels.values(), default=0) + 1)


def _is_markdown(lines: list[str]) -> bool:
    return any(_HASHES.match(line) for line in lines if line[:1] == "#")


def _is_underlined(lines: list[str], index: int) -> bool:
    title, under = lines[index].rstrip(), lines[index + 1].rstrip()
    if not title or not _UNDERLINE.match(under) or len(title) > _MAX_UNDERLINED_CHARS:
        return False
    above = lines[index - 1].rstrip() if index else ""
    is_overlined = above == under
    # "~~~" below a line of prose opens code; the underline of a title is about as long as the title.
    is_exact = under[0] in "~`:._>" or len(under) < 3
    is_long_enough = len(under) >= (len(title) if is_exact else 0.5 * len(title))
    return bool(
        is_long_enough
        and (is_overlined or not above or above.startswith(".. "))
        and (is_overlined or not title[0].isspace())
        and any(map(str.isalnum, title))
        and "|" not in title
    )


# ── headings that a table of contents lists ─────────────────────────────────────────────────────────

_CONTENTS = re.compile(
    r"\W*(?:table of )?contents\W*$|\W*inhalt(?:sverzeichnis|sübersicht)?\W*$|\W*sommaire\W*$", re.IGNORECASE
)
_LEADERS = re.compile(r"(?:\s*\.){2,}\s*\d*\s*$|\s{2,}\d+\s*$")
_CHAPTER = re.compile(r"(?:chapter|appendix|part|kapitel|anhang)\s+", re.IGNORECASE)
_MAX_ENTRIES = 2000


def _listed_headings(lines: list[str]) -> list[Mark]:
    start = next((index for index, line in enumerate(lines) if _CONTENTS.match(line)), None)
    if start is None:
        return []
    entries, end = _contents(lines, start + 1)
    marks = {}
    for index in range(end, len(lines)):
        level = entries.get(_bare_title(lines[index]))
        if level is not None and not (index and lines[index - 1].strip()):
            marks[index] = Mark(index + 1, level, _title(lines[index]))
    if len(entries) < 3 or len(marks) < 0.6 * len(entries):
        return []
    return [Mark(start + 1, 1, _title(lines[start])), *marks.values()]


def _contents(lines: list[str], start: int) -> tuple[dict[str, int], int]:
    """The titles that a table of contents lists, with their levels, and the index of the line after it.

    It ends where the first title is repeated, or with a line that is too long for a title.
    """
    entries: dict[str, int] = {}
    indents: list[int] = []
    for index in range(start, len(lines)):
        line = lines[index]
        title = _bare_title(_LEADERS.sub("", line))
        if not title:
            continue
        if title in entries or len(entries) == _MAX_ENTRIES or len(line.strip()) > _MAX_UNDERLINED_CHARS:
            return entries, index
        indent = len(line) - len(line.lstrip())
        indents = [*(outer for outer in indents if outer < indent), indent]
        entries[title] = len(indents)
    return {}, len(lines)


def _bare_title(line: str) -> str:
    return _CHAPTER.sub("", " ".join(line.split()).strip("*-•").strip(), count=1).casefold()


# ── headings of plain text ──────────────────────────────────────────────────────────────────────────


def _plain_headings(lines: list[str]) -> Iterator[Mark]:
    for index, line in enumerate(lines):
        title = line.strip()
        if (
            not 2 < len(title) <= _MAX_TITLE_CHARS
            or title[-1] in ",;"
            or (index and lines[index - 1].strip())
        ):
            continue
        numbered = _NUMBERED.match(line)
        if numbered:
            number, rest = numbered[1], numbered[2].strip()
            spelled = number[0].isalpha() or number[0] == "§"
            if number.rstrip(".)").isdigit() and index + 1 < len(lines) and lines[index + 1].strip():
                continue  # an item of a list
            if (spelled and title[-1] != ".") or (
                rest[:1].isupper() and rest[-1:] not in (".", "?", "!", ":")
            ):
                yield Mark(index + 1, 1 if spelled else number.rstrip(".)").count(".") + 1, _title(title))
        elif (
            title.isupper()
            and sum(map(str.isalpha, title)) > 3
            and not (index + 1 < len(lines) and lines[index + 1].strip())
        ):
            yield Mark(index + 1, 1, _title(title))


def _with_unnumbered(lines: list[str], marks: list[Mark]) -> list[Mark]:
    """``marks`` with short lines set apart above other text, such as "Amendment of 9 June 2019".

    Only where there are numbered headings and fewer others, so that no list or verse is full of headings.
    """
    known = {mark.line - 1 for mark in marks}
    numbered = sum(1 for index in known if _NUMBERED.match(lines[index]))
    extra = [
        index for index in range(len(lines)) if index not in known and _stands_alone(lines, index, known)
    ]
    if numbered < 2 or len(extra) > numbered:
        return marks
    return sorted([*marks, *(Mark(index + 1, 1, _title(lines[index])) for index in extra)])


def _stands_alone(lines: list[str], index: int, known: set[int]) -> bool:
    """Whether a line has no sentence's end, blank lines around it, and prose or a heading below it."""
    title = lines[index].rstrip()
    if not 2 < len(title) <= _MAX_ALONE_CHARS or title[0].islower() or not title[0].isalpha():
        return False
    if not (title[-1].isalnum() or title[-1] == ")") or _NUMBERED.match(title):
        return False
    if index and lines[index - 1].strip():
        return False
    below = next((at for at in range(index + 1, len(lines)) if lines[at].strip()), index)
    is_apart = below > index + 1
    return is_apart and (below in known or _is_prose(lines, below))


def _is_prose(lines: list[str], index: int) -> bool:
    """Whether a paragraph begins at ``index``: it ends a sentence, or continues below."""
    goes_on = index + 1 < len(lines) and bool(lines[index + 1].strip())
    return goes_on or lines[index].rstrip()[-1] in ".!?:;"


def _title(text: str) -> str:
    return " ".join(text.split())[:_MAX_SHOWN_CHARS]


# ── functions and classes ───────────────────────────────────────────────────────────────────────────

_DEFINES = re.compile(
    r"([ \t]*)((?:(?:export|default|public|private|protected|internal|static|final|abstract|async|override|"
    r"virtual|inline|sealed|partial|open|data|unsafe|extern(?:\s+\"C\")?|const|pub(?:\([^)]*\))?|local|declare|suspend)\s+)*"
    r"(?:def|class|interface|struct|enum|trait|impl|fn|func|fun|function\*?|sub|module|namespace|object|protocol|record|"
    r"type|message|service|create\s+(?:or\s+replace\s+)?(?:table|view|function|procedure))\s+[\w$(<\[\"`].*)$",
    re.IGNORECASE,
)
_C_FUNCTION = re.compile(
    r"()([A-Za-z_][\w\s*&:<>,~]*?[\w*&>~:]\s*\([^;{}=]*\)\s*(?:const\s*)?(?:noexcept\s*)?(?:\{.*)?)$"
)
_METHOD = re.compile(
    r"([ \t]+)((?:(?:public|private|protected|internal|static|final|async|override|virtual|abstract|"
    r"synchronized|get|set)\s+)*[\w<>\[\],.?]*\s*[\w$]+\s*\([^;{}=]*\)"
    r"\s*(?::\s*[\w<>\[\]| ,.]+)?\s*(?:throws [\w, .]+)?\{)\s*$"
)
_ARROW = re.compile(
    r"([ \t]*)((?:export\s+)?(?:const|let|var)\s+[\w$]+\s*=\s*(?:async\s*)?"
    r"(?:function\b|\([^)]*\)\s*=>|\w+\s*=>).*)$"
)
_NOT_NAMES = re.compile(
    r"\s*(?:if|for|while|switch|catch|return|else|do|new|throw|elif|with|case|sizeof|await|typeof)\b"
)
_BRACED = frozenset(
    "c h cc cpp cxx hh hpp hxx m mm java js mjs cjs jsx ts tsx cs php dart kt scala".split()  # noqa: SIM905
)


def definitions(name: str, text: str) -> list[Mark]:
    """Functions and classes, those inside others one level deeper."""
    ending = name.rsplit(".", 1)[-1].lower()
    if ending in ("py", "pyi") and len(text) <= _MAX_PARSED_CHARS:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return list(_python_definitions(ast.parse(text), text.split("\n"), 1))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            pass
    patterns = [_DEFINES]
    if ending in _BRACED:
        patterns += [_C_FUNCTION, _ARROW, _METHOD]
    return list(_defining_lines(text, patterns))


def _python_definitions(tree: ast.AST, lines: list[str], level: int) -> Iterator[Mark]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield Mark(node.lineno, level, lines[node.lineno - 1].strip()[:200])
            yield from _python_definitions(node, lines, level + 1)
        elif isinstance(node, (ast.If, ast.Try, ast.With, ast.ExceptHandler)):
            yield from _python_definitions(node, lines, level)


def _defining_lines(text: str, patterns: list[re.Pattern[str]]) -> Iterator[Mark]:
    indents: list[int] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or len(line) > 400 or _NOT_NAMES.match(line):
            continue
        match = next(filter(None, (pattern.match(line) for pattern in patterns)), None)
        if match is None:
            continue
        indent = len(match[1].expandtabs(4))
        while indents and indents[-1] >= indent:
            indents.pop()
        indents.append(indent)
        yield Mark(number, len(indents), match[2].strip()[:200])


# ── keys of JSON ────────────────────────────────────────────────────────────────────────────────────

_SPACE = re.compile(r"[ \t\r\n]*")
_decoder = json.JSONDecoder()


def members(text: str) -> Iterator[tuple[int, str | None, object]]:
    """(offset, key, value) of each member of the object of JSON that ``text`` is; of a list, its items.

    Raises ``ValueError`` when it is neither.
    """
    at = _skip(text, 0)
    opening = text[at : at + 1]
    if opening not in ("{", "["):
        raise ValueError("the text is neither an object nor a list of JSON")
    closing = "}" if opening == "{" else "]"
    at = _skip(text, at + 1)
    if text[at : at + 1] == closing:
        return
    while True:
        start, key = at, None
        if opening == "{":
            key, at = _decoder.raw_decode(text, at)
            at = _skip(text, at)
            if type(key) is not str or text[at : at + 1] != ":":
                raise ValueError(f"no member of an object of JSON at character {at:,}")
            at = _skip(text, at + 1)
        value, at = _decoder.raw_decode(text, at)
        yield start, key, value
        at = _skip(text, at)
        if text[at : at + 1] == closing:
            return
        if text[at : at + 1] != ",":
            raise ValueError(f"neither a comma nor the end of JSON at character {at:,}")
        at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    return _SPACE.match(text, at).end()  # type: ignore[union-attr]


def keys(text: str) -> list[Mark]:
    """The keys of a JSON object and the shape of their values; of a list, the number of its items."""
    marks: list[Mark] = []
    line = at = 0
    for start, key, value in members(text):
        line += text.count("\n", at, start)
        at = start
        if key is None:
            count = sum(1 for _ in members(text))
            return [Mark(1, 1, f"a list of {count:,}, the first: {shape(value)}")]
        marks.append(Mark(line + 1, 1, f"{key}: {shape(value)}"))
    return marks


def shape(value: object) -> str:
    """The shape of a JSON value, in a few words."""
    if isinstance(value, dict):
        names = ", ".join(list(map(str, value))[:12])
        return (
            f"an object of {len(value):,}: {names}{', …' if len(value) > 12 else ''}"
            if value
            else "an empty object"
        )
    if isinstance(value, list):
        return f"a list of {len(value):,}, the first: {shape(value[0])}"[:200] if value else "an empty list"
    shown = json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= 60 else shown[:60] + "…"


# ── rows ────────────────────────────────────────────────────────────────────────────────────────────


def row_starts(text: str, *, quoted: bool) -> list[int]:
    """Where each row of a table begins. ``quoted``: a line end between quotation marks ends no row."""
    starts, every_line = [], []
    at, is_open = 0, False
    for line in text.split("\n"):
        every_line.append(at)
        if not is_open:
            starts.append(at)
        is_open ^= quoted and bool(line.count('"') % 2)
        at += len(line) + 1
    if is_open:  # one mark too many or too few: none of them can be trusted
        starts = every_line
    return starts[:-1] if len(starts) > 1 and starts[-1] == len(text) else starts
