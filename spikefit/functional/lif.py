"""Multi-step integrate-and-fire scan, forward and backward, for every leak and reset.

One step with input current ``I[t]`` is, in this order::

    v[t] = leak(u[t-1]) + I[t]                   charge
    s[t] = 1 if v[t] >= theta else 0             fire
    u[t] = v[t] - theta * s[t]                   reset, "subtract"
    u[t] = v[t] * (1 - s[t])                     reset, "zero"

with ``u[-1] = 0`` and ``leak(u)`` one of ``u`` ("none"), ``decay * u`` ("decay") and ``u - sign(u) * min(|u|, amount)``
("linear"). In the backward pass the reset is treated as a constant (detached), and the derivative of the spike is a
surrogate.

:func:`multi_step` runs numba kernels on a CPU, Triton kernels on a CUDA device if Triton is installed, and plain torch
elsewhere. All of them save only the current and recompute the membrane in the backward pass.
"""

from typing import Any

import torch
from torch import Tensor

from spikefit.functional.devices import constants, runs_triton
from spikefit.functional.dynamics import Dynamics, Norm, apply_leak
from spikefit.functional.surrogate import SURROGATES

MAX_STEPS, MAX_POOL = 16, 4  # limits of the fused GPU kernels, which keep the membranes of all steps in registers


def _reset(v: Tensor, dynamics: Dynamics) -> Tensor:
    fired = v >= dynamics.threshold
    return v.masked_fill(fired, 0) if dynamics.reset == "zero" else v - dynamics.threshold * fired.to(v.dtype)


class PlainScan(torch.autograd.Function):
    """The scan in plain torch, for devices without a kernel; arguments as in :func:`multi_step`."""

    @staticmethod
    def forward(ctx: Any, current: Tensor, amount: Tensor, dynamics: Dynamics) -> Tensor:
        """Spikes of ``current`` ``[T, ...]``."""
        spikes = torch.empty_like(current)
        state: Tensor | None = None
        for step, i in enumerate(current):
            v = i if state is None else apply_leak(state, dynamics.leak, amount) + i
            spikes[step] = v >= dynamics.threshold
            state = _reset(v, dynamics)
        ctx.save_for_backward(current, amount)
        ctx.dynamics = dynamics
        return spikes

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of current and amount."""
        current, amount = ctx.saved_tensors
        dynamics: Dynamics = ctx.dynamics
        derivative = SURROGATES[dynamics.surrogate]
        membrane = torch.empty_like(current)
        state = torch.zeros_like(current[0])
        for step, i in enumerate(current):
            membrane[step] = apply_leak(state, dynamics.leak, amount) + i
            state = _reset(membrane[step], dynamics)
        grad_current = torch.empty_like(membrane)
        grad_amount = torch.zeros_like(amount)
        grad_state = torch.zeros_like(state)  # dL/du[t], from the next step
        for step in range(len(membrane) - 1, -1, -1):
            v = membrane[step]
            through_reset = grad_state * (v < dynamics.threshold) if dynamics.reset == "zero" else grad_state
            grad_v = grad_spikes[step] * derivative(v - dynamics.threshold, dynamics.alpha) + through_reset
            grad_current[step] = grad_v
            if step == 0:
                break
            u = _reset(membrane[step - 1], dynamics)
            grad_state = grad_v
            if dynamics.leak == "decay":
                grad_state = grad_v * amount
                grad_amount += (grad_v * u).sum()
            elif dynamics.leak == "linear":
                grad_state = grad_v * (u.abs() > amount)
                grad_amount -= (grad_state * u.sign()).sum()
        return grad_current, grad_amount, None


def multi_step(current: Tensor, dynamics: Dynamics, amount: Tensor | float = 0.0) -> Tensor:
    """Spikes of neurons driven by ``current`` from rest.

    Args:
        current: ``[T, ...]``, time first, any floating-point dtype and memory format. A stride of 0 in time marks one
            frame that drives every step.
        dynamics: of the neurons.
        amount: the decay factor or the linear loss per step; a scalar tensor may require a gradient.

    Returns:
        ``[T, ...]`` of zeros and ones, in the dtype and memory format of ``current``.
    """
    if runs_triton(current):
        if fusible(current, len(current), 1) and current[0].numel() < 2**31:
            from spikefit.functional.kernels.cuda.norm_scan import multi_step_cuda

            return multi_step_cuda(current, amount, dynamics)
        from spikefit.functional.kernels.cuda.long_scan import long_multi_step

        return long_multi_step(current, amount, dynamics)
    if current.device.type == "cpu":
        from spikefit.functional.kernels.cpu.norm_scan import multi_step_cpu  # numba takes a while to import

        return multi_step_cpu(current, amount, dynamics)
    if isinstance(amount, Tensor):
        amount = amount.to(current)
    else:
        amount = constants((amount,), current.dtype, current.device)[0]
    return PlainScan.apply(current, amount, dynamics)


def fusible(x: Tensor, steps: int, pool: int) -> bool:
    """Whether :func:`normed_multi_step` supports the device of ``x``, this many steps and this pooling window."""
    if runs_triton(x):
        return steps <= MAX_STEPS and pool <= MAX_POOL
    return x.device.type == "cpu"


def normed_multi_step(
    y: Tensor,
    steps: int,
    dynamics: Dynamics,
    amount: Tensor | float = 0.0,
    norm: Norm | None = None,
    alive: Tensor | None = None,
    pool: int = 1,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Normalisation, integrate-and-fire scan and average pooling as one operation.

    Args:
        y: currents before the norm, ``[T, B, C]`` or ``[T, B, C, H, W]``, or one frame ``[1, ...]`` that drives every
            step; must be :func:`fusible`. Copied unless it is channels last in memory.
        steps: T.
        dynamics: of the neurons.
        amount: the decay factor or the linear loss per step; a scalar tensor may require a gradient.
        norm: norm between ``y`` and the neurons; None for none.
        alive: bool ``[C]``; units that are False never fire. None if all are alive.
        pool: side and stride of the average pooling; neurons outside every window are dropped.

    Returns:
        Pooled spikes ``[T, B, C]`` or ``[T, B, C, H // pool, W // pool]``, channels last in memory, and the mean and
        (biased) variance ``[C]`` that normalised ``y``: float64 on a CPU, in the precision of the arithmetic on a GPU,
        None without a norm.
    """
    if runs_triton(y):
        from spikefit.functional.kernels.cuda.norm_scan import normed_multi_step_cuda

        return normed_multi_step_cuda(y, steps, dynamics, amount, norm, alive, pool)
    from spikefit.functional.kernels.cpu.norm_scan import normed_multi_step_cpu  # numba takes a while to import

    return normed_multi_step_cpu(y, steps, dynamics, amount, norm, alive, pool)
