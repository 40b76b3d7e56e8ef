"""The channel for a check's verdict to the runner, closed to every process that the check starts.

It is one end of a socket pair. The check's process closes it in every child, on fork and on exec, and keeps
other processes of its user away from its descriptors and memory. In addition, the system stamps each message
with the id of the sending process. The first message is sent before any user code runs; a later one counts
only if the same process sent it. Nothing is read before the process group has ended.
"""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any, Self

from loop_runner import linux

HELLO = b"ready"
_MAX_BYTES = 1024 * 1024
_MAX_MESSAGES = 64


class VerdictChannel:
    """Both ends; the check's own is ``fd``. The context manager closes whatever is still open."""

    def __init__(self) -> None:
        self._here, self._there = linux.message_pair(_MAX_BYTES)

    @property
    def fd(self) -> int:
        """The check's end."""
        return self._there.fileno()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._here.close()
        self._there.close()

    def verdict(self) -> dict[str, Any] | None:
        """What the check's process sent; None if it sent nothing. Call it when the process has ended."""
        first = linux.receive(self._here, _MAX_BYTES)
        if first is None or first[1] != HELLO:
            return None
        for _ in range(_MAX_MESSAGES):
            message = linux.receive(self._here, _MAX_BYTES)
            if message is None:
                return None
            sender, data = message
            if sender == first[0]:
                return _object(data)
        return None


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
