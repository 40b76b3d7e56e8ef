"""Reads files on disk: size, hash, encoding faults, and why a file is not text.

Never follows a link that replaced a file, never blocks on a pipe, never holds more than a chunk.
"""

from __future__ import annotations

import codecs
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from loop_runner.inputs import long_steps
from loop_runner.inputs.inside.kinds import why_binary
from loop_runner.records import InputText

_CHUNK = 1 << 20
_MAX_ORIGINAL_BYTES = 1 << 33  # a foreign inputs.json may name an endless file of the system
_OPEN_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


BOM = codecs.BOM_UTF8


class NotTextError(Exception):
    """Why a file cannot be an input; becomes a line in ``skipped`` or a ``ConfigError``."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What reading a text has shown."""

    size: int
    sha256: str
    replaced: int


def measure(path: str, advance: Callable[[int], None] | None = None) -> Facts:
    """Size, hash and encoding faults of a file, read once in chunks.

    ``advance`` is called with the size of each chunk.
    """
    digest = hashlib.sha256()
    size = replaced = 0
    carry = b""
    is_only_bom = False
    for chunk in chunks(path):
        if not size and (why := why_binary(chunk)):
            raise NotTextError(why)
        size += len(chunk)
        if advance is not None:
            advance(len(chunk))
        digest.update(chunk)
        # Most text is ASCII, and checking for that costs a tenth of decoding it.
        if carry or not chunk.isascii():
            bad, carry = undecodable(carry + chunk, is_last=False)
            replaced += bad
        is_only_bom = size == len(BOM) and chunk == BOM
    if not size or is_only_bom:
        raise NotTextError("empty")
    return Facts(size, digest.hexdigest(), replaced + undecodable(carry, is_last=True)[0])


def bytes_of(paths: Iterable[str]) -> int:
    """The sizes of the files, as far as they can be looked at; 0 where no terminal shows it."""
    return sum(map(_size_of, paths)) if long_steps.is_shown() else 0


def _size_of(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except (OSError, ValueError):  # reported when it is read
        return 0


def undecodable(data: bytes, *, is_last: bool) -> tuple[int, bytes]:
    """How many bytes are not UTF-8, and the unfinished sequence at the end."""
    try:
        _, used = codecs.utf_8_decode(data, "strict", is_last)
    except UnicodeDecodeError:
        # "ignore" drops exactly what "replace" would replace, without a callback for each fault.
        text, used = codecs.utf_8_decode(data, "ignore", is_last)
        return used - len(text.encode()), data[used:]
    return 0, data[used:]


def open_file(path: str) -> int:
    """A descriptor of the regular file ``path``. ``NotTextError``: not regular; ``OSError``: unreadable."""
    # O_NONBLOCK and a check of the open descriptor: a path may turn into a pipe between two calls.
    descriptor = os.open(path, _OPEN_FLAGS)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise NotTextError("not a regular file")


def head(path: str, size: int) -> bytes:
    """The first bytes of a file."""
    descriptor = open_file(path)
    try:
        return os.read(descriptor, size)
    finally:
        os.close(descriptor)


def chunks(path: str, size: int | None = None) -> Iterator[bytes]:
    """The bytes of a file, piece by piece. ``NotTextError`` at once if its size is not ``size``.

    With ``size``, no more than that is read: some files of the system are endless.
    """
    descriptor = open_file(path)
    try:
        if size is not None and os.fstat(descriptor).st_size != size:
            raise NotTextError("its size is another one")
        left = size
        while chunk := os.read(descriptor, _CHUNK if left is None else min(left, _CHUNK)):
            left = None if left is None else left - len(chunk)
            yield chunk
    finally:
        os.close(descriptor)


def hash_of(path: str, size: int | None = None) -> str:
    """SHA-256 of a regular file; "" when it cannot be read or its size is not ``size``."""
    digest = hashlib.sha256()
    try:
        for chunk in chunks(path, size):
            digest.update(chunk)
    except (NotTextError, OSError):
        return ""
    return digest.hexdigest()


def hashes_of(paths: Iterable[Path]) -> frozenset[str]:
    """The hashes of the files that can be read."""
    return frozenset(filter(None, map(hash_of_original, paths)))


def hash_of_original(path: Path) -> str:
    """SHA-256 of a document that a text was made from; "" when it is not a file, or too large."""
    try:
        seen = path.lstat()
    except (OSError, ValueError):
        return ""
    is_possible = stat.S_ISREG(seen.st_mode) and seen.st_size <= _MAX_ORIGINAL_BYTES
    return hash_of(str(path), seen.st_size) if is_possible else ""


def is_same(text: InputText) -> bool:
    """Whether the bytes of ``text`` are unchanged."""
    return hash_of(str(text.path), text.size_bytes) == text.sha256


def words(error: BaseException) -> str:
    """The error in words for a person."""
    if isinstance(error, OSError):
        if error.errno == errno.ELOOP:
            return "a link took its place while it was read"
        return (error.strerror or str(error)).lower()
    return str(error)
