"""The names in a question, and whether the evidence for an answer is about something else.

A true line can hold a value and be about another thing: the pressure of pump K-46 for that of pump K-64. A
name of the question (an identifier, a code, a proper name) that the inputs have is missed when it is neither
in a quoted line nor near one, and the lines that say what the quotation is about have a rival: another code
of the same form, another name in the same place of a sentence, another identifier with a word in common.
Without a rival, the text may have named its subject far above, and nothing is missed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from loop_runner.errors import ConfigError
from loop_runner.records import Inputs, InputText
from loop_runner.verify import surroundings
from loop_runner.verify.located import LocatedCitation
from loop_runner.verify.one_line import exact_line
from loop_runner.verify.surroundings import Surroundings, read

MAX_NAMES = 12
_MAX_QUESTION_CHARS = 600  # a longer task is no single question; its sentences with `?` are taken
_EVERYWHERE = 0.1  # of the lines; a name that is on more of them distinguishes nothing
_IN_MOST_TEXTS, _MANY_TEXTS = 0.05, 20
_POINTERS = 3
_MAX_LINE_CHARS = 2000
_MAX_SUBJECTS = 300  # lines that are looked at for rivals
_MAX_MATCHES = 5000  # of a name in one text

_TOKEN = re.compile(r"\w+(?:[.\-/:\u2010\u2011]\w+)*")
_IDENTIFIER = re.compile(r"_|(?<=[a-z0-9])[A-Z]|[A-Z]{2}[a-z]|(?<=\w)\.(?=\w)")
_ACRONYM = re.compile(r"[A-Z]{2,}")
_NUMBER = re.compile(r"\d{3,}")
_DECIMAL = re.compile(r"[\d.]+")
_CODE = re.compile(r"(?=.*[^\W\d_])(?=.*\d)")
_PIECE = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_ARTICLES = frozenset(("", "the", "a", "an", "is", "and", "or"))
_ENGLISH = re.compile(r"(?i)\b(?:what|which|who|whose|where|when|how|the|of|does|did|is|are)\b")
_SENTENCE = re.compile(r"(?<=[.?!:;])\s+|\n+")
_NO_NAMES = frozenset("i a an the in on at of to for and or is are if it its answer quote derived".split())  # noqa: SIM905


@dataclass(frozen=True, slots=True)
class Name:
    """A name as the question writes it, its parts (``json.loads`` has two), and the words beside it."""

    written: str
    parts: tuple[str, ...]
    is_identifier: bool = False
    before: str = ""
    after: str = ""

    @property
    def is_exact(self) -> bool:
        """Whether a text about it spells it so: an identifier, or a code such as ``K-64``."""
        return self.is_identifier or _CODE.search(self.written) is not None


@dataclass(slots=True)
class Unnamed:
    """Names of the question that no quotation is about, and lines of the inputs that have them."""

    names: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)  # `> name:line: text`


def names_in(question: str) -> list[Name]:
    """The names of a question, in their order, each once.

    Capitalised words count in English only: in other languages, other words are written so.
    """
    names: dict[str, Name] = {}
    for sentence in _SENTENCE.split(question_in(question)):
        takes_capitals = _ENGLISH.search(sentence) is not None
        words = _TOKEN.findall(sentence)
        for at, word in enumerate(words):
            is_identifier = _IDENTIFIER.search(word) is not None and not _DECIMAL.fullmatch(word)
            is_capital = takes_capitals and at > 0 and word[0].isupper()
            is_code = _CODE.search(word) or _NUMBER.fullmatch(word) or _ACRONYM.fullmatch(word)
            is_name = is_identifier or is_capital or is_code
            if is_name and word.lower() not in _NO_NAMES and (parts := _parts(word)):
                beside = (_beside(words, at - 1), _beside(words, at + 1))
                names.setdefault(word.lower(), Name(word, parts, is_identifier, *beside))
    return list(names.values())[:MAX_NAMES]


def _parts(word: str) -> tuple[str, ...]:
    return tuple(part for part in re.split(r"[./:]", word.lower()) if len(part) > 1)


def _beside(words: Sequence[str], at: int) -> str:
    """The word at ``at``, if it says something about its neighbour."""
    word = words[at].lower() if 0 <= at < len(words) else ""
    return "" if word in _ARTICLES else word


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
    texts = [name for name in names if any(_is_called(text.name, name) for text in inputs.texts)]
    if texts and not any(_is_called(item.name, name) for item in quoted for name in texts):
        return Unnamed([name.written for name in texts])  # other texts may mention them
    around = surroundings.of(quoted, inputs)
    shown = around.words()
    words = frozenset(word.lower() for word in _TOKEN.findall(question_in(question)))
    missing = [
        name
        for name in names
        if name not in texts
        and not all(_has(shown, part) for part in name.parts)
        and _has_rival(name, around, words)
    ]
    return _known_to(inputs, names, missing, shown) if missing else Unnamed()


def _known_to(inputs: Inputs, names: Sequence[Name], missing: Sequence[Name], shown: str) -> Unnamed:
    """Those of the ``missing`` names that the inputs have, and where."""
    known = _Known(names, [part for name in missing for part in name.parts if not _has(shown, part)])
    for text in inputs.texts:
        known.look_in(text)
    telling = known.telling(len(inputs.texts))
    left = [name for name in missing if any(part in telling for part in name.parts)]
    return Unnamed([name.written for name in left], known.best(telling)) if left else Unnamed()


def _is_called(text: str, name: Name) -> bool:
    return f"/{text.lower()}".endswith(f"/{name.written.lower()}")


# ── rivals ──────────────────────────────────────────────────────────────────────────────────────────


def _has_rival(name: Name, around: Surroundings, known: frozenset[str]) -> bool:
    """Whether the quotations are about something else of the kind of ``name``.

    ``known``: the question's words. Code that is nested says in its enclosing lines what it is about.
    """
    if (name.is_identifier and around.is_nested) or (name.is_exact and not _is_mentioned(name, around)):
        return True
    return any(_is_rival(name, words, at, known) for words in _subjects(around) for at in range(len(words)))


def _is_mentioned(name: Name, around: Surroundings) -> bool:
    return any(all(_has(text, part) for part in name.parts) for text in around.texts.values())


def _subjects(around: Surroundings) -> Iterator[list[str]]:
    for line in islice(dict.fromkeys(around.subject), _MAX_SUBJECTS):
        if words := _TOKEN.findall(line[:_MAX_LINE_CHARS]):
            yield words


def _is_rival(name: Name, words: Sequence[str], at: int, known: frozenset[str]) -> bool:
    word = words[at]
    if word.lower() in known:
        return False
    if _form(word) == _form(name.written):
        return True
    if name.is_identifier and _IDENTIFIER.search(word):
        return not set(_pieces(name.written)).isdisjoint(_pieces(word))
    before = words[at - 1].lower() if at else ""
    after = words[at + 1].lower() if at + 1 < len(words) else ""
    is_same_place = (name.before and name.before == before) or (name.after and name.after == after)
    return bool(is_same_place) and word[0].isupper()


def _form(word: str) -> str:
    """``K-64`` and ``K-7`` have one form, and so have two years; a word without digits has none of use."""
    if word.isdigit():
        return "9" * len(word)
    return re.sub(r"\d+", "9", word.lower()) if _CODE.search(word) else f"={word}"


def _pieces(identifier: str) -> list[str]:
    return [piece.lower() for piece in _PIECE.findall(identifier) if len(piece) > 2]


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
            lowered = read(text).lower()
        except ConfigError:
            return
        self._total += lowered.count("\n") + 1
        for part, pattern in self._missing.items():
            if part not in lowered:
                continue
            matches = islice(pattern.finditer(lowered), _MAX_MATCHES)
            starts = {lowered.rfind("\n", 0, match.start()) + 1 for match in matches}
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
    line = read(text).split("\n")[number - 1]
    return f"> {text.name}:{number}: {exact_line(line.strip(), 300)}"
