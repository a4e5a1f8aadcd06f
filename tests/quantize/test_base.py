"""What the base class gives to a quantizer that has only the three methods it must have."""

import torch
from torch import nn

from spikefit.prune.synapse_mask import SynapseMask, attach_mask, mask_of
from spikefit.quantize import Ternary
from spikefit.quantize.base import (
    IntegerWeights,
    Quantizer,
    attach,
    exact_weight,
    latent_weight,
    on_grid,
    quantizer_of,
    replace,
)

WEIGHT = torch.tensor([[0.26, -0.4, 5.0], [0.0, 0.7, -9.0]])
HALVES = [[1, -1, 3], [0, 1, -4]]  # multiples of 0.5, clipped to 3 bits


class Halves(Quantizer):
    """Weights on the multiples of 0.5 from -2 to 1.5."""

    def quantize(self, weight):
        return (2 * weight).round().clamp(-4, 3) / 2

    def refit(self, weight, live=None):
        pass

    def integers(self, weight):
        return IntegerWeights(on_grid(2 * self.quantize(weight), -4, 3), torch.tensor(0.5, dtype=torch.float64), 3)


def linear():
    layer = nn.Linear(3, 2, bias=False)
    layer.weight.data.copy_(WEIGHT)
    return layer


def test_scale_and_bits_are_those_of_the_integers():
    layer = linear()
    attach(layer, Halves())
    scale, bits = quantizer_of(layer).scale_and_bits(latent_weight(layer).detach())
    assert (scale.item(), bits) == (0.5, 3)
    assert exact_weight(layer).tolist() == [[value / 2 for value in row] for row in HALVES]


def test_the_strength_blends_float_and_quantised_weights():
    layer = linear()
    attach(layer, Halves())
    quantised = torch.tensor(HALVES) / 2
    for strength in (0.0, 0.25, 1.0):
        quantizer_of(layer).strength = strength
        torch.testing.assert_close(layer.weight, (1 - strength) * WEIGHT + strength * quantised)


def test_a_layer_without_a_quantizer_gets_one():
    layer = linear()
    replace(layer, Halves())
    assert isinstance(quantizer_of(layer), Halves)
    assert torch.equal(latent_weight(layer), WEIGHT)


def test_a_quantizer_is_replaced_and_weight_and_mask_are_kept():
    """The mask stays after the quantizer, also if there was only a mask."""
    for first in (None, Ternary(WEIGHT)):
        layer = linear()
        if first is not None:
            attach(layer, first)
        attach_mask(layer).live[0, 1] = False
        replace(layer, Halves())
        chain = layer.parametrizations.weight
        assert [type(module) for module in chain] == [Halves, SynapseMask]
        assert torch.equal(latent_weight(layer), WEIGHT)
        assert mask_of(layer).live.tolist() == [[True, False, True], [True, True, True]]
        assert layer.weight.tolist() == [[0.5, 0.0, 1.5], [0.0, 0.5, -2.0]]
