"""Pruned synapses are zero whatever the quantizer does, and nothing else changes."""

from functools import partial

import pytest
import torch
from torch import nn

from spikefit.networks import ConvSNN, ResidualSNN
from spikefit.program.stored_weights import from_weights
from spikefit.prune import live_synapses, unit_groups
from spikefit.prune.groups import set_alive
from spikefit.prune.synapse_mask import attach_mask, mask_of, masked
from spikefit.quantize import Codebook, Ternary, Uniform
from spikefit.quantize.base import attach, latent_weight, quantizer_of

QUANTIZERS = {"float": None, "codebook": partial(Codebook, zero="none"), "lsq": Uniform, "ternary": Ternary}


def layer_with(quantizer):
    torch.manual_seed(0)
    layer = nn.Linear(5, 4, bias=False)
    if quantizer is not None:
        attach(layer, quantizer(layer.weight.detach()))
    plain = layer.weight.detach().clone()
    attach_mask(layer).live[1, 2:] = False
    return layer, plain


@pytest.mark.parametrize("quantizer", QUANTIZERS.values(), ids=QUANTIZERS)
def test_a_pruned_synapse_is_zero_and_the_others_keep_their_values(quantizer):
    layer, plain = layer_with(quantizer)
    expected = plain.clone()
    expected[1, 2:] = 0
    assert torch.equal(layer.weight, expected)
    assert (plain[1, 2:] != 0).any()
    assert torch.equal(masked(layer, from_weights(plain)).weight(), expected)
    assert latent_weight(layer).is_leaf
    assert (latent_weight(layer) != 0).all()
    assert type(quantizer_of(layer)) is type(None if quantizer is None else quantizer(plain))


def test_only_live_synapses_get_a_gradient():
    layer, _ = layer_with(Codebook)
    layer(torch.ones(1, 5)).sum().backward()
    expected = torch.ones(4, 5)
    expected[1, 2:] = 0
    assert torch.equal(latent_weight(layer).grad, expected)
    assert quantizer_of(layer).codebook.grad.sum() == 17  # one for each live weight


def test_a_float_warm_up_is_masked_too():
    layer, _ = layer_with(Codebook)
    quantizer_of(layer).strength = 0
    assert torch.equal(layer.weight, latent_weight(layer) * mask_of(layer).live)


def test_the_mask_is_in_the_state():
    layer, _ = layer_with(Uniform)
    other = nn.Linear(5, 4, bias=False)
    attach(other, Uniform(other.weight.detach()))
    attach_mask(other)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.weight, layer.weight)
    assert int(mask_of(other).live.sum()) == 17


def test_a_layer_without_a_mask_has_none():
    layer = nn.Linear(5, 4)
    assert mask_of(layer) is None
    stored = from_weights(torch.ones(4, 5))
    assert masked(layer, stored) is stored
    attach(layer, Uniform(layer.weight.detach()))
    assert mask_of(layer) is None


@pytest.mark.parametrize("make", [ConvSNN, partial(ResidualSNN, channels=(4, 6))])
def test_a_synapse_in_use_joins_living_units_and_is_not_masked(make):
    torch.manual_seed(0)
    network = make((1, 8, 8), 3)
    for group in unit_groups(network):
        set_alive(network, group, torch.arange(group.units) % 3 != 1)
    between_living = {name: live_synapses(network, name) for name, _ in network.named_synapses()}
    for _, layer in network.named_synapses():
        attach_mask(layer).live.copy_(torch.rand(layer.weight.shape) < 0.5)
    for name, layer in network.named_synapses():
        live = live_synapses(network, name)
        assert torch.equal(live, between_living[name] & (layer.weight != 0))
        assert 0 < live.sum() < between_living[name].sum()
