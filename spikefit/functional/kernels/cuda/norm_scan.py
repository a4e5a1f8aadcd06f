"""Norm, integrate-and-fire scan and average pooling as one differentiable operation on a CUDA device.

The counterpart of :mod:`spikefit.functional.kernels.cpu.norm_scan`; the kernels are in :mod:`.norm_scan_kernels`.
Arithmetic is float32, or float64 for float64. Nothing here waits for the device.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from spikefit.functional.devices import constants
from spikefit.functional.dynamics import Dynamics, Norm, memory_order
from spikefit.functional.kernels.cuda import norm_scan_kernels as kernels
from spikefit.functional.kernels.cuda.precision import compute_dtype, number
from spikefit.functional.surrogate import KERNEL_KINDS

LEAKS = {"none": 0, "decay": 1, "linear": 2}
_PROGRAMS = 1056  # eight per multiprocessor of an H100
_BLOCK = 1024
_COLUMNS = 64
_PARTS, _CHANNELS = 128, 16


@dataclass(frozen=True)
class Shape:
    """Sizes of a feature map for the kernels: steps, batch, sides, channels and pooling."""

    steps: int
    batch: int
    height: int
    width: int
    channels: int
    pool: int

    @property
    def tall(self) -> int:
        """Pooling windows along the height of the map."""
        return self.height // self.pool

    @property
    def wide(self) -> int:
        """Pooling windows along the width of the map."""
        return self.width // self.pool

    @property
    def frame(self) -> int:
        """Elements per step."""
        return self.batch * self.height * self.width * self.channels

    @property
    def pooled(self) -> int:
        """Elements per step after the pooling."""
        return self.batch * self.tall * self.wide * self.channels

    def tile(self, elements: int) -> tuple[int, int, int]:
        """Rows and columns of a block of ``elements``, and the number of blocks that cover the channels."""
        one_row = self.batch * self.height * self.width == 1
        columns = min(elements if one_row else _COLUMNS, triton.next_power_of_2(self.channels))
        return max(1, elements // columns), columns, triton.cdiv(self.channels, columns)


@dataclass(frozen=True)
class _Plan:
    """Arguments of :class:`_NormScan` that are not tensors."""

    dynamics: Dynamics
    shape: Shape
    measured: bool
    eps: float

    @property
    def leak(self) -> int:
        """Code of the leak for the kernels."""
        return LEAKS[self.dynamics.leak]

    @property
    def to_zero(self) -> bool:
        """Whether the reset sets the membrane to 0."""
        return self.dynamics.reset == "zero"

    def constants(self, like: Tensor) -> Tensor:
        """Threshold and the constants of the surrogate, on the device."""
        alpha = self.dynamics.alpha
        return constants((self.dynamics.threshold, alpha, math.pi / 2 * alpha), compute_dtype(like), like.device)


def gradient_block(steps: int) -> int:
    """Elements per program of 128 threads in the backward pass, chosen so that all steps fit into registers."""
    return 512 if steps <= 4 else 256 if steps <= 6 else 128


def _programs(rows: int, block: int, columns: int) -> int:
    return max(1, min(triton.cdiv(rows, block), _PROGRAMS // columns))


class _NormScan(torch.autograd.Function):
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
        shape, dtype = plan.shape, compute_dtype(y)
        terms = None
        if gain is not None and bias is not None:
            mean, var, terms = _affine(y, gain, bias, mean, var, plan)
        out = torch.empty(shape.steps, shape.pooled, dtype=y.dtype, device=y.device)
        rows, columns, blocks = shape.tile(_BLOCK if shape.pool == 1 else _BLOCK // 2)
        windows = shape.pooled // shape.channels
        kernels.fire[(triton.cdiv(windows, rows) * blocks,)](
            y, terms, alive, plan.constants(y), amount, out,
            shape.steps, windows, shape.channels, blocks, shape.height, shape.width, shape.tall, shape.wide,
            shape.frame if len(y) > 1 else 0, shape.pooled,
            number(dtype), terms is not None, alive is not None, plan.leak, plan.to_zero, shape.pool, rows, columns,
        )  # fmt: skip
        ctx.save_for_backward(y, gain, bias, mean, var, amount, alive, terms)
        ctx.plan = plan
        if mean is not None and var is not None:
            ctx.mark_non_differentiable(mean, var)
        ctx.set_materialize_grads(False)  # else each backward pass would allocate zeros for mean and variance
        return out, mean, var

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_out: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        if grad_out is None:
            return (None,) * 8
        y, gain, bias, mean, var, amount, alive, terms = ctx.saved_tensors
        plan: _Plan = ctx.plan
        learns = ctx.needs_input_grad[5] and plan.dynamics.leak != "none"
        gradient = _Gradient(plan, y, grad_out.contiguous(), amount, alive, terms, learns)
        if terms is None:
            return gradient.run(False, True), None, None, None, None, gradient.of_amount(), None, None
        grad_gain, grad_bias = torch.empty_like(gain), torch.empty_like(bias)
        grad_y = gradient.run(True, not plan.measured)
        parts, shape = gradient.parts, plan.shape
        grad_terms = torch.empty(2, shape.channels, dtype=terms.dtype, device=y.device) if plan.measured else None
        kernels.affine_gradient[(triton.cdiv(shape.channels, _CHANNELS),)](
            parts, gain, mean, var, grad_gain, grad_bias, grad_terms,
            len(parts), y.numel() // shape.channels, shape.channels, constants((plan.eps,), torch.float64, y.device),
            plan.measured, _PARTS, _CHANNELS,
        )  # fmt: skip
        amounts = gradient.of_amount()
        if plan.measured:
            grad_y = gradient.run(False, True, grad_terms)
        return grad_y, grad_gain, grad_bias, None, None, amounts, None, None


def _affine(
    y: Tensor, gain: Tensor, bias: Tensor, mean: Tensor | None, var: Tensor | None, plan: _Plan
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance that the norm uses, and its scale and shift ``[2, C]``."""
    channels, dtype = plan.shape.channels, compute_dtype(y)
    pixels = y.numel() // channels
    parts = None
    if mean is None or var is None:
        rows, columns, blocks = plan.shape.tile(2 * _BLOCK)
        parts = torch.empty(_programs(pixels, rows, blocks), 2, channels, dtype=dtype, device=y.device)
        kernels.moments[(len(parts) * blocks,)](y, parts, pixels, channels, blocks, number(dtype), rows, columns)
        mean, var = torch.empty(2, channels, dtype=dtype, device=y.device).unbind()
    terms = torch.empty(2, channels, dtype=dtype, device=y.device)
    kernels.affine[(triton.cdiv(channels, _CHANNELS),)](
        y, parts, gain, bias, mean, var, terms,
        0 if parts is None else len(parts), pixels, channels, constants((plan.eps,), torch.float64, y.device),
        parts is not None, _PARTS, _CHANNELS,
    )  # fmt: skip
    return mean, var, terms


class _Gradient:
    """Passes of the backward kernel over one feature map."""

    def __init__(
        self,
        plan: _Plan,
        y: Tensor,
        grad_out: Tensor,
        amount: Tensor,
        alive: Tensor | None,
        terms: Tensor | None,
        learns: bool,
    ) -> None:
        self.plan, self.y, self.grad_out, self.amount, self.alive, self.terms = plan, y, grad_out, amount, alive, terms
        shape = plan.shape
        self.rows, self.columns, self.blocks = shape.tile(gradient_block(shape.steps))
        self.windows = shape.batch * triton.cdiv(shape.height, shape.pool) * triton.cdiv(shape.width, shape.pool)
        programs = _programs(self.windows, self.rows, self.blocks)
        self.grid = (programs * self.blocks,)
        dtype = compute_dtype(y)
        # Without a norm nothing is summed; the number of channels may then be the number of neurons.
        sums = 0 if terms is None else programs
        self.parts = torch.empty(sums, 2, shape.channels, dtype=dtype, device=y.device)
        self.amounts = torch.empty(self.grid, dtype=dtype, device=y.device) if learns else None

    def run(self, sums: bool, writes: bool, grad_terms: Tensor | None = None) -> Tensor | None:
        """Run one pass; return the gradient of ``y`` if it ``writes``."""
        plan, shape, y = self.plan, self.plan.shape, self.y
        grad = torch.empty_like(y) if writes else None
        learns = self.amounts is not None and grad_terms is None  # summed in the first pass
        kernels.fire_gradient[self.grid](
            self.grad_out, y, self.terms, self.alive, plan.constants(y), self.amount, grad_terms, grad, self.parts,
            self.amounts, self.windows, shape.channels, self.blocks, shape.height, shape.width, shape.tall, shape.wide,
            shape.frame if len(y) == shape.steps else 0, shape.pooled,
            number(compute_dtype(y)), self.terms is not None, grad_terms is not None, self.alive is not None,
            plan.leak, plan.to_zero, KERNEL_KINDS[plan.dynamics.surrogate], learns, sums, writes,
            len(y) < shape.steps, shape.steps, shape.pool, self.rows, self.columns,
        )  # fmt: skip
        return grad

    def of_amount(self) -> Tensor | None:
        """The gradient of the leak's amount."""
        return None if self.amounts is None else self.amounts.sum()


def amount_on_device(amount: Tensor | float, like: Tensor) -> Tensor:
    """The leak's amount as a scalar tensor, in the precision of the arithmetic for ``like``."""
    dtype = compute_dtype(like)
    return amount.to(dtype) if isinstance(amount, Tensor) else constants((amount,), dtype, like.device)[0]


def multi_step_cuda(current: Tensor, amount: Tensor | float, dynamics: Dynamics) -> Tensor:
    """CUDA version of :func:`spikefit.functional.lif.multi_step` for at most ``MAX_STEPS`` steps."""
    steps = len(current)
    frames = current[:1] if steps > 1 and current.stride(0) == 0 else current
    order, back = memory_order(frames)
    dense = frames.permute(order)
    y = dense.reshape(len(frames), -1)
    plan = _Plan(dynamics, Shape(steps, 1, 1, 1, y.shape[1], 1), False, 0.0)
    spikes, _, _ = _NormScan.apply(y, None, None, None, None, amount_on_device(amount, y), None, plan)
    return spikes.view(steps, *dense.shape[1:]).permute(back)


def normed_multi_step_cuda(
    y: Tensor,
    steps: int,
    dynamics: Dynamics,
    amount: Tensor | float,
    norm: Norm | None,
    alive: Tensor | None,
    pool: int,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """CUDA version of :func:`spikefit.functional.lif.normed_multi_step`.

    Raises:
        ValueError: for 2**31 or more currents per step.
    """
    if y[0].numel() >= 2**31:
        raise ValueError(f"y: got {y[0].numel()} currents per step, expected fewer than 2**31; use smaller batches.")
    last = y.permute(0, 1, 3, 4, 2).contiguous() if y.dim() == 5 else y.contiguous()
    frames, batch, *sides, channels = last.shape
    height, width = sides or (1, 1)
    shape = Shape(steps, batch, height, width, channels, pool)
    gain, bias, mean, var = (None,) * 4 if norm is None else (norm.gain, norm.bias, norm.mean, norm.var)
    plan = _Plan(dynamics, shape, norm is not None and mean is None, 0.0 if norm is None else norm.eps)
    spikes, mean, var = _NormScan.apply(
        last.view(frames, -1), gain, bias, mean, var, amount_on_device(amount, y), alive, plan
    )
    if not sides:
        return spikes.view(steps, batch, channels), mean, var
    return spikes.view(steps, batch, shape.tall, shape.wide, channels).permute(0, 1, 4, 2, 3), mean, var
