"""Passages of texts and their rank for a question, by BM25 with its usual constants."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

_K1, _B = 1.2, 0.75
_PASSAGE_CHARS = 700
_WORD = re.compile(r"[A-Za-z]+|\d+")


@dataclass(frozen=True, slots=True)
class Passage:
    """Some lines of a text; ``line`` is the number of the first."""

    name: str
    line: int
    text: str


def passages(texts: Mapping[str, str]) -> Iterator[Passage]:
    """The texts in pieces of whole lines; a long line is a piece of its own."""
    for name, text in texts.items():
        piece: list[str] = []
        first, length = 1, 0
        for number, line in enumerate(text.split("\n"), 1):
            if piece and length + len(line) > _PASSAGE_CHARS:
                yield Passage(name, first, "\n".join(piece))
                piece, first, length = [], number, 0
            piece.append(line)
            length += len(line) + 1
        yield Passage(name, first, "\n".join(piece))


def words(text: str) -> list[str]:
    """The words and numbers of a text, in lower case; ``max_size`` and ``maxSize`` are two words."""
    parts = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    return [word.lower() for word in _WORD.findall(parts)]


def best(question: str, pieces: Sequence[Passage], room: int) -> list[Passage]:
    """The highest-ranked passages that have ``room`` characters together, in the order of the texts."""
    wanted = set(words(question))
    counts = [Counter(word for word in words(f"{piece.name} {piece.text}")) for piece in pieces]
    lengths = [count.total() for count in counts]
    average = sum(lengths) / max(len(lengths), 1) or 1.0
    frequency = Counter(word for count in counts for word in wanted & count.keys())
    rarity = {
        word: math.log(1 + (len(pieces) - count + 0.5) / (count + 0.5)) for word, count in frequency.items()
    }

    def score(at: int) -> float:
        norm = _K1 * (1 - _B + _B * lengths[at] / average)
        hits = ((rarity[word], counts[at][word]) for word in wanted & counts[at].keys())
        return sum(weight * count * (_K1 + 1) / (count + norm) for weight, count in hits)

    chosen, left = [], room
    for at in sorted(range(len(pieces)), key=lambda at: (-score(at), at)):
        if len(pieces[at].text) <= left:
            chosen.append(at)
            left -= len(pieces[at].text)
        elif left < _PASSAGE_CHARS:
            break
    return [pieces[at] for at in sorted(chosen)]
