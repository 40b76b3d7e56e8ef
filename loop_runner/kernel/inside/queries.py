"""The words of a query, their weights, and what the names of texts contribute."""

from __future__ import annotations

import re
from itertools import islice, pairwise
from math import log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


_COUNTED = 32  # more occurrences of a word in a segment hardly matter


HEAVY = 0.5  # the least weight of a query's word; its parts and short forms weigh less


# Words of any question. The weight of every other word depends on how common it is in the texts.
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


WORD = re.compile(r"[^\W_]+(?:_+[^\W_]+)*_*|_+[^\W_]+(?:_+[^\W_]+)*_*", re.UNICODE)


_CAMEL = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")


_QUOTED = re.compile(r"[\"'`]([^\"'`]{2,80})[\"'`]")


class Term:
    """One word of the query: how it is matched, and its weight."""

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
        self.counts: dict[int, int] = {}  # by segment position; absent positions have none

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
        """Add its evidence for each segment to the segments' ``scores``."""
        for index, count in self.counts.items():
            if count:
                scores[index] += self.idf * (0.6 + 0.4 * count / (count + 4.0))


class Query:
    """The parsed query: weighted terms, adjacent words, and dotted names."""

    def __init__(self, query: str) -> None:
        self._weights: dict[str, float] = {}
        for phrase in _QUOTED.findall(query):
            if " " in phrase or "." in phrase:
                self._add(phrase, 1.5)
        words = WORD.findall(query)
        content = [word for word in words if word.lower() not in _STOP_WORDS] or words
        for word in content:
            self._add_word(word)
        # An abbreviation in capitals ("HTTPS") has no plural.
        whole = {word.lower() for word in content if word.isupper()} | {"https"}
        self.terms = [
            Term(word, weight, word if word in whole else _stem(word))
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

    def share_in_name(self, name: Name) -> dict[str, float]:
        """Term → how much of it a text's name covers: 1 when it *is* the name, less when it is a part."""
        shares: dict[str, float] = {}
        for dotted in self.dotted:
            for count in range(len(dotted), 0, -1):
                if name.path[-count:] == tuple(dotted[:count]):
                    shares |= dict.fromkeys(dotted[:count], 1.0)
                    break
        for term in self.terms:
            if name.stem in {term.word, term.stem}:
                shares[term.word] = 1.0
            elif term.word not in shares and (term.word in name.words or term.stem in name.words):
                shares[term.word] = 0.4
        return shares


def _stem(word: str) -> str:
    """``word`` without a plural or verb ending, so that its other forms are found as well."""
    if not word.isalpha() or len(word) < 5:
        return word
    for ending, least in (("ing", 7), ("ed", 6), ("es", 7), ("s", 5)):
        if word.endswith(ending) and len(word) >= least and not word.endswith("ss"):
            return word[: -len(ending)] if ending != "es" else word[:-1]
    return word


_ASIDE = re.compile(r"(?:^|[/_])(?:tests?|testing|test_\w+)(?:[/._]|$)")


class Name:
    """The name of a text, split into its parts."""

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
        # Deep paths, and tests, answer a question less often than the code they belong to.
        self.prior_for_tests = 1.0 / (1.0 + 0.03 * name.count("/"))
        self.prior = self.prior_for_tests * (0.5 if _ASIDE.search(lowered) else 1.0)
