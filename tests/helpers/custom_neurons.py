"""User-defined neurons: one with a registered leak, and one with its own step."""

import contextlib

import torch

from spikefit.functional.neuron_models import MODELS, Stepped
from spikefit.functional.surrogate import surrogate
from spikefit.neurons import LIF, SpikingNeuron


@contextlib.contextmanager
def forgotten():
    """What is registered within is forgotten afterwards."""
    before = dict(MODELS)
    try:
        yield
    finally:
        MODELS.clear()
        MODELS.update(before)


class Firing(torch.autograd.Function):
    """A spike with the surrogate ``atan``."""

    @staticmethod
    def forward(ctx, distance):
        ctx.save_for_backward(distance)
        return (distance >= 0).to(distance)

    @staticmethod
    def backward(ctx, grad):
        return grad * surrogate("atan")(ctx.saved_tensors[0], 2.0)


class FloorIF(SpikingNeuron):
    """IF whose membrane never falls below ``floor``."""

    model = "floor_if"
    floor = -0.25

    def fire(self, current):
        state, spikes = torch.zeros_like(current[0]), []
        for arriving in current:
            membrane = (state + arriving).clamp_min(self.floor)
            spikes.append(Firing.apply(membrane - self.threshold))
            state = membrane - self.threshold * spikes[-1].detach()
        return torch.stack(spikes)


def floor_step(state, current, constants):
    """:class:`FloorIF` in plain torch, of floats and of integers."""
    membrane = torch.maximum(state + current, constants.own["floor"])
    spikes = membrane >= constants.threshold
    return Stepped(spikes, membrane, membrane - constants.threshold * spikes)


class MyLIF(LIF):
    """A LIF by another name."""

    model = "my_lif"
