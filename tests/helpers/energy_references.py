"""Exact programs as plain PyTorch modules with SpikingJelly's neurons, one step at a time, for energy counters."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from spikefit.program.ir import Population, Program, Projection


def synapses_of(projection: Projection, bias: Tensor) -> list[nn.Module]:
    """Pooling, flattening and the layer of ``projection``, float64."""
    parts: list[nn.Module] = []
    if projection.pool > 1:
        assert projection.pool_kind == "max"
        parts.append(nn.MaxPool2d(projection.pool))
    layer: nn.Module
    if projection.kind == "dense":
        parts.append(nn.Flatten())
        layer = nn.Linear(projection.weight.shape[1], projection.weight.shape[0])
    else:
        out, per_group, *kernel = projection.weight.shape
        layer = nn.Conv2d(per_group * projection.groups, out, tuple(kernel), **projection.conv_options)
    layer = layer.double()
    with torch.no_grad():
        layer.weight.copy_(projection.weight)
        layer.bias.copy_(bias)
    return [*parts, layer]


def neurons_of(population: Population) -> nn.Module:
    """Its neurons; those of one population share their constants."""
    from spikingjelly.activation_based import neuron

    (threshold,) = population.threshold.unique().tolist()
    options = {"v_threshold": threshold, "v_reset": 0.0 if population.reset == "zero" else None, "step_mode": "s"}
    if population.model == "if":
        return neuron.IFNode(**options)
    assert population.model == "lif"
    (kept,) = population.leak.unique().tolist()
    return neuron.LIFNode(tau=1 / (1 - kept), decay_input=False, **options)


class Twin(nn.Module):
    """A chain of populations. Takes ``[B, T, ...]``, keeps the spikes by population in ``spikes`` ``[T, B, ...]``."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.names = [population.name for population in program.populations[1:]]
        self.layers = nn.ModuleList()
        for source, target in pairwise(program.populations):
            (projection,) = program.inputs_of(target.name)
            assert projection.source == source.name
            parts = synapses_of(projection, target.bias)
            if target.spiking:
                parts.append(neurons_of(target))
            self.layers.append(nn.Sequential(*parts))
        self.spikes: dict[str, Tensor] = {}

    def forward(self, inputs: Tensor) -> Tensor:
        steps: dict[str, list[Tensor]] = {name: [] for name in self.names}
        signal = inputs
        for step in inputs.unbind(1):
            signal = step.double()
            for name, layer in zip(self.names, self.layers, strict=True):
                signal = layer(signal)
                steps[name].append(signal)
        self.spikes = {name: torch.stack(kept) for name, kept in steps.items()}
        return torch.stack(steps[self.names[-1]]).sum(dim=0)
