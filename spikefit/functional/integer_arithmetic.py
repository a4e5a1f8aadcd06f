"""Neurons in the integers of a chip: the one reference of leak, bound, fire and reset.

One step with integer current ``I[t]`` is, in this order::

    v[t] = bounded(leaked(u[t-1]) + I[t])        charge
    s[t] = fired(v[t])                           fire
    u[t] = after_spikes(v[t], s[t])              reset

with ``u[-1] = 0``. These functions compute with int64 tensors, and with integers held exactly by float64 as long as
nothing passes 2**53, the product of a state with ``2**decay_bits`` included. With ``integer=False`` they are the same
neurons without rounding. Simulator, emulation and kernels follow them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from spikefit.errors import check_choice, check_range
from spikefit.functional.lif import Leak, Reset, apply_leak
from spikefit.functional.surrogate import SURROGATES


@dataclass(frozen=True)
class IntegerDynamics:
    """What all neurons of a population on a chip have in common; their constants are integers ``[C]``.

    Attributes:
        leak: ``none``, ``decay`` (a share) or ``linear`` (an amount, in units of the membrane).
        decay: ``scale``, a product with ``1 - d / 2**decay_bits``, or ``shift``: ``v - (v >> d)``, and where the shift
            leaves nothing one unit towards zero.
        decay_bits: fraction bits of a ``scale`` decay.
        decay_rounding: ``toward_zero`` or ``floor``, of a ``scale`` decay.
        reset: ``subtract`` the threshold as often as the neuron fired, or set to ``zero``.
        max_spikes: how often a neuron may fire in one step.
        state_min, state_max: range of the membrane (None: unbounded).
        overflow: ``saturate`` or ``wrap``, what happens outside of it.
        integer: False where nothing is rounded; a decay is then the factor that the state keeps.
        surrogate: name in :data:`spikefit.functional.surrogate.SURROGATES`.
        alpha: sharpness of the surrogate.

    Raises:
        ConfigurationError: for an unknown choice, or less than one spike.
    """

    leak: Leak = "none"
    decay: Literal["scale", "shift"] = "scale"
    decay_bits: int = 12
    decay_rounding: Literal["toward_zero", "floor"] = "toward_zero"
    reset: Reset = "subtract"
    max_spikes: int = 1
    state_min: int | None = None
    state_max: int | None = None
    overflow: Literal["saturate", "wrap"] = "saturate"
    integer: bool = True
    surrogate: str = "atan"
    alpha: float = 2.0

    def __post_init__(self) -> None:
        check_choice("leak", self.leak, ("none", "decay", "linear"))
        check_choice("decay", self.decay, ("scale", "shift"))
        check_choice("decay_rounding", self.decay_rounding, ("toward_zero", "floor"))
        check_choice("reset", self.reset, ("subtract", "zero"))
        check_choice("overflow", self.overflow, ("saturate", "wrap"))
        check_choice("surrogate", self.surrogate, SURROGATES)
        check_range("max_spikes", self.max_spikes, 1)


def leaked(state: Tensor, amount: Tensor, dynamics: IntegerDynamics) -> Tensor:
    """The membrane ``state`` after one step's leak.

    Args:
        state: int64, or float64 that holds integers.
        amount: of the leak, in the dtype of ``state``, broadcast to it; ignored without a leak.
        dynamics: of the neurons.
    """
    if dynamics.leak != "decay" or not dynamics.integer:
        return apply_leak(state, dynamics.leak, amount)
    if dynamics.decay == "shift":
        lost = _shifted(state, amount)
        return state - torch.where(lost == 0, state.sign(), lost)
    product = state * (2**dynamics.decay_bits - amount)
    if dynamics.decay_rounding == "floor":
        return _shifted(product, dynamics.decay_bits)
    return product.sign() * _shifted(product.abs(), dynamics.decay_bits)


def _shifted(x: Tensor, bits: Tensor | int) -> Tensor:
    """``floor(x / 2**bits)``, an arithmetic shift to the right."""
    return (x / 2.0**bits).floor() if x.is_floating_point() else x >> bits


def bounded(state: Tensor, dynamics: IntegerDynamics) -> tuple[Tensor, Tensor]:
    """``state`` within the range of the membrane, as the chip saturates or wraps it, and bool: what was outside."""
    low, high = dynamics.state_min, dynamics.state_max
    if low is None or high is None:
        return state, torch.zeros((), dtype=torch.bool, device=state.device).expand_as(state)
    within = state.clamp(low, high)
    outside = within != state
    return within if dynamics.overflow == "saturate" else (state - low) % (high - low + 1) + low, outside


def fired(membrane: Tensor, threshold: Tensor, dynamics: IntegerDynamics) -> Tensor:
    """How often each neuron fires in a step, in the dtype of ``membrane``; ``threshold`` is broadcast to it."""
    if dynamics.max_spikes == 1:
        return (membrane >= threshold).to(membrane.dtype)
    return membrane.div(threshold, rounding_mode="floor").clamp(0, dynamics.max_spikes)


def after_spikes(membrane: Tensor, count: Tensor, threshold: Tensor, dynamics: IntegerDynamics) -> Tensor:
    """The state that ``count`` spikes leave of the ``membrane``."""
    return membrane.masked_fill(count > 0, 0) if dynamics.reset == "zero" else membrane - threshold * count


def charges(
    currents: Iterable[Tensor], threshold: Tensor, leak: Tensor, dynamics: IntegerDynamics
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Step by step from rest: membrane before the reset, spikes, state after it, and (bool) what left the range.

    Args:
        currents: of each step, with the bias in them.
        threshold, leak: in their dtype, broadcast to a step.
        dynamics: of the neurons.
    """
    state: Tensor | None = None
    for arriving in currents:
        before = torch.zeros_like(arriving) if state is None else state
        membrane, outside = bounded(leaked(before, leak, dynamics) + arriving, dynamics)
        count = fired(membrane, threshold, dynamics)
        state = after_spikes(membrane, count, threshold, dynamics)
        yield membrane, count, state, outside


def synaptic_scan(delivered: Tensor, leak: Tensor, dynamics: IntegerDynamics) -> tuple[Tensor, Tensor]:
    """Synaptic currents of current-based neurons, from rest, which decay and are bounded as membranes are.

    Args:
        delivered: what synapses deliver, ``[T, B, C, ...]``, int64 or float64.
        leak: of the synaptic current, ``[C]``, in the dtype of ``delivered``.
        dynamics: of the neurons; their own leak is ignored.

    Returns:
        ``[T, B, C, ...]``, and how many left the range before they decayed, int64 without dimensions.
    """
    decays, amount = replace(dynamics, leak="decay"), per_channel(leak, delivered)
    state, currents = torch.zeros_like(delivered[0]), []
    overflows = torch.zeros((), dtype=torch.int64, device=delivered.device)
    for arriving in delivered:
        gathered, outside = bounded(state + arriving, decays)
        overflows += outside.sum()
        state = leaked(gathered, amount, decays)
        currents.append(state)
    return torch.stack(currents), overflows


def per_channel(constant: Tensor, like: Tensor) -> Tensor:
    """``[C]`` shaped to broadcast over ``[B, C, ...]``, the steps of ``like`` ``[T, B, C, ...]``."""
    return constant.view(-1, *[1] * (like.dim() - 3))
