"""Which names reach a common object. Runs inside the kernel process.

A union-find over names, fed by the picklers: the first name that reaches an object owns it, and every later
one is joined to that name. Objects are identified by ``id``, so the caller keeps them alive meanwhile.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class Links:
    """Names as small numbers, and the sets that they form."""

    def __init__(self, pins: Mapping[int, tuple[str, ...]]) -> None:
        # id of an object → the name that reached it first, or its pin, which connects nothing
        self.owner: dict[int, int | tuple[str, ...]] = dict(pins)
        self.names: list[str] = []
        self._above: list[int] = []

    def number(self, names: Sequence[str]) -> range:
        """A number for each of ``names``, each still in a set of its own."""
        first = len(self.names)
        self.names += names
        numbers = range(first, len(self.names))
        self._above += numbers
        return numbers

    def join(self, first: int, other: int) -> None:
        """Merge the sets of both names."""
        first, other = self.root(first), self.root(other)
        if first != other:
            self._above[max(first, other)] = min(first, other)

    def root(self, number: int) -> int:
        """The number that represents the set of ``number``."""
        while self._above[number] != number:
            self._above[number] = number = self._above[self._above[number]]
        return number

    def components(self, numbers: Iterable[int]) -> list[list[int]]:
        """The sets that ``numbers`` form, each in order, by their first number."""
        sets: dict[int, list[int]] = {}
        above = self._above
        for number in numbers:
            # Most are alone: no call for those.
            root = number if above[number] == number else self.root(number)
            sets.setdefault(root, []).append(number)
        return list(sets.values())
