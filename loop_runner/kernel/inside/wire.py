"""Frames: the only thing that crosses between the host and the kernel process.

A frame is two lengths of four bytes each (big-endian: of the header, of the payload), a JSON object as
header, and the payload's raw bytes. Reading is strict, and sizes are checked *before* memory is allocated,
because each side must survive anything the other writes. No I/O policy here: descriptors are used as given.
"""

from __future__ import annotations

import json
import os
import struct

TYPE_CHECKING = False  # the kernel process avoids the import of ``typing``
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, NoReturn

MAX_HEADER_BYTES = 32 * 1024 * 1024
MAX_PAYLOAD_BYTES = 1024 * 1024 * 1024

_LENGTHS = struct.Struct(">II")
_CHUNK = 1 << 18


class WireError(Exception):
    """The bytes are not a frame, or one larger than the reader accepts."""


class Frame:
    """One message: a JSON object and some raw bytes."""

    __slots__ = ("header", "payload")

    def __init__(self, header: dict[str, Any], payload: bytes = b"") -> None:
        self.header = header
        self.payload = payload

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frame) and (self.header, self.payload) == (other.header, other.payload)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Frame({self.header!r:.200}, {len(self.payload)} bytes)"


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# Bound once: the model's code shares the process and may rebind what ``json`` offers.
to_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_from_json = json.JSONDecoder(parse_constant=_no_constant).decode


def encode(header: Mapping[str, Any], payload: bytes = b"") -> bytes:
    """The bytes of one frame. Lone surrogates survive as JSON escapes."""
    text = to_json(header).encode("ascii")
    if len(text) > MAX_HEADER_BYTES or len(payload) > MAX_PAYLOAD_BYTES:
        raise WireError(f"a frame of {len(text)} + {len(payload)} bytes is too large to send")
    return b"".join((_LENGTHS.pack(len(text), len(payload)), text, payload))


def decode_header(text: bytes) -> dict[str, Any]:
    """The JSON object in ``text``; ``WireError`` for anything else."""
    try:
        header = _from_json(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise WireError(f"a frame's header is not JSON: {error}") from None
    if type(header) is not dict:
        raise WireError("a frame's header is not a JSON object")
    return header


def lengths(data: bytes | bytearray, max_header: int, max_payload: int) -> tuple[int, int]:
    """The two lengths at the start of ``data``, checked against the caps."""
    header, payload = _LENGTHS.unpack_from(data)
    if header > max_header or payload > max_payload:
        raise WireError(f"a frame of {header} + {payload} bytes is over the cap")
    return header, payload


LENGTHS_SIZE = _LENGTHS.size


class Decoder:
    """Turns bytes, in whatever pieces they arrive, into frames."""

    def __init__(self, max_header: int = MAX_HEADER_BYTES, max_payload: int = MAX_PAYLOAD_BYTES) -> None:
        self._max_header = max_header
        self.max_payload = max_payload
        self._buffer = bytearray()

    @property
    def pending_bytes(self) -> int:
        """Bytes that are not part of a complete frame yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Accept more bytes."""
        self._buffer += data

    def take(self) -> Frame | None:
        """The next frame; None when it is not complete yet; ``WireError`` when it cannot become one."""
        if len(self._buffer) < LENGTHS_SIZE:
            return None
        header, payload = lengths(self._buffer, self._max_header, self.max_payload)
        end = LENGTHS_SIZE + header + payload
        if len(self._buffer) < end:
            return None
        with memoryview(self._buffer) as view:
            text = bytes(view[LENGTHS_SIZE : LENGTHS_SIZE + header])
            raw = bytes(view[LENGTHS_SIZE + header : end])
        del self._buffer[:end]
        return Frame(decode_header(text), raw)


def read_frame(fd: int, decoder: Decoder) -> Frame | None:
    """Block until ``fd`` has given one more frame; None at the end of the stream."""
    while True:
        frame = decoder.take()
        if frame is not None:
            return frame
        data = os.read(fd, _CHUNK)
        if not data:
            return None
        decoder.feed(data)


def write_all(fd: int, data: bytes) -> None:
    """Write every byte of ``data`` to a blocking descriptor."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
