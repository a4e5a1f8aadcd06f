"""CUDA version of :func:`spikefit.functional.integer_scan.integer_multi_step`.

The kernels are in :mod:`spikefit.functional.kernels.cuda.integer_scan_kernels`, the plain-torch reference is
:func:`spikefit.functional.integer_scan.plain_multi_step`. The backward pass recomputes the membranes in float64;
everything else in it has the dtype of the currents. Currents are channels last; a constant current is read once.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from spikefit.functional.integer_arithmetic import IntegerDynamics
from spikefit.functional.kernels.cuda import integer_scan_kernels as kernels
from spikefit.functional.surrogate import KERNEL_KINDS

_TILE = 512  # neurons per program: as many as registers hold without spilling
_PROGRAMS = 1024  # upper limit in the backward pass; each program sums the constants' gradients over its neurons


@dataclass(frozen=True)
class _Plan:
    """Arguments of :class:`TritonIntegerScan` that are not tensors; ``shape`` is that of a frame ``[B, H, W, C]``."""

    dynamics: IntegerDynamics
    steps: int
    window: int
    shape: tuple[int, ...]
    moves: bool

    @property
    def sent(self) -> tuple[int, ...]:
        """Shape of the sums over windows, per step."""
        batch, height, width, channels = self.shape
        return batch, height // self.window, width // self.window, channels

    @property
    def rule(self) -> dict[str, Any]:
        """Compile-time constants of the kernels."""
        own = self.dynamics
        leak = {"none": kernels.NONE, "linear": kernels.LINEAR}.get(own.leak)
        if leak is None:
            by_rounding = kernels.DECAY_FLOOR if own.decay_rounding == "floor" else kernels.DECAY_TRUNCATE
            leak = kernels.SHIFT if own.decay == "shift" else by_rounding
        low, high = own.state_min, own.state_max
        bounded = low is not None and high is not None
        return {
            "MOVES": self.moves,
            "WINDOW": self.window,
            "LEAK": leak,
            "BITS": own.decay_bits,
            "TO_ZERO": own.reset == "zero",
            "MOST": own.max_spikes,
            "BOUNDED": bounded,
            "WRAPS": own.overflow == "wrap",
            "LOW": low if bounded else 0,
            "HIGH": high if bounded else 0,
        }


class TritonIntegerScan(torch.autograd.Function):
    """Maps currents ``[T or 1, B, H, W, C]`` to spikes, or their sums over windows, ``[T, B, H', W', C]``."""

    @staticmethod
    def forward(
        ctx: Any,
        y: Tensor,
        bias: Tensor,
        threshold: Tensor,
        leak: Tensor,
        slope: Tensor,
        alive: Tensor,
        plan: _Plan,
    ) -> Tensor:
        """Float32 spikes; ``y`` and the constants ``[C]`` (float64, ``alive`` bool) must be contiguous."""
        spikes = torch.empty(plan.steps, *plan.sent, dtype=torch.float32, device=y.device)
        _, height, width, channels = plan.shape
        sent, lanes = math.prod(plan.sent), math.prod(plan.shape)
        members = triton.next_power_of_2(plan.window**2)
        block = max(1, _TILE // members)
        warps = 4 if plan.window == 1 else 1  # several warps would share a window and synchronise
        kernels.scan[(triton.cdiv(sent, block),)](
            y, bias, threshold, leak, alive, spikes, plan.steps, lanes, sent, channels, height, width,
            **plan.rule, BLOCK=block, MEMBERS=members, num_warps=warps,
        )  # fmt: skip
        ctx.save_for_backward(y, bias, threshold, leak, slope, alive)
        ctx.plan = plan
        return spikes

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of currents, bias, threshold, leak and slope."""
        y, bias, threshold, leak, slope, alive = ctx.saved_tensors
        plan: _Plan = ctx.plan
        batch, height, width, channels = plan.shape
        places, lanes, once = batch * height * width, math.prod(plan.shape), plan.dynamics.max_spikes == 1
        columns = min(triton.next_power_of_2(channels), 64)
        rows = _TILE // columns
        across = triton.cdiv(channels, columns)
        grid = (min(triton.cdiv(places, rows), max(1, _PROGRAMS // across)), across)
        grad = torch.empty_like(y)
        # The gradient of a step overwrites the distance from the threshold of that step.
        shares = once and plan.moves
        kept = grad if shares else y.new_empty(plan.steps * lanes, dtype=y.dtype if once else torch.float64)
        sums = bias.new_empty(grid[0], 4, channels, dtype=torch.float64)
        kernels.scan_gradient[grid](
            grad_spikes.contiguous(), y, bias, threshold, leak, slope, alive, kept, grad, sums, plan.steps, lanes,
            math.prod(plan.sent), places, channels, height, width, **plan.rule,
            REAL=tl.float64 if y.dtype == torch.float64 else tl.float32,
            SURROGATE=KERNEL_KINDS[plan.dynamics.surrogate], ALPHA=plan.dynamics.alpha, ROWS=rows, COLUMNS=columns,
        )  # fmt: skip
        constants = zip(sums.sum(dim=0).unbind(), (bias, threshold, leak, slope), strict=True)
        return grad, *(of.to(constant.dtype) for of, constant in constants), None, None


def integer_multi_step_cuda(
    y: Tensor,
    steps: int,
    bias: Tensor,
    threshold: Tensor,
    leak: Tensor,
    slope: Tensor,
    dynamics: IntegerDynamics,
    alive: Tensor | None,
    window: int,
) -> Tensor:
    """CUDA version of :func:`spikefit.functional.integer_scan.integer_multi_step` (also in Triton's interpreter)."""
    last = y.movedim(2, -1).contiguous()
    frames, batch, *sides, channels = last.shape
    height, width = sides or (1, 1)
    plan = _Plan(dynamics, steps, window, (batch, height, width, channels), frames > 1)
    living = torch.ones_like(bias, dtype=torch.bool) if alive is None else alive
    constants = [constant.contiguous() for constant in (bias, threshold, leak, slope)]
    spikes = TritonIntegerScan.apply(last.view(frames, *plan.shape), *constants, living, plan)
    return spikes.view(steps, batch, *plan.sent[1:3][: len(sides)], channels).movedim(-1, 2)
