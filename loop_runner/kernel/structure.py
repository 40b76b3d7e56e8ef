"""What texts are made of: headings, functions and classes, keys, rows. Runs inside the kernel process.

Told from the name's ending and from the text itself, on the safe side: a line that only might be a heading is
none. Pure functions over one text; lines are counted from 1. Only text that is to be JSON and is not raises.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections import namedtuple

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
_MAX_TITLE_CHARS = 90
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
_UNDERLINE = re.compile(r"([=\-~^*+#\"'])\1{2,}[ \t]*$")
_TAG = re.compile(r"<h([1-6])\b[^>]*>(.*?)(?:</h\1>|$)", re.IGNORECASE)
_FENCE = re.compile(r" {0,3}(```|~~~)")
_NUMBERED = re.compile(
    r"\s{0,8}((?:(?:chapter|section|article|part|appendix|annex|schedule|clause|exhibit|kapitel|artikel|abschnitt|"
    r"title|titel)\s+(?:\d+|[IVXLC]+\b|[A-Z]\b)[\d.]*|§+\s*\d+[a-z]?)[.:)]?|\d{1,3}(?:\.\d{1,3})*[.)]?)(?=\s|$)(.*)$",
    re.IGNORECASE,
)
_LEVELS = {"=": 1, "-": 2}


def headings(text: str) -> list[Mark]:
    """The headings: ``#`` and underlined ones; where there are none, numbered ones and lines in capitals."""
    lines = text.split("\n")
    marked = list(_marked_headings(lines))
    return marked or list(_plain_headings(lines))


def _marked_headings(lines: list[str]) -> Iterator[Mark]:
    fence = ""
    for index, line in enumerate(lines):
        opened = _FENCE.match(line) if line[:4].lstrip(" ")[:1] in ("`", "~") else None
        if opened and fence in ("", opened[1]):
            fence = "" if fence else opened[1]
        elif not fence and (found := _HASHES.match(line) if "#" in line[:4] else None):
            yield Mark(index + 1, len(found[1]), _title(found[2]))
        elif not fence and "<" in line and (found := _TAG.search(line)):
            yield Mark(index + 1, int(found[1]), _title(re.sub(r"<[^>]*>", "", found[2])))
        elif not fence and index + 1 < len(lines) and _is_underlined(lines, index):
            yield Mark(index + 1, _LEVELS.get(lines[index + 1][0], 3), _title(line))


def _is_underlined(lines: list[str], index: int) -> bool:
    title, under = lines[index].rstrip(), lines[index + 1]
    if (
        under[:1] not in "=-~^*+#\"'"
        or not under
        or not title
        or title[0].isspace()
        or len(title) > _MAX_TITLE_CHARS
    ):
        return False
    alone = index == 0 or not lines[index - 1].strip() or lines[index - 1].rstrip() == under.rstrip()
    return bool(
        alone
        and _UNDERLINE.match(under)
        and len(under.rstrip()) * 2 >= len(title)
        and any(map(str.isalnum, title))
        and "|" not in title
    )


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


def _title(text: str) -> str:
    return " ".join(text.split())[:_MAX_TITLE_CHARS]


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
        found = next(filter(None, (pattern.match(line) for pattern in patterns)), None)
        if found is None:
            continue
        indent = len(found[1].expandtabs(4))
        while indents and indents[-1] >= indent:
            indents.pop()
        indents.append(indent)
        yield Mark(number, len(indents), found[2].strip()[:200])


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
    """The keys of an object of JSON and what stands under each; of a list, how many items there are."""
    found: list[Mark] = []
    line = at = 0
    for start, key, value in members(text):
        line += text.count("\n", at, start)
        at = start
        if key is None:
            count = sum(1 for _ in members(text))
            return [Mark(1, 1, f"a list of {count:,}, the first: {shape(value)}")]
        found.append(Mark(line + 1, 1, f"{key}: {shape(value)}"))
    return found


def shape(value: object) -> str:
    """What a value of JSON is, in a few words."""
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
    if is_open:  # one mark too many or too few: nothing is known of any
        starts = every_line
    return starts[:-1] if len(starts) > 1 and starts[-1] == len(text) else starts
