"""The multi-step integrate-and-fire scan, forward and backward, for every leak and reset.

One step with input current ``I[t]`` is, in this order::

    v[t] = leak(u[t-1]) + I[t]                   charge
    s[t] = 1 if v[t] >= theta else 0             fire
    u[t] = v[t] - theta * s[t]                   reset, "subtract"
    u[t] = v[t] * (1 - s[t])                     reset, "zero"

with ``u[-1] = 0`` and ``leak(u)`` one of ``u`` ("none"), ``decay * u`` ("decay") and ``u - sign(u) * min(|u|, amount)``
("linear"). In the backward pass the reset is taken as a constant (it is detached), and the spike's derivative is a
surrogate.
"""

from typing import Any, Literal

import torch
from torch import Tensor

from spikefit.functional.surrogate import surrogate as surrogate_by_name

Leak = Literal["none", "decay", "linear"]
Reset = Literal["subtract", "zero"]


def apply_leak(state: Tensor, leak: Leak, amount: Tensor | float) -> Tensor:
    """The membrane ``state`` after one step's leak; ``amount`` is the decay factor or the linear loss, and is ignored
    for ``leak="none"``."""
    if leak == "decay":
        return state * amount
    if leak == "linear":
        loss = torch.as_tensor(amount, dtype=state.dtype, device=state.device)
        return state - state.sign() * torch.minimum(state.abs(), loss)
    return state


class _MultiStep(torch.autograd.Function):
    """Saves the membrane before the reset; spikes and the membrane after it follow from that."""

    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        amount: Tensor,
        threshold: float,
        leak: Leak,
        reset: Reset,
        surrogate: str,
        alpha: float,
    ) -> Tensor:
        membrane = torch.empty_like(current)
        spikes = torch.empty_like(current)
        state: Tensor | None = None
        for step in range(current.shape[0]):
            v, s = membrane[step], spikes[step]
            if state is None:
                v.copy_(current[step])
            else:
                torch.add(apply_leak(state, leak, amount), current[step], out=v)
            torch.ge(v, threshold, out=s)
            state = torch.addcmul(v, v, s, value=-1) if reset == "zero" else torch.sub(v, s, alpha=threshold)
        ctx.save_for_backward(membrane, amount)
        ctx.threshold, ctx.leak, ctx.reset, ctx.surrogate, ctx.alpha = (
            threshold,
            leak,
            reset,
            surrogate,
            alpha,
        )
        return spikes

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor | None, ...]:
        membrane, amount = ctx.saved_tensors
        derivative = surrogate_by_name(ctx.surrogate)
        needs_amount = ctx.needs_input_grad[1]
        grad_current = torch.empty_like(membrane)
        grad_amount = torch.zeros_like(amount) if needs_amount else None
        grad_state: Tensor | None = None  # dL/du[t], from the step after
        for step in range(membrane.shape[0] - 1, -1, -1):
            v = membrane[step]
            grad_v = grad_spikes[step] * derivative(v - ctx.threshold, ctx.alpha)
            if grad_state is not None:
                grad_v += grad_state * (v < ctx.threshold) if ctx.reset == "zero" else grad_state
            grad_current[step] = grad_v
            if step == 0 or ctx.leak == "none":
                grad_state = grad_v
                continue
            before = membrane[step - 1]
            fired = before >= ctx.threshold
            u = before.masked_fill(fired, 0) if ctx.reset == "zero" else before - ctx.threshold * fired.to(before.dtype)
            if ctx.leak == "decay":
                grad_state = grad_v * amount
                if grad_amount is not None:
                    grad_amount += (grad_v * u).sum()
            elif ctx.leak == "linear":
                outside = u.abs() > amount
                grad_state = grad_v * outside
                if grad_amount is not None:
                    grad_amount -= (grad_v * u.sign() * outside).sum()
        return grad_current, grad_amount, None, None, None, None, None


def multi_step(
    current: Tensor,
    *,
    threshold: float = 1.0,
    leak: Leak = "none",
    amount: Tensor | float = 0.0,
    reset: Reset = "subtract",
    surrogate: str = "atan",
    alpha: float = 2.0,
) -> Tensor:
    """Spikes of neurons driven by ``current`` from rest.

    Args:
        current: ``[T, ...]``, time first, any floating dtype.
        threshold: the membrane fires at or above it.
        leak: ``none``, ``decay`` or ``linear``.
        amount: the decay factor or the linear loss a step; a scalar tensor may require a gradient.
        reset: ``subtract`` or ``zero``.
        surrogate: name in :data:`spikefit.functional.surrogate.SURROGATES`.
        alpha: sharpness of the surrogate.

    Returns:
        ``[T, ...]`` of zeros and ones, in the dtype of ``current``.
    """
    amount = torch.as_tensor(amount, dtype=current.dtype, device=current.device)
    return _MultiStep.apply(current, amount, threshold, leak, reset, surrogate, alpha)
