"""A block as a chip computes it: integers forward, the gradients of the trained network backward.

Everything here is an integer held exactly by a floating-point tensor. A constant that was rounded keeps the gradient of
its real value (straight through, Bengio et al. 2013, arXiv 1308.3432); spikes have the surrogate gradient of the
network's own neurons.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikefit.functional.quantize import round_ste, straight_through
from spikefit.functional.surrogate import surrogate
from spikefit.hardware.program import Arithmetic


@dataclass(frozen=True)
class ChipSynapses:
    """Synapses in units of the membrane.

    Attributes:
        weight: integers in the shape of the layer's weight (``[C]`` of an identity shortcut), differentiable.
        window: what an averaged spike is multiplied by to be a count again: the places of a pooling window, else 1.
        exact: dtype in which every sum of the layer is an integer that it holds.
        input_scale: real value of one unit of a graded input; None where spikes arrive.
        input_max: largest magnitude of a graded input, in units; None for no bound.
    """

    weight: Tensor
    window: int
    exact: torch.dtype
    input_scale: float | None = None
    input_max: int | None = None

    def arriving(self, x: Tensor) -> Tensor:
        """What the block before gives, as integers: spike counts of a window, or graded inputs in units."""
        if self.input_scale is None:
            return round_ste(x.to(self.exact) * self.window)
        units = round_ste(x.to(self.exact) / self.input_scale)
        return units if self.input_max is None else units.clamp(-self.input_max, self.input_max)


@dataclass(frozen=True)
class ChipBlock:
    """The integers of one block, with one entry a channel where nothing else is said.

    Attributes:
        synapses: of the block's layer.
        skip: of its shortcut; None without.
        bias: added to the current at every step.
        unit: what one unit of the membrane is worth in the current of the layer.
        threshold, leak: of the neurons; None for a readout without.
        model, reset: of the neurons.
        gain: by which the norm multiplies the current, so that the surrogate sees the membrane of the network.
        arithmetic: of the chip.
    """

    synapses: ChipSynapses
    skip: ChipSynapses | None
    bias: Tensor
    unit: Tensor
    threshold: Tensor | None
    leak: Tensor | None
    model: str
    reset: str
    gain: Tensor
    arithmetic: Arithmetic

    def fire(self, current: Tensor, surrogate_name: str, alpha: float) -> Tensor:
        """Spikes ``[T, B, C, ...]`` of integer currents of that shape, in float32."""
        assert self.threshold is not None
        assert self.leak is not None
        threshold, leak = per_channel(self.threshold, current), per_channel(self.leak, current)
        # In the network's own units, of which the gain is part: so the gradients of norms are those of the network.
        slope = per_channel(self.gain * self.unit.detach(), current)
        state = torch.zeros_like(current[0])
        spikes = []
        for step in current:
            membrane = bounded(self._leaked(state, leak) + step, self.arithmetic)
            fired = Fire.apply((membrane - threshold) * slope, surrogate_name, alpha)
            past = fired.detach()
            state = membrane * (1 - past) if self.reset == "zero" else membrane - threshold * past
            spikes.append(fired)
        return torch.stack(spikes).float()

    def readout(self, current: Tensor) -> Tensor:
        """What a readout without neurons gives for integer currents ``[T, B, C]``: the same in every step, float64.

        That is their mean in the units of the network. Sums that are equal stay so, and the larger one stays larger.
        """
        mean = current.sum(dim=0, keepdim=True) * self.unit.detach() / len(current)
        return mean.expand_as(current)

    def _leaked(self, state: Tensor, leak: Tensor) -> Tensor:
        if self.model == "if":
            return state
        if self.model == "linear_leak_if":
            return state - state.detach().sign() * torch.minimum(state.abs(), leak)
        one = 2.0**self.arithmetic.decay_bits
        product = state * (one - leak)
        part = product / one
        exact = part.detach()
        exact = exact.floor() if self.arithmetic.decay_rounding == "floor" else exact.trunc()
        return straight_through(part, exact)


class Fire(torch.autograd.Function):
    """1 where ``x >= 0``, with the derivative of a surrogate."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, name: str, alpha: float) -> Tensor:
        """Spikes in the dtype of ``x``."""
        ctx.save_for_backward(x)
        ctx.name, ctx.alpha = name, alpha
        return (x >= 0).to(x.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Gradient of ``x``."""
        (x,) = ctx.saved_tensors
        return grad * surrogate(ctx.name)(x, ctx.alpha), None, None


def bounded(membrane: Tensor, arithmetic: Arithmetic) -> Tensor:
    """The membrane within the state's range, straight through, as the chip saturates or wraps it."""
    low, high = arithmetic.state_min, arithmetic.state_max
    if low is None or high is None:
        return membrane
    value = membrane.detach()
    if arithmetic.overflow == "saturate":
        return straight_through(membrane, value.clamp(low, high))
    return straight_through(membrane, (value - low) % (high - low + 1) + low)


def per_channel(constant: Tensor, like: Tensor) -> Tensor:
    """``[C]`` shaped to broadcast over ``[B, C, ...]``, the steps of ``like`` ``[T, B, C, ...]``."""
    return constant.view(-1, *[1] * (like.dim() - 3))
