from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop_runner.process import PipeReader


def _reader(pieces: list[bytes], max_line_bytes: int | None = None) -> PipeReader:
    left = iter(pieces)

    def more() -> bytes:
        piece = next(left, None)
        if piece is None:
            raise EOFError
        return piece

    return PipeReader(more, max_line_bytes)


@given(st.lists(st.binary(max_size=8)))
def test_however_it_is_cut_the_lines_are_the_same(pieces: list[bytes]) -> None:
    *lines, rest = b"".join(pieces).split(b"\n")
    reader = _reader(pieces)

    assert [reader.line() for _ in lines] == lines
    assert reader.take(len(rest)) == rest
    with pytest.raises(EOFError):
        reader.take(1)


def test_bytes_that_follow_a_line_may_hold_line_ends() -> None:
    reader = _reader([b"4\na", b"\nbc5\n"])

    assert (reader.line(), reader.take(4), reader.line()) == (b"4", b"a\nbc", b"5")


def test_a_line_without_an_end_is_not_waited_for_past_its_cap() -> None:
    reader = _reader([b"x" * 10] * 100, max_line_bytes=25)

    with pytest.raises(ValueError, match="longer than 25 bytes"):
        reader.line()
