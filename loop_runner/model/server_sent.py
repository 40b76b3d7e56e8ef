"""Server-sent events, and the bytes of a reply, within a limit.

A line ends at CR, LF or CRLF and nowhere else: U+2028, U+2029 and U+0085 are characters of a text like any
other, and a model writes them. Relies on nothing; the caller brings the chunks.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator

MAX_REPLY_BYTES = 64 * 1024 * 1024  # of one reply, unpacked: a packed one of 2 MB may unpack to 2 GB
MAX_REFUSAL_BYTES = 1024 * 1024


class TooLarge(Exception):  # noqa: N818 - becomes an error of the client that reads
    """More bytes came than any reply has."""


async def within(chunks: AsyncIterable[bytes], limit: int) -> AsyncIterator[bytes]:
    """``chunks`` again; raises ``TooLarge`` as soon as they are more than ``limit`` bytes."""
    total = 0
    async for chunk in chunks:
        total += len(chunk)
        if total > limit:
            raise TooLarge(f"more than {limit // 1024**2} MB came")
        yield chunk


async def beginning(chunks: AsyncIterable[bytes], limit: int) -> bytes:
    """As much of ``chunks`` as fits in ``limit`` bytes; the rest is not read."""
    data = b""
    async for chunk in chunks:
        data += chunk
        if len(data) >= limit:
            break
    return data[:limit]


async def events(chunks: AsyncIterable[bytes]) -> AsyncIterator[str]:
    """The data of each event. Several data lines of one event are joined by a line feed."""
    data: list[str] = []
    async for line in _lines(chunks):
        if not line:
            if data:
                yield "\n".join(data)
            data = []
            continue
        name, _, value = line.partition(":")
        if name == "data":
            data.append(value.removeprefix(" "))
    if data:
        yield "\n".join(data)


async def _lines(chunks: AsyncIterable[bytes]) -> AsyncIterator[str]:
    """The lines without their ends; the last one too if nothing ends it."""
    pending: list[bytes] = []  # of a line that has not ended
    is_first, after_cr = True, False
    async for chunk in chunks:
        if after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]  # noqa: PLW2901 - the second half of a line end
        after_cr = chunk.endswith(b"\r") if chunk else after_cr
        *whole, rest = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for part in whole:
            line = b"".join([*pending, part])
            pending = []
            yield _text(line, is_first=is_first)
            is_first = False
        if rest:
            pending.append(rest)
    if pending:
        yield _text(b"".join(pending), is_first=is_first)


def _text(line: bytes, *, is_first: bool) -> str:
    text = line.decode("utf-8", "replace")
    return text.removeprefix("\ufeff") if is_first else text
