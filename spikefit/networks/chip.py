"""A block as a chip computes it: integers forward, the gradients of the trained network backward.

Everything here is an integer held exactly by a floating-point tensor. A constant that was rounded keeps the gradient of
its real value (straight through, Bengio et al. 2013, arXiv 1308.3432); spikes have the surrogate gradient of the
network's own neurons.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikefit.functional.quantize import round_ste
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
        # In the network's own units, of which the gain is part: so the gradients of norms are those of the network.
        slope = self.gain * self.unit.detach()
        rule = Rule(self.model, self.reset, self.arithmetic, surrogate_name, alpha)
        return ChipScan.apply(current, self.threshold, self.leak, slope, rule)

    def readout(self, current: Tensor) -> Tensor:
        """What a readout without neurons gives for integer currents ``[T, B, C]``: the same in every step, float64.

        That is their mean in the units of the network. Sums that are equal stay so, and the larger one stays larger.
        """
        mean = current.sum(dim=0, keepdim=True) * self.unit.detach() / len(current)
        return mean.expand_as(current)


@dataclass(frozen=True)
class Rule:
    """What all neurons of a population have in common: model, reset, the chip's arithmetic, the surrogate."""

    model: str
    reset: str
    arithmetic: Arithmetic
    surrogate: str
    alpha: float

    def leaked(self, state: Tensor, leak: Tensor) -> Tensor:
        """The membrane behind one step's leak, integers."""
        if self.model == "if":
            return state
        if self.model == "linear_leak_if":
            return state - state.sign() * torch.minimum(state.abs(), leak)
        one = 2.0**self.arithmetic.decay_bits
        part = state * (one - leak) / one
        return part.floor() if self.arithmetic.decay_rounding == "floor" else part.trunc()

    def through_leak(self, grad: Tensor, state: Tensor, leak: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of state and leak, given that of the leaked membrane, as if nothing were rounded."""
        if self.model == "if":
            return grad, torch.zeros_like(grad)
        if self.model == "linear_leak_if":
            passed = grad * (state.abs() > leak)
            return passed, -passed * state.sign()
        one = 2.0**self.arithmetic.decay_bits
        return grad * ((one - leak) / one), -grad * state / one


class ChipScan(torch.autograd.Function):
    """The scan of :mod:`spikefit.functional.lif` in integers; its backward pass takes the rounding for none.

    Integers are held by float64 forward, where the bounds of all chips are far away. The backward pass is computed in
    float32 from the membranes, as distances from the threshold in the network's units.
    """

    @staticmethod
    def forward(ctx: Any, current: Tensor, threshold: Tensor, leak: Tensor, slope: Tensor, rule: Rule) -> Tensor:
        """Spikes of ``current`` ``[T, B, C, ...]``; ``threshold``, ``leak`` and ``slope`` are ``[C]``."""
        theta, loss, scale = (per_channel(constant, current) for constant in (threshold, leak, slope))
        distance = torch.empty(current.shape, dtype=torch.float32, device=current.device)
        spikes = torch.empty_like(distance)
        state = torch.zeros_like(current[0])
        for step, arriving in enumerate(current):
            membrane = bounded(rule.leaked(state, loss) + arriving, rule.arithmetic)
            fired = membrane >= theta
            distance[step], spikes[step] = (membrane - theta) * scale, fired
            state = membrane.masked_fill(fired, 0) if rule.reset == "zero" else membrane - theta * fired
        ctx.save_for_backward(distance, threshold, leak, slope)
        ctx.rule = rule
        return spikes

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of current, threshold, leak and slope; the reset is taken as a constant."""
        distance, threshold, leak, slope = ctx.saved_tensors
        rule: Rule = ctx.rule
        theta, loss, scale = (per_channel(constant, distance).float() for constant in (threshold, leak, slope))
        derivative = surrogate(rule.surrogate)
        fired = distance >= 0
        grad_current = torch.empty_like(distance)
        totals = [torch.zeros_like(distance[0]) for _ in range(3)]
        grad_state = torch.zeros_like(distance[0])  # from the step after
        for step in range(len(distance) - 1, -1, -1):
            grad_x = grad_spikes[step] * derivative(distance[step], rule.alpha)
            at_threshold = grad_x * scale
            totals[0] -= at_threshold
            totals[2] += grad_x * (distance[step] / scale)
            if rule.reset == "zero":
                kept = grad_state * ~fired[step]
            else:
                kept = grad_state
                totals[0] -= grad_state * fired[step]
            grad_current[step] = at_threshold + kept
            if step == 0:
                break
            membrane = distance[step - 1] / scale + theta
            before = fired[step - 1]
            state = membrane.masked_fill(before, 0) if rule.reset == "zero" else membrane - theta * before
            grad_state, of_leak = rule.through_leak(grad_current[step], state, loss)
            totals[1] += of_leak
        over = [dim for dim in range(totals[0].dim()) if dim != 1]
        by_channel = [total.sum(dim=over).to(threshold) for total in totals]
        return grad_current.to(torch.float64), *by_channel, None


def bounded(membrane: Tensor, arithmetic: Arithmetic) -> Tensor:
    """The membrane within the state's range, as the chip saturates or wraps it."""
    low, high = arithmetic.state_min, arithmetic.state_max
    if low is None or high is None:
        return membrane
    if arithmetic.overflow == "saturate":
        return membrane.clamp(low, high)
    return (membrane - low) % (high - low + 1) + low


def per_channel(constant: Tensor, like: Tensor) -> Tensor:
    """``[C]`` shaped to broadcast over ``[B, C, ...]``, the steps of ``like`` ``[T, B, C, ...]``."""
    return constant.view(-1, *[1] * (like.dim() - 3))
