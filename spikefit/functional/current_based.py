"""Synaptic currents that decay over time, and neurons that may fire several times per step."""

from typing import Any

import torch
from torch import Tensor

from spikefit.functional.dynamics import Dynamics, apply_leak
from spikefit.functional.surrogate import surrogate


def synaptic_filter(delivered: Tensor, decay: float | Tensor) -> Tensor:
    """Synaptic currents ``j[t] = decay * (j[t-1] + I[t])`` from rest, all steps in one operation.

    Args:
        delivered: ``I``, ``[T, ...]``.
        decay: a number, or ``[C]`` along the third dimension of ``delivered``.

    Returns:
        ``j``, ``[T, ...]``.
    """
    steps = torch.arange(len(delivered), device=delivered.device)
    age = (steps.unsqueeze(1) - steps).to(delivered.dtype)
    if not isinstance(decay, Tensor):
        kernel = torch.where(age >= 0, decay ** (age + 1), 0).to(delivered.dtype)
        return torch.tensordot(kernel, delivered, dims=1)
    kernel = torch.where(age >= 0, decay.to(delivered).view(-1, 1, 1) ** (age.clamp_min(0) + 1), 0)
    return torch.einsum("cts,sbc...->tbc...", kernel, delivered)


class SpikeCount(torch.autograd.Function):
    """Number of spikes per step; the backward pass uses the surrogate around the nearest multiple of the threshold."""

    @staticmethod
    def forward(ctx: Any, membrane: Tensor, dynamics: Dynamics, max_spikes: int) -> Tensor:
        """Spike counts, in the dtype of ``membrane``."""
        count, nearest = fired(membrane, dynamics.threshold, max_spikes)
        ctx.save_for_backward(membrane - nearest * dynamics.threshold)
        ctx.dynamics = dynamics
        return count

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_count: Tensor) -> tuple[Tensor | None, ...]:
        """Gradient with respect to the membrane."""
        (distance,) = ctx.saved_tensors
        return grad_count * surrogate(ctx.dynamics.surrogate)(distance, ctx.dynamics.alpha), None, None


def fired(membrane: Tensor, threshold: Tensor | float, max_spikes: int) -> tuple[Tensor, Tensor]:
    """Spikes of one step, at most ``max_spikes``, and the multiple of the threshold nearest to the membrane."""
    multiple = membrane / threshold
    return multiple.floor().clamp(0, max_spikes), multiple.round().clamp(1, max_spikes)


def several_spikes(current: Tensor, dynamics: Dynamics, amount: Tensor | float, max_spikes: int) -> Tensor:
    """Spike counts of neurons driven by ``current`` from rest, up to ``max_spikes`` per step, with subtractive reset.

    Args:
        current: ``[T, ...]``.
        dynamics: threshold, leak and surrogate; as in :func:`~spikefit.functional.lif.multi_step`, no gradient flows
            through the reset.
        amount: the decay factor or the linear loss per step.
        max_spikes: most spikes of a neuron per step.

    Returns:
        Spike counts ``[T, ...]``.
    """
    counts = []
    state = torch.zeros_like(current[0])
    for arriving in current:
        membrane = apply_leak(state, dynamics.leak, amount) + arriving
        count = SpikeCount.apply(membrane, dynamics, max_spikes)
        state = membrane - dynamics.threshold * count.detach()
        counts.append(count)
    return torch.stack(counts)
