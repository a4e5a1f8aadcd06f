"""Post-training quantization: float training, then the best codebook or the best step."""

from functools import partial

import pytest
import torch
from helpers.tiny_fit import TinyData, fit, module
from hypothesis import given, settings
from hypothesis import strategies as st

from callbacks import PostTrainingQuantization
from spikefit.quantize import Codebook, PostTraining
from spikefit.quantize.base import latent_weight
from spikefit.quantize.post_training import UniformGrid, best_step


def weight(shape=(6, 40), seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def squared_error(values, grid, step):
    candidates = grid.double() * step
    return float((values[:, None] - candidates).abs().min(dim=1).values.square().sum())


def least_error(values, grid):
    """The exact optimum: between two factors at which some value changes its integer, the assignment is constant."""
    middles = ((grid[1:] + grid[:-1]) / 2).double()
    changes = (values[:, None] / middles[middles != 0]).flatten()
    changes = changes[changes > 0].sort().values
    factors = torch.cat([torch.ones(1).double(), changes[:1] / 2, (changes[1:] + changes[:-1]) / 2, changes[-1:] * 2])
    integers = grid.double()[(values[:, None] - factors[:, None, None] * grid.double()).abs().argmin(dim=2)]
    product, square = (integers * values).sum(dim=1), integers.square().sum(dim=1)
    return float(values.square().sum() - (product.square() / square.clamp_min(1)).max())


class Test(TinyData):
    __test__ = False

    def test_dataloader(self):
        return self.val_dataloader()


@pytest.mark.parametrize("method", ["kmeans", "uniform"])
def test_training_is_that_of_the_float_network_and_the_test_is_quantised(tmp_path, method):
    trainer, model = fit(tmp_path, [PostTrainingQuantization()], module(partial(PostTraining, method=method)), epochs=2)
    _, plain = fit(tmp_path, [], module(None), epochs=2)
    layers = dict(plain.network.named_synapses())
    for name, layer, _ in model.quantized_layers():
        assert torch.equal(latent_weight(layer), layers[name].weight), name
        assert layer.weight is latent_weight(layer), name
    trainer.test(model, Test(), verbose=False)
    for name, layer, quantizer in model.quantized_layers():
        assert quantizer.strength == 1
        assert len(layer.weight.unique()) <= 4 < len(latent_weight(layer).unique()), name
        expected = PostTraining(latent_weight(layer).detach(), method)
        assert torch.equal(layer.weight, expected.quantize(latent_weight(layer))), name


def test_k_means_is_the_codebook_of_the_weights():
    w = weight()
    for levels, bits in ((4, 4), (3, 2), (16, 8)):
        assert torch.equal(PostTraining(w, levels=levels, bits=bits).quantize(w), Codebook(w, levels, bits)(w))
    assert torch.equal(PostTraining(w, levels=None, bits=4).quantize(w), Codebook(w, 15, 4)(w))
    assert not any(parameter.requires_grad for parameter in PostTraining(w).parameters())


@pytest.mark.parametrize("method", ["kmeans", "uniform"])
def test_a_slice_keeps_its_values(method):
    w = weight()
    quantizer = PostTraining(w, method)
    quantizer.strength = 1
    outputs, inputs = torch.arange(6) % 2 == 1, torch.arange(40) < 11
    small = quantizer.sliced(outputs, inputs)
    assert torch.equal(small(w[outputs][:, inputs]), quantizer(w)[outputs][:, inputs])
    assert not any(parameter.requires_grad for parameter in small.parameters())


@pytest.mark.parametrize(
    ("levels", "bits", "expected"),
    [
        (4, 4, [-3, -1, 1, 3]),
        (4, 2, [-2, -1, 0, 1]),
        (2, 2, [-1, 1]),
        (5, 4, [-2, -1, 0, 1, 2]),
        (8, 4, [-7, -5, -3, -1, 1, 3, 5, 7]),
        (16, 4, list(range(-8, 8))),
    ],
)
def test_a_uniform_grid_lies_around_zero_if_the_bits_allow(levels, bits, expected):
    grid = UniformGrid(weight(), levels, bits)
    assert grid.grid().tolist() == expected
    step = grid.step.item()
    values = torch.tensor(expected) * step
    torch.testing.assert_close(grid(weight()), values[(weight()[..., None] - values).abs().argmin(dim=-1)])


@given(
    values=st.lists(st.floats(-2, 2, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3), min_size=1, max_size=12),
    grid=st.sampled_from([[-1, 1], [-1, 0, 1], [-2, -1, 0, 1], [-3, -1, 1, 3], [-8, -7, -6, -5, -4, -3, -2, -1, 0, 1]]),
)
@settings(max_examples=150)
def test_the_step_has_the_least_squared_error(values, grid):
    """Few values have many narrow optima; brute force over all assignments finds the least error."""
    values, grid = torch.tensor(values, dtype=torch.float64), torch.tensor(grid)
    step = best_step(values, grid)
    assert step > 0
    total = values.square().sum()
    if total:
        assert squared_error(values, grid, step) <= least_error(values, grid) + 1e-6 * total


def test_the_step_of_many_values_is_the_best_to_a_millionth():
    for seed, grid in enumerate(([-3, -1, 1, 3], list(range(-8, 8)), [-1, 0, 1])):
        values, grid = weight((400,), seed).double() ** 3, torch.tensor(grid)
        step = best_step(values, grid)
        assert squared_error(values, grid, step) <= least_error(values, grid) * (1 + 1e-6)


def test_k_means_is_ahead_of_uniform():
    w = weight((20, 50)) ** 3
    errors = {
        method: (PostTraining(w, method, levels=4, bits=8).quantize(w) - w).square().sum()
        for method in ("kmeans", "uniform")
    }
    assert errors["kmeans"] < errors["uniform"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_step_of_zeros_is_one(dtype):
    step = best_step(torch.zeros(2, 3, dtype=dtype), torch.arange(-2, 2))
    assert step.shape == ()
    assert step.dtype == dtype
    assert step.item() == 1


def test_a_step_that_rounds_everything_to_zero_gains_nothing():
    """By hand: on the grid -1, 0 a step of 0.1 represents the values of -0.1; 0.5 becomes 0 with every step."""
    assert best_step(torch.tensor([-0.1] * 9 + [0.5]), torch.tensor([-1, 0])).item() == pytest.approx(0.1)
