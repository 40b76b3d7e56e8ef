"""Every match of a regular expression, with its place. Runs inside the kernel process."""

from __future__ import annotations

import re
from collections import namedtuple

from . import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

_MAX_LINE_CHARS = 400  # printed

Match = namedtuple("Match", "name line text match groups")  # noqa: PYI024 - no ``typing`` in the kernel


class Matches(list):  # type: ignore[type-arg]
    """The matches in order: ``name``, ``line`` (from 1), ``text`` (the line), ``match`` and ``groups``."""

    def __getitem__(self, key: Any) -> Any:
        item = list.__getitem__(self, key)
        return Matches(item) if isinstance(key, slice) else item

    @property
    def total(self) -> int:
        """The number of matches."""
        return len(self)

    def __str__(self) -> str:
        lines = [f"{match.name}:{match.line}: {match.text.strip()[:_MAX_LINE_CHARS]}" for match in self]
        return shown.cut_lines(lines, lambda count: f"print the result sliced as [{count}:]") or "no match"

    __repr__ = __str__


def find_all(texts: Mapping[str, str], names: Iterable[str], regex: str) -> Matches:
    """All matches in the texts ``names``. Raises ``ValueError`` for an invalid regular expression."""
    try:
        pattern = re.compile(regex, re.MULTILINE)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return Matches(match for name in names for match in _in_text(name, texts[name], pattern))


def _in_text(name: str, text: str, pattern: re.Pattern[str]) -> Iterator[Match]:
    line, at = 1, 0
    for match in pattern.finditer(text):
        line, at = line + text.count("\n", at, match.start()), match.start()
        first = text.rfind("\n", 0, at) + 1
        end = text.find("\n", at)
        yield Match(
            name, line, text[first : len(text) if end < 0 else end].rstrip("\r"), match[0], match.groups()
        )
