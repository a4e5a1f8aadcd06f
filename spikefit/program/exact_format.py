"""Bounds on the integers of a program, and the narrowest number format that holds them exactly."""

import torch
from torch import Tensor

from spikefit.functional.neuron_models import neuron_model
from spikefit.program.ir import Population, Program, Projection
from spikefit.program.simulate_neurons import in_kernel


def largest_current(program: Program, projection: Projection) -> int:
    """The largest magnitude that a neuron's current through ``projection`` can have in one step."""
    bound = int(projection.weight.abs().flatten(1).sum(dim=1).max())
    if projection.pool_kind == "sum":
        bound *= projection.pool**2
    bound *= program.population(projection.source).max_spikes
    return bound * program.arithmetic.largest_input if program.is_encoder(projection) else bound


def common_factor(weight: Tensor) -> int:
    """The largest power of two that divides every element of int64 ``weight``; 1 if all are zero.

    Sums of multiples of ``2**e`` are multiples of ``2**e``, and a float with b significant bits holds such multiples
    exactly up to ``2**(b + e)``.
    """
    live = weight[weight != 0]
    return int((live & -live).min()) if len(live) else 1


def exact_format(program: Program, projection: Projection) -> torch.dtype:
    """The narrowest dtype in which all sums of ``projection`` are exact; float64 for an ``exact`` program."""
    if not program.arithmetic.integer:
        return torch.float64
    bound = largest_current(program, projection) // common_factor(projection.weight)
    if bound < 2**24:
        return torch.float32
    return torch.float64 if bound < 2**53 else torch.int64


def float_suffices(program: Program, population: Population) -> bool:
    """Whether float64 holds the currents, membranes and leaks of ``population`` exactly."""
    arithmetic, inputs = program.arithmetic, program.inputs_of(population.name)
    if not arithmetic.integer or population.bias is None or not in_kernel(population):
        return False
    current = sum(largest_current(program, projection) for projection in inputs) + int(population.bias.abs().max())
    if any(exact_format(program, projection) == torch.int64 for projection in inputs):
        return False
    if len(inputs) > 1 and current >= 2**24:  # currents of several projections are added in their own format
        return False
    low, high = arithmetic.state_min, arithmetic.state_max
    kept = program.time_steps * current if low is None or high is None else max(-low, high)
    return (kept + current) * (
        2**arithmetic.decay_bits if neuron_model(population.model).leak == "decay" else 1
    ) < 2**53
