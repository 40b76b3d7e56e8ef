"""Ranked search over many megabytes in pure Python. Runs inside the kernel process.

A model writes keywords or a whole question; the lines that answer it should come first. Texts are cut into
segments of some ten thousand characters. Each query term is counted in every segment with C-speed
string methods, no further than its count matters; the best segments are then looked at line by line, and of
those lines only the ones that can still be among the best are looked at closely.

What a line scores, in short: the rarer a term (inverse document frequency), the more it counts; a term on
the line counts whole, one within a few lines counts part, one in the text's *name* counts for all its
lines; lines that define or assign a term, or hold two query words side by side, count more.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import namedtuple
from fnmatch import fnmatchcase
from heapq import heappush, heapreplace
from itertools import islice, pairwise
from math import log

from . import shown
from .names import plural
from .texts import Texts, did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any

SEGMENT_CHARS = 48_000
MAX_LINE_CHARS = 400
_MAX_CACHED_CHARS = 256 * 1024 * 1024  # above this, lowered copies are made for each search anew
_LOOKED_AT = 60  # segments that are scored line by line
_COUNTED = 32  # more of one word in a segment says hardly more
_SAMPLE = 200  # segments in which it is tried how common a term is
_CANDIDATES = 600  # segments in which common terms, and those that weigh little, are counted
_COMMON = 0.25  # of the segments
_HEAVY = 0.5  # what a word of the query weighs at least; its parts and short forms weigh less
_NEAR = 3  # lines
_PLAIN_VALUE = 1.6  # what a plain value counts: it answers more questions than a name does
# Words of any question. How much every other word counts is left to how common it is in the texts.
_STOP_WORDS = frozenset(
    (  # noqa: SIM905 - a list of ninety quoted words is harder to read
        "a an and any are as at be been being but by can could did do does done doing each for from get gets "
        "give given gives had has have how i if in into is it its itself just many may me might much must my "
        "of on or our out over please shall should so some such tell than that the their them then there "
        "these they this those to under until up was we were what when where which while "
        "who whom whose why will with within would you your find show say says "
    ).split()
)
_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
_WORD = re.compile(r"[^\W_]+(?:_+[^\W_]+)*_*|_+[^\W_]+(?:_+[^\W_]+)*_*", re.UNICODE)
_CAMEL = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_QUOTED = re.compile(r"[\"'`]([^\"'`]{2,80})[\"'`]")


class Hit(namedtuple("Hit", "name line text passage")):  # noqa: PYI024, SLOT002 - no ``typing``; has ``place``
    """One passage: its text's name, the best line's number (from 1) and text, and the lines around it."""

    place = (
        ""  # of the line in what the text was converted from, such as "page 12"; no item: hits are unpacked
    )

    def __getitem__(self, key: Any) -> Any:
        return getattr(self, key) if isinstance(key, str) else tuple.__getitem__(self, key)

    def __str__(self) -> str:
        return str(self.passage)

    def lines(self) -> dict[int, str]:
        """The lines of the passage by number, without the name."""
        start = len(self.name) + 1
        numbered = (line[start:].partition(": ") for line in self.passage.split("\n"))
        return {int(number): text for number, _, text in numbered}


class SearchHits(list):  # type: ignore[type-arg]
    """The hits, best first; ``total``: how many were found. As text: each name, then its lines by number."""

    total = 0  # of hits that were pickled before they had a total

    def __init__(self, hits: Iterable[Hit] = (), title: str = "", total: int | None = None) -> None:
        super().__init__(hits)
        self.title = title
        self.total = len(self) if total is None else total

    def __getitem__(self, key: Any) -> Any:
        found = list.__getitem__(self, key)
        return SearchHits(found, self.title, self.total) if isinstance(key, slice) else found

    def __str__(self) -> str:
        parts, room = [self.title] if self.title else [], shown.max_chars()
        for count, passage in self._passages():
            room -= len(passage) + len("\n--\n")
            if room < 0 and count:
                parts.append(f"… {len(self) - count} more: print them with print(hits[{count}:])")
                break
            more = f"read({self[count].name!r}, {self[count].line})"
            parts.append(shown.cut_lines(passage.split("\n"), lambda _, more=more: more))  # type: ignore[misc]
        return "\n--\n".join(parts)

    def _passages(self) -> Iterator[tuple[int, str]]:
        """(number of its first hit, text as printed) of each passage; passages that meet are one."""
        passages: list[tuple[Hit, dict[int, str]]] = []
        firsts: list[int] = []
        for count, hit in enumerate(self):
            lines = hit.lines()
            for other, known in passages:
                if other.name == hit.name and not known.keys().isdisjoint(lines):
                    known.update(lines)
                    break
            else:
                passages.append((hit, lines))
                firsts.append(count)
        for count, (hit, lines) in zip(firsts, passages, strict=True):
            title = f"{hit.name} ({hit.place})" if hit.place else hit.name
            yield count, "\n".join([title, *(f"{number}: {lines[number]}" for number in sorted(lines))])

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
                numbered = line.removeprefix(f"{hit.name}:")
                number, _, text = numbered.partition(":")
                score = max((_likeness((line, numbered), text.strip(), part) for part in wanted), default=0.0)
                if score > best:
                    best, found = score, f"> {hit.name}:{number}: {text.strip()}"
        if best < _LIKE_ENOUGH:
            raise ValueError("this is no line of these passages; copy one line exactly as it is printed")
        return found


_LIKE_ENOUGH = 0.5


def _likeness(printed: tuple[str, str], text: str, copied: str) -> float:
    """How alike a line and a copy are: 2 as printed, by number; 1 its text alone; else by shared words."""
    if any(line.strip() == copied for line in printed):
        return 2.0
    if text and text == copied:
        return 1.0
    words, copied_words = set(_WORD.findall(printed[0])), set(_WORD.findall(copied))
    shared = len(words & copied_words)
    return 0.6 * shared / max(len(copied_words), 1) + 0.39 * shared / max(len(words | copied_words), 1)


class _Term:
    """One word of the query: how it is matched and how much it weighs."""

    __slots__ = ("counts", "idf", "share", "stem", "weight", "whole", "word")

    def __init__(self, word: str, weight: float, stem: str) -> None:
        self.word = word
        self.weight = weight
        self.stem = stem
        # A whole word, its plural, or a part of a_name; the text before is checked last, so that the
        # regular expression engine can look for the literal itself.
        stem = re.escape(self.stem)
        ending = "" if self.stem.endswith("_") else r"(?:s|es|d|ed|ing)?(?![^\W_])"
        self.whole = rf"{stem}(?<![^\W_]{stem}){ending}"
        self.idf = 0.0
        self.share = 0.0  # of the segments that have it
        self.counts: dict[int, int] = {}  # by the position of the segment; where it is not, it is not named

    def count(self, texts: list[str], at: Sequence[int], shared_by: Sequence[int] | None = None) -> None:
        """Count it in the ``texts`` at those positions. Its share is that of ``shared_by``, if given."""
        find, stem = re.compile(self.whole).finditer, self.stem
        self.counts = {
            index: len(list(islice(find(texts[index]), _COUNTED))) for index in at if stem in texts[index]
        }
        if not any(self.counts.values()) and len(stem) >= 4 and len(at) == len(texts):
            # Only inside other words: better than nothing.
            self.counts = {index: min(texts[index].count(stem), _COUNTED) for index in self.counts}
            self.weight *= 0.6
        judged = at if shared_by is None else shared_by
        having = sum(bool(self.counts.get(index)) for index in judged)
        self.share = having / max(len(judged), 1)
        self.idf = self.weight * log(1 + (len(texts) + 0.5) / (self.share * len(texts) + 0.5))

    def add_to(self, scores: list[float]) -> None:
        """Add what it says of each segment to the segments' ``scores``."""
        for index, count in self.counts.items():
            if count:
                scores[index] += self.idf * (0.6 + 0.4 * count / (count + 4.0))


class _Segment:
    """Some lines of one text."""

    __slots__ = ("end", "lowered", "name", "position", "start")

    def __init__(self, name: str, position: int, start: int, end: int) -> None:
        self.name = name
        self.position = position
        self.start = start
        self.end = end
        self.lowered: str | None = None


class SearchIndex:
    """Searches ``texts``; what it learns about them is kept for the next search."""

    def __init__(
        self, texts: Texts | Mapping[str, str], place_of: Callable[[str, int], str] | None = None
    ) -> None:
        """``place_of``: the place that a line of a text comes from, or ""."""
        self._texts = texts
        self._place_of = place_of or (lambda _name, _line: "")
        self._segments: dict[str, list[_Segment]] = {}
        self._first_lines: dict[str, list[int]] = {}
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
        chosen = self.choose(names)
        if not query.strip():
            raise ValueError("search_text needs at least one word to look for")
        max_results, context_lines = max(int(max_results), 1), min(max(int(context_lines), 0), 50)
        if regex:
            try:
                pattern = re.compile(query, re.MULTILINE)
            except re.error as error:
                hits = self._by_words(query, chosen, max_results, context_lines)
                hits.title = f"not a regular expression ({error}): searched for its words instead"
                hits.title += "" if hits else "; nothing was found"
                return hits
            return self._by_regex(pattern, chosen, max_results, context_lines)
        hits = self._by_words(query, chosen, max_results, context_lines)
        hits.title = "" if hits else _nothing(query, len(chosen))
        return hits

    def choose(self, names: str | Iterable[str] | None) -> list[str]:
        """The texts that ``names`` (names, endings, patterns) mean; None: all. Raises ``ValueError``."""
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

    def _first_line(self, segment: _Segment) -> int:
        """The number of a segment's first line: as many line ends are counted as come before it."""
        known = self._first_lines.setdefault(segment.name, [1])
        for each in self._segments_of(segment.name)[len(known) - 1 : segment.position]:
            # In narrow copies, line ends are counted in a fraction of the time.
            text = each.lowered or self._texts[each.name][each.start : each.end]
            known.append(known[-1] + text.count("\n"))
        return known[segment.position]

    def _lowered(self, segment: _Segment) -> str:
        if segment.lowered is not None:
            return segment.lowered
        lowered = lower(self._texts[segment.name][segment.start : segment.end])
        if self._cached_chars < _MAX_CACHED_CHARS:
            self._cached_chars += len(lowered)
            segment.lowered = lowered
        return lowered

    # ── by words ────────────────────────────────────────────────────────────────────────────────────

    def _by_words(self, query: str, names: list[str], max_results: int, context_lines: int) -> SearchHits:
        asked = _Query(query)
        segments = [segment for name in names for segment in self._segments_of(name)]
        self._count(asked.terms, segments)
        patterns = _LinePatterns(asked)
        scored: list[tuple[float, str, int]] = []
        # A line that is shown keeps others from being shown that stand within its context, so no text can
        # have a line among the results which is not among so many of its best.
        best: dict[str, _Best] = {}
        for segment, said, prior in self._best_segments(asked, segments):
            first_line = self._first_line(segment)
            kept = best.setdefault(segment.name, _Best(max_results * (2 * context_lines + 1)))
            for score, line in _score_lines(
                self._lowered(segment), patterns, said, self._names[segment.name].stem, kept
            ):
                scored.append((score * prior, segment.name, first_line + line))
        scored.sort(key=lambda each: (-each[0], each[1], each[2]))
        found = _spread(scored, max_results, context_lines)
        hits = [self._hit(name, line, self._start_of(name, line), context_lines) for name, line in found]
        return SearchHits(hits, total=len(scored))

    def _count(self, terms: list[_Term], segments: list[_Segment]) -> None:
        """Count the terms in the segments, and weigh each by how few segments have it.

        Where there are many segments, common terms and light ones are counted only in those that the other
        terms speak for: they would hardly bring another one to the front.
        """
        lowered = [self._lowered(segment) for segment in segments]
        everywhere = range(len(segments))
        if len(segments) <= _SAMPLE + _CANDIDATES:
            for term in terms:
                term.count(lowered, everywhere)
            return
        sample = everywhere[:: len(segments) // _SAMPLE]
        for term in terms:
            term.count(lowered, sample)
        having = 0
        scores = [0.0] * len(segments)
        left = sorted(terms, key=lambda each: -each.idf)
        for term in list(left):
            if having < _CANDIDATES or (term.weight >= _HEAVY and term.share < _COMMON):
                left.remove(term)
                term.count(lowered, everywhere)
                term.add_to(scores)
                having = sum(map(bool, scores))
        candidates = sorted(everywhere, key=lambda index: -scores[index])[:_CANDIDATES]
        for term in left:
            term.count(lowered, sorted({*candidates, *sample}), shared_by=sample)

    def _best_segments(
        self, query: _Query, segments: list[_Segment]
    ) -> list[tuple[_Segment, dict[str, float], float]]:
        """The segments whose lines are worth a look, what their names say, how far they are trusted."""
        scores = [0.0] * len(segments)
        for term in query.terms:
            term.add_to(scores)
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
        found: list[tuple[str, int, int]] = []
        total = 0
        for name in names:
            text = self._texts[name]
            seen_line, seen_at = 1, 0
            for match in pattern.finditer(text):
                total += 1
                if len(found) < max_results:
                    seen_line += text.count("\n", seen_at, match.start())
                    seen_at = match.start()
                    if not found or found[-1][:2] != (name, seen_line):
                        found.append((name, seen_line, text.rfind("\n", 0, seen_at) + 1))
        title = f"{total:,} matches; the first {plural(len(found), 'line')}:" if total > len(found) else ""
        if not total:
            title = (
                f"no match for the regular expression {pattern.pattern!r:.80}: "
                "try plain keywords, without regex=True"
            )
        return SearchHits([self._hit(*match, context_lines) for match in found], title, total)

    # ── hits ────────────────────────────────────────────────────────────────────────────────────────

    def _start_of(self, name: str, line: int) -> int:
        """Where a line begins that is in a segment whose number is known."""
        known = self._first_lines[name]
        position = bisect_right(known, line) - 1
        start = self._segments_of(name)[position].start
        for _ in range(line - known[position]):
            start = self._texts[name].find("\n", start) + 1
        return start

    def _hit(self, name: str, line: int, start: int, context_lines: int) -> Hit:
        text = self._texts[name]
        if start == len(text) and line > 1:  # behind the end of the last line
            start, line = text.rfind("\n", 0, start - 1) + 1, line - 1
        first, first_line = start, line
        while first and line - first_line < context_lines:
            first, first_line = text.rfind("\n", 0, first - 1) + 1, first_line - 1
        end = start
        for _ in range(context_lines + 1):
            end = text.find("\n", end) + 1 or len(text) + 1
            if end >= len(text):
                break
        lines = text[first : end - 1].split("\n")
        passage = "\n".join(
            f"{name}:{number}: {_short(each)}" for number, each in enumerate(lines, first_line)
        )
        hit = Hit(name, line, lines[line - first_line].rstrip("\r"), passage)
        if place := self._place_of(name, line):
            hit.place = place
        return hit


def lower(text: str) -> str:
    """``text.lower()``, in half of the time where few characters are not ASCII."""
    if text.isascii():
        return text.lower()
    data = text.encode("utf-8", "surrogatepass")
    rare = data.translate(None, _ASCII)
    if len(rare) * 8 > len(data):
        return text.lower()
    data = data.lower()
    for letter in set(rare.decode("utf-8", "surrogatepass")):
        if letter == "Σ":  # its small form hangs on what follows
            return text.lower()
        if (small := letter.lower()) != letter:
            data = data.replace(
                letter.encode("utf-8", "surrogatepass"), small.encode("utf-8", "surrogatepass")
            )
    return data.decode("utf-8", "surrogatepass")


_ASCII = bytes(range(128))


def _short(line: str) -> str:
    line = line.rstrip("\r")
    return line if len(line) <= MAX_LINE_CHARS else line[: MAX_LINE_CHARS - 1] + "…"


def _nothing(query: str, texts: int) -> str:
    return (
        f"nothing was found for {query!r:.80} in {plural(texts, 'text')}: try fewer or other words, "
        "parts of words, or the names that the text itself would use"
    )


def _cut_segments(name: str, text: str) -> Iterator[_Segment]:
    start, position = 0, -1
    while True:
        position += 1
        end = start + SEGMENT_CHARS
        if end < len(text):
            at = text.rfind("\n", start, end) + 1 or text.find("\n", end) + 1
            end = at or len(text)
        else:
            end = len(text)
        yield _Segment(name, position, start, end)
        if end >= len(text):
            return
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
        self._add(word, 1.4 if is_name else 1.0)
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

_ASIDE = re.compile(r"(?:^|[/_])(?:tests?|testing|test_\w+)(?:[/._]|$)")


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
        self.terms = [(term, re.compile(term.whole)) for term in query.terms if term.idf > 0]
        any_word = "|".join(
            re.escape(term.stem) for term in sorted(query.terms, key=lambda each: -len(each.stem))
        )
        name = rf"(\w*(?:{any_word})\w*)"
        self.defines = re.compile(rf"^\s*(?:async\s+)?(?:def|class|function|fn|func|#define)\s+{name}")
        self.assigns = re.compile(
            rf"(?<![\w]){name}\s*(?::[^=\n]{{0,40}})?=(?!=)\s*(\w+|\S)|^\s*[\W_]{{0,3}}{name}[\W_]{{0,2}}\s*:\s*(\w+|\S)"
        )
        self.pairs = [
            (pair, re.compile(rf"{re.escape(pair[0])}(?:s|es|d|ed|ing)?[\W_]{{0,3}}{re.escape(pair[1])}"))
            for pair in query.pairs
        ]


class _Lines:
    """One segment's lines and which terms stand on each, how surely (1: as a word; less: inside another)."""

    def __init__(self, lowered: str, patterns: _LinePatterns) -> None:
        self._lines = lowered.split("\n")
        self.terms: dict[int, dict[_Term, float]] = {}
        self.present = {term for term, whole in patterns.terms if self._find(term, whole)}
        self._above: dict[int, tuple[int, ...]] | None = None

    def line(self, index: int) -> str:
        return self._lines[index]

    def _find(self, term: _Term, whole: re.Pattern[str]) -> bool:
        stem, inside, terms = term.stem, 0.5 if len(term.stem) >= 4 else 0.0, self.terms
        having = [index for index, line in enumerate(self._lines) if stem in line]
        for index in having:
            sure = 1.0 if whole.search(self._lines[index]) else inside
            if sure:
                terms.setdefault(index, {})[term] = sure
        return bool(having)

    def _enclosing(self) -> dict[int, tuple[int, ...]]:
        """Line with terms → the lines with terms under which it is indented."""
        above: dict[int, tuple[int, ...]] = {}
        stack: list[tuple[int, int]] = []
        for index, line in enumerate(self._lines):
            code = line.lstrip(" \t")
            if not code or code.isspace():
                continue
            indent = len(line) - len(code)
            while stack and stack[-1][0] >= indent:
                stack.pop()
            if index in self.terms:
                above[index] = tuple(line for _, line in stack)
                stack.append((indent, index))
        return above

    def near(self, index: int) -> dict[_Term, float]:
        """Terms around line ``index`` and on the lines that it is indented under, with their share."""
        near: dict[_Term, float] = {}
        if self._above is None:
            self._above = self._enclosing()
        for distance in range(1, _NEAR + 1):
            for other in (index - distance, index + distance):
                for term, sure in self.terms.get(other, _NONE).items():
                    near[term] = max(near.get(term, 0.0), sure * (0.45 - 0.1 * distance))
        for other in self._above.get(index, ()):
            for term, sure in self.terms[other].items():
                near[term] = max(near.get(term, 0.0), sure * _NEAR_SHARE)
        return near


_NONE: dict[_Term, float] = {}
_NEAR_SHARE = 0.4  # what a term near a line counts at most, of what it counts on the line


class _Best:
    """The best scores so far of one text's lines, so many of them."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._scores: list[float] = []  # a heap

    def takes(self, score: float) -> bool:
        """Whether ``score`` would be among them."""
        return len(self._scores) < self._count or score > self._scores[0] + 1e-9

    def add(self, score: float) -> None:
        if len(self._scores) < self._count:
            heappush(self._scores, score)
        elif score > self._scores[0]:
            heapreplace(self._scores, score)


def _score_lines(
    lowered: str, patterns: _LinePatterns, said: dict[str, float], text_stem: str, best: _Best
) -> Iterator[tuple[float, int]]:
    """(score, line index) of the lines of a segment that hold a term and may be among the ``best``."""
    lines = _Lines(lowered, patterns)
    # What the name of the text says already counts for all its lines, and little on the line itself.
    rest = {term: term.idf * (1.0 - said.get(term.word, 0.0)) for term, _ in patterns.terms}
    from_name = sum(term.idf * said.get(term.word, 0.0) for term, _ in patterns.terms)
    all_present = sum(rest[term] for term in lines.present)
    for index, here in lines.terms.items():
        line = lines.line(index)
        score = sum(rest[term] * sure for term, sure in here.items())
        score += _form_bonus(line, here, patterns, rest, text_stem)
        most_near = _NEAR_SHARE * (all_present - sum(rest[term] for term in here))
        if not best.takes(score + most_near + 1.25 * from_name):
            continue
        score += sum(rest[term] * share for term, share in lines.near(index).items() if term not in here)

        score += 1.25 * from_name
        best.add(score)
        yield score, index


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
    if "=" not in line and ":" not in line:
        return bonus
    for match in patterns.assigns.finditer(line):
        name, value = match[1] or match[3], match[2] or match[4]
        weight = _named_weight(name, here, rest, text_stem)
        if value[0].isdigit() or value in "\"'-([{":
            weight *= _PLAIN_VALUE
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
