"""CPU version of :func:`spikefit.functional.integer_scan.integer_multi_step`, and its scan without a gradient.

The kernels are in :mod:`spikefit.functional.kernels.cpu.integer_scan_kernels`. Membranes are computed in float64, which
represents the integers of all chips exactly. The backward pass recomputes the membranes; everything else in it has the
dtype of the currents.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikefit.functional.integer_arithmetic import IntegerDynamics
from spikefit.functional.kernels.cpu import integer_scan_kernels as kernels
from spikefit.functional.kernels.cpu.jit import opaque, use_torch_threads
from spikefit.functional.kernels.cpu.norm_scan_kernels import Rows, flat_rows, image_rows
from spikefit.functional.surrogate import KERNEL_KINDS

_SEGMENT = 1024  # lanes per step; several arrays of this size fit into the first-level cache
_NEVER = 2.0**1000  # a threshold that no membrane reaches; finite, so that no product with it is undefined
_LEAKS = {"none": kernels.NONE, "linear": kernels.LINEAR}
_DECAYS = {"floor": kernels.DECAY_FLOOR, "toward_zero": kernels.DECAY_TRUNCATE}


@dataclass(frozen=True)
class _Plan:
    """Arguments of :class:`_Scan` that are not tensors."""

    dynamics: IntegerDynamics
    steps: int
    shape: tuple[int, ...]  # of one sample, channel last
    window: int

    def rows(self, lanes: int) -> Rows:
        channels = self.shape[-1]
        if self.window == 1:
            return flat_rows(lanes, channels, self.steps)
        height, width, _ = self.shape
        return image_rows(lanes // math.prod(self.shape), height, width, channels, self.window, self.steps)


class _Scan(torch.autograd.Function):
    """Maps ``y`` ``[T or 1, B * lanes]`` to spikes ``[T, B * lanes]`` or their sums over windows."""

    @staticmethod
    def forward(
        ctx: Any,
        y: Tensor,
        bias: Tensor,
        threshold: Tensor,
        leak: Tensor,
        slope: Tensor,
        alive: Tensor | None,
        plan: _Plan,
    ) -> Tensor:
        theta = threshold if alive is None else threshold.masked_fill(~alive, _NEVER)
        spikes, _, _ = integer_scan(y, (bias, theta, leak), plan.dynamics, plan.steps, plan.shape, plan.window)
        ctx.save_for_backward(y, bias, threshold, leak, slope, alive)
        ctx.plan = plan
        return spikes

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        y, bias, threshold, leak, slope, alive = ctx.saved_tensors
        plan: _Plan = ctx.plan
        dynamics = plan.dynamics
        use_torch_threads()
        x = y.detach().numpy()
        number = x.dtype.type
        rows = plan.rows(x.shape[1])
        exact = _constants((bias, threshold, leak), dynamics)
        living = np.ones(rows.channels) if alive is None else alive.numpy()
        kept, by_leak = _through_leak(_float64(leak), dynamics)
        real = np.stack([exact[1], kept, _float64(slope), living]).astype(x.dtype)
        surrogate = (
            KERNEL_KINDS[dynamics.surrogate],
            number(dynamics.alpha),
            number(math.pi / 2 * dynamics.alpha),
        )
        covered = rows.groups * rows.side * rows.used == x.shape[1]
        grad = np.empty_like(x) if covered else np.zeros_like(x)
        sums = np.zeros((rows.items, 4, rows.channels))
        go = grad_out.contiguous().numpy().astype(x.dtype, copy=False)
        kernels.scan_gradient(go, x, exact, real, _rule(dynamics), surrogate, tuple(rows), grad, sums)
        of_bias, of_threshold, of_kept, of_slope = sums.sum(axis=0)
        constants = zip(
            (bias, threshold, leak, slope), (of_bias, -of_threshold, of_kept * by_leak, of_slope), strict=True
        )
        return torch.from_numpy(grad), *(torch.from_numpy(of).to(c.dtype) for c, of in constants), None, None


def integer_scan(
    y: Tensor,
    constants: tuple[Tensor, Tensor, Tensor],
    dynamics: IntegerDynamics,
    steps: int,
    shape: tuple[int, ...],
    window: int = 1,
) -> tuple[Tensor, Tensor, int]:
    """Spikes of neurons driven by integer currents from rest, summed over windows; without a gradient.

    Args:
        y: float32 or float64 ``[T, B * lanes]``, or ``[1, B * lanes]`` for a constant current.
        constants: bias, threshold and leak, integers ``[C]``.
        dynamics: of the neurons.
        steps: T.
        shape: shape of one sample, ``(H, W, C)`` or ``(C,)``; ``lanes`` is its product.
        window: side of the windows; 1 for none.

    Returns:
        Float32 spikes ``[T, B * lanes]``, or their sums over windows ``[T, B * (H // window) * (W // window) * C]``;
        the number of spikes per neuron over all samples, float32 ``[lanes]``; and the number of membranes that left the
        range.
    """
    use_torch_threads()
    lanes, channels = math.prod(shape), shape[-1]
    if window == 1:  # rows of any length: as many lanes as fit into the first-level cache
        row = min(lanes, channels * max(1, _SEGMENT // channels))
        rows, items, sent = (channels, row, 1, 1), -(-lanes // row), lanes
    else:
        height, width, _ = shape
        row = width * channels
        rows, items = (channels, row, height, window), -(-height // window)
        sent = (height // window) * (width // window) * channels
    tiled = np.tile(_constants(constants, dynamics), (1, row // channels))
    counts, outside = np.zeros(lanes, dtype=np.float32), np.zeros(items, dtype=np.int64)
    spikes = torch.empty(steps, y.shape[1] // lanes * sent)
    kernels.scan(y.detach().numpy(), tiled, _rule(dynamics), rows, spikes.numpy(), counts, outside)
    return spikes, torch.from_numpy(counts), int(outside.sum())


def _rule(dynamics: IntegerDynamics) -> kernels.Rule:
    leak = _LEAKS.get(dynamics.leak)
    if leak is None:
        leak = kernels.SHIFT if dynamics.decay == "shift" else _DECAYS[dynamics.decay_rounding]
    low, high = dynamics.state_min, dynamics.state_max
    limits = (-math.inf, math.inf) if low is None or high is None else (float(low), float(high))
    return leak, dynamics.reset == "zero", dynamics.overflow == "wrap", *limits, float(dynamics.max_spikes)


def _constants(constants: tuple[Tensor, Tensor, Tensor], dynamics: IntegerDynamics) -> kernels.Array:
    """Bias, threshold and leak in the form that the kernels expect, float64 ``[3, C]``."""
    bias, threshold, amount = (_float64(constant) for constant in constants)
    if dynamics.leak == "decay":
        one = 2.0**dynamics.decay_bits
        amount = np.exp2(-amount) if dynamics.decay == "shift" else (one - amount) / one
    return np.stack([bias, threshold, amount])


def _through_leak(leak: kernels.Array, dynamics: IntegerDynamics) -> tuple[kernels.Array, kernels.Array]:
    """The loss of a linear leak, or the factor of a decay, and its derivative with respect to the integer leak."""
    if dynamics.leak == "linear":
        return leak, np.ones_like(leak)
    if dynamics.leak == "none":
        return np.ones_like(leak), np.zeros_like(leak)
    if dynamics.decay == "shift":
        lost = np.exp2(-leak)
        return 1 - lost, math.log(2) * lost
    one = 2.0**dynamics.decay_bits
    return (one - leak) / one, np.full_like(leak, -1 / one)


def _float64(x: Tensor) -> kernels.Array:
    return x.detach().double().numpy()


@opaque
def integer_multi_step_cpu(
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
    """CPU version of :func:`spikefit.functional.integer_scan.integer_multi_step`."""
    last = y.movedim(2, -1).contiguous()
    frames, batch, *sides, channels = last.shape
    plan = _Plan(dynamics, steps, (*sides, channels), window)
    spikes = _Scan.apply(last.view(frames, -1), bias, threshold, leak, slope, alive, plan)
    return spikes.view(steps, batch, *(side // window for side in sides), channels).movedim(-1, 2)
