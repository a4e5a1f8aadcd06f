"""Exact k-means against brute force and scikit-learn."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from spikefit.errors import ConfigurationError
from spikefit.functional.kmeans import kmeans_1d


def inertia(values, centroids):
    return float(((np.asarray(values)[:, None] - np.asarray(centroids)) ** 2).min(1).sum())


def best_inertia(values, clusters):
    """All ways to cut the sorted values into intervals."""
    ordered = np.sort(values)
    options = []
    for cuts in combinations(range(1, len(ordered)), min(clusters, len(ordered)) - 1):
        parts = np.split(ordered, cuts)
        options.append(sum(((part - part.mean()) ** 2).sum() for part in parts))
    return min(options)


@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=9), st.integers(1, 5))
@settings(max_examples=200, deadline=None)
def test_no_partition_is_better(values, clusters):
    centroids, counts = kmeans_1d(torch.tensor(values, dtype=torch.float64), clusters)
    assert len(centroids) == clusters
    assert (centroids.diff() >= 0).all()
    assert int(counts.sum()) == len(values)
    assert inertia(values, centroids.numpy()) <= best_inertia(values, clusters) + 1e-9


def test_never_worse_than_scikit_learn():
    values = torch.randn(3000, generator=torch.Generator().manual_seed(0)).double() ** 3
    for clusters in (2, 4, 16):
        centroids, _ = kmeans_1d(values, clusters)
        other = KMeans(clusters, n_init=5, random_state=0).fit(values.numpy()[:, None]).inertia_
        assert inertia(values, centroids.numpy()) <= other * (1 + 1e-9)


def test_more_clusters_than_distinct_values():
    centroids, counts = kmeans_1d(torch.tensor([2.0, 1.0, 2.0]), 5)
    assert centroids.tolist() == [1, 2, 2, 2, 2]
    assert counts.tolist() == [1, 2, 0, 0, 0]


def test_bad_values_are_refused():
    with pytest.raises(ConfigurationError, match="clusters"):
        kmeans_1d(torch.ones(3), 0)
    for values in (torch.tensor([]), torch.tensor([1.0, float("nan")])):
        with pytest.raises(ValueError, match="finite"):
            kmeans_1d(values, 2)
