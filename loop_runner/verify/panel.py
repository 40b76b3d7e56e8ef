"""Asks models on behalf of verifiers: every reply is paid for once, journalled before use, within the budget.

Replies are identified by their request and a number, sessions by their question. A verifier that runs again,
also after a crash, therefore finds the replies that are paid for. Relies on the switchboard for journal and
charge, and on the caller to run child sessions. ``RecordedPanel`` answers from a finished run alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from loop_runner.budget import BudgetSpentError, Ledger
from loop_runner.errors import ModelError
from loop_runner.model.client import CallLog
from loop_runner.model.switchboard import Switchboard
from loop_runner.records import Call, ChildRecord, Reply, Request
from loop_runner.verify import Inquiry, PanelSpent

HoldSession = Callable[[Inquiry], Awaitable[ChildRecord]]
"""Runs a session to its end, on the switchboard's loop."""

_T = TypeVar("_T")


class LivePanel:
    """A ``Panel`` of models. Call ``begin`` before each submission."""

    def __init__(
        self,
        models: Switchboard,
        ledger: Ledger,
        log: CallLog,
        *,
        model: str,
        hold_session: HoldSession | None = None,
    ) -> None:
        self.model = model
        self._models = models
        self._ledger = ledger
        self._log = log
        self._hold_session = hold_session
        self._replies: dict[tuple[str, int], Reply] = {}
        self._sessions: dict[str, ChildRecord] = {}

    def begin(self) -> None:
        """Restart the count of identical requests at 0, as a runner does that continues after a crash."""
        self._replies.clear()
        self._sessions.clear()
        self._models.start_turn()

    @property
    def sessions(self) -> tuple[ChildRecord, ...]:
        """The sessions held since ``begin``, to be committed with the verdict."""
        return tuple(self._sessions.values())

    def known(self, request: Request) -> int:
        """See ``Panel``."""
        fingerprint, count = request.fingerprint(), 0
        while self._is_known(fingerprint, count):
            count += 1
        return count

    def ask(self, request: Request, number: int) -> Reply:
        """See ``Panel``."""
        return self.ask_all([(request, number)])[0]

    def ask_all(self, requests: Sequence[tuple[Request, int]]) -> list[Reply]:
        """See ``Panel``."""
        prints = [request.fingerprint() for request, _ in requests]
        missing = {
            (fingerprint, index): request
            for fingerprint, (request, number) in zip(prints, requests, strict=True)
            for index in range(number + 1)
            if (fingerprint, index) not in self._replies
        }
        unpaid = [key for key in missing if not self._is_known(*key)]
        if unpaid and (limit := self._ledger.reached_within_pass()):
            raise PanelSpent(limit)
        # In numeric order: the switchboard counts identical requests as they arrive.
        keys = sorted(missing, key=lambda key: key[1])
        replies = self._together([self._models.complete(missing[key]) for key in keys])
        for key, reply in zip(keys, replies, strict=True):
            if isinstance(reply, Reply):
                self._replies[key] = reply
        _raise_first(replies)
        return [self._replies[key, number] for key, (_, number) in zip(prints, requests, strict=True)]

    def held(self, inquiry: Inquiry) -> ChildRecord | None:
        """See ``Panel``."""
        return self._sessions.get(inquiry.scope)

    def hold(self, inquiries: Sequence[Inquiry]) -> list[ChildRecord]:
        """See ``Panel``."""
        hold = self._hold_session
        if hold is None:
            raise ModelError("no session can be held here")
        missing = {item.scope: item for item in inquiries if item.scope not in self._sessions}
        records = self._together([hold(item) for item in missing.values()])
        for record in records:
            # A session that the budget ended continues from its journalled replies once there is more budget.
            if isinstance(record, ChildRecord) and record.end != "budget":
                self._sessions[record.scope] = record
        _raise_first(records)
        if spent := [item for item in records if isinstance(item, ChildRecord) and item.end == "budget"]:
            limit = self._ledger.reached_within_pass() or self._ledger.subcalls_reached()
            raise PanelSpent(limit or spent[0].reason)
        return [self._sessions[item.scope] for item in inquiries]

    def _is_known(self, fingerprint: str, number: int) -> bool:
        return (fingerprint, number) in self._replies or self._log.find(fingerprint, number) is not None

    def _together(self, coroutines: Sequence[Awaitable[_T]]) -> list[_T | BaseException]:
        """Each result or exception: another's failure must not lose the cost of one."""

        async def gathered() -> list[_T | BaseException]:
            return await asyncio.gather(*coroutines, return_exceptions=True)

        return self._models.wait(gathered())


def _raise_first(ended: Sequence[object]) -> None:
    errors = [result for result in ended if isinstance(result, BaseException)]
    for error in errors:
        if isinstance(error, BudgetSpentError):
            raise PanelSpent(error.limit) from error
    if errors:
        raise errors[0]


class RecordedPanel:
    """A ``Panel`` of recorded results: the replies ``calls``, the ``sessions``, and nothing else."""

    def __init__(self, calls: Iterable[Call], *, model: str, sessions: Iterable[ChildRecord] = ()) -> None:
        self.model = model
        self._calls = {(call.fingerprint, call.occurrence): call.reply for call in calls}
        self._sessions = {session.scope: session for session in sessions}

    def known(self, request: Request) -> int:
        """See ``Panel``."""
        fingerprint, count = request.fingerprint(), 0
        while (fingerprint, count) in self._calls:
            count += 1
        return count

    def ask(self, request: Request, number: int) -> Reply:
        """See ``Panel``. Raises ``ModelError`` for a request that was never made."""
        reply = self._calls.get((request.fingerprint(), number))
        if reply is None:
            raise _not_recorded("reply to")
        return reply

    def ask_all(self, requests: Sequence[tuple[Request, int]]) -> list[Reply]:
        """See ``Panel``."""
        return [self.ask(request, number) for request, number in requests]

    def held(self, inquiry: Inquiry) -> ChildRecord | None:
        """See ``Panel``."""
        return self._sessions.get(inquiry.scope)

    def hold(self, inquiries: Sequence[Inquiry]) -> list[ChildRecord]:
        """See ``Panel``. Raises ``ModelError`` for a session that was not held."""
        if any(inquiry.scope not in self._sessions for inquiry in inquiries):
            raise _not_recorded("session about")
        return [self._sessions[inquiry.scope] for inquiry in inquiries]


def _not_recorded(what: str) -> ModelError:
    return ModelError(
        f"no {what} this question is recorded",
        why="the run asked another question",
        hint="ask a model anew, and pay for it, with --ask-again (ask_again=True in a program)",
    )
