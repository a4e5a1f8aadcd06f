"""Neurons in a chip's integer arithmetic: the reference implementation of leak, bound, fire and reset.

One step with integer current ``I[t]`` is, in this order::

    v[t] = bounded(leaked(u[t-1]) + I[t])        charge
    s[t] = fired(v[t])                           fire
    u[t] = after_spikes(v[t], s[t])              reset

with ``u[-1] = 0``. The functions take int64 tensors, or integers in float64. The latter are exact as long as no value
exceeds 2**53, including the product of a state and ``2**decay_bits``. With ``integer=False`` nothing is rounded. The
simulator, the emulation and the kernels are tested against these functions.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from spikefit.errors import check_choice, check_range
from spikefit.functional.dynamics import apply_leak
from spikefit.functional.neuron_models import Leak, Reset
from spikefit.functional.surrogate import SURROGATES


@dataclass(frozen=True)
class IntegerDynamics:
    """Properties shared by all neurons of a population on a chip; thresholds and leaks are separate tensors ``[C]``.

    Attributes:
        leak: ``none``, ``decay`` (a share) or ``linear`` (an amount, in units of the membrane).
        decay: ``scale``, a product with ``1 - d / 2**decay_bits``, or ``shift``, ``v - (v >> d)``; where ``v >> d`` is
            0, a positive state decreases by one unit.
        decay_bits: fraction bits of a ``scale`` decay.
        decay_rounding: ``toward_zero`` or ``floor``; rounding of a ``scale`` decay.
        reset: ``subtract`` the threshold once per spike, or set to ``zero``.
        max_spikes: most spikes of a neuron per step.
        state_min, state_max: range of the membrane; None for unbounded.
        overflow: ``saturate`` or ``wrap``: what happens to a membrane outside its range.
        integer: False for no rounding; the amount of a decay is then the factor by which the state is multiplied.
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
        amount: amount of the leak, in the dtype of ``state`` and broadcastable to it; ignored for ``leak="none"``.
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
    """``state`` saturated or wrapped to the range of the membrane, and a bool mask of the values outside the range."""
    low, high = dynamics.state_min, dynamics.state_max
    if low is None or high is None:
        return state, torch.zeros((), dtype=torch.bool, device=state.device).expand_as(state)
    within = state.clamp(low, high)
    outside = within != state
    return within if dynamics.overflow == "saturate" else (state - low) % (high - low + 1) + low, outside


def fired(membrane: Tensor, threshold: Tensor, dynamics: IntegerDynamics) -> Tensor:
    """Spike counts of one step, in the dtype of ``membrane``; ``threshold`` is broadcast to it."""
    if dynamics.max_spikes == 1:
        return (membrane >= threshold).to(membrane.dtype)
    return membrane.div(threshold, rounding_mode="floor").clamp(0, dynamics.max_spikes)


def after_spikes(membrane: Tensor, count: Tensor, threshold: Tensor, dynamics: IntegerDynamics) -> Tensor:
    """The state after the reset of a ``membrane`` that fired ``count`` times."""
    return membrane.masked_fill(count > 0, 0) if dynamics.reset == "zero" else membrane - threshold * count


def charges(
    currents: Iterable[Tensor], threshold: Tensor, leak: Tensor, dynamics: IntegerDynamics
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Simulate neurons step by step from rest.

    Args:
        currents: input current of each step, including the bias.
        threshold, leak: in the dtype of ``currents``, broadcastable to one step.
        dynamics: of the neurons.

    Yields:
        For each step: the membrane before the reset, the spikes, the state after the reset, and a bool mask of the
        membranes that left the range.
    """
    state: Tensor | None = None
    for arriving in currents:
        before = torch.zeros_like(arriving) if state is None else state
        membrane, outside = bounded(leaked(before, leak, dynamics) + arriving, dynamics)
        count = fired(membrane, threshold, dynamics)
        state = after_spikes(membrane, count, threshold, dynamics)
        yield membrane, count, state, outside


def synaptic_scan(delivered: Tensor, leak: Tensor, dynamics: IntegerDynamics) -> tuple[Tensor, Tensor]:
    """Synaptic currents of current-based neurons, from rest; they decay and are bounded like membranes.

    Args:
        delivered: input from the synapses, ``[T, B, C, ...]``, int64 or float64.
        leak: decay of the synaptic current, ``[C]``, in the dtype of ``delivered``.
        dynamics: of the neurons; the leak of the membrane is ignored.

    Returns:
        ``[T, B, C, ...]``, and the number of values that left the range before they decayed, a scalar int64 tensor.
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
    """``constant`` ``[C]`` reshaped to broadcast over one step of ``like`` ``[T, B, C, ...]``."""
    return constant.view(-1, *[1] * (like.dim() - 3))
