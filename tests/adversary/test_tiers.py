"""The attacks run where they say that they run."""

import os

from tests.adversary.__main__ import conditions
from tests.support.confined import IS_ROOT
from tests.support.machines import path_without


def test_a_hidden_program_cannot_be_found_and_all_others_can(tmp_path):
    path = path_without({"bwrap"}, tmp_path)
    assert not (tmp_path / "bwrap").exists()
    assert (tmp_path / "git").exists()
    assert path == os.fspath(tmp_path)


def test_every_user_is_tried_in_both_tiers():
    tried = [(condition.user, condition.tier) for condition in conditions()]
    assert tried[-2:] == [("ordinary user", "A"), ("ordinary user", "B")]
    assert len(tried) == (4 if IS_ROOT else 2)
