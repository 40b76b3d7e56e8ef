"""Cutting by content: nothing is lost, pieces have their sizes, a change moves the cuts next to it only."""

import pickle
import random

from hypothesis import given
from hypothesis import strategies as st

from loop_runner.workspace import chunking


def pieces(data):
    return [bytes(piece) for piece in chunking.cut(data)]


def stored_anew(before, after):
    known = set(pieces(before))
    return sum(len(piece) for piece in pieces(after) if piece not in known)


def records(count):
    return {f"key {i}": {"line": i, "text": f"finding {i * 7919}", "tags": ["a", "b"]} for i in range(count)}


def words(count):
    rng = random.Random(5)
    return " ".join(f"word{rng.randrange(10**6)}" for _ in range(count)).encode()


@given(st.binary(max_size=3000), st.integers(1, 400))
def test_the_pieces_are_the_data(seed, times):
    data = seed * times
    result = pieces(data)
    assert b"".join(result) == data
    assert all(0 < len(piece) <= chunking.MAX_BYTES for piece in result)
    assert all(len(piece) >= chunking.MIN_BYTES for piece in result[:-1])


def test_a_dict_that_grows_at_its_end_costs_little_more_than_its_growth():
    before, after = pickle.dumps(records(100_000), 5), pickle.dumps(records(101_000), 5)
    assert len(before) > 5_000_000
    assert stored_anew(before, after) < len(after) - len(before) + 2 * chunking.MAX_BYTES


def test_a_change_in_the_middle_costs_the_pieces_next_to_it():
    for data in (pickle.dumps(records(100_000), 5), words(500_000), pickle.dumps(list(range(10**6)), 5)):
        middle = len(data) // 2
        assert stored_anew(data, data[:middle] + b"something new" + data[middle:]) <= 4 * chunking.MAX_BYTES


def test_data_without_any_mark_is_cut_by_size():
    assert [len(piece) for piece in pieces(b"\x00" * (chunking.MAX_BYTES * 2 + 5))] == [
        chunking.MAX_BYTES,
        chunking.MAX_BYTES,
        5,
    ]
