"""Asks models on behalf of verifiers: paid once, journalled before it is used, within the budget.

Replies are known by their request and a number, so that a verifier that is tried again, or asked again after
a crash, finds those that are paid for. Relies on the switchboard for journal and charge. ``RecordedPanel``
answers from a finished run alone.
"""

from __future__ import annotations

from collections.abc import Iterable

from loop_runner.budget import BudgetSpentError, Ledger
from loop_runner.errors import ModelError
from loop_runner.model.client import CallLog
from loop_runner.model.switchboard import Switchboard
from loop_runner.records import Call, Reply, Request
from loop_runner.verify import PanelSpent


class LivePanel:
    """A ``Panel`` of models. ``begin`` it before each submission."""

    def __init__(self, models: Switchboard, ledger: Ledger, log: CallLog, *, model: str) -> None:
        self.model = model
        self._models = models
        self._ledger = ledger
        self._log = log
        self._replies: dict[str, list[Reply]] = {}

    def begin(self) -> None:
        """Count identical requests from 0 again, as a runner does that goes on after a crash here."""
        self._replies.clear()
        self._models.start_turn()

    def known(self, request: Request) -> int:
        """See ``Panel``."""
        fingerprint = request.fingerprint()
        count = len(self._replies.get(fingerprint, ()))
        while self._log.find(fingerprint, count) is not None:
            count += 1
        return count

    def ask(self, request: Request, number: int) -> Reply:
        """See ``Panel``."""
        replies = self._replies.setdefault(request.fingerprint(), [])
        while len(replies) <= number:
            if self.known(request) <= len(replies) and (limit := self._ledger.reached_within_pass()):
                raise PanelSpent(limit)
            try:
                replies.append(self._models.ask(request))
            except BudgetSpentError as error:
                raise PanelSpent(error.limit) from error
        return replies[number]


class RecordedPanel:
    """A ``Panel`` whose replies were paid for before: those of ``calls``, and no others."""

    def __init__(self, calls: Iterable[Call], *, model: str) -> None:
        self.model = model
        self._calls = {(call.fingerprint, call.occurrence): call.reply for call in calls}

    def known(self, request: Request) -> int:
        """See ``Panel``."""
        fingerprint, count = request.fingerprint(), 0
        while (fingerprint, count) in self._calls:
            count += 1
        return count

    def ask(self, request: Request, number: int) -> Reply:
        """See ``Panel``. Raises ``ModelError`` for what nobody was asked."""
        reply = self._calls.get((request.fingerprint(), number))
        if reply is None:
            raise ModelError(
                "no reply to this question is recorded",
                why="what was asked in the run was another question",
                hint="ask a model anew, and pay for it, with --ask-again",
            )
        return reply
