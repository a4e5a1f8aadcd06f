"""Exact k-means compared with brute force, another exact implementation and scikit-learn."""

from itertools import combinations, pairwise

import kmeans1d
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from spikefit.errors import ConfigurationError
from spikefit.functional.kernels.cpu import kmeans as kmeans_cpu
from spikefit.functional.kmeans import kmeans_1d, kmeans_1d_with_zero

SHAPES = {
    "normal": lambda x: x,
    "heavy": lambda x: x**5,
    "cauchy": lambda x: x / np.roll(x, 1),
    "uniform": lambda x: np.argsort(np.argsort(x)).astype(float),
    "rounded": lambda x: x.round(1),
    "clumps": lambda x: x * 1e-3 + np.arange(len(x)) % 5,
    "outlier": lambda x: np.concatenate([x[1:], [1e6]]),
    "few": lambda x: (np.arange(len(x)) % 3).astype(float),
    "constant": lambda x: np.full(len(x), x[0]),
}


def inertia(values, centroids):
    return float(((np.asarray(values)[:, None] - np.asarray(centroids)) ** 2).min(1).sum())


def assert_as_good_as_kmeans1d(values, clusters):
    """Inertia equal to 1e-9 or the precision of float64 sums; ordered clusters; every value counted."""
    centroids, counts = kmeans_1d(torch.from_numpy(values), clusters)
    wide = values.astype(np.float64)
    other = np.array(kmeans1d.cluster(wide.tolist(), min(clusters, len(np.unique(wide)))).centroids)
    assert len(centroids) == clusters
    assert (centroids.diff() >= 0).all()
    assert int(counts.sum()) == len(values)
    found, expected = inertia(wide, centroids.double().numpy()), inertia(wide, other)
    rounding = 1e-12 if values.dtype == np.float64 else np.finfo(np.float32).eps ** 2
    assert found <= expected * (1 + 1e-9) + rounding * ((wide - wide.mean()) ** 2).sum() + rounding * (wide**2).sum()


def best_inertia(values, clusters):
    """All ways to cut the sorted values into intervals."""
    ordered = np.sort(values)
    options = []
    for cuts in combinations(range(1, len(ordered)), min(clusters, len(ordered)) - 1):
        parts = np.split(ordered, cuts)
        options.append(sum(((part - part.mean()) ** 2).sum() for part in parts))
    return min(options)


@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=9), st.integers(1, 5))
@example([0.0, 0.0, 0.0, 3.0, 2.6470122913962838e-21], 3)  # the mean of the tiny one was a rounding error below 0
@settings(max_examples=200)
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


@pytest.fixture
def small_rounds(monkeypatch):
    """Limits so small that a few hundred values pass through all stages of the search."""
    for name, value in {"_BINS": 32, "_CELLS": 6, "_FEW": 3}.items():
        monkeypatch.setattr(kmeans_cpu, name, value)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.usefixtures("small_rounds")
@given(
    seed=st.integers(0, 10**6),
    size=st.integers(13, 400),
    clusters=st.sampled_from([1, 2, 3, 4, 7, 16]),
    exponent=st.integers(-15, 15),
    dtype=st.sampled_from([np.float32, np.float64]),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_round_keeps_the_optimum(shape, seed, size, clusters, exponent, dtype):
    values = SHAPES[shape](np.random.default_rng(seed).standard_normal(size)) * 10.0**exponent
    assert_as_good_as_kmeans1d(values.astype(dtype), clusters)


@pytest.mark.parametrize("shape", SHAPES)
def test_many_values(shape):
    values = SHAPES[shape](np.random.default_rng(0).standard_normal(40000))
    assert_as_good_as_kmeans1d(values, 4)
    assert_as_good_as_kmeans1d(values.astype(np.float32), 5)


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_the_scale_of_float64_values_does_not_matter(scale):
    """Squares of these would overflow or vanish."""
    values = torch.randn(500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    centroids, counts = kmeans_1d(values, 4)
    scaled, scaled_counts = kmeans_1d(values * scale, 4)
    torch.testing.assert_close(scaled / scale, centroids, rtol=1e-12, atol=0)
    assert torch.equal(scaled_counts, counts)


def test_half_precision_values():
    values = torch.randn(500, generator=torch.Generator().manual_seed(0)).bfloat16()
    centroids, _ = kmeans_1d(values, 4)
    assert centroids.dtype == torch.bfloat16
    torch.testing.assert_close(centroids, kmeans_1d(values.float(), 4)[0].bfloat16(), rtol=0, atol=0)


def test_the_centroids_are_the_means_of_their_values():
    values = torch.randn(50000, generator=torch.Generator().manual_seed(0))
    centroids, counts = kmeans_1d(values, 4)
    parts = values.double().sort().values.split(counts.tolist())
    torch.testing.assert_close(centroids, torch.stack([part.mean() for part in parts]).float(), rtol=1e-6, atol=0)
    assert torch.equal(torch.bucketize(values, (centroids[1:] + centroids[:-1]) / 2).bincount(), counts)


def with_zero_by_force(values, clusters):
    """Least cost of intervals, one of which is served by 0."""
    ordered = np.sort(values)
    size, squares, sums = len(ordered), np.append(0, np.cumsum(ordered**2)), np.append(0, np.cumsum(ordered))
    raw = squares[None] - squares[:, None]  # [from, to]
    own = raw - (sums[None] - sums[:, None]) ** 2 / np.maximum(
        1, np.arange(size + 1)[None] - np.arange(size + 1)[:, None]
    )
    least = np.inf
    for borders in combinations(range(size + 1), clusters - 1):
        parts = list(pairwise([0, *borders, size]))
        total = sum(own[part] for part in parts)
        least = min(least, min(total - own[part] + raw[part] for part in parts))
    return least


@pytest.mark.parametrize("clusters", [2, 3, 4])
@pytest.mark.parametrize("seed", range(4))
def test_a_fixed_zero_costs_what_the_best_intervals_cost(clusters, seed):
    values = np.random.default_rng(seed).normal(0.2 * seed, 1, 40)
    found, counts = kmeans_1d_with_zero(torch.from_numpy(values), clusters)
    every = np.append(found.numpy(), 0.0)
    cost = (np.abs(values[:, None] - every).min(axis=1) ** 2).sum()
    assert cost <= 1.05 * with_zero_by_force(values, clusters) + 1e-12
    assert len(found) == clusters - 1
    assert counts.sum() <= len(values)


def test_a_fixed_zero_with_values_of_one_sign_or_none():
    assert kmeans_1d_with_zero(torch.tensor([-1.0, -1.0, -3.0]), 3)[0].tolist() == [-3.0, -1.0]
    assert kmeans_1d_with_zero(torch.zeros(3), 3)[0].tolist() == [0.0, 0.0]
    for options in ((torch.zeros(0), 3), (torch.tensor([np.nan]), 3)):
        with pytest.raises(ValueError, match="k-means needs at least one finite value"):
            kmeans_1d_with_zero(*options)
    with pytest.raises(ConfigurationError, match="clusters: got 1, expected at least 2"):
        kmeans_1d_with_zero(torch.ones(2), 1)
