"""A sample of `make long-run`."""

import pytest

from tests import long_run


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_hundred_and_fifty_passes_stay_small_and_as_fast_as_the_first(tmp_path):
    said: list[str] = []
    wrong = long_run.run(tmp_path / "run", 150, said.append)
    print("\n".join(said))
    assert wrong == []
    packs = list((tmp_path / "run/.git/objects/pack").glob("*.pack"))
    assert len(packs) < 60, "packs are joined on the way"
