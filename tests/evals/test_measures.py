"""Intervals against known values, and what counts as verified and wrong."""

import math
import statistics

import pytest

from evals.measures import Median, Share, bootstrap, summary


@pytest.mark.parametrize(
    ("count", "whole", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),  # Wilson 1927, as in tables and in statsmodels
        (5, 10, 0.2366, 0.7634),
        (10, 10, 0.7225, 1.0),
        (1, 1, 0.2065, 1.0),
        (90, 100, 0.8256, 0.9448),
    ],
)
def test_the_interval_of_a_share_is_wilsons(count, whole, low, high):
    assert Share(count, whole).interval == pytest.approx((low, high), abs=1e-4)


def test_a_share_of_nothing_has_no_value():
    assert str(Share(0, 0)) == "-"
    assert Share(0, 0).interval == (0.0, 1.0)


def test_a_share_is_shown_with_its_counts_and_its_interval():
    assert str(Share(5, 10)) == "50% (5/10; 24% to 76%)"


def test_the_bootstrap_holds_the_measure_and_repeats_itself():
    values = [float(value) for value in range(1, 40)]
    low, high = bootstrap(values, statistics.median)
    assert low < 20 < high
    assert (low, high) == bootstrap(values, statistics.median)
    assert bootstrap([3.0], statistics.median) == (3.0, 3.0)
    assert math.isnan(bootstrap([], statistics.median)[0])
    assert str(Median(())) == "-"


def test_verified_answers_are_counted_by_whether_they_are_right(row):
    rows = [
        row(),
        row(is_right=False),
        row(verified=False),
        row(verified=False, is_right=False, seconds=8.0),
    ]
    result = summary(rows)
    assert result.right == Share(2, 4)
    assert (result.verified_right, result.verified_wrong) == (Share(1, 4), Share(1, 4))
    assert result.unverified == Share(2, 4)
    assert (result.tokens.value, result.seconds.value) == (100, 2.0)


def test_an_arm_that_verifies_nothing_has_no_verified_answers(row):
    result = summary([row("direct"), row("direct", is_right=False)])
    assert (result.verified_right, result.verified_wrong, result.unverified) == (None, None, None)
    assert result.right == Share(1, 2)
