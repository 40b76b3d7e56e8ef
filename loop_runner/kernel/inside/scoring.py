"""How well a line answers a query: the words on it and near it, and the form of the line."""

from __future__ import annotations

import re
from heapq import heappush, heapreplace

from .queries import Query, Term

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


_NEAR = 3  # lines


_PLAIN_VALUE = 1.6  # the factor for a plain value: it answers more questions than a name does


class LinePatterns:
    """The query's terms, compiled once for looking at lines."""

    def __init__(self, query: Query) -> None:
        self.terms = [(term, re.compile(term.whole)) for term in query.terms if term.idf > 0]
        any_word = "|".join(
            re.escape(term.stem) for term in sorted(query.terms, key=lambda item: -len(item.stem))
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
    """One segment's lines and the terms on each, with certainty (1: a whole word; less: inside another)."""

    def __init__(self, lowered: str, patterns: LinePatterns) -> None:
        self._lines = lowered.split("\n")
        self.terms: dict[int, dict[Term, float]] = {}
        self.present = {term for term, whole in patterns.terms if self._find(term, whole)}
        self._above: dict[int, tuple[int, ...]] | None = None

    def line(self, index: int) -> str:
        return self._lines[index]

    def _find(self, term: Term, whole: re.Pattern[str]) -> bool:
        stem, inside, terms = term.stem, 0.5 if len(term.stem) >= 4 else 0.0, self.terms
        having = [index for index, line in enumerate(self._lines) if stem in line]
        for index in having:
            sure = 1.0 if whole.search(self._lines[index]) else inside
            if sure:
                terms.setdefault(index, {})[term] = sure
        return bool(having)

    def _enclosing(self) -> dict[int, tuple[int, ...]]:
        """Line with terms → the lines with terms that it is indented under."""
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

    def near(self, index: int) -> dict[Term, float]:
        """Terms around line ``index`` and on the lines that it is indented under, with their share."""
        near: dict[Term, float] = {}
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


_NONE: dict[Term, float] = {}


_NEAR_SHARE = 0.4  # the most that a nearby term counts, relative to one on the line


class Best:
    """The best scores so far of one text's lines, up to a fixed number."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._scores: list[float] = []  # a heap

    def takes(self, score: float) -> bool:
        """Whether ``score`` would be among them."""
        return len(self._scores) < self._count or score > self._scores[0] + 1e-9

    def add(self, score: float) -> None:
        """Keep ``score`` if it is among the best."""
        if len(self._scores) < self._count:
            heappush(self._scores, score)
        elif score > self._scores[0]:
            heapreplace(self._scores, score)


def score_lines(
    lowered: str, patterns: LinePatterns, in_name: dict[str, float], text_stem: str, best: Best
) -> Iterator[tuple[float, int]]:
    """(score, line index) of the lines of a segment that hold a term and may be among the ``best``."""
    lines = _Lines(lowered, patterns)
    # A term in the text's name already counts for all its lines, so it counts little on the line.
    rest = {term: term.idf * (1.0 - in_name.get(term.word, 0.0)) for term, _ in patterns.terms}
    from_name = sum(term.idf * in_name.get(term.word, 0.0) for term, _ in patterns.terms)
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
    line: str, here: dict[Term, float], patterns: LinePatterns, rest: dict[Term, float], text_stem: str
) -> float:
    """For adjacent words as in the query, and for defining or assigning a term."""
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


def _named_weight(name: str, here: dict[Term, float], rest: dict[Term, float], text_stem: str) -> float:
    """Weight of the terms in a defined name, reduced by the parts of the name that they do not cover."""
    parts = [term for term in here if term.stem in name]
    longest = max((len(term.stem) for term in parts), default=0)
    covered = sum(len(term.stem) for term in parts if len(term.stem) > 2 or len(term.stem) == longest)
    for piece in name.split("_"):  # FTP_PORT in ftplib: the rest of the name comes from the text's name
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


def spread(scored: list[tuple[float, str, int]], max_results: int, distance: int) -> list[tuple[str, int]]:
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
