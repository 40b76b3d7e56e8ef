"""Deaths of the kernel's processes that no cell's result reports, kept until the session tells of them.

On the host's side. A process that ends while it saves, loads or tries variables is replaced at once, so the
run goes on; but it costs time, and sometimes variables, and whatever ended it may do so again.
"""

from __future__ import annotations

from dataclasses import dataclass

_MAX_KEPT = 20


@dataclass(frozen=True, slots=True)
class Death:
    """``process`` ended while it was ``doing`` something, for ``reason``."""

    process: str  # "the kernel", or CHECKER
    doing: str
    reason: str

    def __str__(self) -> str:
        return f"{self.process} ended while {self.doing}, and was started again: {self.reason}"


KERNEL = "the kernel"
CHECKER = "the process that tries what was saved"


class Deaths:
    """Those that were not told of yet. Not thread-safe."""

    def __init__(self) -> None:
        self._kept: list[Death] = []

    def add(self, process: str, doing: str, error: Exception | str) -> None:
        """Keep one; of very many, the first."""
        if len(self._kept) < _MAX_KEPT:
            self._kept.append(Death(process, doing, str(error)))

    def take(self) -> tuple[Death, ...]:
        """Those since the last call."""
        taken, self._kept = tuple(self._kept), []
        return taken
