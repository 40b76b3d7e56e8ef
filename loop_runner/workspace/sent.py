"""Marks of sent requests: one that is marked and not in the journal may have been paid for nothing.

One line per request, written before it is sent, in ``.git/loop-runner/sent``. Like the journal's records, a
mark names the commit that it was made after, so that marks of an earlier turn are recognised and ignored. No
fsync: a mark survives the death of the runner, which is its purpose; a power cut may lose the last ones, and
then the count is too low. Owns the file's format; the writer holds the run folder's lock.

Format: ASCII lines ``SIGN AFTER FINGERPRINT OCCURRENCE.``; SIGN is ``+`` (sent) or ``-`` (it failed, and
nothing was billed). A line in any other form, or without its full stop, is a torn one.
"""

from __future__ import annotations

import os
import re
import threading
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from loop_runner import failpoints

NAME = "sent"
_LINE = re.compile(rb"([+-]) ([0-9a-f]{40,64}) ([0-9a-f]{64}) ([0-9]{1,9})\.")
Key = tuple[str, int]


class Sent:
    """The requests that were sent after one commit. Safe from any thread."""

    def __init__(self, path: Path, after: str, earlier: Collection[str] = ()) -> None:
        self._after = after
        self._lock = threading.Lock()
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(path, flags, 0o644)
        self._out = _read(self._fd, {after, *earlier})
        if self._out:
            os.write(self._fd, b"\n")  # a torn line stays separate

    def mark(self, key: Key) -> None:
        """The request ``key`` is sent now. ``OSError`` when that cannot be recorded: do not send it."""
        failpoints.passing("sent.write")
        self._write(b"+", key)
        with self._lock:
            self._out[key] += 1

    def take_back(self, key: Key) -> None:
        """The request ``key`` ended without a reply, and nothing was billed."""
        with self._lock:
            self._out[key] -= 1
        self._write(b"-", key)

    def unanswered(self, answered: Collection[Key]) -> int:
        """How many were sent and have no reply among ``answered``."""
        with self._lock:
            return _unanswered(self._out, answered)

    def move_on(self, after: str) -> None:
        """From now on requests are sent after the commit ``after``, which records how many had no reply."""
        with self._lock:
            self._after = after
            self._out.clear()
            failpoints.passing("sent.truncate")
            os.ftruncate(self._fd, 0)

    def close(self) -> None:
        """Close the file; more than once is fine."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def _write(self, sign: bytes, key: Key) -> None:
        # One write to a file that is appended to: lines of several threads do not mix.
        os.write(self._fd, b"%s %s %s %d.\n" % (sign, self._after.encode(), key[0].encode(), key[1]))


def unanswered(path: Path, afters: Collection[str], answered: Collection[Key]) -> int:
    """How many requests the file at ``path`` says were sent after ``afters`` and are not ``answered``."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return 0
    try:
        return _unanswered(_read(fd, afters), answered)
    finally:
        os.close(fd)


def _unanswered(out: Counter[Key], answered: Collection[Key]) -> int:
    return sum(max(count - (key in answered), 0) for key, count in out.items())


def _read(fd: int, afters: Collection[str]) -> Counter[Key]:
    data = bytearray()
    while chunk := os.pread(fd, 1 << 20, len(data)):
        data += chunk
    out: Counter[Key] = Counter()
    for line in bytes(data).split(b"\n"):
        match = _LINE.fullmatch(line)
        if match and match[2].decode() in afters:
            out[match[3].decode(), int(match[4])] += 1 if match[1] == b"+" else -1
    return out
