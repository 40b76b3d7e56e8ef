"""What one child session has used of the run's limits."""

from __future__ import annotations

from collections.abc import Mapping

from loop_runner.budget import Ledger, Sums, amounts, nearly_reached
from loop_runner.records import SUBCALL_KINDS, RequestKind, Usage


class Tally:
    """What one child session has used, on top of what was committed when the run's turn began.

    Leaves out what other sessions use at the same time: their order changes from one process to the next, and
    a turn that is run again from the journal must show the model the same warnings.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._budget = ledger.budget
        self._price, committed = ledger.beginning()
        self._committed = committed
        self._used = Sums()
        self._before: Mapping[str, float] = committed

    def add(self, model: str, usage: Usage, kind: RequestKind = "sub") -> None:
        """Count one reply to the session or to a sub-call of its code."""
        self._used.add(usage, self._price(model, usage), int(kind in SUBCALL_KINDS))

    def nearly_reached(self) -> dict[str, str]:
        """As ``Ledger.nearly_reached``, for the turns between two calls of this method."""
        own = amounts([self._used])
        now = {name: amount + own[name] for name, amount in self._committed.items()}
        before, self._before = self._before, now
        return nearly_reached(self._budget, now, before)
