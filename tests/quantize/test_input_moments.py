"""Moments of a layer's inputs give the variance of its currents."""

import pytest
import torch
from torch import nn

from spikefit.errors import ConfigurationError
from spikefit.networks import Block, ConvSNN, Network
from spikefit.neurons import IF
from spikefit.quantize import Codebook
from spikefit.quantize.input_moments import input_moments


@pytest.mark.parametrize("name", ["conv1", "conv2", "fc1"])
def test_the_covariance_gives_the_variance_of_every_current(wake, name):
    torch.manual_seed(0)
    network = ConvSNN((2, 8, 8), 3, (4, 5), (6,), stride=1)
    x = (torch.rand(4, 6, 2, 8, 8) < 0.4).float()
    wake(network, x)
    layer, currents = dict(network.named_synapses())[name], []
    handle = layer.register_forward_hook(lambda m, i, o: currents.append(o.detach().double()))
    moments = input_moments(network, name, [x[:, :4], x[:, 4:]])
    handle.remove()
    found = torch.cat([c.transpose(0, 1).flatten(1) for c in currents], dim=1)
    weight = layer.weight.detach().double().flatten(1)
    torch.testing.assert_close((weight @ moments.gram(centred=True) * weight).sum(1), found.var(1, correction=0))
    torch.testing.assert_close((weight @ moments.gram(centred=False) * weight).sum(1), found.square().mean(1))
    assert not layer._forward_hooks


def test_a_grouped_convolution_is_refused():
    blocks = {
        "a": Block(nn.Conv2d(2, 4, 3, padding=1, groups=2, bias=False), neuron=IF(4)),
        "out": Block(nn.Linear(64, 2)),
    }
    with pytest.raises(ConfigurationError, match=r"metric: got 'currents' for layer a.*2 groups"):
        input_moments(Network(blocks, (2, 4, 4)), "a", [])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"zero": "free"},
        {"zero": "none"},
        {"zero": "kept"},
        {"scope": "channel"},
        {"scope": "core", "core_outputs": 4},
        {"grid": "power_of_two"},
        {"levels": 2, "bits": 2, "grid": "learned"},
    ],
    ids=str,
)
@pytest.mark.parametrize("free_gain", [True, False])
def test_a_matched_layer_delivers_better_currents_than_a_clustered_one(options, free_gain):
    """Inputs like those of an image: a patch is bright or dark as a whole. The last output is dead."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(10, 3, 3, 3, generator=generator) * 0.1
    weight -= weight.mean((1, 2, 3), keepdim=True)
    x = torch.randn(500, 27, generator=generator) * 0.2 + torch.randn(500, 1, generator=generator)
    gram = (x.t() @ x / 500).double()
    live = torch.ones_like(weight, dtype=torch.bool)
    live[9] = False
    weight[9] = 50.0

    def error(quantizer, latent, factor):
        used = quantizer(latent).detach().flatten(1).double() / factor.double()[:, None]
        w = weight.flatten(1).double()
        gain = torch.ones(10, dtype=torch.float64)
        if free_gain:
            gain = (used @ gram * w).sum(1) / (used @ gram * used).sum(1)
        rest = w - gain[:, None] * used
        return ((rest @ gram * rest).sum(1) / (w @ gram * w).sum(1))[:9].mean()

    quantizer = Codebook(weight, **options)
    quantizer.refit(weight, live)
    clustered = error(quantizer, weight, torch.ones(10))
    moved, factor = quantizer.match(weight, gram, free_gain, live)
    matched = error(quantizer, moved, factor)
    assert matched < (0.9 if options.get("levels") == 2 else 0.6) * clustered
    assert torch.equal(moved[9], weight[9])
    assert factor[9] == 1
    assert free_gain or bool((factor == 1).all())
    stored = quantizer.integers(moved)
    torch.testing.assert_close(stored.integer * stored.scale, quantizer(moved).double(), rtol=1e-5, atol=1e-8)
    frozen = quantizer(moved).detach().clone()
    quantizer.freeze(moved)
    assert torch.equal(quantizer(moved), frozen)
    # Weights that need not move to another value have stayed, up to the gain.
    stayed = torch.isclose(moved, weight * factor[:, None, None, None], rtol=1e-5, atol=1e-7)[:9]
    assert stayed.float().mean() > 0.3
