"""Aggregation over texts whose label is withheld, as in OOLONG: WordNet glosses with users and dates.

Each line has a user, a date and a definition. The category of what is defined (an animal, a food, ...) is
WordNet's own and is not in the text, so a reader has to judge each line. Needs ``data.noun`` of the Debian
package wordnet-base; see ``evals/README.md``.
"""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from evals.questions import Key, MissingTextsError, Question, generator

# The numbers of WordNet's lexicographer files whose glosses a reader can tell apart.
CATEGORIES = {
    "05": "animal",
    "08": "body part",
    "13": "food",
    "18": "person",
    "20": "plant",
    "06": "artifact",
}
USERS = tuple(str(number) for number in range(1830, 1850))
_PLACES = (Path("/usr/share/wordnet"), Path(__file__).parents[2] / ".cache" / "evals" / "wordnet")
_ENTRY = re.compile(r"^\d{8} (\d\d) n \w\w (\S+) .*? \| ([^;\n]{15,160})", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the text, with the category that it does not show."""

    user: str
    month: int
    day: int
    gloss: str
    category: str

    def line(self) -> str:
        return f"user: {self.user} | date: 2026-{self.month:02}-{self.day:02} | definition: {self.gloss}"


def make(seed: int, size: int) -> Question:
    """A question about the categories of all definitions. Raises ``MissingTextsError`` without WordNet."""
    rng = generator("glosses", seed)
    pool = {category: glosses[seed % 2 :: 2] for category, glosses in load(folder()).items()}
    chosen = rng.sample(sorted(pool), 4)
    entries = draw(rng, {category: pool[category] for category in chosen}, size)
    ask = _KINDS[seed // 2 % len(_KINDS)]
    text, key = ask(entries, chosen)
    head = f"Each line of definitions.txt defines one thing: {_listed(chosen)}. "
    lines = "\n".join(entry.line() for entry in entries) + "\n"
    return Question("glosses", seed, size, head + text, {"definitions.txt": lines}, key)


def folder() -> Path:
    """The folder with WordNet's files: EVALS_WORDNET, the package's own place, or the cache."""
    given = os.environ.get("EVALS_WORDNET")
    for place in (Path(given),) if given else _PLACES:
        if (place / "data.noun").is_file():
            return place
    raise MissingTextsError(
        "glosses: skipped, because WordNet is not on this machine; `apt-get install wordnet-base`, or unpack"
        " that package and set EVALS_WORDNET to the folder with data.noun"
    )


@cache
def load(place: Path) -> Mapping[str, tuple[str, ...]]:
    """The glosses of each category, without examples and without those that contain the defined word."""
    pool: dict[str, list[str]] = {category: [] for category in CATEGORIES.values()}
    for number, word, gloss in _ENTRY.findall((place / "data.noun").read_text(encoding="utf-8")):
        category = CATEGORIES.get(number)
        if category and category.partition(" ")[0] not in gloss and word.casefold() not in gloss.casefold():
            pool[category].append(gloss.strip())
    return {category: tuple(glosses) for category, glosses in pool.items()}


def draw(rng: random.Random, pool: Mapping[str, tuple[str, ...]], size: int) -> list[Entry]:
    """Lines up to ``size`` bytes. The shares of the categories differ, so that their order is clear."""
    shares = dict(zip(pool, (8, 5, 3, 2), strict=True))
    entries: list[Entry] = []
    room = size
    while room > 0:
        category = rng.choices(list(shares), list(shares.values()))[0]
        entry = Entry(
            rng.choice(USERS),
            rng.randrange(1, 13),
            rng.randrange(1, 29),
            rng.choice(pool[category]),
            category,
        )
        entries.append(entry)
        room -= len(entry.line()) + 1
    return entries


def _count(entries: list[Entry], chosen: list[str]) -> tuple[str, Key]:
    count = sum(entry.category == chosen[2] for entry in entries)
    return f"How many of the definitions are of {_article(chosen[2])}?", Key("number", (str(count),))


def _most(entries: list[Entry], chosen: list[str]) -> tuple[str, Key]:
    ranked = Counter(entry.category for entry in entries).most_common()
    others = tuple(name for name, _ in ranked[1:])
    return "Which of these kinds is defined most often?", Key("name", (ranked[0][0],), others)


def _user(entries: list[Entry], chosen: list[str]) -> tuple[str, Key]:
    user = Counter(entry.user for entry in entries).most_common(1)[0][0]
    count = sum(entry.user == user and entry.category == chosen[0] for entry in entries)
    text = f"How many of the definitions by user {user} are of {_article(chosen[0])}?"
    return text, Key("number", (str(count),))


def _timeline(entries: list[Entry], chosen: list[str]) -> tuple[str, Key]:
    early = sum(entry.category == chosen[1] and entry.month <= 6 for entry in entries)
    late = sum(entry.category == chosen[1] and entry.month > 6 for entry in entries)
    text = f"How many definitions of {_article(chosen[1])} are dated in the {{}} half of 2026?"
    return (
        (text.format("first"), Key("number", (str(early),)))
        if early >= late
        else (
            text.format("second"),
            Key("number", (str(late),)),
        )
    )


def _pairs(entries: list[Entry], chosen: list[str]) -> tuple[str, Key]:
    wanted = {
        category: {entry.user for entry in entries if entry.category == category} for category in chosen[2:]
    }
    users = sorted(wanted[chosen[2]] & wanted[chosen[3]])
    kinds = f"{_article(chosen[2])} and one of {_article(chosen[3])}"
    text = f"How many users have at least one definition of {kinds}?"
    return text, Key("number", (str(len(users)),))


def _article(category: str) -> str:
    return f"an {category}" if category[0] in "aeiou" else f"a {category}"


def _listed(chosen: list[str]) -> str:
    return ", ".join(map(_article, chosen[:-1])) + f" or {_article(chosen[-1])}"


_KINDS: tuple[Callable[[list[Entry], list[str]], tuple[str, Key]], ...] = (
    _count,
    _most,
    _user,
    _timeline,
    _pairs,
)
