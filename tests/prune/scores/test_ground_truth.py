"""On trained networks FSC orders units by the cost of their removal, better than every other score."""

import pytest

from scripts import rank_scores
from spikefit.prune import FSC, SVS, FiringRate, Magnitude, Random


@pytest.fixture(scope="module")
def correlations():
    """Spearman's correlation of each score (of 512 digits) with the true loss change (on all 1437), by seed."""
    found = {}
    for seed in (0, 1):
        compared = {
            "fsc": FSC(),
            "empirical": FSC(fisher="empirical"),
            "svs": SVS(),
            "magnitude": Magnitude(),
            "rate": FiringRate(),
            "random": Random(seed),
        }
        network = rank_scores.trained(rank_scores.NETWORKS["conv 8-12-24"], seed, epochs=8)
        found[seed] = rank_scores.correlations(network, compared, samples=512, seed=seed)
    return found


@pytest.mark.parametrize("seed", [0, 1])
def test_fsc_orders_units_by_what_their_removal_costs_and_every_baseline_worse(correlations, seed):
    found = correlations[seed]
    assert found["fsc"] > 0.9
    for baseline in ("svs", "magnitude", "rate", "random"):
        assert found["fsc"] > found[baseline] + 0.1, baseline


@pytest.mark.parametrize("seed", [0, 1])
def test_the_networks_own_labels_order_units_better_than_the_data_s(correlations, seed):
    assert correlations[seed]["fsc"] > correlations[seed]["empirical"]
