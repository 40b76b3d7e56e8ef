"""Makes forged frames out of real ones: bytes, lengths, types, numbers, order, copies and floods.

Everything comes from the ``random.Random`` that is given, so that a seed gives the same frames again.
"""

from __future__ import annotations

import json
import struct

from loop_runner.kernel.inside import wire

# Values that a header may hold in the place of any other, as JSON text.
HOSTILE = (
    *("null", "true", "false", "0", "-1", "1", "1.0", "1e999", "-1e999", "NaN", "Infinity", "1e-400"),
    *("9223372036854775808", "-9223372036854775809", "9" * 400, "9" * 5000, "0.1"),
    *(
        '""',
        '"x"',
        '"\\ud800"',
        '"\\u0000"',
        '"\\u001b[2J\\u202e"',
        '"done"',
        '"ready"',
        '"snapshot"',
        '"saved"',
    ),
    *(
        '"verified"',
        '"ok"',
        '"raised"',
        '"timed_out"',
        '"../../etc/passwd"',
        '"a b"',
        '"__class__"',
        '"context"',
    ),
    *(
        "[]",
        "{}",
        "[[]]",
        '[[[], "x"]]',
        '[[{}, "x"]]',
        '[[0, "x"]]',
        '[["", "x"]]',
        '[["x", 1]]',
        '[""]',
        "[1]",
    ),
    '{"content": 1}',
    '{"content": "42", "ready": 1, "extra": {}}',
    '{"content": "42", "ready": true, "extra": {"x": 1e999}}',
    '{"content": "42", "ready": true, "extra": {"\\ud800": "\\udfff"}}',
    '{"content": "\\ud800", "ready": true, "extra": {}}',
    '{"content": "", "ready": false, "extra": {"x": ' + "[" * 300 + "]" * 300 + "}}",
    "[" * 5000,
    "[" * 900 + "]" * 900,
    '{"a":' * 900 + "1" + "}" * 900,
    '"' + "x" * 70_000 + '"',
    '"' + "\\u0007" * 20_000 + '"',
    "[" + '"n",' * 5000 + '"n"]',
)
_LENGTHS = (0, 1, 2, 7, 8, 255, 4096, 4097, 1 << 16, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)


def raw(text: str | bytes, payload: bytes = b"") -> bytes:
    """A frame around any text, JSON or not."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return struct.pack(">II", len(data), len(payload)) + data + payload


def forge(rng, frames):
    """One forged stream of bytes, made from some of ``frames`` (real ones); and the way in which."""
    way = rng.choice(WAYS)
    return way.__name__, way(rng, frames)


def _noise(rng, frames):
    return rng.randbytes(rng.randrange(1, 64))


def _noise_in_a_frame(rng, frames):
    return raw(rng.randbytes(rng.randrange(0, 64)), rng.randbytes(rng.randrange(0, 9)))


def _flipped_bits(rng, frames):
    data = bytearray(rng.choice(frames))
    for _ in range(rng.choice((1, 1, 2, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _flipped_text(rng, frames):
    """Only the header's text is touched, so that the lengths stay true."""
    data = bytearray(rng.choice(frames))
    end = 8 + int.from_bytes(data[:4], "big")
    for _ in range(rng.choice((1, 1, 3))):
        data[rng.randrange(8, max(end, 9))] = rng.randrange(256)
    return bytes(data)


def _cut(rng, frames):
    data = rng.choice(frames)
    return data[: rng.randrange(len(data))]


def _pieces_swapped(rng, frames):
    data = rng.choice(frames)
    first, second = sorted(rng.randrange(len(data)) for _ in range(2))
    return data[:first] + data[second:] + data[first:second]


def _wrong_length(rng, frames):
    data = rng.choice(frames)
    header, payload = struct.unpack_from(">II", data)
    header = rng.choice((header, rng.choice(_LENGTHS), header + 1, max(header - 1, 0)))
    payload = rng.choice((payload, rng.choice(_LENGTHS), payload + 1, max(payload - 1, 0)))
    return struct.pack(">II", header, payload) + data[8:]


def _wrong_value(rng, frames):
    """One place of the header, at any depth, holds something else."""
    header, payload = _parts(rng.choice(frames))
    text = json.dumps(header)
    places = list(_places(header, ()))
    for _ in range(rng.choice((1, 1, 1, 2))):
        text = _with(header, rng.choice(places), rng.choice(HOSTILE))
    return raw(text, payload)


def _missing_or_extra_key(rng, frames):
    header, payload = _parts(rng.choice(frames))
    for _ in range(rng.choice((1, 1, 2))):
        if header and rng.random() < 0.6:
            del header[rng.choice(sorted(header))]
        else:
            header[rng.choice(("number", "blobs", "names", "failed", "id", "payload", "\ud800", ""))] = 1
    return raw(json.dumps(header), payload)


def _key_twice(rng, frames):
    header, payload = _parts(rng.choice(frames))
    key = rng.choice(sorted(header)) if header else "type"
    return raw(json.dumps(header)[:-1] + f", {json.dumps(key)}: {rng.choice(HOSTILE)}}}", payload)


def _other_payload(rng, frames):
    header, payload = _parts(rng.choice(frames))
    payload = rng.choice((b"", payload[:-1], payload + b"x", rng.randbytes(20), bytes(5000), b"\xff\xfe"))
    return raw(json.dumps(header), payload)


def _not_utf8(rng, frames):
    header, payload = _parts(rng.choice(frames))
    encoding = rng.choice(("utf-16", "utf-32", "utf-8-sig", "utf-7", "cp037"))
    return raw(json.dumps(header).encode(encoding), payload)


def _not_an_object(rng, frames):
    return raw(rng.choice(HOSTILE))


def _twice(rng, frames):
    return rng.choice(frames) * rng.choice((2, 2, 3))


def _two_kinds(rng, frames):
    return rng.choice(frames) + rng.choice(frames)


def _flood(rng, frames):
    return rng.choice(frames) * rng.randrange(20, 100)


def _another_number(rng, frames):
    header, payload = _parts(rng.choice(frames))
    for key in ("number", "id"):
        if key in header:
            header[key] += rng.choice((-1, 1, 1 << 31, 1 << 63))
    return raw(json.dumps(header), payload)


def _true_frame_then_noise(rng, frames):
    return rng.choice(frames) + rng.randbytes(rng.randrange(1, 20))


def _as_it_was(rng, frames):
    """A real frame, of whatever kind: replayed at the wrong time or at the right one."""
    return rng.choice(frames)


WAYS = (
    *(_noise, _noise_in_a_frame, _flipped_bits, _flipped_text, _cut, _pieces_swapped, _wrong_length),
    *(_wrong_value, _wrong_value, _wrong_value, _missing_or_extra_key, _key_twice, _other_payload),
    *(_not_utf8, _not_an_object, _twice, _two_kinds, _flood, _another_number, _true_frame_then_noise),
    _as_it_was,
)


def _parts(frame):
    decoder = wire.Decoder()
    decoder.feed(frame)
    taken = decoder.take()
    assert taken is not None
    return taken.header, taken.payload


def _places(value, path):
    """The path of every place in a header."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _places(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value[:3]):
            yield from _places(item, (*path, index))


def _with(header, path, replacement):
    """The JSON of ``header`` with the text ``replacement`` at ``path``."""
    mark = "\x00here\x00"
    copy = json.loads(json.dumps(header))
    inner = copy
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = mark
    return json.dumps(copy).replace(json.dumps(mark), replacement)
