"""Codebooks fitted to currents, compared with brute force over all assignments."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikefit.functional.output_matching import Match, best_start, match_codebook, prepared, rematch


def problem(seed, out=4, n=4, correlated=True):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(out, n, generator=generator, dtype=torch.float64)
    x = torch.randn(200, n, generator=generator, dtype=torch.float64)
    if correlated:
        x = x + 3 * torch.randn(200, 1, generator=generator, dtype=torch.float64)
    return weight, x.t() @ x / len(x)


def relative_error(weight, gram, used):
    rest = weight - used
    return (rest @ gram * rest).sum(1) / (weight @ gram * weight).sum(1)


def brute_force(row, gram, codebook, free_gain):
    """Least relative error of one output over all assignments, the gain in closed form."""
    best = 1.0 if free_gain else float("inf")
    for values in product(codebook.tolist(), repeat=len(row)):
        q = torch.tensor(values, dtype=torch.float64)
        gain = 1.0
        if free_gain:
            power, overlap = float(q @ gram @ q), float(q @ gram @ row)
            if power <= 0 or overlap <= 0:
                continue
            gain = overlap / power
        best = min(best, float(relative_error(row[None], gram, gain * q[None])))
    return best


@pytest.mark.parametrize("free_gain", [True, False])
def test_descent_comes_near_the_best_of_all_assignments(free_gain):
    """3**5 assignments per output. Coordinate descent comes close to exhaustive search on average, never below it."""
    codebook = torch.tensor([-1.0, 0.2, 1.3], dtype=torch.float64)
    found, best, nearest = [], [], []
    for seed in range(12):
        weight, gram = problem(seed, out=1, n=5)
        match = best_start(weight, gram, codebook, torch.ones(1, dtype=torch.float64), free_gain, 8)
        found.append(float(match.error))
        best.append(brute_force(weight[0], gram, codebook, free_gain))
        rounded = codebook[(weight[..., None] - codebook).abs().argmin(-1)]
        nearest.append(float(relative_error(weight, gram, rounded)))
    assert all(mine >= least * (1 - 1e-4) - 1e-9 for mine, least in zip(found, best, strict=True))
    assert sum(found) <= 2 * sum(best) + 1e-6
    assert sum(found) < 0.3 * sum(nearest)


def test_weights_that_are_a_codebook_up_to_gains_are_found_again():
    generator = torch.Generator().manual_seed(0)
    codebook = torch.tensor([-1.5, -0.4, 0.5, 1.7], dtype=torch.float64)
    index = torch.randint(0, 4, (12, 30), generator=generator)
    gain = torch.rand(12, generator=generator, dtype=torch.float64) * 3 + 0.5
    _, gram = problem(1, n=30)
    match = match_codebook(gain[:, None] * codebook[index], gram, 4, free_gain=True)
    assert match.error.max() < 1e-6
    assert torch.equal(match.index, index)
    torch.testing.assert_close(
        match.gain[:, None] * match.values, gain[:, None] * codebook[index], rtol=1e-3, atol=1e-3
    )


@given(st.integers(0, 10**6), st.integers(2, 5), st.booleans(), st.booleans())
@settings(max_examples=40)
def test_the_reported_error_is_the_error_and_no_nearest_value_is_better(seed, levels, free_gain, zero):
    weight, gram = problem(seed, out=6, n=8)
    match = match_codebook(weight, gram, levels, free_gain=free_gain, zero=zero)
    assert (match.codebook.diff() >= 0).all()
    assert (match.gain > 0).all()
    used = match.gain[:, None] * match.values
    torch.testing.assert_close(match.error, relative_error(weight, gram, used), rtol=1e-3, atol=1e-5)
    rounded = match.codebook[(weight[..., None] / match.gain[:, None, None] - match.codebook).abs().argmin(-1)]
    nearest = relative_error(weight, gram, match.gain[:, None] * rounded)
    assert match.error.mean() <= nearest.mean() * (1.02 if free_gain else 1) + 1e-6
    if zero:
        assert (match.codebook == 0).any()
    if not free_gain:
        assert len(match.gain.unique()) == 1


def test_uncorrelated_inputs_ask_for_the_nearest_values():
    """With the identity as covariance and no gain the error is the distance of the weights: nearest is best."""
    weight, _ = problem(0, out=5, n=40)
    codebook = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    gram = torch.eye(40, dtype=torch.float64)
    match = best_start(weight, gram, codebook, torch.ones(5, dtype=torch.float64), False, 1)
    assert torch.equal(match.index, (weight[..., None] - codebook).abs().argmin(-1))


def test_a_rematch_takes_the_codebook_of_least_error():
    weight, gram = problem(3, out=8, n=12)
    match = match_codebook(weight, gram, 3, free_gain=True)
    candidates = torch.stack([match.codebook * 0 + torch.tensor([-1.0, 0.0, 1.0]), match.codebook, -match.codebook])
    again, which = rematch(weight, gram, candidates, match, free_gain=True)
    assert which == 1
    assert again.error.mean() <= match.error.mean() + 1e-9


def test_inputs_that_never_fire_and_outputs_alike_do_no_harm():
    weight, gram = problem(0, out=3, n=6)
    gram[2], gram[:, 2] = 0, 0
    weight[1] = weight[0]
    match = match_codebook(weight, prepared(gram), 4, free_gain=True)
    assert match.error.isfinite().all()
    assert torch.equal(match.index[0], match.index[1])
    assert isinstance(match, Match)


def test_the_diagonal_grows_by_a_millionth_of_its_mean():
    """By hand: the mean of 1 and 3 is 2. It follows the scale of the inputs, and the argument stays as it is."""
    gram = torch.tensor([[1.0, 0.5], [0.5, 3.0]], dtype=torch.float64)
    for scale in (2.0**-20, 1.0, 2.0**20):
        scaled = gram * scale
        found = prepared(scaled) / scale
        assert found.tolist() == [[pytest.approx(1 + 2e-6, abs=1e-12), 0.5], [0.5, pytest.approx(3 + 2e-6, abs=1e-12)]]
        assert torch.equal(scaled, gram * scale)
