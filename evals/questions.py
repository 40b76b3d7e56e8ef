"""What a question is: its words, its texts, and the key that only the grader sees."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Kind = Literal["number", "name", "list", "yes_no", "absent"]
SIZES = {"10kB": 10_000, "100kB": 100_000, "1MB": 1_000_000, "10MB": 10_000_000, "50MB": 50_000_000}
# What every way to answer asks for, beside the question.
INSTRUCTION = (
    "Write the answer alone into the first line, as short as possible. Below it, quote the lines that prove"
    " it. If the texts do not contain the answer, write: Not in the texts."
)


@dataclass(frozen=True, slots=True)
class Key:
    """The right answer.

    ``accepted`` has the forms of one right answer, or the items of a ``list``, where ``|`` separates the
    forms of an item. ``rivals`` are wrong values that the texts offer. ``quotes`` are lines that the answer
    must quote.
    """

    kind: Kind
    accepted: tuple[str, ...]
    rivals: tuple[str, ...] = ()
    quotes: tuple[str, ...] = ()
    is_ordered: bool = False  # for a list


@dataclass(frozen=True, slots=True)
class Question:
    """One question. The same family, seed and size always make the same question."""

    family: str
    seed: int
    size: int  # bytes that the texts have, about
    text: str
    texts: Mapping[str, str] = field(repr=False)
    key: Key

    @property
    def id(self) -> str:
        return f"{self.family}-{self.seed}-{self.size}"

    @property
    def half(self) -> Literal["tuning", "unseen"]:
        return "unseen" if self.seed % 2 else "tuning"

    def write(self, folder: Path) -> Path:
        """Write the texts as files below ``folder``."""
        for name, text in self.texts.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="")
        return folder


class MissingTextsError(Exception):
    """The material of a family is not on this machine; the message says how to get it."""


def generator(family: str, seed: int) -> random.Random:
    """The random numbers of a question; they do not depend on the size."""
    return random.Random(f"{family}:{seed}")


def half_of(items: Iterable[str], seed: int) -> list[str]:
    """Every other pair of entries (similar names are pairs): the halves share no name."""
    return [item for at, item in enumerate(items) if at // 2 % 2 == seed % 2]


def hide(rng: random.Random, facts: list[str], filler: Iterable[str], size: int) -> str:
    """Lines of ``filler`` up to ``size`` bytes, with ``facts`` at random places, each a line."""
    room = size - sum(len(fact) + 1 for fact in facts)
    lines = []
    for line in filler:
        if room <= 0:
            break
        lines.append(line)
        room -= len(line.encode()) + 1
    places = sorted(rng.randrange(len(lines) + 1) for _ in facts)
    shuffled = rng.sample(facts, len(facts))
    for place, fact in zip(reversed(places), shuffled, strict=True):
        lines.insert(place, fact)
    return "\n".join(lines) + "\n"
