"""Numbers for requests that are the same: with it, each finds its own reply again."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field


@dataclass(slots=True)
class Occurrences:
    """Numbers identical requests of a turn 0, 1, 2…; one that was given back is the next to be taken."""

    _next: int = 0
    _free: list[int] = field(default_factory=list)

    def take(self) -> int:
        """The next number."""
        if self._free:
            return heapq.heappop(self._free)
        self._next += 1
        return self._next - 1

    def give_back(self, number: int) -> None:
        """Nothing was recorded under ``number``: it is free again."""
        heapq.heappush(self._free, number)
