"""The body of an HTTP reply, bounded: no server fills the memory, however it packs what it sends.

Owns decompression (a piece at a time, so that two gigabytes of zeros never exist) and the lines of a stream
of server-sent events, which end at CR, LF or CRLF and nowhere else: U+2028, U+2029 and U+0085 are text.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import httpx2

MAX_BYTES = 64 * 2**20  # of one reply; the longest that a model gives is a few megabytes
MAX_ERROR_BYTES = 2**20
_PIECE = 2**16
_DONE = "[DONE]"
DONE = object()  # the end mark of a stream


class TooLargeError(Exception):
    """The body continues past the limit."""


class EncodedError(Exception):
    """The body is packed in a way that was not offered."""


async def pieces(response: httpx2.Response, most: int = MAX_BYTES) -> AsyncIterator[bytes]:
    """The body, unpacked. Raises ``TooLargeError`` behind ``most`` bytes."""
    encoding = response.headers.get("content-encoding", "").strip().lower()
    async for piece in _unpacked(response.aiter_raw(), encoding, most):
        yield piece


async def _unpacked(raw_pieces: AsyncIterator[bytes], encoding: str, most: int) -> AsyncIterator[bytes]:
    if encoding in ("", "identity"):
        unpack = _plain
    elif encoding in ("gzip", "x-gzip", "deflate"):
        unpack = _Unpacker().pieces
    else:
        raise EncodedError(encoding)
    total = 0
    async for raw in raw_pieces:
        for piece in unpack(raw):
            total += len(piece)
            if total > most:
                raise TooLargeError
            yield piece


def bound(response: httpx2.Response, most: int) -> None:
    """Let ``response``, which another library reads, unpack its own body and break off behind ``most`` bytes.

    Reading it then raises ``httpx2.RemoteProtocolError``, as a broken connection does.
    """
    import httpx2

    class Bounded(httpx2.AsyncByteStream):
        def __init__(self, stream: httpx2.AsyncByteStream, encoding: str) -> None:
            self._stream, self._encoding = stream, encoding

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for piece in _unpacked(aiter(self._stream), self._encoding, most):
                    yield piece
            except TooLargeError:
                raise httpx2.RemoteProtocolError(f"the reply is longer than {most // 2**20:,} MB") from None
            except (EncodedError, zlib.error) as error:
                raise httpx2.RemoteProtocolError(f"the reply cannot be unpacked: {error}") from None

        async def aclose(self) -> None:
            await self._stream.aclose()

    encoding = response.headers.pop("content-encoding", "").strip().lower()
    response.headers.pop("content-length", None)  # that of the packed bytes
    response.stream = Bounded(cast("httpx2.AsyncByteStream", response.stream), encoding)


async def whole(response: httpx2.Response, most: int = MAX_BYTES) -> str:
    """The body as text."""
    return b"".join([piece async for piece in pieces(response, most)]).decode("utf-8-sig", "replace")


async def start(response: httpx2.Response, most: int) -> str:
    """The first ``most`` bytes of a body that need not be whole, such as an error's."""
    data = b""
    try:
        async for piece in pieces(response, most):
            data += piece
    except (TooLargeError, EncodedError):
        pass
    return data.decode("utf-8-sig", "replace")


def _plain(raw: bytes) -> list[bytes]:
    return [raw]


class _Unpacker:
    """Unpacks gzip and zlib, and deflate without a header, as some servers send it."""

    def __init__(self) -> None:
        self._unpacking = zlib.decompressobj(zlib.MAX_WBITS | 32)
        self._has_begun = False

    def pieces(self, raw: bytes) -> list[bytes]:
        if raw and not self._has_begun:
            self._has_begun = True
            if not self._is_right(raw):
                self._unpacking = zlib.decompressobj(-zlib.MAX_WBITS)
        unpacked, left = [], raw
        while left:
            unpacked.append(self._unpacking.decompress(left, _PIECE))
            left = self._unpacking.unconsumed_tail
            if len(unpacked) * _PIECE > MAX_BYTES + _PIECE:
                raise TooLargeError
        return unpacked

    @staticmethod
    def _is_right(raw: bytes) -> bool:
        try:
            zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(raw, 1)
        except zlib.error:
            return False
        return True


# ── server-sent events ──────────────────────────────────────────────────────────────────────────────


async def lines(body: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """The lines of a stream: CR, LF and CRLF end one, and the end of the stream ends the last."""
    begun: list[bytes] = []  # the pieces of a line that has not ended; joined once, however long it gets
    ends_with_cr = False
    async for piece in body:
        rest = piece.removeprefix(b"\n") if ends_with_cr else piece  # the second half of CRLF
        ends_with_cr = piece.endswith(b"\r") if piece else ends_with_cr
        *done, left = rest.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for line in done:
            yield b"".join([*begun, line]).decode("utf-8", "replace")
            begun = []
        begun.append(left)
    yield b"".join(begun).decode("utf-8", "replace")


async def events(body: AsyncIterator[bytes]) -> AsyncIterator[Any]:
    """The JSON of each event, and ``DONE`` for the end mark. Raises ``ValueError`` for what is no JSON.

    An event over several lines is joined; one that names itself an error comes as ``{"error": …}``.
    """
    data, name = "", ""
    async for line in lines(body):
        field, _, value = line.removeprefix("\ufeff").partition(":")
        if field == "event":
            name = value.strip()
        elif field == "data" and (value := value.strip()):
            if value.upper() == _DONE:
                yield DONE
                return
            data = f"{data}\n{value}" if data else value
            try:
                parsed = json.loads(data)
            except ValueError:
                continue
            data = ""
            for item in parsed if isinstance(parsed, list) else [parsed]:
                yield {"error": item} if name == "error" and "error" not in (item or {}) else item
        elif not line:
            if data:
                raise ValueError(data)
            name = ""
    if data:
        raise ValueError(data)
