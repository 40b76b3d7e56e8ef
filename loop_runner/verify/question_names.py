"""The names in a question, and whether the evidence for an answer is about them.

A true line can hold a value and be about another thing: the pressure of pump K-46 for that of pump K-64. So
each name of the question (an identifier, a code, a proper name) that the inputs know must be in a quoted
line or near one: within a few lines, on a line that encloses it, in a heading above it, or in the input's
name. Names that the inputs do not have, or have everywhere, tell nothing and are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from loop_runner.errors import ConfigError
from loop_runner.inputs import content
from loop_runner.records import Inputs, InputText
from loop_runner.verify.located import LocatedCitation
from loop_runner.verify.one_line import exact_line

MAX_NAMES = 12
_MAX_QUESTION_CHARS = 600  # a longer task is no single question; its sentences with `?` are taken
_NEAR = 4  # lines before and after a quotation
_MAX_ENCLOSING = 1500  # lines that are looked at above a quotation
_HEADINGS = 3
_HEADING_CHARS = 120
_TOP = 3  # lines at the top of a text: its title, or the names of its columns
_EVERYWHERE = 0.1  # of the lines; a name that is on more of them distinguishes nothing
_IN_MOST_TEXTS, _MANY_TEXTS = 0.05, 20
_POINTERS = 3
_MAX_MATCHES = 5000  # of a name in one text

_TOKEN = re.compile(r"\w+(?:[.\-/:\u2010\u2011]\w+)*")
_IDENTIFIER = re.compile(r"(?=.*[^\W\d_])(?=.*\d)|_|(?<=[a-z0-9])[A-Z]|^[A-Z]{2,}$|(?<=\w)\.(?=\w)")
_YEAR_OR_MORE = re.compile(r"\d{3,}")
_ENGLISH = re.compile(r"(?i)\b(?:what|which|who|whose|where|when|how|the|of|does|did|is|are)\b")
_SENTENCE = re.compile(r"(?<=[.?!:;])\s+|\n+")
_HEADING = re.compile(
    r"^\s*(?:#{1,6}\s+\S|\d+(?:\.\d+)*\.?\s+[^\W\d_].{0,80}$|[^a-z\n]*[A-Z][^a-z\n]{3,80}$)"
)
_NO_NAMES = frozenset("i a an the in on at of to for and or is are if it its answer quote derived".split())  # noqa: SIM905


@dataclass(frozen=True, slots=True)
class Name:
    """A name as the question writes it, and its parts: ``json.loads`` has two."""

    written: str
    parts: tuple[str, ...]


@dataclass(slots=True)
class Unnamed:
    """Names of the question that no quotation is about, and lines of the inputs that have them."""

    names: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)  # `> name:line: text`


def names_in(question: str) -> list[Name]:
    """The names of a question, in their order, each once.

    Capitalised words count in English only: in other languages, other words are written so.
    """
    question_text = question_in(question)
    names: dict[str, Name] = {}
    for sentence in _SENTENCE.split(question_text):
        takes_capitals = _ENGLISH.search(sentence) is not None
        for at, match in enumerate(_TOKEN.finditer(sentence)):
            word = match[0]
            is_name = _IDENTIFIER.search(word) or _YEAR_OR_MORE.fullmatch(word)
            is_capital = takes_capitals and at > 0 and word[0].isupper()
            if (is_name or is_capital) and word.lower() not in _NO_NAMES:
                parts = tuple(part for part in re.split(r"[./:]", word.lower()) if len(part) > 1)
                if parts:
                    names.setdefault(word.lower(), Name(word, parts))
    return list(names.values())[:MAX_NAMES]


def question_in(prompt: str) -> str:
    """A prompt of a few sentences as it is; of a longer one, its last sentence with a question mark."""
    if len(prompt) <= _MAX_QUESTION_CHARS:
        return prompt
    questions = [sentence for sentence in _SENTENCE.split(prompt) if sentence.rstrip().endswith("?")]
    return questions[-1] if questions and len(questions[-1]) <= _MAX_QUESTION_CHARS else ""


def unnamed(question: str, quoted: Sequence[LocatedCitation], inputs: Inputs) -> Unnamed:
    """The names that no quotation is about, although the inputs have them; unreadable inputs have none."""
    names = names_in(question)
    if not names or not quoted:
        return Unnamed()
    shown = "\n".join(_surroundings(quoted, inputs)).lower()
    missing = [name for name in names if not all(_has(shown, part) for part in name.parts)]
    if uncited := [name.written for name in names if _is_uncited(name, quoted, inputs)]:
        return Unnamed(uncited)
    if not missing:
        return Unnamed()
    known = _Known(names, [part for name in missing for part in name.parts if not _has(shown, part)])
    for text in inputs.texts:
        known.look_in(text)
    telling = known.telling(len(inputs.texts))
    left = [name for name in missing if any(part in telling for part in name.parts)]
    return Unnamed([name.written for name in left], known.best(telling)) if left else Unnamed()


def _is_uncited(name: Name, quoted: Sequence[LocatedCitation], inputs: Inputs) -> bool:
    """Whether it is the name of an input that no quotation is from: another text may mention it."""
    wanted = name.written.lower()

    def is_it(text_name: str) -> bool:
        return f"/{text_name.lower()}".endswith(f"/{wanted}")

    return any(is_it(text.name) for text in inputs.texts) and not any(is_it(item.name) for item in quoted)


# ── what a quotation is about ───────────────────────────────────────────────────────────────────────


def _surroundings(quoted: Sequence[LocatedCitation], inputs: Inputs) -> Iterator[str]:
    by_name = {text.name: text for text in inputs.texts}
    lines_of: dict[str, list[str]] = {}
    for citation in quoted:
        yield citation.name
        yield citation.quote
        if citation.name not in lines_of and (text := by_name.get(citation.name)) is not None:
            try:
                lines_of[citation.name] = _decoded(text).split("\n")
            except ConfigError:
                continue
        if lines := lines_of.get(citation.name):
            yield from _near(lines, citation.line, max(citation.last_line, citation.line))


def _near(lines: Sequence[str], first: int, last: int) -> Iterator[str]:
    """The lines of a quotation, those near it, those that enclose it, headings above, and the top."""
    yield from (*lines[:_TOP], *lines[max(first - 1 - _NEAR, 0) : last + _NEAR])
    depth = _indent(lines[first - 1]) if first <= len(lines) else 0
    headings = _HEADINGS
    for line in reversed(lines[max(first - 1 - _MAX_ENCLOSING, 0) : first - 1]):
        if not line.strip():
            continue
        if (indent := _indent(line)) < depth:
            depth = indent
            yield line
        elif headings and len(line) < _HEADING_CHARS and _HEADING.match(line):
            headings -= 1
            yield line
        if not depth and not headings:
            return


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))


def _has(lowered: str, part: str) -> bool:
    return _pattern(part).search(lowered) is not None


def _pattern(part: str) -> re.Pattern[str]:
    # A part of a_name counts as the word; so do its plural and its genitive.
    return re.compile(rf"(?<![^\W_]){re.escape(part)}(?:['\u2019]?s)?(?![^\W_])")


# ── where the inputs have the names ─────────────────────────────────────────────────────────────────


class _Known:
    """The lines of the inputs with the missing parts of names, and how many of the names each has."""

    def __init__(self, names: Iterable[Name], missing: Sequence[str]) -> None:
        self._all = [_pattern(part) for name in names for part in name.parts]
        self._missing = {part: _pattern(part) for part in missing}
        self._count = dict.fromkeys(missing, 0)
        self._texts = dict.fromkeys(missing, 0)
        self._total = 0
        self._lines: list[tuple[int, str, InputText, int]] = []  # how many names, the part, text, line

    def look_in(self, text: InputText) -> None:
        """Count the parts in a text, and keep its best lines."""
        try:
            lowered = _decoded(text).lower()
        except ConfigError:
            return
        self._total += lowered.count("\n") + 1
        for part, pattern in self._missing.items():
            if part not in lowered:
                continue
            starts = {lowered.rfind("\n", 0, match.start()) + 1 for match in _some(pattern, lowered)}
            self._count[part] += len(starts)
            self._texts[part] += bool(starts)
            for start in sorted(starts):
                self._keep(text, lowered, start, part)

    def telling(self, texts: int) -> set[str]:
        """The parts that the inputs have, but not everywhere."""
        return {
            part
            for part, count in self._count.items()
            if 0 < count <= max(_EVERYWHERE * self._total, 1)
            and (texts < _MANY_TEXTS or self._texts[part] <= max(_IN_MOST_TEXTS * texts, 1))
        }

    def best(self, telling: set[str]) -> list[str]:
        """The lines with most of the question's names, as citations."""
        places = dict.fromkeys((text, line) for _, part, text, line in self._lines if part in telling)
        return [_citation(text, line) for text, line in list(places)[:_POINTERS]]

    def _keep(self, text: InputText, lowered: str, start: int, part: str) -> None:
        end = lowered.find("\n", start)
        line = lowered[start : len(lowered) if end < 0 else end]
        score = sum(pattern.search(line) is not None for pattern in self._all)
        if len(self._lines) >= _POINTERS and score <= min(entry[0] for entry in self._lines):
            return
        self._lines.append((score, part, text, lowered.count("\n", 0, start) + 1))
        self._lines.sort(key=lambda entry: -entry[0])
        del self._lines[4 * _POINTERS :]


def _citation(text: InputText, number: int) -> str:
    line = _decoded(text).split("\n")[number - 1]
    return f"> {text.name}:{number}: {exact_line(line.strip(), 300)}"


def _decoded(text: InputText) -> str:
    return content(text).decode("utf-8", "replace")


def _some(pattern: re.Pattern[str], lowered: str) -> Iterator[re.Match[str]]:
    for count, match in enumerate(pattern.finditer(lowered)):
        if count >= _MAX_MATCHES:
            return
        yield match
