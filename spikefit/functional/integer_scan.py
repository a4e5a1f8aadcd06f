"""Differentiable multi-step scan of a chip's neurons, for training with the chip's integer arithmetic.

The forward pass computes the same as :mod:`spikefit.functional.integer_arithmetic`. The backward pass ignores rounding
and treats the reset as a constant. A rounded constant keeps the gradient of its real value (straight through, Bengio et
al. 2013, arXiv 1308.3432), and spikes have a surrogate gradient in the units of the network. The backward pass
recomputes the membranes.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spikefit.errors import ConfigurationError, check_choice
from spikefit.functional.current_based import synaptic_filter
from spikefit.functional.devices import runs_triton
from spikefit.functional.integer_arithmetic import IntegerDynamics, charges, per_channel, synaptic_scan
from spikefit.functional.quantize import straight_through
from spikefit.functional.surrogate import SURROGATES

LARGEST_FRAME = 2**31 - 2048  # currents of one step; the offsets of GPU kernels are 32 bits wide


def integer_filter(delivered: Tensor, decay: float | Tensor, leak: Tensor, dynamics: IntegerDynamics) -> Tensor:
    """Synaptic currents in a chip's integers, with the gradient of the network's real synaptic currents.

    The forward pass is :func:`~spikefit.functional.integer_arithmetic.synaptic_scan`, the backward pass that of
    :func:`~spikefit.functional.current_based.synaptic_filter`.

    Args:
        delivered: integers in a floating-point dtype, ``[T, B, C, ...]``.
        decay: factor of the network's synaptic currents per step; a number or ``[C]``, which may be learned.
        leak: the decay in the chip's integers, ``[C]``.
        dynamics: of the neurons; the leak of the membrane is ignored.

    Returns:
        ``[T, B, C, ...]``, in the dtype of ``delivered``.
    """
    currents, _ = synaptic_scan(delivered.detach().double(), leak.detach().double(), dynamics)
    return straight_through(synaptic_filter(delivered, decay), currents.to(delivered.dtype))


def integer_multi_step(
    y: Tensor,
    steps: int,
    bias: Tensor,
    threshold: Tensor,
    leak: Tensor,
    slope: Tensor,
    dynamics: IntegerDynamics,
    alive: Tensor | None = None,
    window: int = 1,
) -> Tensor:
    """Spikes of a chip's neurons, or their sums over pooling windows; differentiable.

    Args:
        y: integer currents without the bias, float32 or float64, ``[T, B, C]`` or ``[T, B, C, H, W]``, or one frame
            ``[1, ...]`` that drives every step. Copied unless it is channels last in memory.
        steps: T.
        bias, threshold, leak: integers, float64 ``[C]``; the threshold is positive.
        slope: float64 ``[C]``, value of one unit of the membrane in the units of the network. The surrogate is
            evaluated in these units.
        dynamics: of the neurons.
        alive: bool ``[C]``; units that are False never fire and get no gradient. None if all are alive.
        window: side and stride of the windows over which spikes are summed; neurons outside every window are dropped.

    Returns:
        float32 ``[T, B, C]`` or ``[T, B, C, H // window, W // window]``. Gradients are computed in the dtype of ``y``.

    Raises:
        ConfigurationError: for currents of another dtype or shape, a window without spatial dimensions, or dynamics
            with ``integer=False``.
    """
    check_choice("y.dtype", y.dtype, (torch.float32, torch.float64))
    check_choice("frames of y", len(y), (1, steps))
    if not dynamics.integer:
        raise ConfigurationError("integer_multi_step: got integer=False, expected the dynamics of a chip.")
    if window > 1 and y.dim() != 5:
        raise ConfigurationError(f"window: got {window} for {y.dim()} dimensions, expected [T, B, C, H, W].")
    if y.device.type == "cpu":
        from spikefit.functional.kernels.cpu.integer_scan import integer_multi_step_cpu  # numba takes a while to import

        return integer_multi_step_cpu(y, steps, bias, threshold, leak, slope, dynamics, alive, window)
    if runs_triton(y) and y[0].numel() < LARGEST_FRAME:
        from spikefit.functional.kernels.cuda.integer_scan import integer_multi_step_cuda

        return integer_multi_step_cuda(y, steps, bias, threshold, leak, slope, dynamics, alive, window)
    return plain_multi_step(y, steps, bias, threshold, leak, slope, dynamics, alive, window)


def plain_multi_step(
    y: Tensor,
    steps: int,
    bias: Tensor,
    threshold: Tensor,
    leak: Tensor,
    slope: Tensor,
    dynamics: IntegerDynamics,
    alive: Tensor | None = None,
    window: int = 1,
) -> Tensor:
    """Plain-torch version of :func:`integer_multi_step`, for other devices and frames too large for a kernel."""
    spikes = PlainIntegerScan.apply(y, bias, threshold, leak, slope, steps, dynamics)
    if alive is not None:
        spikes = spikes * per_channel(alive, spikes)
    if window > 1:
        spikes = F.avg_pool2d(spikes.flatten(0, 1), window, divisor_override=1).unflatten(0, (steps, -1))
    return spikes


class PlainIntegerScan(torch.autograd.Function):
    """The scan without ``alive`` and windows; arguments as in :func:`integer_multi_step`."""

    @staticmethod
    def forward(
        ctx: Any,
        y: Tensor,
        bias: Tensor,
        threshold: Tensor,
        leak: Tensor,
        slope: Tensor,
        steps: int,
        dynamics: IntegerDynamics,
    ) -> Tensor:
        """Float32 spikes ``[T, B, C, ...]``."""
        ctx.save_for_backward(y, bias, threshold, leak, slope)
        ctx.steps, ctx.dynamics = steps, dynamics
        walk = _walk(y, bias, threshold, leak, steps, dynamics)
        return torch.stack([count.float() for _, count, _, _ in walk])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of y, bias, threshold, leak and slope."""
        y, bias, threshold, leak, slope = ctx.saved_tensors
        dynamics: IntegerDynamics = ctx.dynamics
        theta = per_channel(threshold, y)
        kept = []
        for membrane, count, state, _ in _walk(y, bias, threshold, leak, ctx.steps, dynamics):
            nearest = _nearest(membrane, theta, dynamics)
            kept.append([x.to(y.dtype) for x in (membrane - nearest * theta, nearest, count, state)])
        scale, amount = per_channel(slope, y).to(y.dtype), per_channel(leak, y).to(y.dtype)
        derivative, moves = SURROGATES[dynamics.surrogate], len(y) > 1
        grad_y, grad_state = torch.zeros_like(y), torch.zeros_like(y[0])  # of the state, from the next step
        totals = [torch.zeros_like(y[0]) for _ in range(4)]
        for step in range(ctx.steps - 1, -1, -1):
            distance, nearest, count, _ = kept[step]
            by_surrogate = grad_spikes[step].to(y.dtype) * derivative(distance * scale, dynamics.alpha)
            at_threshold = by_surrogate * scale
            totals[1] -= at_threshold * nearest
            totals[3] += by_surrogate * distance
            if dynamics.reset == "zero":
                grad_state = grad_state * (count == 0)
            else:
                totals[1] -= grad_state * count
            grad = at_threshold + grad_state
            grad_y[step if moves else 0] += grad
            totals[0] += grad
            if step > 0:
                grad_state, of_leak = _through_leak(grad, kept[step - 1][3], amount, dynamics)
                totals[2] += of_leak
        over = [dim for dim in range(y.dim() - 1) if dim != 1]
        by_channel = [total.sum(dim=over, dtype=torch.float64) for total in totals]
        constants = zip(by_channel, (bias, threshold, leak, slope), strict=True)
        return grad_y, *(of.to(constant.dtype) for of, constant in constants), None, None


def _walk(
    y: Tensor, bias: Tensor, threshold: Tensor, leak: Tensor, steps: int, dynamics: IntegerDynamics
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Run :func:`charges` in float64."""
    b, theta, amount = (per_channel(constant.detach().double(), y) for constant in (bias, threshold, leak))
    currents = (frame.double() + b for frame in y.detach().expand(steps, *y.shape[1:]))
    return charges(currents, theta, amount, dynamics)


def _nearest(membrane: Tensor, threshold: Tensor, dynamics: IntegerDynamics) -> Tensor:
    """The nearest multiple of the threshold at which the neuron fires one more spike."""
    if dynamics.max_spikes == 1:
        return torch.ones_like(membrane)
    return (membrane / threshold).round().clamp(1, dynamics.max_spikes)


def _through_leak(grad: Tensor, state: Tensor, amount: Tensor, dynamics: IntegerDynamics) -> tuple[Tensor, Tensor]:
    """Gradients of state and leak, given the gradient of the leaked state; rounding is ignored."""
    if dynamics.leak == "none":
        return grad, torch.zeros_like(grad)
    if dynamics.leak == "linear":
        passed = grad * (state.abs() > amount)
        return passed, -passed * state.sign()
    if dynamics.decay == "shift":
        lost = torch.exp2(-amount)
        return grad * (1 - lost), grad * state * lost * math.log(2)
    one = 2.0**dynamics.decay_bits
    return grad * ((one - amount) / one), -grad * state / one
