# mypy: disable-error-code="no-untyped-def"
"""Integrate-and-fire scan over any number of steps as Triton kernels: all steps of a neuron in one program.

Used for more steps than fit into registers (see :mod:`.norm_scan`). Only the current is saved. The backward kernel
recomputes the membrane and stores it in the memory of the gradient, which overwrites it step by step. Arithmetic is
float32, or float64 for float64.
"""

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from spikefit.functional.devices import constants
from spikefit.functional.dynamics import Dynamics, memory_order
from spikefit.functional.kernels.cuda.norm_scan import LEAKS, amount_on_device
from spikefit.functional.kernels.cuda.norm_scan_kernels import leaked, reset, surrogate
from spikefit.functional.kernels.cuda.precision import compute_dtype, number
from spikefit.functional.surrogate import KERNEL_KINDS

_BLOCK = 512


@triton.jit
def _forward(
    current,
    constants,
    spikes,
    steps,
    lanes,
    stride,
    COMPUTE: tl.constexpr,
    LEAK: tl.constexpr,
    TO_ZERO: tl.constexpr,
    BLOCK: tl.constexpr,
):
    lane = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = lane < lanes
    amount, theta = tl.load(constants), tl.load(constants + 1)
    u = tl.zeros((BLOCK,), COMPUTE)
    current += lane
    spikes += lane
    for _ in range(steps):
        v = leaked(u, amount, LEAK) + tl.load(current, mask=live, other=0.0).to(COMPUTE)
        tl.store(spikes, tl.where(v >= theta, 1.0, 0.0).to(spikes.dtype.element_ty), mask=live)
        u = reset(v, theta, TO_ZERO)
        current += stride
        spikes += lanes


@triton.jit
def _backward(
    grad_spikes,
    current,
    constants,
    membrane,
    grad_current,
    grad_amount,
    steps,
    lanes,
    stride,
    COMPUTE: tl.constexpr,
    LEAK: tl.constexpr,
    TO_ZERO: tl.constexpr,
    SURROGATE: tl.constexpr,
    LEARNS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    lane = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = lane < lanes
    amount, theta = tl.load(constants), tl.load(constants + 1)
    alpha, slope = tl.load(constants + 2), tl.load(constants + 3)
    # Pointers advance with each step, because step * lanes may exceed 32 bits.
    current += lane
    membrane += lane
    grad_current += lane
    grad_spikes += lane
    u = tl.zeros((BLOCK,), COMPUTE)
    for _ in range(steps):
        v = leaked(u, amount, LEAK) + tl.load(current, mask=live, other=0.0).to(COMPUTE)
        tl.store(membrane, v, mask=live)
        u = reset(v, theta, TO_ZERO)
        current += stride
        membrane += lanes
        grad_current += lanes
        grad_spikes += lanes
    tl.debug_barrier()  # a thread may load what another one stored
    grad_u = tl.zeros((BLOCK,), COMPUTE)
    total = tl.zeros((BLOCK,), COMPUTE)
    for back in range(steps):
        membrane -= lanes
        grad_current -= lanes
        grad_spikes -= lanes
        v = tl.load(membrane, mask=live, other=0.0)
        grad_v = tl.load(grad_spikes, mask=live, other=0.0).to(COMPUTE) * surrogate(v - theta, alpha, slope, SURROGATE)
        if TO_ZERO:
            grad_v += tl.where(v >= theta, 0.0, grad_u)
        else:
            grad_v += grad_u
        # Before the first step, the membrane is 0.
        before = tl.load(membrane - lanes, mask=live & (back < steps - 1), other=0.0)
        tl.store(grad_current, grad_v.to(grad_current.dtype.element_ty), mask=live)
        u = reset(before, theta, TO_ZERO)
        grad_u = grad_v
        if LEAK == 1:
            grad_u = grad_v * amount
            if LEARNS:
                total += grad_v * u
        elif LEAK == 2:
            grad_u = tl.where(tl.abs(u) > amount, grad_v, 0.0)
            if LEARNS:
                total -= tl.where(u > 0, grad_u, tl.where(u < 0, -grad_u, 0.0))
    if LEARNS:
        tl.store(grad_amount + tl.program_id(0), tl.sum(tl.where(live, total, 0.0), axis=0))


class TritonScan(torch.autograd.Function):
    """CUDA version of :func:`spikefit.functional.lif.multi_step`; also runs in Triton's interpreter."""

    @staticmethod
    def forward(ctx: Any, current: Tensor, amount: Tensor, dynamics: Dynamics) -> Tensor:
        """Spikes in the shape, dtype and memory format of ``current`` ``[T, ...]``."""
        order, back = memory_order(current)
        dense = current.permute(order)
        frames = dense[:1] if dense.stride(0) == 0 else dense
        if not frames[0].is_contiguous() or (len(frames) > 1 and not frames.is_contiguous()):
            frames = frames.contiguous()
        steps, lanes = len(current), frames[0].numel()
        stride = lanes if len(frames) == steps else 0
        compute = compute_dtype(current)
        fixed = dynamics.threshold, dynamics.alpha, math.pi / 2 * dynamics.alpha
        numbers = torch.cat([amount.detach().reshape(1).to(compute), constants(fixed, compute, current.device)])
        spikes = torch.empty(dense.shape, dtype=current.dtype, device=current.device)
        _forward[_grid(lanes)](
            frames, numbers, spikes, steps, lanes, stride, number(compute), LEAKS[dynamics.leak],
            dynamics.reset == "zero", _BLOCK,
        )  # fmt: skip
        ctx.save_for_backward(frames, numbers, amount)
        ctx.dynamics, ctx.order, ctx.back, ctx.stride, ctx.shape = dynamics, order, back, stride, dense.shape
        return spikes.permute(back)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of current and amount."""
        frames, numbers, amount = ctx.saved_tensors
        dynamics: Dynamics = ctx.dynamics
        steps, lanes = ctx.shape[0], frames[0].numel()
        grad_spikes = grad_spikes.permute(ctx.order).contiguous()
        grad = torch.empty(ctx.shape, dtype=frames.dtype, device=frames.device)
        membrane = grad if grad.dtype == numbers.dtype else torch.empty_like(grad, dtype=numbers.dtype)
        learns = ctx.needs_input_grad[1] and dynamics.leak != "none"
        grid = _grid(lanes)
        parts = torch.zeros(grid[0] if learns else 1, dtype=numbers.dtype, device=frames.device)
        _backward[grid](
            grad_spikes, frames, numbers, membrane, grad, parts, steps, lanes, ctx.stride,
            number(numbers.dtype), LEAKS[dynamics.leak], dynamics.reset == "zero",
            KERNEL_KINDS[dynamics.surrogate], learns, _BLOCK,
        )  # fmt: skip
        return grad.permute(ctx.back), parts.sum().to(amount), None


def long_multi_step(current: Tensor, amount: Tensor | float, dynamics: Dynamics) -> Tensor:
    """CUDA version of :func:`spikefit.functional.lif.multi_step` for any number of steps."""
    return TritonScan.apply(current, amount_on_device(amount, current), dynamics)


def _grid(lanes: int) -> tuple[int]:
    return (triton.cdiv(lanes, _BLOCK),)
