"""Facts about Python's own standard library, extracted with ``ast``: the key is what the parser sees.

The texts are the file in question and other files of the library up to the size; the whole library is the
largest size. Each half of the seeds asks about other files. The facts depend on the version of Python.
"""

from __future__ import annotations

import os
import random
import re
import sysconfig
import zlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from evals.families.facts import Fact, facts_of
from evals.questions import Key, Question, generator

KINDS = ("default", "constant", "base", "raised", "where", "signature", "count")
_LEFT_OUT = {
    "site-packages",
    "__pycache__",
    "test",
    "tests",
    "idle_test",
    "lib2to3",
    "turtledemo",
    "ensurepip",
}


def make(seed: int, size: int) -> Question:
    """A question about one file that the size has room for."""
    rng = generator("code", seed)
    kind = KINDS[seed // 2 % len(KINDS)]
    for name in _shuffled(rng, eligible(seed, size)):
        texts = surroundings(rng, name, size)
        if fact := choose(rng, name, kind, texts):
            return Question("code", seed, size, fact.question, texts, fact.key)
    raise AssertionError(f"no file of the standard library has a fact of the kind {kind}")


def eligible(seed: int, size: int) -> list[str]:
    """The files that questions of this seed may be about."""
    return [
        name
        for name, length in sources().items()
        if zlib.crc32(name.encode()) % 2 == seed % 2 and 1500 <= length <= size * 0.9
    ]


def choose(rng: random.Random, name: str, kind: str, texts: Mapping[str, str]) -> Fact | None:
    """A fact of the file that is clear in these texts; None if it has none of this kind."""
    facts = [fact for fact in facts_of(name, texts[name]) if fact.kind == kind]
    if kind == "where":
        facts = [
            _with_short_name(fact, name, texts) for fact in facts if _is_defined_once(fact.subject, texts)
        ]
    return rng.choice(facts) if facts else None


def _is_defined_once(subject: str, texts: Mapping[str, str]) -> bool:
    pattern = re.compile(rf"^\s*(?:class|def|async def) {re.escape(subject)}\b", re.MULTILINE)
    return sum(len(pattern.findall(text)) for text in texts.values()) == 1


def _with_short_name(fact: Fact, name: str, texts: Mapping[str, str]) -> Fact:
    """With the bare file name as an accepted form, if only one file has it."""
    bare = name.rpartition("/")[2]
    if sum(other.rpartition("/")[2] == bare for other in texts) > 1:
        return fact
    return Fact(fact.kind, fact.subject, fact.question, Key("name", (*fact.key.accepted, bare)))


def surroundings(rng: random.Random, name: str, size: int) -> dict[str, str]:
    """The file and others of the library, up to ``size`` bytes together."""
    texts = {name: read(name)}
    room = size - sources()[name]
    for other in _shuffled(rng, list(sources())):
        if other not in texts and sources()[other] <= room:
            texts[other] = read(other)
            room -= sources()[other]
    return dict(sorted(texts.items()))


@cache
def sources() -> Mapping[str, int]:
    """The files of the standard library that people import, with their sizes in bytes."""
    sizes: dict[str, int] = {}
    for folder, folders, names in os.walk(library()):
        folders[:] = sorted(set(folders) - _LEFT_OUT)
        paths = [Path(folder, name) for name in names if name.endswith(".py")]
        sizes |= {path.relative_to(library()).as_posix(): path.stat().st_size for path in paths}
    return dict(sorted(sizes.items()))


def library() -> Path:
    """The folder of the standard library."""
    return Path(sysconfig.get_path("stdlib"))


def read(name: str) -> str:
    """The text of a file of the library."""
    return (library() / name).read_text(encoding="utf-8", errors="replace")


def _shuffled(rng: random.Random, names: list[str]) -> Iterator[str]:
    return iter(rng.sample(names, len(names)))
