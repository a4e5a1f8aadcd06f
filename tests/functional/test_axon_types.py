"""Axon types compared with exhaustive search and the documented gradients."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikefit.functional.axon_types import axon_lookup, best_centres, best_types, best_values, fit_axons, joined, starts


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def error_of(weight, values, types):
    """Squared error with the better of 0 and the value for each weight."""
    own = values[:, types][:, :, None]
    return torch.minimum(weight**2, (weight - own) ** 2).sum().item()


WEIGHTS = st.sampled_from([-2.0, -1.0, -0.7, -0.1, 0.0, 0.2, 0.9, 1.0, 3.0])


@given(st.lists(WEIGHTS, min_size=1, max_size=8))
@settings(max_examples=100)
def test_a_centre_next_to_zero_is_the_best_over_all_subsets(row):
    """Brute force: every subset of the row is replaced by its mean, the rest by 0."""
    (centre,), (served,) = best_centres(torch.tensor([row], dtype=torch.float64))
    subsets = (s for size in range(1, len(row) + 1) for s in itertools.combinations(row, size))
    most = max(sum(subset) ** 2 / len(subset) for subset in subsets)
    found = sum(min(w**2, (w - centre.item()) ** 2) for w in row)
    assert found == pytest.approx(sum(w**2 for w in row) - most, abs=1e-12)
    if centre != 0:
        below = sum(abs(w - centre.item()) < abs(w) - 1e-9 for w in row)
        ties = sum(abs(abs(w - centre.item()) - abs(w)) <= 1e-9 for w in row)
        assert below <= served <= below + ties


def test_the_values_of_several_outputs_types_and_taps_at_once():
    """Type 0 of output 0 holds 3, 1, 3, -1 (inputs 0 and 2, two taps): 3 and 3 alone save 18, with 1 it is 49/3."""
    weight = torch.tensor([[[3.0, 1.0], [-2.0, 0.5], [3.0, -1.0]], [[0.0, 0.0], [1.0, 1.0], [-4.0, -2.0]]]).double()
    values, served = best_values(weight, torch.tensor([0, 1, 0]), 3)
    assert values.tolist() == [[3.0, -2.0, 0.0], [-3.0, 1.0, 0.0]]
    assert served[:, :2].tolist() == [[2, 1], [2, 2]]


@given(st.integers(0, 2**16), st.integers(1, 4), st.integers(1, 6), st.integers(1, 3), st.integers(1, 4))
@settings(max_examples=50)
def test_types_are_the_best_of_all_given_the_values(seed, outputs, inputs, taps, count):
    """All types tried for each input; only an input that fills an empty type may have another one."""
    weight, values = normal(outputs, inputs, taps, seed=seed), normal(outputs, count, seed=seed + 1)
    found = best_types(weight, values, torch.arange(inputs) % count).tolist()
    for i in range(inputs):
        errors = [error_of(weight[:, [i]], values, [kind]) for kind in range(count)]
        assert errors[found[i]] <= min(errors) + 1e-9 or found.count(found[i]) == 1
    assert len(set(found)) == min(count, inputs)


def test_a_tie_keeps_the_present_type():
    """Inputs 1 and 3 are as well served by both types, input 0 by type 0 alone and input 2 by type 1 alone."""
    weight = torch.tensor([[[1.0], [2.0], [3.0], [-1.0]]]).double()
    values = torch.tensor([[1.0, 3.0]]).double()
    for kind in (0, 1):
        assert best_types(weight, values, torch.full((4,), kind)).tolist() == [0, kind, 1, kind]


def test_an_empty_type_takes_the_input_of_largest_error():
    """All inputs like value 1 best; input 2 is farthest from it (error 9, against 0, 1 and 0.25)."""
    weight = torch.tensor([[[1.0], [2.0], [4.0], [1.5]]]).double()
    values = torch.tensor([[1.0, 0.0]]).double()
    assert best_types(weight, values, torch.zeros(4, dtype=torch.int64)).tolist() == [0, 0, 1, 0]


def test_the_only_input_of_a_type_stays_there():
    """Input 0 has the largest error, 16 with value 6, but is alone in its type; input 2 (2.25 with value 1) moves."""
    weight = torch.tensor([[[10.0], [2.0], [2.5]]]).double()
    values = torch.tensor([[6.0, 1.0, 0.0]]).double()
    assert best_types(weight, values, torch.tensor([0, 1, 1])).tolist() == [0, 1, 2]


def test_an_input_without_weights_fills_no_type():
    """Input 0 is all zeros: type 0 counts as empty although it is the type of input 0."""
    weight = torch.tensor([[[0.0], [2.0], [5.0]]]).double()
    values = torch.tensor([[0.0, 2.0]]).double()
    assert best_types(weight, values, torch.tensor([0, 1, 1])).tolist() == [0, 1, 0]


@given(st.integers(0, 2**16), st.integers(1, 5), st.integers(1, 9), st.integers(1, 3), st.integers(1, 5), st.booleans())
@settings(max_examples=40)
def test_the_error_never_grows(seed, outputs, inputs, taps, count, rounded):
    """Over all rounds, from the bad start of a single type; rounded weights have ties and zeros."""
    weight = normal(outputs, inputs, taps, seed=seed)
    weight = weight.round() if rounded else weight
    types, errors = torch.zeros(inputs, dtype=torch.int64), []
    for _ in range(8):
        values, _ = best_values(weight, types, count)
        errors.append(error_of(weight, values, types))
        types = best_types(weight, values, types)
        errors.append(error_of(weight, best_values(weight, types, count)[0], types))
    assert all(later <= earlier + 1e-9 for earlier, later in itertools.pairwise(errors))
    fit = fit_axons(weight, torch.zeros(inputs, dtype=torch.int64), count)
    assert fit.error == pytest.approx(error_of(weight, fit.values, fit.types), abs=1e-9)
    assert fit.error <= errors[-1] + 1e-9
    if not rounded:  # inputs of random weights all differ: a type without inputs would be a waste
        assert len(fit.types.unique()) == min(inputs, count)


@given(st.integers(0, 2**16))
@settings(max_examples=10)
def test_a_tiny_layer_is_fitted_almost_as_well_as_by_exhaustive_search(seed):
    """3 outputs, 6 inputs, 2 types: all 64 assignments. The worst start ends in a local optimum."""
    weight = normal(3, 6, 1, seed=seed)
    every = (torch.tensor(types) for types in itertools.product(range(2), repeat=6))
    best = min(error_of(weight, best_values(weight, types, 2)[0], types) for types in every)
    found = min(fit_axons(weight, start, 2).error for start in starts(weight, 2))
    assert best - 1e-9 <= found <= best + 0.15 * float(weight.square().sum())


@pytest.mark.parametrize("taps", [1, 9])
def test_planted_types_are_found(taps):
    """Weights that obey the rule are fitted without error, from at least one of the starts."""
    types = torch.arange(20) % 4
    values = normal(10, 4, seed=3)
    present = normal(10, 20, taps, seed=4) > 0
    weight = values[:, types].unsqueeze(2) * present
    fits = [fit_axons(weight, start, 4) for start in starts(weight, 4)]
    best = min(fits, key=lambda fit: fit.error)
    assert best.error < 1e-9
    assert len({(a, b) for a, b in zip(best.types.tolist(), types.tolist(), strict=True)}) == 4
    torch.testing.assert_close(axon_lookup(weight, best.values, best.types), weight)


def test_starts_are_the_same_every_time_and_name_every_type():
    weight = normal(6, 20, 3)
    first, second = list(starts(weight, 4)), list(starts(weight, 4))
    assert len(first) == 3
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)
        assert one.unique().tolist() == [0, 1, 2, 3]


def test_a_synapse_is_there_where_the_value_is_nearer_than_zero():
    """A weight in the middle, a value of 0 and a weight of the other sign have none."""
    own = torch.tensor([1.0, 1.0, 1.0, -2.0, -2.0, 0.0, 1.0])
    weight = torch.tensor([0.6, 0.5, -0.9, -1.1, -1.0, -3.0, 9.0])
    assert joined(weight, own).tolist() == [True, False, False, True, False, False, True]


def test_the_gradients_are_the_written_ones():
    """dL/dW = dL/dW_hat; dL/dc[j, t] sums dL/dW_hat over the inputs of type t with S = 1, and its taps."""
    weight, values, upstream = normal(5, 7, 3), normal(5, 4, seed=1), normal(5, 7, 3, seed=2)
    types = torch.tensor([0, 1, 3, 3, 1, 0, 3])  # nobody has type 2
    weight.requires_grad_()
    values.requires_grad_()
    axon_lookup(weight, values, types).backward(upstream)
    expected = torch.zeros(5, 4, dtype=torch.float64)
    for j, i, tap in itertools.product(range(5), range(7), range(3)):
        w, c = weight[j, i, tap].item(), values[j, types[i]].item()
        if abs(w - c) < abs(w):
            expected[j, types[i]] += upstream[j, i, tap]
    torch.testing.assert_close(values.grad, expected)
    assert torch.equal(weight.grad, upstream)
    assert (expected[:, 2] == 0).all()


def test_the_gradient_of_the_values_is_that_of_finite_differences():
    weight, types = normal(3, 6, 2), torch.tensor([0, 1, 2, 2, 1, 0])
    values = normal(3, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda c: axon_lookup(weight, c, types), (values,))
