"""The unit of the membrane, and the multiplier of the weights, that are chosen for each block.

A unit as large as the weight scale is coarse for a threshold; a *multiplier* on the integers makes the unit finer, as
far as the ranges of all registers of the chip allow.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from spikefit.hardware.sourced_value import known
from spikefit.hardware.target import HardwareTarget
from spikefit.program.fold_real import RealLayer, RealNetwork


class Grid(NamedTuple):
    """The integer grid of a layer's weights.

    Attributes:
        integer: float64 integers of weights without a quantizer; None for quantized weights, whose integers follow from
            the scale.
        scale: float64, broadcastable to the weight: the value of one integer step.
        places: divisor of the scale.
        bits: width of a stored integer.
        largest: upper bound of the integers' magnitude.
    """

    integer: Tensor | None
    scale: Tensor
    places: int
    bits: int
    largest: int


def weight_unit(
    scale: Tensor, sums: Tensor, real: RealNetwork, grids: Sequence[Grid], target: HardwareTarget
) -> tuple[Tensor, Tensor]:
    """The value of one unit of each row's integers, ``[N]``, and the mask of empty rows, whose weights are negligible.

    The scale of an empty row means nothing (quantizers keep it just above 0), so the row takes the largest scale of the
    other rows. A layer of empty rows resolves its threshold (a readout its bias) as finely as the chip resolves its
    largest weight.
    """
    units = real.units
    fires = [layer.model is not None for layer in real.layers]
    constant = real.threshold if all(fires) else units.chosen(fires, real.threshold, real.bias.abs())
    amount = units.largest(constant.detach().masked_fill(~real.alive, 0.0))
    empty = scale * sums <= units.spread(amount) * 2.0**-53
    shared = [grid.scale.numel() == 1 for grid in grids]
    if any(shared):
        every = units.spread(units.largest(~empty).logical_not())
        empty = units.chosen(shared, every, empty)
    others = units.largest(scale.masked_fill(empty, 0.0))
    finest = amount / max(1, target.largest_weight(target.widest_bits))
    instead = torch.where(others > 0, others, finest.masked_fill(amount <= 0, 1.0))
    return torch.where(empty, units.spread(instead), scale), empty


def room(real: RealNetwork, sums: Tensor, unit: Tensor, host: Sequence[bool], target: HardwareTarget) -> Tensor:
    """The largest factor by which the unit may be refined while every register stays in range, ``[blocks]``.

    The registers are those of threshold, bias, leak, shortcut weights and the current of one step, which may take half
    of the state's range: the other half is left for what the membrane already holds. Dead units are ignored.
    """
    units, layers = real.units, real.layers
    state_max, leak_max = real.inputs.arithmetic.state_max, known(target.neuron.leak_max)
    bits = target.widest_bits
    reach = target.largest_weight(bits) * 2.0 ** target.exponent_range(bits)[1]
    loses = [layer.model is not None and layer.model.leak_unit == "membrane" for layer in layers]
    fires = [layer.model is not None for layer in layers]
    joined = [layer.skip is not None for layer in layers]
    candidates = (
        (None if state_max is None else state_max / 2, [True] * len(layers), lambda: sums),
        (target.threshold_max, fires, lambda: real.threshold / unit),
        (target.bias_max, [not on_host for on_host in host], lambda: real.bias / unit),
        (leak_max, loses, lambda: real.leak / unit),
        (reach, joined, lambda: units.joined([_skip_peaks(layer) for layer in layers]) / unit),
    )
    limits, values = [], []
    for limit, where, amounts in candidates:
        if limit is not None and any(where):
            limits.append(limit)
            values.append(units.chosen(where, amounts().detach(), units.constants([0.0] * len(where))))
    if not limits:
        return units.numbers([math.inf] * len(layers))
    peaks = units.largest(torch.stack(values).abs().masked_fill(~real.alive, 0.0))
    bounds = peaks.reciprocal() * units.numbers(limits)[:, None]
    return bounds.masked_fill(peaks <= 0, math.inf).amin(dim=0)  # unbounded if all values are 0


def _skip_peaks(layer: RealLayer) -> Tensor | float:
    """The largest magnitude of each row of the shortcut's weights; 0 without a shortcut."""
    if layer.skip is None:
        return 0.0
    weight = layer.skip.weight.detach()
    living = weight if layer.skip_columns is None else weight * layer.skip_columns
    return living.reshape(len(weight), -1).abs().amax(dim=1).double() * (1 / layer.skip.places)


def multiplier(
    real: RealNetwork,
    integers: Sequence[Tensor],
    counting: Tensor,
    room: Tensor,
    grids: Sequence[Grid],
    host: Sequence[bool],
    target: HardwareTarget,
) -> tuple[Tensor, Tensor, list[bool]]:
    """The multiplier of each layer's weights, the largest that ``room`` and the stored width allow.

    A chip with exponents keeps the codebook's integers and shifts them. Weights of the host are not stored on the chip.

    Returns:
        The multiplier, ``[blocks]``; the exponent that the chip applies as a shift, ``[blocks]``; and for each block
        whether the stored integers themselves are multiplied, rather than shifted.
    """
    units, bits = real.units, [target.stored_bits(grid.bits) for grid in grids]
    ranges = [(0, 16) if on_host else target.exponent_range(width) for on_host, width in zip(host, bits, strict=True)]
    shifts = [on_host or high > 0 for on_host, (_, high) in zip(host, ranges, strict=True)]
    none = units.numbers([0.0] * len(bits))
    shifted = scaled = exponent = none
    if any(shifts):
        highest = units.numbers([2.0**high for _, high in ranges])
        _, power = torch.frexp(torch.minimum(room.clamp_min(1.0), highest))
        power = torch.maximum(power - 1, units.numbers([low for low, _ in ranges], power.dtype))
        shifted, exponent = power_of_two(power), power.double()
    if not all(shifts):
        peaks = units.joined(
            [
                0.0 if shift else torch.linalg.vector_norm(integer.flatten(1), ord=math.inf, dim=1)
                for shift, integer in zip(shifts, integers, strict=True)
            ]
        )
        peaks = units.largest(peaks.masked_fill(~counting, 0.0)).clamp_min(1)
        reach = (peaks.reciprocal() * units.numbers([target.largest_weight(width) for width in bits])).floor()
        scaled = torch.minimum(reach, room).floor().clamp_min(1)
    stored = [shift and not on_host for shift, on_host in zip(shifts, host, strict=True)]
    return units.picked(shifts, shifted, scaled), units.picked(stored, exponent, none), [not shift for shift in shifts]


def power_of_two(exponent: Tensor) -> Tensor:
    """``2**exponent`` of an integer tensor, exact on every device, float64."""
    return torch.ldexp(torch.ones_like(exponent, dtype=torch.float64), exponent)
