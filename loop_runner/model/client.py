"""What a model client is, and what keeps its replies.

Owns the two Protocols that the rest of this room meets in, and the little that all clients share. Relies on
``records`` only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from loop_runner.records import Call, Reply, Request


class ModelClient(Protocol):
    """One request, one reply. The log, the charging and the width are the switchboard's, not the client's."""

    async def complete(self, request: Request) -> Reply:
        """Ask the model. Raises ``ModelError`` when the provider refuses or stays unreachable."""

    async def close(self) -> None:
        """Let go of connections and processes; on the loop that ``complete`` ran on."""


class CallLog(Protocol):
    """Keeps replies so that none is paid for twice.

    ``find`` may be called while an ``append`` runs in another thread.
    """

    def find(self, fingerprint: str, occurrence: int) -> Call | None:
        """The call kept under this key, or None."""

    def append(self, call: Call) -> None:
        """Keep ``call``; it is durable when this returns."""


@runtime_checkable
class BatchingCallLog(CallLog, Protocol):
    """A log that makes many calls durable at the price of one; the switchboard uses it when it is there."""

    def append_many(self, calls: Sequence[Call]) -> None:
        """Keep all of ``calls``, in order; they are durable when this returns."""


@runtime_checkable
class MarkingCallLog(CallLog, Protocol):
    """A log that also knows which requests are out, so that one whose reply is lost is counted."""

    def sent(self, fingerprint: str, occurrence: int) -> None:
        """The request goes out now; known also when this process dies. Quick, with no wait for a disk."""

    def not_billed(self, fingerprint: str, occurrence: int) -> None:
        """It ended without a reply, and the provider bills nothing for it."""


def sendable(text: str) -> str:
    """``text`` without unpaired surrogates, which no provider's JSON can carry; each becomes ``?``."""
    return text.encode("utf-8", "replace").decode("utf-8")
