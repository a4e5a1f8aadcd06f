"""Codebook for axon types: one type per input, one value per output and type."""

import copy

import pytest
import torch
from torch import nn

from spikefit.errors import ConfigurationError
from spikefit.functional.axon_types import fit_axons, starts
from spikefit.quantize import AxonCodebook
from spikefit.quantize.base import attach, latent_weight


def weight(seed=0, shape=(6, 8, 3, 3)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.1


def error(quantizer, w):
    return (quantizer.quantize(w) - w).square().sum().item()


@pytest.mark.parametrize("shape", [(6, 8, 3, 3), (12, 30)])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_every_output_has_one_value_per_type_and_zero(shape, bits):
    """Integer weights equal real ones, lie on the grid, and no (output, type) has two of them."""
    w = weight(shape=shape)
    quantizer = AxonCodebook(w, types=3, bits=bits)
    stored = quantizer.integers(w)
    torch.testing.assert_close(stored.integer * stored.scale, quantizer(w).double(), rtol=1e-6, atol=0)
    assert stored.integer.dtype == torch.int64
    assert stored.integer.abs().max() <= 2 ** (bits - 1) - 1
    assert stored.bits == bits
    types = quantizer.input_types()
    assert types.shape == shape[1:2]
    assert types.unique().tolist() == [0, 1, 2]
    for row in stored.integer:
        for kind in range(3):
            values = set(row[types == kind].unique().tolist()) - {0}
            assert len(values) <= 1


def test_a_layer_by_hand():
    """Inputs 0 and 2 want (4, -2), inputs 1 and 3 want (-1, 2). Output 0 keeps 4 and -1, output 1 keeps -2 and 2."""
    w = torch.tensor([[4.0, -1.0, 4.0, 0.3], [-2.0, 2.0, 0.9, 2.0]])
    quantizer = AxonCodebook(w, types=2, bits=8)
    types = quantizer.types_of_input
    assert types[0] == types[2] != types[1] == types[3]
    torch.testing.assert_close(
        quantizer(w), torch.tensor([[4.0, -1.0, 4.0, 0.0], [-2.0, 2.0, 0.0, 2.0]]), rtol=0.01, atol=0
    )


def test_refitting_takes_the_best_start():
    """At 8 bits rounding is negligible: the error is the smallest over all starts."""
    w = weight(shape=(20, 40))
    least = min(fit_axons(w.double()[..., None], start, 4).error for start in starts(w.double()[..., None], 4))
    assert least <= error(AxonCodebook(w, bits=8), w) <= 1.001 * least


def test_reclustering_goes_on_from_the_present_types():
    """Unchanged weights change nothing; for moved weights the warm start improves the fit."""
    w = weight(shape=(20, 40))
    quantizer = AxonCodebook(w)
    state = copy.deepcopy(quantizer.state_dict())
    quantizer.recluster(w)
    assert all(torch.equal(value, state[name]) for name, value in quantizer.state_dict().items())
    moved = w + 0.05 * weight(seed=1, shape=w.shape).sign()
    before = error(quantizer, moved)
    warm = fit_axons(moved.double()[..., None], quantizer.types_of_input, 4)
    quantizer.recluster(moved)
    assert error(quantizer, moved) < before
    assert torch.equal(quantizer.types_of_input, warm.types)
    torch.testing.assert_close(quantizer.codebook.double(), warm.values, rtol=1e-6, atol=0)


def test_dead_synapses_and_outputs_do_not_count():
    w = weight()
    live = torch.rand(w.shape, generator=torch.Generator().manual_seed(3)) < 0.7
    live[2], live[:, 5] = False, False
    quantizer = AxonCodebook(w)
    kept = quantizer.values()[2].clone()
    quantizer.refit(torch.where(live, w, torch.nan), live)
    other = AxonCodebook(w)
    other.refit(torch.where(live, w, 0.0))
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in quantizer.state_dict().items())
    assert torch.equal(quantizer.values()[2], kept)


def test_the_gradients_are_the_written_ones():
    """dL/dW = dL/dW_hat, dL/dc[j, t] sums it over S = 1, and a value beyond the grid has no gradient."""
    w = weight(shape=(3, 40)).requires_grad_()
    quantizer = AxonCodebook(w.detach(), types=2, bits=4)
    with torch.no_grad():
        quantizer.scale.fill_(0.01)
        quantizer.codebook.copy_(torch.tensor([[0.052, -0.033], [0.9, 0.048], [-0.021, 0.004]]))
        quantizer.types_of_input.copy_(torch.arange(40) % 2)
    values = torch.tensor([[0.05, -0.03], [0.07, 0.05], [-0.02, 0.0]])
    upstream = weight(seed=1, shape=(3, 40))
    used = quantizer(w)
    used.backward(upstream)
    own = values[:, torch.arange(40) % 2]
    there = (w - own).abs() < w.abs()
    torch.testing.assert_close(used, own * there)
    sums = torch.stack([(upstream * there)[:, kind::2].sum(dim=1) for kind in (0, 1)], dim=1)
    assert (sums != 0).sum() == 5  # the value of 0 has no synapse
    sums[1, 0] = 0
    torch.testing.assert_close(quantizer.codebook.grad, sums)
    assert torch.equal(w.grad, upstream)


def test_the_grid_of_an_output_is_its_own():
    """Outputs that differ by a factor have scales that differ by it, and the same integers."""
    row = weight(shape=(1, 40))
    w = torch.cat([row, 10 * row])
    quantizer = AxonCodebook(w, bits=4)
    integers = quantizer.integers(w)
    assert torch.equal(integers.integer[0], integers.integer[1])
    torch.testing.assert_close(integers.scale[1], 10 * integers.scale[0])


@pytest.mark.parametrize("bits", [2, 4])
def test_a_narrow_grid_is_as_good_as_any_step_of_a_fine_search(bits):
    """Ten values, each with its own type, the smallest for 300 inputs; compared with a search over 2000 steps."""
    values = torch.linspace(0.111, 0.2, 10).double()
    w = values.repeat_interleave(torch.tensor([300, *[1] * 9]))[None]
    quantizer = AxonCodebook(w, types=10, bits=bits)
    torch.testing.assert_close(quantizer.codebook.sort().values[0], values)
    largest = 2 ** (bits - 1) - 1
    steps = torch.linspace(0.02, 1, 2000).double() * 0.2
    rounded = (w[0] / steps[:, None]).round().clamp(-largest, largest) * steps[:, None]
    assert error(quantizer, w) <= 1.1 * (rounded - w[0]).square().sum(dim=1).min()


@pytest.mark.parametrize("shape", [(6, 8, 3, 3), (6, 24)])
def test_a_sliced_copy_keeps_every_remaining_value(shape):
    w = weight(shape=shape)
    quantizer = AxonCodebook(w)
    outputs = torch.tensor([True, False, True, True, False, True])
    inputs = torch.arange(shape[1]) % 3 != 1
    small = quantizer.sliced(outputs, inputs)
    assert torch.equal(small(w[outputs][:, inputs]), quantizer(w)[outputs][:, inputs])
    assert torch.equal(small.input_types(), quantizer.input_types()[inputs])
    assert quantizer(w).shape == shape


def test_a_checkpoint_restores_weights_and_types(tmp_path):
    layers = []
    for seed in (0, 1):
        layer = nn.Conv2d(8, 6, 3, bias=False)
        layer.weight.data.copy_(weight(seed))
        attach(layer, AxonCodebook(layer.weight.detach()))
        layers.append(layer)
    first, second = layers
    assert not torch.equal(first.weight, second.weight)
    torch.save(first.state_dict(), tmp_path / "layer.pt")
    second.load_state_dict(torch.load(tmp_path / "layer.pt", weights_only=True))
    assert torch.equal(second.weight, first.weight)
    for layer in layers:
        layer.parametrizations.weight[0].recluster(latent_weight(layer).detach() + 0.01)
    assert torch.equal(second.weight, first.weight)


def test_training_reduces_the_loss_with_types_at_rest():
    """200 steps on a linear map; latent weights, synapses and values move, types and the rule stay."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(64, 20, generator=generator), torch.randn(64, 5, generator=generator)
    layer = nn.Linear(20, 5, bias=False)
    layer.weight.data.copy_(weight(shape=(5, 20)))
    quantizer = AxonCodebook(layer.weight.detach())
    attach(layer, quantizer)
    types, start, losses = quantizer.input_types().clone(), quantizer(latent_weight(layer)) != 0, []
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
    for _ in range(200):
        loss = (layer(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert ((layer.weight != 0) != start).any()
    assert torch.equal(quantizer.input_types(), types)


def test_one_input_and_one_type():
    """Three of four types stay without inputs; one type gives an output one value."""
    for quantizer, w in (
        (AxonCodebook(weight(shape=(4, 1, 3, 3))), weight(shape=(4, 1, 3, 3))),
        (AxonCodebook(weight(shape=(4, 9)), types=1), weight(shape=(4, 9))),
    ):
        for row in quantizer(w).flatten(1):
            assert len(row.unique()) == 2  # random weights have both signs, of which a value serves one
    assert (AxonCodebook(torch.zeros(3, 4))(torch.zeros(3, 4)) == 0).all()


@pytest.mark.parametrize(
    ("options", "named"), [({"types": 0}, "types.*0"), ({"types": 17}, "types"), ({"bits": 3}, "bits")]
)
def test_a_bad_option_is_named(options, named):
    with pytest.raises(ConfigurationError, match=named):
        AxonCodebook(weight(), **options)
