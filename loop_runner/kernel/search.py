"""Ranked search over many megabytes in pure Python. Runs inside the kernel process.

A model writes keywords or a whole question; the lines that answer it should come first. Texts are cut into
segments of some ten thousand characters. Each query term is counted in every segment with C-speed string
methods; the best segments are then looked at line by line.

What a line scores, in short: the rarer a term (inverse document frequency), the more it counts; a term on the
line counts whole, one within a few lines counts part, one in the text's *name* counts for all its lines; lines
that define or assign a term, or hold two query words side by side, count more.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import namedtuple
from fnmatch import fnmatchcase
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
    "a an and any are as at be been being but by can could did do does done doing each for from get gets give given "
    "gives had has have how i if in into is it its itself just many may me might much must my of on or our out over "
    "please shall should so some such tell than that the their them then there these they this those to under until "
    "up use used uses using was we were what when where which while who whom whose why will with within would you "
    "your find show say says stand stands python module modules library standard file".split()
)
_WORD = re.compile(r"[^\W_]+(?:_+[^\W_]+)*_*|_+[^\W_]+(?:_+[^\W_]+)*_*", re.UNICODE)
_CAMEL = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_QUOTED = re.compile(r"[\"'`]([^\"'`]{2,80})[\"'`]")


class Hit(namedtuple("Hit", "name line text passage")):
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


class _Term:
    """One word of the query: how it is matched and how much it weighs."""

    __slots__ = ("counts", "idf", "pattern", "stem", "weight", "word")

    def __init__(self, word: str, weight: float) -> None:
        self.word = word
        self.weight = weight
        self.stem = _stem(word)
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
        self._name_words = {name: _words_of_name(name) for name in texts}

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
        terms, pairs = _read_query(query)
        segments = [segment for name in names for segment in self._segments_of(name)]
        self._count(terms, segments)
        looked_at = self._best_segments(terms, segments)
        patterns = _LinePatterns(terms, pairs)
        scored: list[tuple[float, str, int]] = []
        for segment in looked_at:
            known = {term.word: _in_name(term, self._name_words[segment.name]) for term in terms}
            prior = _name_prior(segment.name, terms)
            for score, line in _score_lines(self._lowered(segment), terms, patterns, known):
                scored.append((score * prior, segment.name, segment.first_line + line))
        scored.sort(key=lambda each: (-each[0], each[1], each[2]))
        return self._hits(_spread(scored, max_results, max(context_lines, 1)), context_lines)

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

    def _best_segments(self, terms: list[_Term], segments: list[_Segment]) -> list[_Segment]:
        scores = [0.0] * len(segments)
        for term in terms:
            for index, count in enumerate(term.counts):
                if count:
                    scores[index] += term.idf * (0.6 + 0.4 * count / (count + 4.0))
        for index, segment in enumerate(segments):
            words = self._name_words[segment.name]
            scores[index] += 1.5 * sum(_in_name(term, words) * term.idf for term in terms)
            scores[index] *= _name_prior(segment.name, terms)
        order = sorted(range(len(segments)), key=lambda index: (-scores[index], index))
        return [segments[index] for index in order[:_LOOKED_AT] if scores[index] > 0]

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
            title = f"no match for the regular expression {pattern.pattern!r:.80}: try plain keywords, without regex=True"
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


def _read_query(query: str) -> tuple[list[_Term], list[tuple[str, str]]]:
    """Weighted terms, and pairs of words that stand side by side in the query."""
    terms: dict[str, float] = {}

    def add(word: str, weight: float) -> None:
        word = word.lower()
        if word and (len(word) > 1 or word.isdigit() or not word.isascii()):
            terms[word] = max(terms.get(word, 0.0), weight)

    for phrase in _QUOTED.findall(query):
        if " " in phrase or "." in phrase:
            add(phrase, 1.5)
    words = _WORD.findall(query)
    content = [word for word in words if word.lower() not in _STOP_WORDS]
    for word in content or words:
        looks_like_name = "_" in word.strip("_") or any(map(str.isupper, word[1:])) or word.isupper()
        add(word, 1.4 if looks_like_name else 1.0)
        parts = [part for piece in word.split("_") for part in _CAMEL.findall(piece)]
        if len(parts) > 1:
            for part in parts:
                if len(part) > 2 and part.lower() not in _STOP_WORDS:
                    add(part, 0.35)
    lowered = [_stem(word.lower()) for word in content]
    pairs = [pair for pair in zip(lowered, lowered[1:], strict=False) if pair[0] != pair[1]]
    return [_Term(word, weight) for word, weight in terms.items()], pairs


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


def _words_of_name(name: str) -> tuple[str, frozenset[str]]:
    """The stem of the last part of ``name``, and all words in it."""
    lowered = name.lower()
    last = lowered.rsplit("/", 1)[-1]
    stem = last.split(".", 1)[0] or last
    if stem in ("__init__", "index", "readme") and "/" in lowered:
        stem = lowered.rsplit("/", 2)[-2]
    return stem, frozenset(
        word for piece in re.split(r"[^\w]+", lowered) for word in (piece, *piece.split("_")) if word
    )


def _in_name(term: _Term, name_words: tuple[str, frozenset[str]]) -> float:
    """How much of ``term`` the name of a text says: 1 when it *is* the name, less when it is a part of it."""
    stem, words = name_words
    if term.word == stem:
        return 1.0
    return 0.5 if term.word in words or term.stem in words else 0.0


def _name_prior(name: str, terms: list[_Term]) -> float:
    """Deep paths and tests answer a question less often than what they belong to."""
    prior = 1.0 / (1.0 + 0.04 * name.count("/"))
    if _ASIDE.search(name.lower()) and not any(term.stem.startswith("test") for term in terms):
        prior *= 0.55
    return prior


# ── lines ───────────────────────────────────────────────────────────────────────────────────────────


class _LinePatterns:
    """The query's terms, compiled once for looking at lines."""

    def __init__(self, terms: list[_Term], pairs: list[tuple[str, str]]) -> None:
        by_length = sorted(terms, key=lambda term: -len(term.word))
        self.each = [(term, re.compile(term.pattern)) for term in by_length]
        any_word = "|".join(re.escape(term.stem) for term in by_length)
        self.defines = re.compile(
            rf"^\s*(?:async\s+)?(?:def|class|function|fn|func)\s+(\w*(?:{any_word})\w*)"
        )
        self.assigns = re.compile(
            rf"(?<![\w.])(\w*(?:{any_word})\w*)\s*(?::[^=\n]{{0,40}})?=(?!=)\s*\S|^\s*\W{{0,2}}(\w*(?:{any_word})\w*)\W{{0,2}}\s*:\s*\S"
        )
        self.pairs = [
            (pair, re.compile(rf"{re.escape(pair[0])}(?:s|es|d|ed|ing)?[\W_]{{0,3}}{re.escape(pair[1])}"))
            for pair in pairs
        ]


def _score_lines(
    lowered: str, terms: list[_Term], patterns: _LinePatterns, known: dict[str, float]
) -> Iterator[tuple[float, int]]:
    """(score, line index) of every line of a segment that holds a term."""
    starts = [0]
    for part in lowered.split("\n"):
        starts.append(starts[-1] + len(part) + 1)
    on_line: dict[int, set[_Term]] = {}
    for term, pattern in patterns.each:
        if term.idf <= 0 or term.stem not in lowered:
            continue
        for match in pattern.finditer(lowered):
            on_line.setdefault(bisect_right(starts, match.start()) - 1, set()).add(term)
    from_name = sum(term.idf * known[term.word] for term in terms)
    everything = sum(term.idf for term in terms) or 1.0
    for index, here in on_line.items():
        line = lowered[starts[index] : starts[index + 1] - 1]
        score = _score_line(index, here, line, on_line, patterns, known) + 0.9 * from_name
        yield score / everything, index


def _score_line(
    index: int,
    here: set[_Term],
    line: str,
    on_line: dict[int, set[_Term]],
    patterns: _LinePatterns,
    known: dict[str, float],
) -> float:
    # What the name of the text says already counts little on the line itself.
    score = sum(term.idf * (1.0 - 0.7 * known[term.word]) for term in here)
    near: dict[_Term, float] = {}
    for distance in range(1, _NEAR + 1):
        for other in (index - distance, index + distance):
            for term in on_line.get(other, ()):
                if term not in here and term not in near:
                    near[term] = 0.5 - 0.1 * distance
    score += sum(term.idf * part * (1.0 - 0.7 * known[term.word]) for term, part in near.items())
    for (first, second), pattern in patterns.pairs:
        if first in line and second in line and pattern.search(line):
            score += 0.5 * sum(term.idf for term in here if term.stem in (first, second))
    defined = patterns.defines.search(line)
    if defined:
        score += _named_weight(defined[1], here)
    else:
        assigned = patterns.assigns.search(line)
        if assigned:
            score += 0.6 * _named_weight(assigned[1] or assigned[2] or "", here)
    stripped = line.lstrip()
    if stripped.startswith(("import ", "from ")):
        score *= 0.6
    return score


def _named_weight(name: str, here: set[_Term]) -> float:
    """Weight of the terms that make up a defined name; all of it when the name is one of the terms."""
    whole = [term.idf for term in here if term.word == name.strip("_")]
    if whole:
        return max(whole)
    parts = [term for term in here if term.stem in name]
    covered = sum(len(term.stem) for term in parts) / max(len(name), 1)
    return min(covered, 1.0) * 0.7 * sum(term.idf for term in parts)


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
        (chosen if len(lines) <= 3 or names == 1 else late).append((name, line))
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
