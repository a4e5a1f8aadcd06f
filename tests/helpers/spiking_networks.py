"""Small networks of every kind in which every layer spikes and some units are dead."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from spikefit.networks import MLP, VGG, ConvSNN, ResidualSNN
from spikefit.networks.blocks import Network
from spikefit.neurons import IF, LIF, LinearLeakIF, ParametricLIF
from spikefit.prune import unit_groups
from spikefit.prune.groups import set_alive
from spikefit.quantize import Codebook
from spikefit.quantize.base import attach

NETWORKS = {
    "mlp": MLP,
    "conv": ConvSNN,
    "stride": partial(ConvSNN, pool=1, stride=2, kernel=5),
    "pool3": partial(ConvSNN, channels=(6,), pool=3),
    "max": partial(ConvSNN, pool_kind="max"),
    "vgg": partial(VGG, plan="vgg9", width=0.125),
    "residual": partial(ResidualSNN, channels=(8, 16), stem_pool=2),
    "deep_residual": partial(ResidualSNN, channels=(8,), depth=2),
}
NEURONS = {
    "if": IF,
    "lif": partial(LIF, tau=2.0),
    "parametric": ParametricLIF,
    "linear": partial(LinearLeakIF, leak_per_step=0.07),
}


def build(
    wake: Callable[..., Network],
    network: str,
    neuron: str,
    reset: str = "subtract",
    readout: str = "membrane",
    quantizer: Callable[..., torch.nn.Module] | None = Codebook,
    static: bool = False,
    prune: bool = True,
) -> tuple[Network, Tensor]:
    """A network in evaluation mode and inputs ``[5, 6, 2, 12, 12]`` that make every layer fire."""
    torch.manual_seed(0)
    net = NETWORKS[network]((2, 12, 12), 5, neuron=partial(NEURONS[neuron], reset=reset), readout=readout)
    if quantizer is not None:
        for _, layer in net.named_synapses():
            attach(layer, quantizer(layer.weight.detach()))
    x = torch.rand(1, 6, 2, 12, 12).expand(5, -1, -1, -1, -1) if static else (torch.rand(5, 6, 2, 12, 12) < 0.4).float()
    if prune:
        for group in unit_groups(net):
            alive = torch.rand(group.units) > 0.25
            alive[:2] = True
            set_alive(net, group, alive)
    return wake(net, x), x
