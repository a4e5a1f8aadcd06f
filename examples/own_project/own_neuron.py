"""A neuron of your own; spikefit.functional.neuron_protocol.Neuron lists what a neuron supplies."""

import torch

from spikefit.functional.neuron_models import NeuronModel, StepConstants, Stepped, register
from spikefit.neurons import SpikingNeuron


def step(state: torch.Tensor, current: torch.Tensor, constants: StepConstants) -> Stepped:
    """One step for lowering and simulation, of floats and of a chip's integers: the same neuron as the class."""
    membrane = torch.maximum(state + current, constants.own["floor"])
    spikes = membrane >= constants.threshold
    return Stepped(spikes, membrane, membrane - constants.threshold * spikes)


class FloorIF(SpikingNeuron):
    """Integrate-and-fire whose membrane never falls below ``floor``."""

    model, floor = "floor_if", -0.5

    def fire(self, current: torch.Tensor) -> torch.Tensor:
        """Spikes for currents ``[T, B, units, ...]``, for training; a sigmoid gives the gradient of a spike."""
        state, spikes = torch.zeros_like(current[0]), []
        for arriving in current:
            membrane = (state + arriving).clamp_min(self.floor)
            soft = torch.sigmoid(self.alpha * (membrane - self.threshold))
            spikes.append(soft + ((membrane >= self.threshold).to(soft) - soft).detach())
            state = membrane - self.threshold * spikes[-1].detach()
        return torch.stack(spikes)


# leak=None: the dynamics are the class's own. "floor" is in the unit of the membrane, so that it is scaled with it.
register(NeuronModel("floor_if", "FloorIF", leak=None, step=step, integer=True, constants={"floor": "membrane"}))
