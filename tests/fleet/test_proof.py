"""A sample of ``make fleet-proof``: a few jobs whose workers are disturbed for some seconds."""

import pytest

from tests import fleet_proof


@pytest.mark.slow
def test_a_disturbed_fleet_ends_as_an_undisturbed_one(tmp_path):
    claims = fleet_proof.proven(tmp_path, jobs=3, minutes=0.1, seed=3)
    assert [claim for claim, holds in claims if not holds] == []
