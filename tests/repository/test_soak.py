"""A sample of ``make soak``."""

import pytest

from tests import soak


@pytest.mark.slow
def test_three_hundred_turns_with_restarts_at_random_leave_nothing_behind(capsys):
    wrong = soak.run(300, seed=11, say=print)
    assert wrong == [], capsys.readouterr().out
