"""Frames survive the trip, and garbage is an error of one known kind."""

import json
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop_runner.kernel.inside import wire

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
headers = st.dictionaries(st.text(), json_values, max_size=5)


@given(headers, st.binary(max_size=200), st.integers(1, 50))
def test_a_frame_survives_the_trip_in_pieces_of_any_size(header, payload, piece):
    data = wire.encode(header, payload)
    decoder = wire.Decoder()
    frames = []
    for start in range(0, len(data), piece):
        decoder.feed(data[start : start + piece])
        if (frame := decoder.take()) is not None:
            frames.append(frame)
    assert frames == [wire.Frame(json.loads(json.dumps(header)), payload)]
    assert decoder.pending_bytes == 0


@given(st.lists(st.tuples(headers, st.binary(max_size=30)), max_size=4))
def test_frames_after_each_other_come_out_in_order(frames):
    decoder = wire.Decoder()
    decoder.feed(b"".join(wire.encode(header, payload) for header, payload in frames))
    assert [decoder.take() for _ in frames] == [wire.Frame(header, payload) for header, payload in frames]
    assert decoder.take() is None


def read_all(data):
    decoder = wire.Decoder(max_header=1000, max_payload=1000)
    decoder.feed(data)
    try:
        while decoder.take() is not None:
            pass
    except wire.WireError:
        pass


@given(st.binary(max_size=300))
def test_garbage_is_a_wire_error_or_not_yet_a_frame(data):
    read_all(data)


@given(headers, st.data())
def test_a_changed_byte_is_a_wire_error_or_another_frame(header, data):
    frame = bytearray(wire.encode(header, b"payload"))
    frame[data.draw(st.integers(0, len(frame) - 1))] ^= data.draw(st.integers(1, 255))
    read_all(bytes(frame))


@pytest.mark.parametrize(
    "text", [b"[]", b"1", b"{", b"\xff", b"", b'{"a":NaN}', b"[" * 100_000, b'{"a":' * 100_000]
)
def test_a_header_must_be_a_json_object(text):
    with pytest.raises(wire.WireError):
        wire.decode_header(text)


def test_a_frame_over_the_cap_is_refused_before_it_arrives():
    decoder = wire.Decoder(max_header=10, max_payload=10)
    decoder.feed(b"\xff\xff\xff\xff\x00\x00\x00\x00")
    with pytest.raises(wire.WireError, match="over the cap"):
        decoder.take()


def test_frames_cross_a_pipe_larger_than_its_buffer():
    reader, writer = os.pipe()
    payload = os.urandom(3_000_000)
    thread = threading.Thread(target=wire.write_all, args=(writer, wire.encode({"n": 1}, payload)))
    thread.start()
    assert wire.read_frame(reader, wire.Decoder()) == wire.Frame({"n": 1}, payload)
    thread.join()
    os.close(writer)
    assert wire.read_frame(reader, wire.Decoder()) is None
    os.close(reader)
