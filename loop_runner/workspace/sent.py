"""Marks of the requests that went out: one that is marked and not in the journal may be paid for in vain.

One line for each request, written before it is sent, in ``.git/loop-runner/sent``. A mark says which commit
it was made after, as the journal's records do, so that marks of an earlier turn are known and ignored. No
fsync: a mark outlives the death of the runner, for which it is made; a power cut may take the last ones with
it, and then the count is too low. Owns the file's format; whoever writes holds the run folder's lock.

Format: ASCII lines ``SIGN AFTER FINGERPRINT OCCURRENCE.``; SIGN is ``+`` (sent) or ``-`` (it failed, and
nothing was billed). A line that is no such line, full stop included, is a torn one.
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
            os.write(self._fd, b"\n")  # a torn line stays one of its own

    def mark(self, key: Key) -> None:
        """The request ``key`` goes out now. ``OSError`` when that cannot be written down: do not send it."""
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
        """From now on requests are sent after the commit ``after``, which says how many had no reply."""
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
        found = _LINE.fullmatch(line)
        if found and found[2].decode() in afters:
            out[found[3].decode(), int(found[4])] += 1 if found[1] == b"+" else -1
    return out
