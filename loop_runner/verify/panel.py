"""Asks models on behalf of verifiers: paid once, journalled before it is used, within the budget.

Replies are known by their request and a number, sessions by what they were asked, so that a verifier that
is tried again, or asked again after a crash, finds those that are paid for. Relies on the switchboard for
journal and charge, and on whoever runs child sessions. ``RecordedPanel`` answers from a finished run alone.
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
"""Holds a session on the switchboard's loop, to its end."""

_T = TypeVar("_T")


class LivePanel:
    """A ``Panel`` of models. ``begin`` it before each submission."""

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
        """Count identical requests from 0 again, as a runner does that goes on after a crash here."""
        self._replies.clear()
        self._sessions.clear()
        self._models.start_turn()

    @property
    def sessions(self) -> tuple[ChildRecord, ...]:
        """Those that were held since ``begin``, to be committed with the verdict."""
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

    def ask_all(self, asked: Sequence[tuple[Request, int]]) -> list[Reply]:
        """See ``Panel``."""
        prints = [request.fingerprint() for request, _ in asked]
        missing = {
            (fingerprint, each): request
            for fingerprint, (request, number) in zip(prints, asked, strict=True)
            for each in range(number + 1)
            if (fingerprint, each) not in self._replies
        }
        unpaid = [key for key in missing if not self._is_known(*key)]
        if unpaid and (limit := self._ledger.reached_within_pass()):
            raise PanelSpent(limit)
        # In the order of their numbers: the switchboard counts identical requests as they come.
        keys = sorted(missing, key=lambda key: key[1])
        replies = self._together([self._models.complete(missing[key]) for key in keys])
        for key, reply in zip(keys, replies, strict=True):
            if isinstance(reply, Reply):
                self._replies[key] = reply
        _raise_first(replies)
        return [self._replies[key, number] for key, (_, number) in zip(prints, asked, strict=True)]

    def held(self, inquiry: Inquiry) -> ChildRecord | None:
        """See ``Panel``."""
        return self._sessions.get(inquiry.scope)

    def hold(self, inquiries: Sequence[Inquiry]) -> list[ChildRecord]:
        """See ``Panel``."""
        hold = self._hold_session
        if hold is None:
            raise ModelError("no session can be held here")
        missing = {each.scope: each for each in inquiries if each.scope not in self._sessions}
        records = self._together([hold(each) for each in missing.values()])
        for record in records:
            # One that the budget ended is held again, from its journalled replies, when there is more.
            if isinstance(record, ChildRecord) and record.end != "budget":
                self._sessions[record.scope] = record
        _raise_first(records)
        if spent := [each for each in records if isinstance(each, ChildRecord) and each.end == "budget"]:
            limit = self._ledger.reached_within_pass() or self._ledger.subcalls_reached()
            raise PanelSpent(limit or spent[0].reason)
        return [self._sessions[each.scope] for each in inquiries]

    def _is_known(self, fingerprint: str, number: int) -> bool:
        return (fingerprint, number) in self._replies or self._log.find(fingerprint, number) is not None

    def _together(self, coroutines: Sequence[Awaitable[_T]]) -> list[_T | BaseException]:
        """What each gives or raises: what one costs is not lost because another failed."""

        async def gathered() -> list[_T | BaseException]:
            return await asyncio.gather(*coroutines, return_exceptions=True)

        return self._models.wait(gathered())


def _raise_first(ended: Sequence[object]) -> None:
    errors = [each for each in ended if isinstance(each, BaseException)]
    for error in errors:
        if isinstance(error, BudgetSpentError):
            raise PanelSpent(error.limit) from error
    if errors:
        raise errors[0]


class RecordedPanel:
    """A ``Panel`` of what was paid for before: the replies ``calls``, the ``sessions``, and nothing else."""

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
        """See ``Panel``. Raises ``ModelError`` for what nobody was asked."""
        reply = self._calls.get((request.fingerprint(), number))
        if reply is None:
            raise _not_recorded("reply to")
        return reply

    def ask_all(self, asked: Sequence[tuple[Request, int]]) -> list[Reply]:
        """See ``Panel``."""
        return [self.ask(request, number) for request, number in asked]

    def held(self, inquiry: Inquiry) -> ChildRecord | None:
        """See ``Panel``."""
        return self._sessions.get(inquiry.scope)

    def hold(self, inquiries: Sequence[Inquiry]) -> list[ChildRecord]:
        """See ``Panel``. Raises ``ModelError`` for a session that was not held."""
        if any(each.scope not in self._sessions for each in inquiries):
            raise _not_recorded("session about")
        return [self._sessions[each.scope] for each in inquiries]


def _not_recorded(what: str) -> ModelError:
    return ModelError(
        f"no {what} this question is recorded",
        why="what was asked in the run was another question",
        hint="ask a model anew, and pay for it, with --ask-again",
    )
