"""A part of an audit's files, chosen by a hash of their names: the same files on every machine."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from loop_runner.audit.chosen_files import Scope
from loop_runner.errors import ConfigError

MOST = 64  # parts; an audit finds the replies of as many earlier ones (``plan``)


@dataclass(frozen=True, slots=True)
class Shard:
    """Part ``index`` of ``count``, counted from 0."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def holds(self, name: str) -> bool:
        """Whether the file of this name is in this part."""
        number = int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:8], "big")
        return number % self.count == self.index

    def of(self, scope: Scope) -> Scope:
        """The files of ``scope`` that are in this part. Entries of a baseline about the others stay."""
        texts = tuple(text for text in scope.texts.texts if self.holds(text.name))
        left_out = tuple(item for item in scope.left_out if self.holds(item[0]))
        return replace(scope, texts=replace(scope.texts, texts=texts), left_out=left_out)


def parse(text: str) -> Shard:
    """The shard that is written as ``I/N``. Raises ``ConfigError``."""
    index, slash, count = text.partition("/")
    is_number = index.isascii() and count.isascii() and index.isdecimal() and count.isdecimal()
    if not (slash and is_number and int(index) < int(count) <= MOST):
        raise ConfigError(
            f"--shard {text!r} is not I/N with I from 0 to N - 1, and N up to {MOST}",
            why="it says which part of the files to judge",
            hint="for example --shard 0/3, --shard 1/3 and --shard 2/3 in three jobs",
        )
    return Shard(int(index), int(count))
