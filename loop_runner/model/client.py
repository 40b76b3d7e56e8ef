"""What a model client is, what it raises, and what keeps its replies.

Owns the Protocols that the rest of this room meets in, and the little that all clients share. Relies on
``records`` and ``errors`` only.
"""

from __future__ import annotations

import email.utils
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from loop_runner import redaction
from loop_runner.errors import ModelError
from loop_runner.records import Call, Image, Message, Reply, Request, Usage
from loop_runner.text import sane_count


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


@dataclass(frozen=True, slots=True)
class Setting:
    """What a client is told of the run that opens it. ``env`` holds keys and addresses.

    ``private_dir`` is where it may keep what must survive a crash, with ``write`` (durable when it returns);
    None outside of a run. ``position`` names the commit that the current turn began at. ``seconds_left`` of
    the run's budget; None without a limit. ``tell`` shows a line to the person who watches. ``keep`` writes
    down under a name what is asked for and looked at later, so that a clone of the run knows it too, and
    ``forget`` takes that back.
    """

    base_dir: Path
    env: Mapping[str, str]
    private_dir: Path | None = None
    write: Callable[[Path, bytes], None] = _write
    position: Callable[[], str] = lambda: ""
    seconds_left: Callable[[], float | None] = lambda: None
    should_stop: Callable[[], bool] = lambda: False  # then nothing new may be sent
    tell: Callable[[str], None] = lambda _: None
    keep: Callable[[str, bytes], None] = lambda _name, _data: None
    forget: Callable[[str], None] = lambda _name: None


class ModelClient(Protocol):
    """One request, one try, one reply. The log, the charging and the retries are the switchboard's.

    A client may have a ``width``: how many requests it takes at once, instead of the switchboard's own. One
    with ``takes_up`` finds what a killed run asked for again: none of it is sent, or paid for, twice. Only
    one with ``takes_images`` is given a request with images.
    """

    async def complete(self, request: Request) -> Reply:
        """Ask the model once. Raises ``TryAgain`` for what may pass, ``ModelError`` for what will not."""

    async def close(self) -> None:
        """Let go of connections and processes; on the loop that ``complete`` ran on."""


@runtime_checkable
class TokenCounter(Protocol):
    """A client that can ask its provider how long a request is, free of charge."""

    async def count_tokens(self, request: Request) -> int:
        """Tokens of the prompt. Raises ``ModelError`` when the provider does not say."""


class TryAgain(ModelError):  # noqa: N818 - it says what to do, and is raised to nobody above
    """A try that failed in a way in which the next may not.

    ``reason`` is for the log. ``is_throttle``: the provider asks everybody to slow down (``asked_pause_s``).
    ``usage``: what this try cost all the same.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        why: str = "",
        hint: str = "",
        is_throttle: bool = False,
        asked_pause_s: float | None = None,
        usage: Usage | None = None,
        paid: bool = False,
    ) -> None:
        super().__init__(message, why=why, hint=hint, paid=paid)
        self.reason = reason  # a few words for the log: "overloaded (HTTP 529)"
        self.is_throttle = is_throttle
        self.asked_pause_s = asked_pause_s
        self.usage = usage or Usage()


class CallLog(Protocol):
    """Keeps replies so that none is paid for twice.

    ``find`` may be called while an ``append`` runs in another thread.
    """

    def find(self, fingerprint: str, occurrence: int) -> Call | None:
        """The call kept under this key, or None."""

    def append(self, call: Call) -> None:
        """Keep ``call``; it is durable when this returns."""


class ToolCaller(Protocol):
    """A client behind which there is a tool, and no model (``loop_runner/tools/``)."""

    is_idempotent: bool  # a call that a crash interrupted may be repeated
    provider: str  # a name of its own: each tool has its own width

    async def refusal(self, request: Request) -> Reply | None:
        """The result of a call that a person refused; None when it may be made."""

    def unknown(self, request: Request) -> Reply:
        """The result of a call that may have been made before a crash."""


@runtime_checkable
class ToolCallLog(Protocol):
    """A log that knows which tool calls were about to be made; ``append`` takes their marks, too."""

    def was_sent(self, fingerprint: str, occurrence: int) -> bool:
        """Whether this call was about to be made since the last commit."""

    def abandon(self, fingerprint: str, occurrence: int) -> None:
        """Nobody waits for this call any more."""


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


WRONG_COUNT = -1  # in a ``Usage`` of a client: the provider reported something that is no count


def reported_usage(
    input_tokens: object, output_tokens: object, cache_read: object = None, cache_write: object = None
) -> Usage:
    """Counts as a provider reports them, which may be anything; None is 0. The switchboard clamps them."""
    return Usage(*map(_reported, (input_tokens, output_tokens, cache_read, cache_write)))


def _reported(value: object) -> int:
    count = sane_count(value)
    is_right = value is None or (not isinstance(value, bool) and value == count)
    return count if is_right else WRONG_COUNT


def images_of(request: Request) -> list[Image]:
    """The images of all messages."""
    return [image for message in request.messages for image in message.images]


def media_type(image: Image) -> str:
    """What HTTP calls the kind of an image."""
    return f"image/{image.file.rpartition('.')[2]}"


def redacted(request: Request) -> Request:
    """``request`` as it may leave this machine: without secrets of the environment."""
    if not redaction.is_active():
        return request
    return replace(
        request,
        system=redaction.clean(request.system),
        messages=tuple(map(_redacted, request.messages)),
        schema=redaction.clean_json(request.schema),
    )


def _redacted(message: Message) -> Message:
    stable, rest = message.text[: message.stable_chars], message.text[message.stable_chars :]
    stable = redaction.clean(stable)
    return replace(message, text=stable + redaction.clean(rest), stable_chars=len(stable))


def sendable(text: str) -> str:
    """``text`` without unpaired surrogates, which no provider's JSON can carry; each becomes ``?``."""
    return text.encode("utf-8", "replace").decode("utf-8")


def asked_pause_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that a response asks to wait: ``retry-after-ms``, ``retry-after`` in seconds or as a date."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        return max(seconds, 0.0) if math.isfinite(seconds) else None
    date = email.utils.parsedate_tz(headers.get("retry-after", ""))
    return None if date is None else max(email.utils.mktime_tz(date) - time.time(), 0.0)


def guessed_tokens(text: str) -> int:
    """About how many tokens a text is, where nobody counted them."""
    return -(-len(text) // 4)
