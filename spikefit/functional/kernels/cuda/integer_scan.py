# mypy: disable-error-code="no-untyped-def"
"""The neurons of a chip as Triton kernels: each neuron's steps in one program, its state in registers.

The same in plain torch is :func:`spikefit.functional.integer_scan.plain_multi_step`. Membranes are float64, which holds
the integers of all chips; the backward pass computes them anew and everything else in the dtype of the currents.

Currents lie channels last. A current that is the same in every step is read once.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from spikefit.functional.integer_dynamics import IntegerDynamics
from spikefit.functional.surrogate import KERNEL_KINDS

NONE, DECAY_FLOOR, DECAY_TRUNCATE, LINEAR, SHIFT = range(5)  # leaks
_TILE = 512  # neurons of a program: what registers hold without spilling
_PROGRAMS = 1024  # that share the gradients of the constants among them, each of which it sums by itself
_TO_NEAREST: tl.constexpr = tl.constexpr(1.5 * 2.0**52)  # added and taken away, it rounds float64 half to even


@triton.jit
def _share(amount, LEAK: tl.constexpr, BITS: tl.constexpr):
    """What a linear leak takes, the share that a decay keeps, or the share that a shift takes; exact."""
    if LEAK == 4:
        amount = ((1023 - amount.to(tl.int64)) << 52).to(tl.float64, bitcast=True)
    elif LEAK == 1 or LEAK == 2:
        one = tl.full([], 1 << BITS, tl.float64)
        amount = (one - amount) / one
    return amount


@triton.jit
def _leaked(u, share, LEAK: tl.constexpr):
    if LEAK == 1:
        u = tl.floor(u * share)
    elif LEAK == 2:
        u = u * share
        u = tl.where(u < 0, tl.ceil(u), tl.floor(u))
    elif LEAK == 3:
        u = tl.where(tl.abs(u) > share, u - tl.where(u > 0, share, -share), 0.0)
    elif LEAK == 4:
        lost = tl.floor(u * share)  # at least one unit goes; a negative state never loses none
        u -= tl.where((lost == 0) & (u > 0), 1.0, lost)
    return u


@triton.jit
def _bounded(v, BOUNDED: tl.constexpr, WRAPS: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr):
    if BOUNDED:
        low, high = tl.full([], LOW, tl.float64), tl.full([], HIGH, tl.float64)
        if WRAPS:
            width = tl.full([], HIGH - LOW + 1, tl.float64)
            v -= width * tl.floor((v - low) / width)
            v = tl.where(v < low, v + width, tl.where(v > high, v - width, v))  # where the quotient was rounded
        else:
            v = tl.minimum(tl.maximum(v, low), high)
    return v


@triton.jit
def _fired(v, theta, MOST: tl.constexpr):
    if MOST == 1:
        return tl.where(v >= theta, 1.0, 0.0).to(tl.float64)
    else:
        return tl.minimum(tl.maximum(tl.floor(v / theta), 0.0), MOST * 1.0)


@triton.jit
def _reset(v, count, theta, TO_ZERO: tl.constexpr):
    if TO_ZERO:
        return tl.where(count > 0, 0.0, v)
    else:
        return v - theta * count


@triton.jit
def _derivative(x, SURROGATE: tl.constexpr, ALPHA: tl.constexpr):
    if SURROGATE == 0:
        scaled = x * (1.5707963267948966 * ALPHA)
        return (ALPHA / 2) / (1 + scaled * scaled)
    elif SURROGATE == 1:
        y = 1 / (1 + tl.exp(-ALPHA * x))
        return ALPHA * y * (1 - y)
    else:
        return ALPHA * tl.maximum(1 - ALPHA * tl.abs(x), 0.0)


@triton.jit
def scan(
    current,
    bias,
    threshold,
    leak,
    alive,
    spikes,
    steps,
    lanes,
    sent,
    channels,
    height,
    width,
    MOVES: tl.constexpr,
    WINDOW: tl.constexpr,
    LEAK: tl.constexpr,
    BITS: tl.constexpr,
    TO_ZERO: tl.constexpr,
    MOST: tl.constexpr,
    BOUNDED: tl.constexpr,
    WRAPS: tl.constexpr,
    LOW: tl.constexpr,
    HIGH: tl.constexpr,
    BLOCK: tl.constexpr,
    MEMBERS: tl.constexpr,
):
    """``BLOCK`` windows, of ``MEMBERS`` neurons each (a power of two, of which ``WINDOW**2`` count), in all steps."""
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = lane < sent
    channel = lane % channels
    member = tl.arange(0, MEMBERS)
    if WINDOW == 1:
        neuron = lane[:, None] + member[None, :]
    else:
        place = lane // channels
        column, row = place % (width // WINDOW) * WINDOW, place // (width // WINDOW)
        # A strip below the last whole window belongs to no row of windows.
        line = row // (height // WINDOW) * height + row % (height // WINDOW) * WINDOW
        first = (line * width + column) * channels + channel
        neuron = first[:, None] + ((member // WINDOW * width + member % WINDOW) * channels)[None, :]
    counts = live[:, None] & (member < WINDOW * WINDOW)[None, :]
    added = tl.load(bias + channel, mask=live, other=0.0)[:, None]
    theta = tl.load(threshold + channel, mask=live, other=1.0)[:, None]
    share = _share(tl.load(leak + channel, mask=live, other=0.0), LEAK, BITS)[:, None]
    gate = tl.load(alive + channel, mask=live, other=0).to(tl.float64)[:, None]
    current += neuron
    spikes += lane
    arriving = tl.load(current, mask=counts, other=0.0).to(tl.float64)
    u = tl.zeros((BLOCK, MEMBERS), tl.float64)
    for _ in range(steps):
        if MOVES:
            arriving = tl.load(current, mask=counts, other=0.0).to(tl.float64)
            current += lanes
        v = _bounded(_leaked(u, share, LEAK) + (arriving + added), BOUNDED, WRAPS, LOW, HIGH)
        count = _fired(v, theta, MOST)
        u = _reset(v, count, theta, TO_ZERO)
        total = tl.sum(tl.where(counts, (count * gate).to(tl.float32), 0.0), axis=1)
        tl.store(spikes, total, mask=live)
        spikes += sent


@triton.jit
def scan_gradient(
    grad_spikes,
    current,
    bias,
    threshold,
    leak,
    slope,
    alive,
    kept,
    grad_current,
    sums,
    steps,
    lanes,
    sent,
    places,
    channels,
    height,
    width,
    REAL: tl.constexpr,
    MOVES: tl.constexpr,
    WINDOW: tl.constexpr,
    LEAK: tl.constexpr,
    BITS: tl.constexpr,
    TO_ZERO: tl.constexpr,
    MOST: tl.constexpr,
    BOUNDED: tl.constexpr,
    WRAPS: tl.constexpr,
    LOW: tl.constexpr,
    HIGH: tl.constexpr,
    SURROGATE: tl.constexpr,
    ALPHA: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Every so many places (``ROWS`` at a time) of ``COLUMNS`` channels, back through all steps.

    ``kept`` takes the distance of each membrane from the threshold, or, where neurons fire more than once a step, the
    membrane. ``sums`` ``[programs, 4, channels]`` gets the gradients of bias, threshold, leak and slope.
    """
    channel = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    known = channel < channels
    added = tl.load(bias + channel, mask=known, other=0.0)[None, :]
    theta = tl.load(threshold + channel, mask=known, other=1.0)[None, :]
    amount = tl.load(leak + channel, mask=known, other=0.0)
    share = _share(amount, LEAK, BITS)
    if LEAK == 4:
        keeps, by_leak = 1 - share, share * 0.6931471805599453
    else:
        keeps, by_leak = share, tl.zeros_like(share) - 1.0 / (1 << BITS)
    share, keeps = share[None, :], keeps.to(REAL)[None, :]
    scale = tl.load(slope + channel, mask=known, other=0.0).to(REAL)[None, :]
    gate = tl.load(alive + channel, mask=known, other=0)[None, :] != 0
    of_bias = tl.zeros((ROWS, COLUMNS), REAL)
    of_theta = tl.zeros((ROWS, COLUMNS), REAL)
    of_leak = tl.zeros((ROWS, COLUMNS), REAL)
    of_scale = tl.zeros((ROWS, COLUMNS), REAL)
    for block in range(tl.program_id(0), tl.cdiv(places, ROWS), tl.num_programs(0)):
        place = block * ROWS + tl.arange(0, ROWS)
        live = (place < places)[:, None] & known[None, :]
        neuron = place[:, None] * channels + channel[None, :]
        if WINDOW == 1:
            window, sends = neuron, live & gate
        else:
            column, row = place % width // WINDOW, place // width
            line, across, down = row % height // WINDOW, width // WINDOW, height // WINDOW
            covered = (column < across) & (line < down)
            window = (((row // height * down + line) * across + column) * channels)[:, None] + channel[None, :]
            sends = live & gate & covered[:, None]
        # Pointers move from step to step: a product of step and lanes may not fit 32 bits.
        reads, keeping, arrives, writes = current + neuron, kept + neuron, grad_spikes + window, grad_current + neuron
        arriving = tl.load(reads, mask=live, other=0.0).to(tl.float64)
        u = tl.zeros((ROWS, COLUMNS), tl.float64)
        for _ in range(steps):
            if MOVES:
                arriving = tl.load(reads, mask=live, other=0.0).to(tl.float64)
                reads += lanes
                writes += lanes
            v = _bounded(_leaked(u, share, LEAK) + (arriving + added), BOUNDED, WRAPS, LOW, HIGH)
            u = _reset(v, _fired(v, theta, MOST), theta, TO_ZERO)
            if MOST == 1:
                tl.store(keeping, (v - theta).to(REAL), mask=live)
            else:
                tl.store(keeping, v, mask=live)
            keeping += lanes
            arrives += sent
        tl.debug_barrier()  # what one thread stored may be loaded by another
        grad_state = tl.zeros((ROWS, COLUMNS), REAL)  # of the state, from the step after
        of_frame = tl.zeros((ROWS, COLUMNS), REAL)
        keeping -= lanes
        found = tl.load(keeping, mask=live, other=0.0)
        for back in range(steps):
            arrives -= sent
            if MOST == 1:
                distance = found
                nearest = tl.full((ROWS, COLUMNS), 1.0, REAL)
                count = tl.where(found >= 0, 1.0, 0.0).to(REAL)
            else:
                turns = tl.minimum(tl.maximum(found / theta, 1.0), MOST * 1.0)
                turns = (turns + _TO_NEAREST) - _TO_NEAREST
                distance, nearest = (found - turns * theta).to(REAL), turns.to(REAL)
                count = _fired(found, theta, MOST).to(REAL)
            go = tl.load(arrives, mask=sends, other=0.0).to(REAL)
            by_surrogate = go * _derivative(distance * scale, SURROGATE, ALPHA)
            at_threshold = by_surrogate * scale
            of_theta -= at_threshold * nearest
            of_scale += by_surrogate * distance
            if TO_ZERO:
                grad_state = tl.where(count > 0, 0.0, grad_state)
            else:
                of_theta -= grad_state * count
            grad = at_threshold + grad_state
            of_bias += grad
            keeping -= lanes
            found = tl.load(keeping, mask=live & (back < steps - 1), other=0.0)
            if MOVES:
                writes -= lanes
                tl.store(writes, grad, mask=live)
            else:
                of_frame += grad
            if LEAK == 0:
                grad_state = grad
            else:  # before the first step, what is loaded is 0, and so is the state
                if MOST == 1:
                    state = tl.where(found >= 0, 0.0 if TO_ZERO else found, found + theta.to(REAL))
                else:
                    state = _reset(found, _fired(found, theta, MOST), theta, TO_ZERO).to(REAL)
                if LEAK == 3:
                    grad_state = tl.where(tl.abs(state) > keeps, grad, 0.0)
                    of_leak -= tl.where(state > 0, grad_state, -grad_state)
                else:
                    grad_state = grad * keeps
                    of_leak += grad * state
        if not MOVES:
            tl.store(writes, of_frame, mask=live)
    sums += tl.program_id(0) * 4 * channels + channel
    tl.store(sums, tl.sum(of_bias.to(tl.float64), axis=0), mask=known)
    tl.store(sums + channels, tl.sum(of_theta.to(tl.float64), axis=0), mask=known)
    leaks = tl.sum(of_leak.to(tl.float64), axis=0)
    if LEAK != 3:
        leaks *= by_leak
    tl.store(sums + 2 * channels, leaks, mask=known)
    tl.store(sums + 3 * channels, tl.sum(of_scale.to(tl.float64), axis=0), mask=known)


@dataclass(frozen=True)
class _Plan:
    """What :class:`TritonIntegerScan` does, apart from its tensors; ``shape`` is that of a frame ``[B, H, W, C]``."""

    dynamics: IntegerDynamics
    steps: int
    window: int
    shape: tuple[int, ...]
    moves: bool

    @property
    def sent(self) -> tuple[int, ...]:
        """Shape of a step's sums over windows."""
        batch, height, width, channels = self.shape
        return batch, height // self.window, width // self.window, channels

    @property
    def rule(self) -> dict[str, Any]:
        """What the kernels are compiled for."""
        own = self.dynamics
        leak = {"none": NONE, "linear": LINEAR}.get(own.leak)
        if leak is None:
            by_rounding = DECAY_FLOOR if own.decay_rounding == "floor" else DECAY_TRUNCATE
            leak = SHIFT if own.decay == "shift" else by_rounding
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
    """From currents ``[T or 1, B, H, W, C]`` to spikes, or their sums over windows, ``[T, B, H', W', C]``."""

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
        """Float32; y is contiguous, and so are the constants ``[C]``, float64 but for ``alive``, bool."""
        spikes = torch.empty(plan.steps, *plan.sent, dtype=torch.float32, device=y.device)
        _, height, width, channels = plan.shape
        sent, lanes = math.prod(plan.sent), math.prod(plan.shape)
        members = triton.next_power_of_2(plan.window**2)
        block = max(1, _TILE // members)
        warps = 4 if plan.window == 1 else 1  # several would share the neurons of a window, and wait for each other
        scan[(triton.cdiv(sent, block),)](
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
        # A distance from the threshold is overwritten by the gradient of its step.
        shares = once and plan.moves
        kept = grad if shares else y.new_empty(plan.steps * lanes, dtype=y.dtype if once else torch.float64)
        sums = bias.new_empty(grid[0], 4, channels, dtype=torch.float64)
        scan_gradient[grid](
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
    """:func:`spikefit.functional.integer_scan.integer_multi_step` on a CUDA device (or in Triton's interpreter)."""
    last = y.movedim(2, -1).contiguous()
    frames, batch, *sides, channels = last.shape
    height, width = sides or (1, 1)
    plan = _Plan(dynamics, steps, window, (batch, height, width, channels), frames > 1)
    living = torch.ones_like(bias, dtype=torch.bool) if alive is None else alive
    constants = [constant.contiguous() for constant in (bias, threshold, leak, slope)]
    spikes = TritonIntegerScan.apply(last.view(frames, *plan.shape), *constants, living, plan)
    return spikes.view(steps, batch, *plan.sent[1:3][: len(sides)], channels).movedim(-1, 2)
