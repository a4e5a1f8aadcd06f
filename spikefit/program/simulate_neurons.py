"""Simulation of a program's neurons: step by step in int64 (float64 for ``exact`` programs), or in a compiled kernel.

:mod:`spikefit.functional.integer_arithmetic` defines the computation of a step.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from spikefit.functional.integer_arithmetic import IntegerDynamics, bounded, charges, synaptic_scan
from spikefit.functional.neuron_models import Step, StepConstants, neuron_model
from spikefit.program.ir import Arithmetic, Population


def run_neurons(
    population: Population, current: Tensor, arithmetic: Arithmetic, keep_membrane: bool
) -> tuple[Tensor, Tensor, int]:
    """Run the neurons of ``population`` step by step.

    Args:
        population: provides threshold, leak and reset.
        current: ``[T, B, ...]`` including the bias, float64 or int64.
        arithmetic: decay, state width and overflow.
        keep_membrane: whether to return all membranes.

    Returns:
        Spikes ``[T, B, ...]``, membranes before the reset ``[T, B, ...]`` (empty unless ``keep_membrane``), and the
        number of overflows. A readout never fires; its membrane is the running sum.
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
    spikes = torch.empty_like(current, dtype=torch.float32 if arithmetic.integer else torch.float64)
    kept: list[Tensor] = []
    overflows = 0
    model = neuron_model(population.model)
    steps = (
        charges(current, threshold, leak, _dynamics(population, arithmetic))
        if model.step is None
        else _own(model.step, population, current, threshold, leak, arithmetic)
    )
    for step, (membrane, count, _, outside) in enumerate(steps):
        spikes[step] = count
        overflows += int(outside.sum())
        if keep_membrane:
            kept.append(membrane)
    return spikes, torch.stack(kept) if keep_membrane else current[:0], overflows


def _own(
    step: Step, population: Population, currents: Tensor, threshold: Tensor, leak: Tensor, arithmetic: Arithmetic
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """As :func:`~spikefit.functional.integer_arithmetic.charges`, with the model's own step; its state is bounded."""
    own = {name: per_channel(values, population) for name, values in population.constants}
    constants = StepConstants(threshold, leak, population.reset, population.max_spikes, own)
    dynamics = IntegerDynamics(
        state_min=arithmetic.state_min, state_max=arithmetic.state_max, overflow=arithmetic.overflow
    )
    state = torch.zeros_like(currents[0])
    for arriving in currents:
        stepped = step(state, arriving, constants)
        state, outside = bounded(stepped.state, dynamics)
        yield stepped.membrane, stepped.spikes, state, outside


def synaptic_currents(population: Population, delivered: Tensor, arithmetic: Arithmetic) -> tuple[Tensor, int]:
    """Synaptic currents of ``cuba_lif`` neurons, bounded as membranes are; other models get ``delivered`` unchanged.

    Args:
        population: provides the synaptic leak.
        delivered: ``[T, B, ...]`` without the bias, float64 or int64.
        arithmetic: decay, state width and overflow.

    Returns:
        The currents ``[T, B, ...]``, and the number of overflows.
    """
    if population.synaptic_leak is None:
        return delivered, 0
    currents, overflows = synaptic_scan(delivered, population.synaptic_leak, _dynamics(population, arithmetic))
    return currents, int(overflows)


def _dynamics(population: Population, arithmetic: Arithmetic) -> IntegerDynamics:
    return arithmetic.dynamics(population.model, population.reset, population.max_spikes)


def per_channel(constant: Tensor, population: Population) -> Tensor:
    """Reshape ``constant`` ``[C]`` so that it broadcasts over ``[B, C, ...]``."""
    return constant.view(-1, *[1] * (len(population.shape) - 1))


def in_kernel(population: Population) -> bool:
    """Whether :func:`scan_neurons` supports these neurons: no synaptic current, and no step function of the model."""
    return population.synaptic_leak is None and neuron_model(population.model).step is None


def scan_neurons(
    population: Population, current: Tensor, arithmetic: Arithmetic, steps: int, window: int = 1
) -> tuple[Tensor, Tensor, int]:
    """Run the neurons in a compiled kernel; requires :func:`~spikefit.program.exact_format.float_suffices`.

    Args:
        population: provides the constants.
        current: ``[T, B, ...]`` or ``[1, B, ...]`` without the bias, integers in float32 or float64.
        arithmetic: decay, state width and overflow.
        steps: T.
        window: side of the windows over which spikes are summed; 1 for no pooling.

    Returns:
        Spikes ``[T, B, ...]``, or their sum in each window ``[T, B, C, H // window, W // window]``; how often each
        neuron fired in the batch (float64 ``[...]``); and the number of overflows.
    """
    from spikefit.functional.kernels.cpu.integer_scan import integer_scan  # numba takes a while to import

    assert population.bias is not None
    assert population.threshold is not None
    assert population.leak is not None
    last = current.movedim(2, -1)
    batch, *sides, channels = last.shape[1:]
    shape = (*sides, channels)
    constants = (population.bias, population.threshold, population.leak)
    dynamics = _dynamics(population, arithmetic)
    fired, counts, overflows = integer_scan(last.reshape(len(last), -1), constants, dynamics, steps, shape, window)
    spikes = fired.view(steps, batch, *(side // window for side in sides), channels).movedim(-1, 2)
    return spikes, counts.double().view(shape).movedim(-1, 0), overflows
