"""Ranked search over many megabytes in pure Python. Runs inside the kernel process.

A model writes keywords or a whole question; the lines that answer it should come first. Texts are cut into
segments of about ten thousand characters. Each query term is counted in every segment with C-speed string
methods, no further than the count matters. The best segments are then scored line by line, and only the lines
that can still be among the best are scored in full.

The score of a line, in short: the rarer a term (inverse document frequency), the more it counts. A term on
the line counts in full, one within a few lines in part, one in the text's *name* for all of its lines. Lines
that define or assign a term, or have two query words side by side, count more.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import namedtuple
from fnmatch import fnmatchcase

from . import shown
from .names import plural
from .queries import HEAVY, WORD, Name, Query, Term
from .scoring import Best, LinePatterns, score_lines, spread
from .texts import Texts, did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

SEGMENT_CHARS = 48_000
MAX_LINE_CHARS = 400
_MAX_CACHED_CHARS = 256 * 1024 * 1024  # above this, each search makes its own lower-case copies
_LOOKED_AT = 60  # segments that are scored line by line
_SAMPLE = 200  # segments used to estimate how common a term is
_CANDIDATES = 600  # segments in which common terms and light ones are counted
_COMMON = 0.25  # of the segments


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

    total = 0  # for hits that were pickled before they had a total

    def __init__(self, hits: Iterable[Hit] = (), title: str = "", total: int | None = None) -> None:
        super().__init__(hits)
        self.title = title
        self.total = len(self) if total is None else total

    def __getitem__(self, key: Any) -> Any:
        item = list.__getitem__(self, key)
        return SearchHits(item, self.title, self.total) if isinstance(key, slice) else item

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
        """(number of its first hit, text as printed) of each passage; adjacent passages are merged."""
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
        """The citation of the line in these passages that ``copied`` is, or is most similar to.

        A model that copies a line may drop its number, add a remark or keep only the part that matters.
        There are few passages, so the line that shares most with the copy is the one it meant. Raises
        ``ValueError`` when no line does.
        """
        wanted = [part.strip(" `>") for part in copied.split("\n") if part.strip(" `>")]
        best, citation = 0.0, ""
        for hit in self:
            for line in hit.passage.split("\n"):
                numbered = line.removeprefix(f"{hit.name}:")
                number, _, text = numbered.partition(":")
                if not text.strip():
                    continue
                score = max((_likeness((line, numbered), text.strip(), part) for part in wanted), default=0.0)
                if score > best:
                    best, citation = score, f"> {hit.name}:{number}: {text.strip()}"
        if best < _LIKE_ENOUGH:
            raise ValueError("this is not a line of these passages; copy one line exactly as it is printed")
        return citation


_LIKE_ENOUGH = 0.5


def _likeness(printed: tuple[str, str], text: str, copied: str) -> float:
    """How similar a line and a copy are: 2 as printed, by number; 1 its text alone; else by shared words."""
    if any(line.strip() == copied for line in printed):
        return 2.0
    if text and text == copied:
        return 1.0
    words, copied_words = set(WORD.findall(printed[0])), set(WORD.findall(copied))
    shared = len(words & copied_words)
    return 0.6 * shared / max(len(copied_words), 1) + 0.39 * shared / max(len(words | copied_words), 1)


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
        self._names = {name: Name(name) for name in texts}

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
        """The texts that ``names`` (names, endings, patterns) match; None: all. Raises ``ValueError``."""
        if names is None:
            return list(self._texts)
        wanted = [names] if isinstance(names, str) else [str(name) for name in names]
        chosen: dict[str, None] = {}
        for want in wanted:
            names_found = (
                [want]
                if want in self._texts
                else [name for name in self._texts if fnmatchcase(name, want) or name.endswith("/" + want)]
            )
            if not names_found:
                raise ValueError(f"no text is named {want!r:.80}{did_you_mean(want, self._texts)}")
            chosen.update(dict.fromkeys(names_found))
        return list(chosen)

    # ── segments ────────────────────────────────────────────────────────────────────────────────────

    def _segments_of(self, name: str) -> list[_Segment]:
        segments = self._segments.get(name)
        if segments is None:
            segments = self._segments[name] = list(_cut_segments(name, self._texts[name]))
        return segments

    def _first_line(self, segment: _Segment) -> int:
        """The number of a segment's first line, from the line ends before it."""
        known = self._first_lines.setdefault(segment.name, [1])
        for earlier in self._segments_of(segment.name)[len(known) - 1 : segment.position]:
            # In narrow copies, line ends are counted in a fraction of the time.
            text = earlier.lowered or self._texts[earlier.name][earlier.start : earlier.end]
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
        parsed = Query(query)
        segments = [segment for name in names for segment in self._segments_of(name)]
        self._count(parsed.terms, segments)
        patterns = LinePatterns(parsed)
        scored: list[tuple[float, str, int]] = []
        # A shown line hides its neighbours within the context, so a text's results are all among this many of
        # its best lines.
        best: dict[str, Best] = {}
        for segment, in_name, prior in self._best_segments(parsed, segments):
            first_line = self._first_line(segment)
            kept = best.setdefault(segment.name, Best(max_results * (2 * context_lines + 1)))
            for score, line in score_lines(
                self._lowered(segment), patterns, in_name, self._names[segment.name].stem, kept
            ):
                scored.append((score * prior, segment.name, first_line + line))
        scored.sort(key=lambda other: (-other[0], other[1], other[2]))
        lines = spread(scored, max_results, context_lines)
        hits = [self._hit(name, line, self._start_of(name, line), context_lines) for name, line in lines]
        return SearchHits(hits, total=len(scored))

    def _count(self, terms: list[Term], segments: list[_Segment]) -> None:
        """Count the terms in the segments, and weigh each by how few segments have it.

        If there are many segments, common and light terms are counted only in those that the other terms
        favour: they would hardly bring another one to the front.
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
        left = sorted(terms, key=lambda item: -item.idf)
        for term in list(left):
            if having < _CANDIDATES or (term.weight >= HEAVY and term.share < _COMMON):
                left.remove(term)
                term.count(lowered, everywhere)
                term.add_to(scores)
                having = sum(map(bool, scores))
        candidates = sorted(everywhere, key=lambda index: -scores[index])[:_CANDIDATES]
        for term in left:
            term.count(lowered, sorted({*candidates, *sample}), shared_by=sample)

    def _best_segments(
        self, query: Query, segments: list[_Segment]
    ) -> list[tuple[_Segment, dict[str, float], float]]:
        """The segments worth scoring by line, the terms in their names, and their trust."""
        scores = [0.0] * len(segments)
        for term in query.terms:
            term.add_to(scores)
        for_tests = any(term.stem.startswith("test") for term in query.terms)
        shares = {name: query.share_in_name(self._names[name]) for name in {item.name for item in segments}}
        priors = []
        for index, segment in enumerate(segments):
            name = self._names[segment.name]
            in_name = shares[segment.name]
            scores[index] += 1.5 * sum(term.idf * in_name.get(term.word, 0.0) for term in query.terms)
            priors.append(name.prior_for_tests if for_tests else name.prior)
            scores[index] *= priors[index]
        order = sorted(range(len(segments)), key=lambda index: (-scores[index], index))[:_LOOKED_AT]
        return [(segments[at], shares[segments[at].name], priors[at]) for at in order if scores[at] > 0]

    # ── by regular expression ───────────────────────────────────────────────────────────────────────

    def _by_regex(
        self, pattern: re.Pattern[str], names: list[str], max_results: int, context_lines: int
    ) -> SearchHits:
        matches: list[tuple[str, int, int]] = []
        total = 0
        for name in names:
            text = self._texts[name]
            seen_line, seen_at = 1, 0
            for match in pattern.finditer(text):
                total += 1
                if len(matches) < max_results:
                    seen_line += text.count("\n", seen_at, match.start())
                    seen_at = match.start()
                    if not matches or matches[-1][:2] != (name, seen_line):
                        matches.append((name, seen_line, text.rfind("\n", 0, seen_at) + 1))
        title = (
            f"{total:,} matches; the first {plural(len(matches), 'line')}:" if total > len(matches) else ""
        )
        if not total:
            title = (
                f"no match for the regular expression {pattern.pattern!r:.80}: "
                "try plain keywords, without regex=True"
            )
        return SearchHits([self._hit(*match, context_lines) for match in matches], title, total)

    # ── hits ────────────────────────────────────────────────────────────────────────────────────────

    def _start_of(self, name: str, line: int) -> int:
        """The start of a line in a segment whose number is known."""
        known = self._first_lines[name]
        position = bisect_right(known, line) - 1
        start = self._segments_of(name)[position].start
        for _ in range(line - known[position]):
            start = self._texts[name].find("\n", start) + 1
        return start

    def _hit(self, name: str, line: int, start: int, context_lines: int) -> Hit:
        text = self._texts[name]
        if start == len(text) and line > 1:  # after the end of the last line
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
            f"{name}:{number}: {_short(text_line)}" for number, text_line in enumerate(lines, first_line)
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
        if letter == "Σ":  # its lower-case form depends on what follows
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


# ── lines ───────────────────────────────────────────────────────────────────────────────────────────
