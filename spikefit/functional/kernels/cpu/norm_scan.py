"""Norm, integrate-and-fire scan and average pooling as one differentiable operation on a CPU.

``y`` -> batch normalisation -> :mod:`spikefit.functional.lif` -> mask of alive units -> pooling. No intermediate result
is stored: the backward pass needs only ``y``. The kernels are in
:mod:`spikefit.functional.kernels.cpu.norm_scan_kernels`.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikefit.functional.dynamics import Dynamics, Norm, memory_order
from spikefit.functional.kernels.cpu import norm_scan_kernels as kernels
from spikefit.functional.kernels.cpu.jit import opaque, use_torch_threads
from spikefit.functional.surrogate import KERNEL_KINDS

_SUM_RUN = 4096


@dataclass(frozen=True)
class _Plan:
    """Arguments of :class:`_Scan` that are not tensors."""

    dynamics: Dynamics
    steps: int
    rows: kernels.Rows
    batch_statistics: bool
    eps: float
    dtype: torch.dtype  # of the spikes

    def constants(self, amount: Tensor, number: Any) -> kernels.Constants:
        """Constants of the neurons for the kernels, converted to the scalar type ``number``."""
        leak = self.dynamics.leak
        value = number(amount.item())
        return (
            value if leak == "decay" else number(1),
            leak == "linear",
            value if leak == "linear" else number(0),
            number(self.dynamics.threshold),
            self.dynamics.reset == "zero",
        )


class _Scan(torch.autograd.Function):
    """Maps ``y`` ``[T or 1, lanes]`` to pooled spikes ``[T, lanes]`` and the batch's mean and variance ``[C]``."""

    @staticmethod
    def forward(
        ctx: Any,
        y: Tensor,
        gain: Tensor | None,
        bias: Tensor | None,
        mean: Tensor | None,
        var: Tensor | None,
        amount: Tensor,
        alive: Tensor | None,
        plan: _Plan,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        use_torch_threads()
        x = _numpy(y)
        rows = plan.rows
        channels = rows.channels
        if plan.batch_statistics:
            mean, var = _moments(x, channels)
        scale, shift = _affine(gain, bias, mean, var, plan.eps, channels, x.dtype)
        gate = np.ones(channels, x.dtype) if alive is None else alive.numpy().astype(x.dtype)
        out = torch.empty(plan.steps, rows.pooled, dtype=torch.from_numpy(x).dtype)
        kernels.scan(x, scale, shift, gate, plan.constants(amount, x.dtype.type), tuple(rows), rows.items, out.numpy())
        ctx.save_for_backward(y, gain, bias, mean, var, amount, alive)
        ctx.plan = plan
        if mean is not None and var is not None:
            ctx.mark_non_differentiable(mean, var)
        return out.to(plan.dtype), mean, var

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_out: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        y, gain, bias, mean, var, amount, alive = ctx.saved_tensors
        plan: _Plan = ctx.plan
        rows = plan.rows
        use_torch_threads()
        x, go = _numpy(y), _numpy(grad_out.contiguous())
        number = x.dtype.type
        scale, shift = _affine(gain, bias, mean, var, plan.eps, rows.channels, x.dtype)
        gate = np.ones(rows.channels, x.dtype) if alive is None else alive.numpy().astype(x.dtype)
        covered = rows.groups * rows.side * rows.used == x.shape[1]
        grad = np.empty_like(x) if covered else np.zeros_like(x)
        items = rows.items
        sums = np.zeros((items if gain is not None else 0, 2, rows.channels))
        dynamics = plan.dynamics
        learns_leak = ctx.needs_input_grad[5] and dynamics.leak != "none"
        amounts = np.zeros(items if learns_leak else 0)
        surrogate = KERNEL_KINDS[dynamics.surrogate], number(dynamics.alpha), number(math.pi / 2 * dynamics.alpha)
        constants = plan.constants(amount, number)
        go = go.astype(x.dtype, copy=False)
        kernels.scan_gradient(go, x, scale, shift, gate, constants, surrogate, tuple(rows), items, grad, sums, amounts)
        grad_gain = grad_bias = None
        if gain is not None:
            deviation = np.sqrt(_float64(var) + plan.eps)
            by_grad = _float64(gain) / deviation
            total, moment = sums.sum(axis=0)
            moment = (moment - _float64(mean) * total) / deviation  # sum of gradient times normalised y
            by_y = constant = np.zeros_like(by_grad)
            if plan.batch_statistics:
                count = x.size // rows.channels
                by_y = -by_grad * moment / (count * deviation)
                constant = -by_grad * total / count - by_y * _float64(mean)
            coefficients = [c.astype(x.dtype) for c in (by_grad, by_y, constant)]
            run = rows.channels * max(1, _SUM_RUN // rows.channels)
            kernels.norm_gradient(grad.reshape(-1), x.reshape(-1), *coefficients, run)
            grad_gain = torch.from_numpy(moment).to(gain.dtype)
            grad_bias = torch.from_numpy(total).to(gain.dtype)
        grad_amount = torch.as_tensor(amounts.sum(), dtype=amount.dtype)
        return torch.from_numpy(grad).to(y.dtype), grad_gain, grad_bias, None, None, grad_amount, None, None


def _numpy(x: Tensor) -> kernels.Array:
    x = x.detach()
    return (x if x.dtype in (torch.float32, torch.float64) else x.float()).numpy()


def _float64(x: Tensor) -> kernels.Array:
    return x.detach().double().numpy()


def _moments(x: kernels.Array, channels: int) -> tuple[Tensor, Tensor]:
    run = channels * max(1, _SUM_RUN // channels)
    parts = np.zeros((kernels.sum_items(x.size, run), 2, channels))
    kernels.channel_sums(x.reshape(-1), channels, run, parts)
    first, second = parts.sum(axis=0) / (x.size // channels)
    return torch.from_numpy(first), torch.from_numpy(np.maximum(second - first**2, 0))


def _affine(
    gain: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    eps: float,
    channels: int,
    dtype: Any,
) -> tuple[kernels.Array, kernels.Array]:
    """Scale and shift ``[C]`` of the norm; 1 and 0 without a norm."""
    if gain is None or bias is None or mean is None or var is None:
        return np.ones(channels, dtype), np.zeros(channels, dtype)
    scale = _float64(gain) / np.sqrt(_float64(var) + eps)
    return scale.astype(dtype), (_float64(bias) - _float64(mean) * scale).astype(dtype)


def _amount(amount: Tensor | float, like: Tensor) -> Tensor:
    return torch.as_tensor(amount, dtype=torch.float64 if like.dtype == torch.float64 else torch.float32)


@opaque
def multi_step_cpu(current: Tensor, amount: Tensor | float, dynamics: Dynamics) -> Tensor:
    """CPU version of :func:`spikefit.functional.lif.multi_step`."""
    steps = len(current)
    frames = current[:1] if steps > 1 and current.stride(0) == 0 else current
    order, back = memory_order(frames)
    dense = frames.permute(order)
    y = dense.reshape(len(frames), -1)
    rows = kernels.flat_rows(y.shape[1], 1, steps)
    plan = _Plan(dynamics, steps, rows, False, 0.0, current.dtype)
    spikes, _, _ = _Scan.apply(y, None, None, None, None, _amount(amount, y), None, plan)
    return spikes.view(steps, *dense.shape[1:]).permute(back)


@opaque
def normed_multi_step_cpu(
    y: Tensor,
    steps: int,
    dynamics: Dynamics,
    amount: Tensor | float,
    norm: Norm | None,
    alive: Tensor | None,
    pool: int,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """CPU version of :func:`spikefit.functional.lif.normed_multi_step`."""
    spatial = y.dim() == 5
    last = y.permute(0, 1, 3, 4, 2).contiguous() if spatial else y.contiguous()
    frames, batch, *sides, channels = last.shape
    flat = last.view(frames, -1)
    if spatial and pool > 1:
        rows = kernels.image_rows(batch, sides[0], sides[1], channels, pool, steps)
        sides = [side // pool for side in sides]
    else:
        rows = kernels.flat_rows(flat.shape[1], channels, steps)
    gain, bias, mean, var = (None,) * 4 if norm is None else (norm.gain, norm.bias, norm.mean, norm.var)
    plan = _Plan(dynamics, steps, rows, norm is not None and mean is None, 0.0 if norm is None else norm.eps, y.dtype)
    spikes, mean, var = _Scan.apply(flat, gain, bias, mean, var, _amount(amount, y), alive, plan)
    spikes = spikes.view(steps, batch, *sides, channels)
    return (spikes.permute(0, 1, 4, 2, 3) if spatial else spikes), mean, var
