"""The simulation of a large fleet: a seed gives one result, and the bottleneck is what is slow."""

import pytest

from bench.fleet_simulation import Costs, measure, simulate

FAST = Costs(1e-6, 1e-9, 1e-9)


def test_the_same_seed_gives_the_same_result():
    first, second = (simulate(FAST, 500, 20, seed=3) for _ in range(2))
    assert first == second
    assert simulate(FAST, 500, 20, seed=4) != first


@pytest.mark.parametrize(
    ("costs", "bottleneck"),
    [
        (FAST, "none"),
        (Costs(10.0, 1e-9, 1e-9), "store"),
        (Costs(1e-6, 1.0, 1.0), "reading states"),
    ],
)
def test_the_bottleneck_is_what_is_slow(costs, bottleneck):
    result = simulate(costs, 500, 20, seed=3, look_share=None)
    assert result.bottleneck == bottleneck
    assert (result.total_s > 2 * result.ideal_s) == (bottleneck == "store")


def test_a_worker_that_looks_rarely_spends_a_twentieth_of_its_time_on_it():
    result = simulate(Costs(1e-6, 1.0, 1.0), 500, 20, seed=3)
    assert result.look_load == pytest.approx(1 / 20)
    assert result.bottleneck == "none"


def test_the_costs_of_a_real_store_are_measured(tmp_path):
    costs = measure("folder", tmp_path, states=5, changes=2)
    assert 0 < costs.list_s < costs.change_s < 10
