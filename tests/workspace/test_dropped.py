"""Sums of what was spent: added, taken apart, and read back from a commit message."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from loop_runner.records import Spend, Usage
from loop_runner.workspace import dropped, layout

numbers = st.integers(0, 10**9)
spends = st.builds(
    Spend,
    usage=st.builds(Usage, numbers, numbers, numbers, numbers),
    passes=numbers,
    turns=numbers,
    requests=st.integers(1, 10**9),
    subcalls=numbers,
    seconds=numbers.map(lambda item: item / 1000),
    usd=st.none() | numbers.map(lambda item: item / 10**6),
    unanswered=numbers,
)


@given(spends, spends)
def test_what_is_added_can_be_taken_away_again(item, other):
    both = dropped.plus(item, other)
    known = None if None in (item.usd, other.usd) else item.usd
    assert dropped.rest(both, other) == replace(item, usd=known)


@given(spends)
def test_it_reads_back_as_it_is_written_in_one_line_of_a_commit(spend):
    output = layout.message("rewound: to pass 1", layout.Trailers(dropped=dropped.to_text(spend)))
    assert dropped.from_text(layout.trailers_from(output).dropped) == spend


@given(spends)
def test_there_is_never_less_than_nothing_left(spend):
    assert dropped.rest(Spend(), spend) == dropped.rest(spend, spend) == Spend()
    assert dropped.from_text(dropped.to_text(Spend())) == Spend()


def test_what_somebody_else_wrote_there_counts_nothing():
    for text in (
        "",
        "x",
        "[]",
        "7",
        '{"usage": 3}',
        '{"requests": "many"}',
        '{"usage": {"input_tokens": null}}',
    ):
        assert dropped.from_text(text) == Spend()
