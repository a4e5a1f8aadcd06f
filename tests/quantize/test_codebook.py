"""Options of a codebook: scopes, grids and a frozen assignment."""

from functools import partial

import pytest
import torch

from spikefit.errors import ConfigurationError
from spikefit.functional.kmeans import kmeans_1d
from spikefit.functional.quantize import indexed_lookup
from spikefit.quantize import Codebook

Core = partial(Codebook, scope="core", core_outputs=4)


def weight(shape=(10, 30), seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.1


def test_a_core_is_a_layer_of_its_own():
    """10 outputs on cores of 4: each core's weights are quantised as a layer of 4, 4 and 2 outputs would be."""
    w = weight()
    w[4:8] *= 10
    quantizer = Core(w)
    assert quantizer.codebook.shape == (3, 4)
    expected = torch.cat([Codebook(part)(part) for part in w.split(4)])
    assert torch.equal(quantizer(w), expected)
    stored = quantizer.integers(w)
    torch.testing.assert_close(stored.integer * stored.scale, expected.double(), rtol=1e-6, atol=0)


def test_the_gradient_of_a_core_sums_over_its_outputs():
    w = weight().requires_grad_()
    quantizer = Core(w.detach())
    upstream = weight(seed=1)
    quantizer(w).backward(upstream)
    index = quantizer.assignment(w)
    for core, rows in enumerate((slice(0, 4), slice(4, 8), slice(8, 10))):
        sums = torch.zeros(4).index_add(0, index[rows].flatten(), upstream[rows].flatten())
        torch.testing.assert_close(quantizer.codebook.grad[core], sums)
    assert torch.equal(w.grad, upstream)


@pytest.mark.parametrize("make", [Codebook, Core, partial(Codebook, scope="channel", grid="learned")])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_slice_keeps_the_values_of_what_is_left(make, frozen):
    w = weight((10, 6, 3, 3))
    quantizer = make(w)
    outputs, inputs = torch.arange(10) % 4 != 0, torch.arange(6) % 3 != 1
    outputs[4:8] = False  # a whole core goes
    if frozen:
        quantizer.freeze(w)
    expected = quantizer(w)[outputs][:, inputs]
    small = quantizer.sliced(outputs, inputs)
    kept = w[outputs][:, inputs]
    assert torch.equal(small(kept), expected)
    assert torch.equal(small.assignment(kept), quantizer.assignment(w)[outputs][:, inputs])


@pytest.mark.parametrize("how", ["refit", "match"])
def test_a_new_fit_releases_a_frozen_assignment(how):
    """The weights then get the values nearest to them, not those of the frozen indices."""
    w, other = weight(), weight(seed=1)
    quantizer = Codebook(w)
    quantizer.freeze(w)
    if how == "refit":
        quantizer.refit(other)
    else:
        other, _ = quantizer.match(other, torch.eye(30), free_gain=False)
    values = quantizer.values().detach()[0]
    nearest = (other[..., None] - values).abs().argmin(dim=-1)
    assert torch.equal(quantizer.assignment(other), nearest)
    assert torch.equal(quantizer(other), values[nearest])


def test_a_frozen_weight_keeps_its_value_while_the_values_learn():
    w = weight().requires_grad_()
    quantizer = Codebook(w.detach())
    index = quantizer.assignment(w)
    quantizer.freeze(w)
    with torch.no_grad():
        quantizer.codebook += 0.02
    moved = (w.detach() + 1).requires_grad_()
    upstream = weight(seed=1)
    quantised = quantizer(moved)
    quantised.backward(upstream)
    assert torch.equal(quantised, quantizer.values()[0][index])
    sums = torch.zeros(4).index_add(0, index.flatten(), upstream.flatten())
    torch.testing.assert_close(quantizer.codebook.grad[0], sums)
    assert not moved.grad.any()
    quantizer.recluster(moved)
    assert torch.equal(quantizer(moved), quantised), "reclustering leaves a frozen layer alone"
    stored = quantizer.integers(moved)
    torch.testing.assert_close(stored.integer * stored.scale, quantised.double(), rtol=1e-6, atol=0)
    restored = Codebook(weight(seed=3))
    restored.load_state_dict(quantizer.state_dict())
    assert torch.equal(restored(moved), quantised)
    quantizer.refit(moved)
    assert not torch.equal(quantizer(moved), quantised), "switched on anew, it is a new codebook"


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_power_of_two_is_one_and_no_other_fits_better(bits):
    for seed in range(5):
        w = weight(seed=seed).double() ** 3
        quantizer = Codebook(w, levels=3, bits=bits, grid="power_of_two")
        exponent = quantizer.scale.log2().item()
        assert exponent == round(exponent)
        counts = kmeans_1d(w, 3)[1]

        centroids, largest = quantizer.codebook.detach()[0], quantizer.largest

        def error(scale, c=centroids, n=counts, largest=largest):
            return (((c / scale).round().clamp(-largest, largest) * scale - c).square() * n).sum()

        best = min(range(-30, 3), key=lambda e: error(2.0**e))
        assert error(2.0**exponent) <= error(2.0**best) * (1 + 1e-9) + 1e-18


def test_a_learned_step_has_the_gradient_of_lsq():
    """d value / d step is round(c/s) - c/s inside the grid and the largest integer outside."""
    w = weight()
    quantizer = Codebook(w, levels=3, bits=2, grid="learned")
    quantizer.codebook.data = torch.tensor([[-0.9, 0.3, 2.6]])
    quantizer.scale.data = torch.tensor([[1.0]])
    upstream = torch.tensor([[2.0, 3.0, 5.0]])
    values = quantizer.values()
    assert values.tolist() == [[-1, 0, 1]]
    values.backward(upstream)
    torch.testing.assert_close(quantizer.scale.grad.item(), 2 * (-1 + 0.9) + 3 * (0 - 0.3) + 5 * 1)
    quantizer.scale.data.neg_()
    assert (quantizer.step() > 0).all()


def test_a_growing_strength_leads_from_the_weights_to_the_values():
    w = weight()
    quantizer = Codebook(w)
    whole, errors = quantizer(w).detach(), []
    for strength in (0.0, 0.25, 0.5, 0.75, 0.999):
        quantizer.strength = strength
        errors.append((quantizer(w) - whole).norm().item())
    assert errors == sorted(errors, reverse=True)
    assert errors[0] == pytest.approx(float((w - whole).norm()))
    assert errors[-1] < 0.05 * errors[0]


def test_an_indexed_lookup_gives_a_gradient_of_zero_to_weights():
    w = weight((1, 6)).requires_grad_()
    codebook = torch.tensor([[1.0, 2.0]], requires_grad=True)
    indexed_lookup(w, codebook, torch.tensor([[0, 1, 1, 0, 1, 1]])).sum().backward()
    assert w.grad.tolist() == [[0] * 6]
    assert codebook.grad.tolist() == [[2, 4]]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"scope": "core"}, "core_outputs: got None"),
        ({"core_outputs": 3}, "core_outputs: got 3"),
        ({"scope": "core", "core_outputs": 0}, "core_outputs: got 0"),
        ({"grid": "log"}, "grid"),
    ],
)
def test_a_bad_option_is_named(options, named):
    with pytest.raises(ConfigurationError, match=named):
        Codebook(weight(), **options)
