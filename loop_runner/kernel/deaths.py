"""Deaths of the kernel's processes that no cell's result reports, kept until the session reports them.

On the host's side. A process that ends while it saves, loads or tries variables is replaced at once, so the
run continues. But it costs time, and sometimes variables, and the cause may end the next process, too.
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
        return f"{self.process} ended while {self.doing}, and was restarted: {self.reason}"


KERNEL = "the kernel"
CHECKER = "the process that tries what was saved"


class Deaths:
    """The deaths not reported yet. Not thread-safe."""

    def __init__(self) -> None:
        self._kept: list[Death] = []

    def add(self, process: str, doing: str, error: Exception | str) -> None:
        """Keep one; if there are very many, only the first ones."""
        if len(self._kept) < _MAX_KEPT:
            self._kept.append(Death(process, doing, str(error)))

    def take(self) -> tuple[Death, ...]:
        """Those since the last call."""
        taken, self._kept = tuple(self._kept), []
        return taken
