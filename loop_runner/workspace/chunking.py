"""Cuts a large blob at content-defined places, so that a grown blob only costs its growth. Pure functions.

A cut follows a *mark*: in a pickle, the bytes that begin a dict or a list, else the byte that ends almost
every object; in long texts, the end of a line or a word. A checksum of the bytes between two marks decides
whether the second one cuts, so a change moves the cuts next to it and no others. All code that looks at
single bytes runs at the speed of C: 50 MB take a quarter of a second, where a rolling hash in Python would
take a minute.
"""

from __future__ import annotations

from collections.abc import Iterator
from zlib import crc32

MIN_BYTES = 16 * 1024
MAX_BYTES = 256 * 1024
_AIMED_BYTES = 48 * 1024  # after the least size, on average
# For pickles: EMPTY_DICT, EMPTY_LIST and MEMOIZE. The first one that is frequent enough is used: the rarer,
# the faster.
_MARKS = (b"}\x94", b"]\x94", b"\x94", b"\n", b" ", b",", b".")
_SPARSE_BYTES = 8192  # a mark that is rarer than one in so many bytes is not used
_SEGMENT_BYTES = 1024 * 1024  # processed at once: bounds the memory


def cut(data: bytes) -> Iterator[memoryview]:
    """``data`` in pieces of ``MIN_BYTES`` to ``MAX_BYTES`` (the last may be shorter)."""
    view = memoryview(data)
    start = 0
    for end in _ends(data):
        while end - start > MAX_BYTES:
            yield view[start : start + MAX_BYTES]
            start += MAX_BYTES
        if end - start >= MIN_BYTES or end == len(data) > start:
            yield view[start:end]
            start = end


def _ends(data: bytes) -> Iterator[int]:
    """Where ``data`` may be cut, in order; the last is its end."""
    for mark in _MARKS:
        count = data.count(mark)
        if count * _SPARSE_BYTES >= len(data) > 0:
            # A power of two: when a blob grows over a step, every other cut stays.
            rarity = 1 << max((_AIMED_BYTES * count // len(data)).bit_length() - 1, 0)
            yield from _marked(data, mark, rarity - 1)
            break
    if data:
        yield len(data)


def _marked(data: bytes, mark: bytes, mask: int) -> Iterator[int]:
    start = 0
    while start < len(data):
        parts = data[start : start + _SEGMENT_BYTES].split(mark)
        if len(parts) == 1:  # one object longer than a segment
            following = data.find(mark, start + _SEGMENT_BYTES - len(mark) + 1)
            if following < 0:
                return
            yield following + len(mark)
            start = following + len(mark)
            continue
        parts.pop()  # continues in the next segment
        seen = 0
        for at in [at for at, checksum in enumerate(map(crc32, parts), 1) if not checksum & mask]:
            start += sum(map(len, parts[seen:at])) + (at - seen) * len(mark)
            seen = at
            yield start
        start += sum(map(len, parts[seen:])) + (len(parts) - seen) * len(mark)
