"""Ranked search over many megabytes in pure Python. Runs inside the kernel process.

A model writes keywords or a whole question; the lines that answer it should come first. Texts are cut into
segments of some ten thousand characters. Each query term is counted in every segment with C-speed
string methods; the best segments are then looked at line by line.

What a line scores, in short: the rarer a term (inverse document frequency), the more it counts; a term on
the line counts whole, one within a few lines counts part, one in the text's *name* counts for all its
lines; lines that define or assign a term, or hold two query words side by side, count more.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import namedtuple
from fnmatch import fnmatchcase
from itertools import pairwise
from math import log

from loop_runner.kernel.texts import Texts, did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

SEGMENT_CHARS = 48_000
MAX_SHOWN_CHARS = 6000
MAX_LINE_CHARS = 400
_MAX_CACHED_CHARS = 256 * 1024 * 1024  # above this, lowered copies are made for each search anew
_LOOKED_AT = 60  # segments that are scored line by line
_NEAR = 3  # lines
_STOP_WORDS = frozenset(
    (  # noqa: SIM905 - a list of ninety quoted words is harder to read
        "a an and any are as at be been being but by can could did do does done doing each for from get gets "
        "give given gives had has have how i if in into is it its itself just many may me might much must my "
        "of on or our out over please shall should so some such tell than that the their them then there "
        "these they this those to under until up use used uses using was we were what when where which while "
        "who whom whose why will with within would you your find show say says stand stands python module "
        "modules library standard file"
    ).split()
)
# Words of a question that say what kind of thing is asked for; they are in the answer's line less often.
_ASKING = frozenset(
    (  # noqa: SIM905 - a list of ninety quoted words is harder to read
        "argument attribute called class constant default exact exactly function kind large many maximal "
        "maximum method minimal minimum name named number parameter raise raised return signature size "
        "symbol type value"
    ).split()
)
# What code calls the things that prose spells out.
_SHORT_FORMS = {
    "argument": "arg", "character": "char", "command": "cmd", "connection": "conn", "constant": "const",
    "directory": "dir", "environment": "env", "exception": "error", "initial": "init",
    "large": "size", "length": "len", "long": "len", "maximum": "max", "maximal": "max", "message": "msg",
    "minimum": "min", "minimal": "min", "number": "num", "parameter": "param", "precision": "prec",
    "previous": "prev", "separator": "sep", "temporary": "temp", "value": "val",
}  # fmt: skip
_QUANTITIES = frozenset(
    (  # noqa: SIM905 - a list of ninety quoted words is harder to read
        "constant cutoff default high large length limit long maximum minimum much number port size timeout "
        "value width many"
    ).split()
)
_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
_WORD = re.compile(r"[^\W_]+(?:_+[^\W_]+)*_*|_+[^\W_]+(?:_+[^\W_]+)*_*", re.UNICODE)
_CAMEL = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_QUOTED = re.compile(r"[\"'`]([^\"'`]{2,80})[\"'`]")


class Hit(namedtuple("Hit", "name line text passage")):  # noqa: PYI024 - no ``typing`` in the kernel
    """One passage: its text's name, the best line's number (from 1) and text, and the lines around it."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        return getattr(self, key) if isinstance(key, str) else tuple.__getitem__(self, key)

    def __str__(self) -> str:
        return str(self.passage)


class SearchHits(list):  # type: ignore[type-arg]
    """The hits, best first. As text: the passages, each line as ``name:line: text``."""

    def __init__(self, hits: Iterable[Hit] = (), title: str = "") -> None:
        super().__init__(hits)
        self.title = title

    def __getitem__(self, key: Any) -> Any:
        found = list.__getitem__(self, key)
        return SearchHits(found, self.title) if isinstance(key, slice) else found

    def __str__(self) -> str:
        parts, room = [self.title] if self.title else [], MAX_SHOWN_CHARS
        for shown, hit in enumerate(self):
            room -= len(hit.passage) + 4
            if room < 0 and shown:
                parts.append(f"… {len(self) - shown} more: print them with print(hits[{shown}:])")
                break
            parts.append(hit.passage)
        return "\n--\n".join(parts)

    __repr__ = __str__

    def cite(self, copied: str) -> str:
        """The citation of the line in these passages that ``copied`` is, or is most like.

        A model that copies a line drops its number, adds a remark or keeps only the part that matters. The
        passages are few, so the line that shares most with the copy is the one it meant. ``ValueError`` when
        none does.
        """
        wanted = [part.strip(" `>") for part in copied.split("\n") if part.strip(" `>")]
        best, found = 0.0, ""
        for hit in self:
            for line in hit.passage.split("\n"):
                number, _, text = line.removeprefix(f"{hit.name}:").partition(":")
                score = max((_likeness(line, text.strip(), part) for part in wanted), default=0.0)
                if score > best:
                    best, found = score, f"> {hit.name}:{number}: {text.strip()}"
        if best < _LIKE_ENOUGH:
            raise ValueError("this is no line of these passages; copy one line exactly as it is printed")
        return found


_LIKE_ENOUGH = 0.5


def _likeness(line: str, text: str, copied: str) -> float:
    """How alike a printed line and a copy are: 2 as printed, 1 its text alone, below that by shared words."""
    if line.strip() == copied:
        return 2.0
    if text and text == copied:
        return 1.0
    ours, theirs = set(_WORD.findall(line)), set(_WORD.findall(copied))
    shared = len(ours & theirs)
    return 0.6 * shared / max(len(theirs), 1) + 0.39 * shared / max(len(ours | theirs), 1)


class _Term:
    """One word of the query: how it is matched and how much it weighs."""

    __slots__ = ("counts", "idf", "pattern", "stem", "weight", "word")

    def __init__(self, word: str, weight: float, stem: str) -> None:
        self.word = word
        self.weight = weight
        self.stem = stem
        # A whole word, its plural, or a part of a_name; the text before is checked last, so that the
        # regular expression engine can look for the literal itself.
        stem = re.escape(self.stem)
        ending = "" if self.stem.endswith("_") else r"(?:s|es|d|ed|ing)?(?![^\W_])"
        self.pattern = rf"{stem}(?<![^\W_]{stem}){ending}"
        self.idf = 0.0
        self.counts: list[int] = []


class _Segment:
    """Some lines of one text."""

    __slots__ = ("end", "first_line", "lowered", "name", "start")

    def __init__(self, name: str, start: int, end: int, first_line: int) -> None:
        self.name = name
        self.start = start
        self.end = end
        self.first_line = first_line
        self.lowered: str | None = None


class SearchIndex:
    """Searches ``texts``; what it learns about them is kept for the next search."""

    def __init__(self, texts: Texts | Mapping[str, str]) -> None:
        self._texts = texts
        self._segments: dict[str, list[_Segment]] = {}
        self._cached_chars = 0
        self._names = {name: _Name(name) for name in texts}

    def search(
        self,
        query: str,
        names: str | Iterable[str] | None,
        max_results: int,
        context_lines: int,
        *,
        regex: bool,
    ) -> SearchHits:
        """See ``Helpers.search_text``."""
        chosen = self._choose(names)
        if not query.strip():
            raise ValueError("search_text needs at least one word to look for")
        max_results, context_lines = max(int(max_results), 1), min(max(int(context_lines), 0), 50)
        if regex:
            try:
                pattern = re.compile(query, re.MULTILINE)
            except re.error as error:
                hits = self._by_words(query, chosen, max_results, context_lines)
                note = f"not a regular expression ({error}): searched for its words instead"
                return SearchHits(hits, note + ("" if hits else "; nothing was found"))
            return self._by_regex(pattern, chosen, max_results, context_lines)
        hits = self._by_words(query, chosen, max_results, context_lines)
        return SearchHits(hits, "" if hits else _nothing(query, len(chosen)))

    def _choose(self, names: str | Iterable[str] | None) -> list[str]:
        if names is None:
            return list(self._texts)
        wanted = [names] if isinstance(names, str) else [str(name) for name in names]
        chosen: dict[str, None] = {}
        for want in wanted:
            found = (
                [want]
                if want in self._texts
                else [name for name in self._texts if fnmatchcase(name, want) or name.endswith("/" + want)]
            )
            if not found:
                raise ValueError(f"no text is named {want!r:.80}{did_you_mean(want, self._texts)}")
            chosen.update(dict.fromkeys(found))
        return list(chosen)

    # ── segments ────────────────────────────────────────────────────────────────────────────────────

    def _segments_of(self, name: str) -> list[_Segment]:
        segments = self._segments.get(name)
        if segments is None:
            segments = self._segments[name] = list(_cut_segments(name, self._texts[name]))
        return segments

    def _lowered(self, segment: _Segment) -> str:
        if segment.lowered is not None:
            return segment.lowered
        lowered = self._texts[segment.name][segment.start : segment.end].lower()
        if self._cached_chars < _MAX_CACHED_CHARS:
            self._cached_chars += len(lowered)
            segment.lowered = lowered
        return lowered

    # ── by words ────────────────────────────────────────────────────────────────────────────────────

    def _by_words(self, query: str, names: list[str], max_results: int, context_lines: int) -> list[Hit]:
        asked = _Query(query)
        segments = [segment for name in names for segment in self._segments_of(name)]
        self._count(asked.terms, segments)
        patterns = _LinePatterns(asked)
        scored: list[tuple[float, str, int]] = []
        for segment, said, prior in self._best_segments(asked, segments):
            for score, line in _score_lines(
                self._lowered(segment), patterns, said, self._names[segment.name].stem
            ):
                scored.append((score * prior, segment.name, segment.first_line + line))
        scored.sort(key=lambda each: (-each[0], each[1], each[2]))
        return self._hits(_spread(scored, max_results, context_lines), context_lines)

    def _count(self, terms: list[_Term], segments: list[_Segment]) -> None:
        """Count every term in every segment, and weigh it by how few segments have it."""
        lowered = [self._lowered(segment) for segment in segments]
        for term in terms:
            find = re.compile(term.pattern).findall
            stem = term.stem
            term.counts = [len(find(text)) if stem in text else 0 for text in lowered]
            having = sum(map(bool, term.counts))
            if not having and len(stem) >= 4:  # only inside other words: better than nothing
                term.pattern = re.escape(stem)
                term.counts = [text.count(stem) for text in lowered]
                having = sum(map(bool, term.counts))
                term.weight *= 0.6
            term.idf = term.weight * log(1 + (len(segments) + 0.5) / (having + 0.5))

    def _best_segments(
        self, query: _Query, segments: list[_Segment]
    ) -> list[tuple[_Segment, dict[str, float], float]]:
        """The segments whose lines are worth a look, what their names say, how far they are trusted."""
        scores = [0.0] * len(segments)
        for term in query.terms:
            for index, count in enumerate(term.counts):
                if count:
                    scores[index] += term.idf * (0.6 + 0.4 * count / (count + 4.0))
        for_tests = any(term.stem.startswith("test") for term in query.terms)
        said_by = {name: query.said_by_name(self._names[name]) for name in {each.name for each in segments}}
        priors = []
        for index, segment in enumerate(segments):
            name = self._names[segment.name]
            said = said_by[segment.name]
            scores[index] += 1.5 * sum(term.idf * said.get(term.word, 0.0) for term in query.terms)
            priors.append(name.prior_for_tests if for_tests else name.prior)
            scores[index] *= priors[index]
        order = sorted(range(len(segments)), key=lambda index: (-scores[index], index))[:_LOOKED_AT]
        return [(segments[at], said_by[segments[at].name], priors[at]) for at in order if scores[at] > 0]

    # ── by regular expression ───────────────────────────────────────────────────────────────────────

    def _by_regex(
        self, pattern: re.Pattern[str], names: list[str], max_results: int, context_lines: int
    ) -> SearchHits:
        found: list[tuple[str, int]] = []
        total = 0
        for name in names:
            text = self._texts[name]
            seen_line, seen_at = 1, 0
            for match in pattern.finditer(text):
                total += 1
                if len(found) < max_results:
                    seen_line += text.count("\n", seen_at, match.start())
                    seen_at = match.start()
                    if not found or found[-1] != (name, seen_line):
                        found.append((name, seen_line))
        title = f"{total:,} matches; the first {len(found)} lines:" if total > len(found) else ""
        if not total:
            title = (
                f"no match for the regular expression {pattern.pattern!r:.80}: "
                "try plain keywords, without regex=True"
            )
        return SearchHits(self._hits(found, context_lines), title)

    # ── hits ────────────────────────────────────────────────────────────────────────────────────────

    def _hits(self, found: Iterable[tuple[str, int]], context_lines: int) -> list[Hit]:
        hits = []
        for name, line in found:
            segment = self._segment_at(name, line)
            text = self._texts[name]
            lines = text[segment.start : segment.end].split("\n")
            if len(lines) > 1 and not lines[-1]:
                lines.pop()  # the segment's last line ended there
            index = min(line - segment.first_line, len(lines) - 1)
            best = lines[index].rstrip("\r")
            around = range(max(index - context_lines, 0), min(index + context_lines + 1, len(lines)))
            passage = "\n".join(
                f"{name}:{segment.first_line + each}: {_short(lines[each])}" for each in around
            )
            hits.append(Hit(name, line, best, passage))
        return hits

    def _segment_at(self, name: str, line: int) -> _Segment:
        segments = self._segments_of(name)
        return segments[bisect_right([segment.first_line for segment in segments], line) - 1]


def _short(line: str) -> str:
    line = line.rstrip("\r")
    return line if len(line) <= MAX_LINE_CHARS else line[: MAX_LINE_CHARS - 1] + "…"


def _nothing(query: str, texts: int) -> str:
    return (
        f"nothing was found for {query!r:.80} in {texts:,} texts: try fewer or other words, parts of words, "
        "or the names that the text itself would use"
    )


def _cut_segments(name: str, text: str) -> Iterator[_Segment]:
    start, line = 0, 1
    while True:
        end = start + SEGMENT_CHARS
        if end < len(text):
            at = text.rfind("\n", start, end) + 1 or text.find("\n", end) + 1
            end = at or len(text)
        else:
            end = len(text)
        yield _Segment(name, start, end, line)
        if end >= len(text):
            return
        line += text.count("\n", start, end)
        start = end


# ── the query ───────────────────────────────────────────────────────────────────────────────────────


class _Query:
    """What a query asks for: weighted terms, words side by side, and dotted names."""

    def __init__(self, query: str) -> None:
        self._weights: dict[str, float] = {}
        for phrase in _QUOTED.findall(query):
            if " " in phrase or "." in phrase:
                self._add(phrase, 1.5)
        words = _WORD.findall(query)
        content = [word for word in words if word.lower() not in _STOP_WORDS] or words
        for word in content:
            self._add_word(word)
        # An abbreviation in capitals ("HTTPS") has no plural.
        whole = {word.lower() for word in content if word.isupper()} | {"https"}
        self.terms = [
            _Term(word, weight, word if word in whole else _stem(word))
            for word, weight in self._weights.items()
        ]
        self.wants_value = any(_stem(word.lower()) in _QUANTITIES for word in words)
        stems = [word.lower() if word.lower() in whole else _stem(word.lower()) for word in content]
        self.pairs = [pair for pair in pairwise(stems) if pair[0] != pair[1]]
        self.dotted = [name.lower().split(".") for name in _DOTTED.findall(query)]

    def _add(self, word: str, weight: float) -> None:
        word = word.lower()
        if len(word) > 1 or word.isdigit() or not word.isascii():
            self._weights[word] = max(self._weights.get(word, 0.0), weight)

    def _add_word(self, word: str) -> None:
        is_name = (
            "_" in word.strip("_") or any(map(str.isupper, word[1:])) or (len(word) > 1 and word.isupper())
        )
        stem = _stem(word.lower())
        asking = stem in _ASKING or word.lower() in _ASKING
        self._add(word, 1.4 if is_name else 0.5 if asking else 1.0)
        short = _SHORT_FORMS.get(stem) or _SHORT_FORMS.get(word.lower())
        if short:
            self._add(short, 0.4)
        parts = [part for piece in word.split("_") for part in _CAMEL.findall(piece)]
        if len(parts) > 1:
            for part in parts:
                if len(part) > 2 and part.lower() not in _STOP_WORDS:
                    self._add(part, 0.35)

    def said_by_name(self, name: _Name) -> dict[str, float]:
        """Term → how much of it the name of a text says: 1 when it *is* the name, less when part of it."""
        said: dict[str, float] = {}
        for dotted in self.dotted:
            for count in range(len(dotted), 0, -1):
                if name.path[-count:] == tuple(dotted[:count]):
                    said |= dict.fromkeys(dotted[:count], 1.0)
                    break
        for term in self.terms:
            if name.stem in {term.word, term.stem}:
                said[term.word] = 1.0
            elif term.word not in said and (term.word in name.words or term.stem in name.words):
                said[term.word] = 0.4
        return said


def _stem(word: str) -> str:
    """``word`` without a plural's or a verb's ending, so that its other forms are found as well."""
    if not word.isalpha() or len(word) < 5:
        return word
    for ending, least in (("ing", 7), ("ed", 6), ("es", 7), ("s", 5)):
        if word.endswith(ending) and len(word) >= least and not word.endswith("ss"):
            return word[: -len(ending)] if ending != "es" else word[:-1]
    return word


# ── names ───────────────────────────────────────────────────────────────────────────────────────────

_ASIDE = re.compile(r"(?:^|[/_])(?:tests?|testing|idle_test|test_\w+)(?:[/._]|$)")


class _Name:
    """The name of a text, taken apart."""

    __slots__ = ("path", "prior", "prior_for_tests", "stem", "words")

    def __init__(self, name: str) -> None:
        lowered = name.lower()
        path = lowered.split("/")
        path[-1] = path[-1].split(".", 1)[0] or path[-1]
        if path[-1] in {"__init__", "index", "readme"} and len(path) > 1:
            path.pop()
        self.path = tuple(path)
        self.stem = path[-1]
        pieces = re.findall(r"\w+", lowered)
        self.words = frozenset(word for piece in pieces for word in (piece, *piece.split("_")))
        # Deep paths, and tests, answer a question less often than what they belong to.
        self.prior_for_tests = 1.0 / (1.0 + 0.03 * name.count("/"))
        self.prior = self.prior_for_tests * (0.5 if _ASIDE.search(lowered) else 1.0)


# ── lines ───────────────────────────────────────────────────────────────────────────────────────────


class _LinePatterns:
    """The query's terms, compiled once for looking at lines."""

    def __init__(self, query: _Query) -> None:
        self.terms = [(term, re.compile(re.escape(term.stem))) for term in query.terms if term.idf > 0]
        any_word = "|".join(
            re.escape(term.stem) for term in sorted(query.terms, key=lambda each: -len(each.stem))
        )
        name = rf"(\w*(?:{any_word})\w*)"
        self.defines = re.compile(rf"^\s*(?:async\s+)?(?:def|class|function|fn|func|#define)\s+{name}")
        self.assigns = re.compile(
            rf"(?<![\w]){name}\s*(?::[^=\n]{{0,40}})?=(?!=)\s*(\w+|\S)|^\s*[\W_]{{0,3}}{name}[\W_]{{0,2}}\s*:\s*(\w+|\S)"
        )
        self.value_factor = 1.8 if query.wants_value else 1.2
        self.pairs = [
            (pair, re.compile(rf"{re.escape(pair[0])}(?:s|es|d|ed|ing)?[\W_]{{0,3}}{re.escape(pair[1])}"))
            for pair in query.pairs
        ]


_ENDING = re.compile(r"(?:s|es|d|ed|ing)?(?![^\W_])")
_LINE = re.compile(r"^([ \t]*)\S", re.MULTILINE)


class _Lines:
    """One segment's lines and which terms stand on each, how surely (1: as a word; less: inside another)."""

    def __init__(self, lowered: str, patterns: _LinePatterns) -> None:
        self.text = lowered
        self.starts = [0]
        for part in lowered.split("\n"):
            self.starts.append(self.starts[-1] + len(part) + 1)
        self.terms: dict[int, dict[_Term, float]] = {}
        for term, pattern in patterns.terms:
            self._find(term, pattern)
        self._above = self._enclosing() if self.terms else {}

    def line(self, index: int) -> str:
        return self.text[self.starts[index] : self.starts[index + 1] - 1]

    def _find(self, term: _Term, pattern: re.Pattern[str]) -> None:
        text, starts, inside = self.text, self.starts, 0.5 if len(term.stem) >= 4 else 0.0
        for match in pattern.finditer(text):
            at = match.start()
            is_word = (not at or not text[at - 1].isalnum()) and _ENDING.match(text, match.end())
            sure = 1.0 if is_word else inside
            if sure:
                here = self.terms.setdefault(bisect_right(starts, at) - 1, {})
                here[term] = max(here.get(term, 0.0), sure)

    def _enclosing(self) -> dict[int, tuple[int, ...]]:
        """Line with terms → the lines with terms under which it is indented."""
        above: dict[int, tuple[int, ...]] = {}
        stack: list[tuple[int, int]] = []
        index = 0
        for match in _LINE.finditer(self.text):
            start, indent = match.start(), len(match[1])
            while self.starts[index + 1] <= start:
                index += 1
            while stack and stack[-1][0] >= indent:
                stack.pop()
            if index in self.terms:
                above[index] = tuple(line for _, line in stack)
                stack.append((indent, index))
        return above

    def near(self, index: int) -> dict[_Term, float]:
        """Terms around line ``index`` and on the lines that it is indented under, with their share."""
        near: dict[_Term, float] = {}
        for distance in range(1, _NEAR + 1):
            for other in (index - distance, index + distance):
                for term, sure in self.terms.get(other, _NONE).items():
                    near[term] = max(near.get(term, 0.0), sure * (0.45 - 0.1 * distance))
        for other in self._above.get(index, ()):
            for term, sure in self.terms[other].items():
                near[term] = max(near.get(term, 0.0), sure * 0.4)
        return near


_NONE: dict[_Term, float] = {}


def _score_lines(
    lowered: str, patterns: _LinePatterns, said: dict[str, float], text_stem: str
) -> Iterator[tuple[float, int]]:
    """(score, line index) of every line of a segment that holds a term."""
    lines = _Lines(lowered, patterns)
    # What the name of the text says already counts for all its lines, and little on the line itself.
    rest = {term: term.idf * (1.0 - said.get(term.word, 0.0)) for term, _ in patterns.terms}
    from_name = sum(term.idf * said.get(term.word, 0.0) for term, _ in patterns.terms)
    for index, here in lines.terms.items():
        own = sum(rest[term] * sure for term, sure in here.items())
        around = sum(rest[term] * share for term, share in lines.near(index).items() if term not in here)
        line = lines.line(index)
        score = own + around + _form_bonus(line, here, patterns, rest, text_stem)
        if line.lstrip().startswith(("import ", "from ")):
            score *= 0.5
        yield score + 1.25 * from_name, index


def _form_bonus(
    line: str, here: dict[_Term, float], patterns: _LinePatterns, rest: dict[_Term, float], text_stem: str
) -> float:
    """For words side by side as in the query, and for defining or assigning what is asked for."""
    bonus = 0.0
    for (first, second), pattern in patterns.pairs:
        if first in line and second in line and pattern.search(line):
            bonus += 0.5 * sum(term.idf for term in here if term.stem in {first, second})
    defined = patterns.defines.search(line)
    if defined:
        return bonus + _named_weight(defined[1], here, rest, text_stem)
    best = 0.0
    for match in patterns.assigns.finditer(line):
        name, value = match[1] or match[3], match[2] or match[4]
        weight = _named_weight(name, here, rest, text_stem)
        if value[0].isdigit() or value in "\"'-([{":
            weight *= patterns.value_factor  # a plain value answers more questions than a name does
        elif value == name:
            weight *= 0.3  # passed on, not decided
        if match.start() == 0:
            weight *= 1.4  # at the left margin: a definition, not a use
        best = max(best, weight)
    return bonus + 0.8 * best


def _named_weight(name: str, here: dict[_Term, float], rest: dict[_Term, float], text_stem: str) -> float:
    """Weight of the terms that make up a defined name, less what of the name they leave unsaid."""
    parts = [term for term in here if term.stem in name]
    longest = max((len(term.stem) for term in parts), default=0)
    covered = sum(len(term.stem) for term in parts if len(term.stem) > 2 or len(term.stem) == longest)
    for piece in name.split("_"):  # FTP_PORT in ftplib: the rest of the name is the text's own
        if (
            len(piece) > 1
            and text_stem.startswith(piece[:3])
            and not any(term.stem in piece for term in parts)
        ):
            covered += len(piece)
    share = min(covered / max(len(name.replace("_", "")), 1), 1.0)
    whole = max(
        (max(rest[term], 0.3 * term.idf) for term in parts if term.word.strip("_") == name.strip("_")),
        default=0.0,
    )
    return max(whole, share * sum(max(rest[term], 0.3 * term.idf) for term in parts))


def _spread(scored: list[tuple[float, str, int]], max_results: int, distance: int) -> list[tuple[str, int]]:
    """The best lines, none within ``distance`` of a better one, and not all from one text."""
    chosen: list[tuple[str, int]] = []
    taken: dict[str, list[int]] = {}
    late: list[tuple[str, int]] = []
    names = len({name for _, name, _ in scored})
    for _, name, line in scored:
        lines = taken.setdefault(name, [])
        if any(abs(line - other) <= distance for other in lines):
            continue
        lines.append(line)
        (chosen if len(lines) <= 5 or names == 1 else late).append((name, line))
        if len(chosen) == max_results:
            break
    return (chosen + late)[:max_results]


# ── chunks ──────────────────────────────────────────────────────────────────────────────────────────


def cut_chunks(text: str, size: int, overlap: int) -> list[str]:
    """``text`` in pieces of at most ``size`` characters, cut between lines where a line ends in time.

    Without ``overlap`` the pieces joined are the text; with it, each begins up to so many characters early.
    """
    if size < 1 or not 0 <= overlap < size:
        raise ValueError("chunks needs size >= 1 and 0 <= overlap < size")
    pieces, start = [], 0
    while start < len(text):
        end = min(start + size, len(text))
        if end < len(text):
            end = text.rfind("\n", start + overlap, end) + 1 or end
        pieces.append(text[start:end])
        if end == len(text):
            break
        back = max(end - overlap, start + 1)
        start = end if not overlap else (text.find("\n", back - 1, end - 1) + 1 or back)
    return pieces
