"""Reads git's object files without git: everything that is still readable in a damaged one.

Owns the pack format as far as repair needs it (gitformat-pack(5)). An object is named by the hash of its
bytes, so nothing read here can be mistaken for something else: a wrong guess has a name that nothing refers
to. Reads only; never decides what happens to a damaged file.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_KINDS = {1: "commit", 2: "tree", 3: "blob", 4: "tag"}
_OFFSET_DELTA, _NAME_DELTA = 6, 7
_INDEX_MAGIC = b"\xfftOc\x00\x00\x00\x02"
_INDEX_HEAD = len(_INDEX_MAGIC) + 256 * 4
_HASH_BYTES = 20
_PACK_HEAD = 12

Objects = Mapping[str, tuple[str, bytes]]
"""Object id → its kind ("blob") and its bytes."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """One entry of a pack: an object, or its difference from another."""

    number: int  # the kind, as the format numbers it
    base: int | str | None  # offset or id of the object that it differs from
    data: bytes
    end: int


def object_id(kind: str, data: bytes) -> str:
    """The name of an object."""
    return hashlib.sha1(b"%s %d\0" % (kind.encode(), len(data)) + data, usedforsecurity=False).hexdigest()


def ids_in(index: Path) -> frozenset[str]:
    """The ids that a pack's index lists; empty when it is not whole."""
    data = index.read_bytes()
    body, checksum = data[:-_HASH_BYTES], data[-_HASH_BYTES:]
    is_whole = hashlib.sha1(body, usedforsecurity=False).digest() == checksum
    if not is_whole or not data.startswith(_INDEX_MAGIC) or len(data) < _INDEX_HEAD:
        return frozenset()
    (count,) = struct.unpack_from(">I", data, _INDEX_HEAD - 4)
    names = data[_INDEX_HEAD : _INDEX_HEAD + count * _HASH_BYTES].hex()
    step = 2 * _HASH_BYTES
    return frozenset(names[at : at + step] for at in range(0, len(names), step))


def is_whole_pack(data: bytes) -> bool:
    """The pack ends with the hash of what is before it."""
    body = memoryview(data)[:-_HASH_BYTES]
    return (
        data.startswith(b"PACK")
        and len(data) > _PACK_HEAD
        and hashlib.sha1(body, usedforsecurity=False).digest() == data[-_HASH_BYTES:]
    )


def loose(path: Path) -> tuple[str, bytes] | None:
    """The kind and bytes of the loose object at ``path``; None when it is not whole."""
    try:
        head, _, data = zlib.decompress(path.read_bytes()).partition(b"\0")
        kind = head.split(b" ")[0].decode("ascii")
    except (zlib.error, ValueError):
        return None
    return (kind, data) if object_id(kind, data) == path.parent.name + path.name else None


def salvage(pack: bytes, find: Callable[[str], tuple[str, bytes] | None]) -> dict[str, tuple[str, bytes]]:
    """Every intact object of a damaged pack, wherever in it the object is.

    ``find`` returns objects from elsewhere, which entries of the pack may be differences from.
    """
    pieces = dict(_pieces(pack))
    salvaged: dict[str, tuple[str, bytes]] = {}
    at_offset: dict[int, tuple[str, bytes]] = {}
    waiting = sorted(pieces)
    while waiting:
        left = []
        for at in waiting:
            whole = _resolved(pieces[at], at_offset, lambda name: salvaged.get(name) or find(name))
            if whole is None:
                left.append(at)
            else:
                at_offset[at] = whole
                salvaged[object_id(*whole)] = whole
        if len(left) == len(waiting):
            break  # their bases are lost
        waiting = left
    return salvaged


def make_pack(objects: Iterable[tuple[str, bytes]]) -> bytes:
    """A pack that holds ``objects``, each of them whole."""
    numbers = {kind: number for number, kind in _KINDS.items()}
    entries = [_head(numbers[kind], len(data)) + zlib.compress(data, 1) for kind, data in objects]
    body = b"PACK" + struct.pack(">II", 2, len(entries)) + b"".join(entries)
    return body + hashlib.sha1(body, usedforsecurity=False).digest()


def tree_entries(data: bytes) -> Iterator[tuple[bytes, bytes, str]]:
    """(mode, name, id) of each entry of a tree object."""
    at = 0
    while at < len(data):
        space = data.index(b" ", at)
        end = data.index(b"\0", space)
        stop = end + 1 + _HASH_BYTES
        yield data[at:space], data[space + 1 : end], data[end + 1 : stop].hex()
        at = stop


def make_tree(entries: Iterable[tuple[bytes, bytes, str]]) -> bytes:
    """The tree object with ``entries``, in git's order: a folder sorts as if its name ended in a slash."""
    ordered = sorted(entries, key=lambda entry: entry[1] + (b"/" if entry[0] == b"40000" else b""))
    return b"".join(mode + b" " + name + b"\0" + bytes.fromhex(oid) for mode, name, oid in ordered)


# ── a pack's pieces ─────────────────────────────────────────────────────────────────────────────────


def _pieces(pack: bytes) -> Iterator[tuple[int, _Piece]]:
    at = _PACK_HEAD
    while at < len(pack) - _HASH_BYTES:
        piece = _piece(pack, at)
        if piece is not None:
            yield at, piece
        # After a damaged piece the next may begin at any byte; its checksum tells whether it does.
        at = piece.end if piece else at + 1


def _piece(pack: bytes, start: int) -> _Piece | None:
    byte, at = pack[start], start + 1
    number, size, shift = byte >> 4 & 7, byte & 15, 4
    try:
        while byte & 0x80:
            byte, at = pack[at], at + 1
            size |= (byte & 0x7F) << shift
            shift += 7
        base: int | str | None = None
        if number == _OFFSET_DELTA:
            back, at = _back(pack, at)
            base = start - back
        elif number == _NAME_DELTA:
            base, at = pack[at : at + _HASH_BYTES].hex(), at + _HASH_BYTES
        elif number not in _KINDS:
            return None
        if pack[at] & 0x0F != 8 or (pack[at] << 8 | pack[at + 1]) % 31:
            return None  # no zlib stream begins here
    except IndexError:
        return None
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(memoryview(pack)[at:], size + 1)
    except (zlib.error, OverflowError):
        return None
    if not stream.eof or len(data) != size:
        return None
    return _Piece(number, base, data, len(pack) - len(stream.unused_data))


def _back(pack: bytes, at: int) -> tuple[int, int]:
    byte = pack[at]
    value = byte & 0x7F
    while byte & 0x80:
        at += 1
        byte = pack[at]
        value = (value + 1) << 7 | byte & 0x7F
    return value, at + 1


def _resolved(
    piece: _Piece,
    at_offset: Mapping[int, tuple[str, bytes]],
    find: Callable[[str], tuple[str, bytes] | None],
) -> tuple[str, bytes] | None:
    if piece.base is None:
        return _KINDS[piece.number], piece.data
    base = at_offset.get(piece.base) if isinstance(piece.base, int) else find(piece.base)
    if base is None:
        return None
    try:
        return base[0], _applied(base[1], piece.data)
    except (IndexError, ValueError):
        return None


def _applied(base: bytes, delta: bytes) -> bytes:
    """``base`` changed as ``delta`` says; ``ValueError`` when that is not a delta of it."""
    at = 0
    sizes = []
    for _ in range(2):
        size = shift = 0
        while True:
            byte, at = delta[at], at + 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
        sizes.append(size)
    out = bytearray()
    while at < len(delta):
        order, at = delta[at], at + 1
        if order & 0x80:
            numbers = [0, 0]
            for bit in range(7):
                if order >> bit & 1:
                    which, shift = (0, bit) if bit < 4 else (1, bit - 4)
                    numbers[which] |= delta[at] << 8 * shift
                    at += 1
            out += base[numbers[0] : numbers[0] + (numbers[1] or 0x10000)]
        else:
            out += delta[at : at + order]
            at += order
    if sizes != [len(base), len(out)]:
        msg = "the delta belongs to another object"
        raise ValueError(msg)
    return bytes(out)


def _head(number: int, size: int) -> bytes:
    byte, size = number << 4 | size & 15, size >> 4
    out = bytearray()
    while size:
        out.append(byte | 0x80)
        byte, size = size & 0x7F, size >> 7
    out.append(byte)
    return bytes(out)
