"""The neurons of a program, step by step: in int64 (float64 where nothing is rounded), or in a kernel."""

import math

import numpy as np
import torch
from torch import Tensor

from spikefit.functional.lif import apply_leak
from spikefit.hardware.program import Arithmetic, Population


def run_neurons(
    population: Population, current: Tensor, arithmetic: Arithmetic, keep_membrane: bool
) -> tuple[Tensor, Tensor, int]:
    """Spikes, membranes before the reset (empty unless kept) and the number of overflows.

    Args:
        population: its threshold, leak and reset.
        current: ``[T, B, ...]`` with the bias in it, float64 or int64.
        arithmetic: decay, state width and overflow.
        keep_membrane: whether to return all membranes.

    Returns:
        spikes and membranes ``[T, B, ...]``. A readout never fires; its membrane is the running sum.
    """
    if not population.spiking:
        sums = current.cumsum(dim=0)
        return (
            torch.zeros((), dtype=torch.float32).expand_as(current),
            sums if keep_membrane else current[:0],
            0,
        )
    assert population.threshold is not None
    assert population.leak is not None
    threshold, leak = per_channel(population.threshold, population), per_channel(population.leak, population)
    state = torch.zeros_like(current[0])
    fired: list[Tensor] = []
    kept: list[Tensor] = []
    overflows = 0
    for step in current:
        membrane = _leaked(state, population.model, leak, arithmetic) + step
        membrane, outside = _bounded(membrane, arithmetic)
        overflows += outside
        if population.max_spikes == 1:
            spike = membrane >= threshold
            state = membrane - threshold * spike if population.reset == "subtract" else membrane * ~spike
        else:
            spike = membrane.div(threshold, rounding_mode="floor").clamp(0, population.max_spikes)
            state = membrane - threshold * spike
        fired.append(spike)
        if keep_membrane:
            kept.append(membrane)
    spikes = torch.stack(fired).to(torch.float32 if arithmetic.integer else torch.float64)
    return spikes, torch.stack(kept) if keep_membrane else current[:0], overflows


def synaptic_currents(population: Population, delivered: Tensor, arithmetic: Arithmetic) -> tuple[Tensor, int]:
    """Synaptic currents of ``cuba_lif`` neurons, bounded as membranes are; for others what is delivered, as it is.

    Args:
        population: its synaptic leak.
        delivered: ``[T, B, ...]`` without the bias, float64 or int64.
        arithmetic: decay, state width and overflow.

    Returns:
        ``[T, B, ...]``, and the number of overflows.
    """
    if population.synaptic_leak is None:
        return delivered, 0
    leak = per_channel(population.synaptic_leak, population)
    state, currents, overflows = torch.zeros_like(delivered[0]), [], 0
    for step in delivered:
        gathered, outside = _bounded(state + step, arithmetic)
        overflows += outside
        state = _leaked(gathered, "lif", leak, arithmetic)
        currents.append(state)
    return torch.stack(currents), overflows


def _leaked(state: Tensor, model: str, leak: Tensor, arithmetic: Arithmetic) -> Tensor:
    if model == "if":
        return state
    if model == "linear_leak_if":
        return apply_leak(state, "linear", leak)
    if not arithmetic.integer:
        return apply_leak(state, "decay", leak)
    if arithmetic.decay == "shift":
        lost = state >> leak
        return state - torch.where(lost == 0, state.sign(), lost)
    product = state * (2**arithmetic.decay_bits - leak)
    if arithmetic.decay_rounding == "floor":
        return product >> arithmetic.decay_bits
    return product.sign() * (product.abs() >> arithmetic.decay_bits)


def _bounded(membrane: Tensor, arithmetic: Arithmetic) -> tuple[Tensor, int]:
    low, high = arithmetic.state_min, arithmetic.state_max
    if low is None or high is None:
        return membrane, 0
    outside = int(((membrane < low) | (membrane > high)).sum())
    if not outside:
        return membrane, 0
    if arithmetic.overflow == "saturate":
        return membrane.clamp(low, high), outside
    return (membrane - low) % (high - low + 1) + low, outside


def per_channel(constant: Tensor, population: Population) -> Tensor:
    """``[C]`` shaped to broadcast over ``[B, C, ...]``."""
    return constant.view(-1, *[1] * (len(population.shape) - 1))


def in_kernel(population: Population, arithmetic: Arithmetic) -> bool:
    """Whether :func:`scan_neurons` knows these neurons: no synaptic current, one spike a step, no shift."""
    shifts = population.model == "lif" and arithmetic.decay == "shift"
    return population.synaptic_leak is None and population.max_spikes == 1 and not shifts


def scan_neurons(
    population: Population, current: Tensor, arithmetic: Arithmetic, steps: int, window: int = 1
) -> tuple[Tensor, Tensor, int]:
    """:func:`run_neurons` in the kernel, where :func:`~spikefit.deploy.bounds.float_suffices`.

    Args:
        population: its constants.
        current: ``[T, B, ...]`` or ``[1, B, ...]`` without the bias, integers in float32 or float64.
        arithmetic: decay, state width and overflow.
        steps: T.
        window: side of the windows over which spikes are summed; 1 for none.

    Returns:
        spikes ``[T, B, ...]``, or how many each window ``[T, B, C, H // window, W // window]`` has; how often each
        neuron fired in the batch (float64 ``[...]``); and how many overflows.
    """
    from spikefit.functional import integer_scan_cpu as kernel  # numba takes a while to import
    from spikefit.functional.jit import use_torch_threads

    use_torch_threads()
    last = current.movedim(2, -1)
    leaks = {"if": kernel.NONE, "linear_leak_if": kernel.LINEAR, "lif": kernel.DECAY_TRUNCATE}
    leak = leaks[population.model]
    if population.model == "lif" and arithmetic.decay_rounding == "floor":
        leak = kernel.DECAY_FLOOR
    low, high = arithmetic.state_min, arithmetic.state_max
    limits = (-math.inf, math.inf) if low is None or high is None else (float(low), float(high))
    rule = (leak, 2.0**arithmetic.decay_bits, population.reset == "zero", arithmetic.overflow == "wrap", *limits)
    constants = np.stack([_float64(c) for c in (population.bias, population.threshold, population.leak)])
    y = last.reshape(len(last), -1).numpy()
    batch, *sides, channels = last.shape[1:]
    shape = (*sides, channels)
    fired, counts, overflows = kernel.integer_scan(y, constants, rule, steps, shape, window)
    spikes = torch.from_numpy(fired).view(steps, batch, *(side // window for side in sides), channels).movedim(-1, 2)
    return spikes, torch.from_numpy(counts).double().view(shape).movedim(-1, 0), overflows


def _float64(constant: Tensor | None) -> np.ndarray:
    assert constant is not None
    return constant.double().numpy()
