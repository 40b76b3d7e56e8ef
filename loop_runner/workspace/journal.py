"""Replies that are paid for and not yet in a commit: an append-only file, durable before a reply is used.

A record is ``magic, length, checksum, JSON``, and is on disk before ``append`` returns. It names the commit
that it was made after, so records that a later commit already holds are recognised and ignored. Records torn
by a crash are dropped on reading. The file is emptied only when the commit with its calls is durable.

Format: header line, then records of ``>4sI8s`` (magic ``FF 4C 52 4A``, payload bytes, BLAKE2b-64 of length
and payload) and an ASCII JSON payload ``{"after": commit, "call": {…}}``. The magic's first byte is not
ASCII, so no reply can imitate a record.

A tool call that must not be made twice has a record of its own before it is made: a call without a result,
with a fingerprint that begins with ``sent:``. It is a mark and not a call: it is never served.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from loop_runner import failpoints
from loop_runner.errors import EnvironmentFault
from loop_runner.records import LOST, SENT, Call
from loop_runner.text import shell
from loop_runner.workspace import durable, faults, layout
from loop_runner.workspace.sent import NAME as SENT_FILE
from loop_runner.workspace.sent import Sent

HEADER = b"loop-runner journal 1\n"
_MAGIC = b"\xffLRJ"
_FRAME = struct.Struct(">4sI8s")
Key = tuple[str, int]
_to_json = json.JSONEncoder(sort_keys=True).encode  # made once: there can be ten thousand per second


class Journal:
    """The calls made after one commit. Safe from any thread; made and moved on by the workspace."""

    def __init__(self, path: Path, after: str, *, folder: Path, earlier: Collection[str] = ()) -> None:
        """``earlier``: commits since which no turn was committed; calls made after them are still useful."""
        self._path = path
        self._folder = folder
        self._after = after
        self._lock = threading.Lock()
        self._calls: dict[Key, Call] = {}
        self._sent_calls: dict[Key, Call] = {}  # tool calls that are, or were, about to be made
        self._open: set[Key] = set()  # of those: the ones that this process waits for
        self._is_broken = False
        self.dropped_bytes = 0  # torn or damaged, found when the file was opened
        with faults.translated(folder, "reading the journal"):
            failpoints.passing("journal.open")
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            try:
                self._load({after, *earlier})
                self._sent = Sent(path.with_name(SENT_FILE), after, earlier)
            except BaseException:
                os.close(self._fd)
                raise

    def find(self, fingerprint: str, occurrence: int) -> Call | None:
        """The reply to the n-th identical request after the last commit, if it is already paid for."""
        # Without the lock, which is held while others are flushed to disk: this runs on the models' loop.
        return self._calls.get((fingerprint, occurrence))

    def calls(self) -> tuple[Call, ...]:
        """All calls after the last commit, in the order in which they were written."""
        with self._lock:
            return tuple(self._calls.values())

    def append(self, call: Call) -> None:
        """Record ``call``; durable on return. Raises ``EnvironmentFault`` (a full disk, for example)."""
        self.append_many((call,))

    def append_many(self, calls: Sequence[Call]) -> None:
        """Record several calls with one fsync."""
        with self._lock:
            self._write(b"".join(record(call, self._after) for call in calls))
            for call in calls:
                self._take(call)
                if _is_mark(call):
                    self._open.add(_answer_key(call))
                else:
                    self._open.discard(key(call))

    def was_sent(self, fingerprint: str, occurrence: int) -> bool:
        """Whether a tool call was about to be made after the last commit, by this process or another."""
        return (fingerprint, occurrence) in self._sent_calls

    def abandon(self, fingerprint: str, occurrence: int) -> None:
        """No result of this tool call is waited for any more."""
        with self._lock:
            self._open.discard((fingerprint, occurrence))

    def unknown(self) -> tuple[Call, ...]:
        """The tool calls after the last commit that may have been made and have no result, as lost calls."""
        with self._lock:
            gone = {
                name: call
                for name, call in self._sent_calls.items()
                if name not in self._calls and name not in self._open
            }
        return tuple(replace(call, fingerprint=LOST + name[0]) for name, call in gone.items())

    def _take(self, call: Call) -> None:
        if _is_mark(call):
            self._sent_calls.setdefault(_answer_key(call), call)
        else:
            self._calls.setdefault(key(call), call)

    def sent(self, fingerprint: str, occurrence: int) -> None:
        """Note that a request is being sent, in case this process dies. ``EnvironmentFault``: do not send."""
        try:  # not ``faults.translated``: ten thousand in a second
            self._sent.mark((fingerprint, occurrence))
        except OSError as error:
            raise faults.from_os_error(error, self._folder, "noting that a request is sent") from error

    def not_billed(self, fingerprint: str, occurrence: int) -> None:
        """Note that a sent request failed, and costs nothing."""
        with faults.translated(self._folder, "noting that a request has failed"):
            self._sent.take_back((fingerprint, occurrence))

    def unanswered(self) -> int:
        """How many requests were sent after the last commit without a reply in the journal."""
        with self._lock:
            return self._sent.unanswered(self._calls)

    def hold(self, after: str, calls: Sequence[Call]) -> None:
        """Store ``calls`` for when HEAD is ``after``; until then they are ignored."""
        if calls:
            with self._lock:
                self._write(b"".join(record(call, after) for call in calls))

    def move_on(self, after: str, committed: Collection[Key], held: Sequence[Call] = ()) -> None:
        """From now on calls are made after ``after``, whose durable commit holds ``committed``.

        A call that arrived meanwhile is not among them; it is carried over, so that it is committed next.
        ``held``: the calls that ``hold`` stored for ``after``.
        """
        with self._lock:
            self._after = after
            self._calls = {
                call_key: call for call_key, call in self._calls.items() if call_key not in committed
            }
            self._calls |= {key(call): call for call in held}
            self._sent_calls = {name: call for name, call in self._sent_calls.items() if name in self._open}
            with faults.translated(self._folder, "emptying the journal"):
                failpoints.passing("journal.move_on")
                self._rewrite()
                self._sent.move_on(after)

    def close(self) -> None:
        """Close the file; more than once is fine."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
            self._sent.close()

    def _load(self, afters: Collection[str]) -> None:
        size = os.fstat(self._fd).st_size
        data = _read_all(self._fd, size)
        good = 0
        for after, call, length in records(data):
            good += length
            if after in afters:
                self._take(call)
        self.dropped_bytes = max(size - len(HEADER) - good, 0)
        if self.dropped_bytes and data.strip(b"\0") != HEADER:
            self._keep_aside(data)
        self._rewrite()

    def _keep_aside(self, data: bytes) -> None:
        """Nothing is deleted that another process could still read."""
        folder = self._path.parent / "damaged"
        folder.mkdir(exist_ok=True)
        durable.replace(folder / f"journal-{time.time_ns()}", data)

    def _write(self, data: bytes) -> None:
        if self._is_broken:
            raise _broken(self._folder)
        end = os.fstat(self._fd).st_size
        try:
            with faults.translated(self._folder, "writing the journal"):
                failpoints.passing("journal.write")
                _write_all(self._fd, data, end)
                failpoints.passing("journal.sync")
                os.fsync(self._fd)
                failpoints.passing("journal.written")
        except BaseException:
            self._cut(end)
            raise

    def _cut(self, end: int) -> None:
        # After a failed fsync the content of the disk is unknown, and a second one may lie.
        self._is_broken = True
        try:
            os.ftruncate(self._fd, end)
            os.fsync(self._fd)
        except OSError:
            return
        self._is_broken = False

    def _rewrite(self) -> None:
        """Rewrite the file with exactly the calls in memory."""
        if kept_calls := [*self._sent_calls.values(), *self._calls.values()]:
            # These calls are in no commit: there must always be a complete file with them.
            kept = b"".join(record(call, self._after) for call in kept_calls)
            durable.replace(self._path, HEADER + kept)
            os.close(self._fd)
            self._fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            return
        if os.pread(self._fd, len(HEADER), 0) != HEADER:
            failpoints.passing("journal.header")
            os.ftruncate(self._fd, 0)
            _write_all(self._fd, HEADER, 0)
            os.fsync(self._fd)
            durable.sync(self._path.parent)
        failpoints.passing("journal.truncate")
        # No fsync: if the old records reappear, the commit that they name identifies them.
        os.ftruncate(self._fd, len(HEADER))


def answered(path: Path, afters: Collection[str]) -> set[Key]:
    """The requests made after the commits ``afters`` that have a reply in the file at ``path``."""
    return {key(call) for call in calls(path, afters)}


def calls(path: Path, afters: Collection[str]) -> list[Call]:
    """The replies in the file at ``path`` to requests made after the commits ``afters``."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    by_key = {key(call): call for made_after, call, _ in records(data) if made_after in afters}
    return [call for call in by_key.values() if not _is_mark(call)]


def unknown(path: Path, afters: Collection[str]) -> list[Call]:
    """The tool calls after ``afters`` in the file at ``path`` that have no result, as lost calls."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    by_key = {key(call): call for made_after, call, _ in records(data) if made_after in afters}
    marks = [call for call in by_key.values() if _is_mark(call) and _answer_key(call) not in by_key]
    return [replace(call, fingerprint=LOST + _answer_key(call)[0]) for call in marks]


def _is_mark(call: Call) -> bool:
    """Whether this is no call, but says that a tool call is about to be made."""
    return call.fingerprint.startswith(SENT)


def _answer_key(mark: Call) -> Key:
    """Under which key the result of a marked tool call is kept."""
    return mark.fingerprint.removeprefix(SENT), mark.occurrence


def key(call: Call) -> Key:
    """The key by which a re-run of the turn finds ``call``."""
    return call.fingerprint, call.occurrence


def record(call: Call, after: str) -> bytes:
    """``call`` as one record of the file."""
    payload = _to_json({"after": after, "call": layout.call_to_json(call)}).encode("ascii")
    return _FRAME.pack(_MAGIC, len(payload), _checksum(payload)) + payload


def records(data: bytes) -> Iterator[tuple[str, Call, int]]:
    """Every whole record in ``data``: the commit it was made after, the call, its length in bytes."""
    at = data.find(_MAGIC)
    while at >= 0:
        payload = _payload(data, at)
        if payload is None:
            at = data.find(_MAGIC, at + 1)  # torn or damaged: what follows may be intact
            continue
        content = json.loads(payload)
        length = _FRAME.size + len(payload)
        yield content["after"], layout.call_from_json(content["call"]), length
        at = data.find(_MAGIC, at + length)


def _payload(data: bytes, at: int) -> bytes | None:
    if at + _FRAME.size > len(data):
        return None
    _, length, checksum = _FRAME.unpack_from(data, at)
    payload = data[at + _FRAME.size : at + _FRAME.size + length]
    return payload if len(payload) == length and _checksum(payload) == checksum else None


def _checksum(payload: bytes) -> bytes:
    return hashlib.blake2b(len(payload).to_bytes(4, "big") + payload, digest_size=8).digest()


def _write_all(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def _read_all(fd: int, size: int) -> bytes:
    data = bytearray()
    while chunk := os.pread(fd, size, len(data)):
        data += chunk
    return bytes(data)


def _broken(folder: Path) -> EnvironmentFault:
    return EnvironmentFault(
        f"the journal in {folder} cannot be written any more",
        why="a reply that is not recorded would be paid for twice",
        hint=f"check the disk, then run `loop-runner resume {shell(folder)}`",
    )
