"""A block as a chip computes it: integers forward, the gradients of the trained network backward.

Everything here is an integer held exactly by a floating-point tensor. A constant that was rounded keeps the gradient of
its real value (straight through, Bengio et al. 2013, arXiv 1308.3432); spikes have the surrogate gradient of the
network's own neurons.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikefit.functional.current_based import fired, synaptic_filter
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
        graded: rounds graded inputs; None where spikes arrive.
    """

    weight: Tensor
    window: int
    exact: torch.dtype
    graded: Arithmetic | None = None

    def arriving(self, x: Tensor) -> Tensor:
        """What the block before gives, as integers: spike counts of a window, or graded inputs in units."""
        if self.graded is None:
            return round_ste(x.to(self.exact) * self.window)
        return self.graded.input_units(x.to(self.exact))


@dataclass(frozen=True)
class ChipBlock:
    """The integers of one block, with one entry a channel where nothing else is said.

    Attributes:
        synapses: of the block's layer.
        skip: of its shortcut; None without.
        bias: added to the current at every step.
        unit: what one unit of the membrane is worth in the current of the layer.
        threshold, leak: of the neurons; None for a readout without.
        synaptic_decay: what the synaptic currents of the network's neurons keep in a step; None without such currents.
        synaptic_leak: what stands for it on the chip; None without.
        max_spikes: how often a neuron may fire in one step.
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
    synaptic_decay: float | None
    synaptic_leak: Tensor | None
    max_spikes: int
    model: str
    reset: str
    gain: Tensor
    arithmetic: Arithmetic

    def filtered(self, delivered: Tensor) -> Tensor:
        """Synaptic currents of what synapses deliver, integers ``[T, B, C, ...]`` with the network's gradient."""
        assert self.synaptic_leak is not None
        assert self.synaptic_decay is not None
        rule = Rule("lif", self.reset, self.arithmetic, "", 0.0)
        leak, state, currents = per_channel(self.synaptic_leak, delivered), torch.zeros_like(delivered[0]), []
        for arriving in delivered.detach():
            state = rule.leaked(bounded(state + arriving, self.arithmetic), leak)
            currents.append(state)
        return straight_through(synaptic_filter(delivered, self.synaptic_decay), torch.stack(currents))

    def fire(self, current: Tensor, surrogate_name: str, alpha: float) -> Tensor:
        """Spikes ``[T, B, C, ...]`` of integer currents of that shape, in float32."""
        assert self.threshold is not None
        assert self.leak is not None
        # In the network's own units, of which the gain is part: so the gradients of norms are those of the network.
        slope = self.gain * self.unit.detach()
        rule = Rule(self.model, self.reset, self.arithmetic, surrogate_name, alpha, self.max_spikes)
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
    max_spikes: int = 1

    def leaked(self, state: Tensor, leak: Tensor) -> Tensor:
        """The membrane behind one step's leak, integers."""
        if self.model == "if":
            return state
        if self.model == "linear_leak_if":
            return state - state.sign() * torch.minimum(state.abs(), leak)
        if self.arithmetic.decay == "shift":
            lost = (state / torch.exp2(leak)).floor()
            return state - torch.where(lost == 0, state.sign(), lost)
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
        if self.arithmetic.decay == "shift":
            lost = torch.exp2(-leak)
            return grad * (1 - lost), grad * state * lost * math.log(2)
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
        spikes, nearest = torch.empty_like(distance), torch.ones((), device=current.device).expand_as(distance)
        if rule.max_spikes > 1:
            nearest = torch.empty_like(distance)
        state = torch.zeros_like(current[0])
        for step, arriving in enumerate(current):
            membrane = bounded(rule.leaked(state, loss) + arriving, rule.arithmetic)
            if rule.max_spikes > 1:
                count, nearest[step] = fired(membrane, theta, rule.max_spikes)
            else:
                count = (membrane >= theta).to(membrane)
            distance[step], spikes[step] = (membrane - nearest[step] * theta) * scale, count
            state = membrane * (1 - count) if rule.reset == "zero" else membrane - theta * count
        ctx.save_for_backward(distance, spikes, nearest, threshold, leak, slope)
        ctx.rule = rule
        return spikes

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of current, threshold, leak and slope; the reset is taken as a constant."""
        distance, spikes, nearest, threshold, leak, slope = ctx.saved_tensors
        rule: Rule = ctx.rule
        theta, loss, scale = (per_channel(constant, distance).float() for constant in (threshold, leak, slope))
        derivative = surrogate(rule.surrogate)
        grad_current = torch.empty_like(distance)
        totals = [torch.zeros_like(distance[0]) for _ in range(3)]
        grad_state = torch.zeros_like(distance[0])  # from the step after
        for step in range(len(distance) - 1, -1, -1):
            grad_x = grad_spikes[step] * derivative(distance[step], rule.alpha)
            at_threshold = grad_x * scale
            totals[0] -= at_threshold * nearest[step]
            totals[2] += grad_x * (distance[step] / scale)
            if rule.reset == "zero":
                kept = grad_state * (1 - spikes[step])
            else:
                kept = grad_state
                totals[0] -= grad_state * spikes[step]
            grad_current[step] = at_threshold + kept
            if step == 0:
                break
            membrane, before = distance[step - 1] / scale + theta * nearest[step - 1], spikes[step - 1]
            state = membrane * (1 - before) if rule.reset == "zero" else membrane - theta * before
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
