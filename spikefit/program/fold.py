"""The fold: norms, pooling and gains as constants of the neurons, in real numbers or in a chip's integers.

The norm of a block is ``y = g * (x + b)`` with ``g > 0``. It changes no weight: dividing a neuron's equations by its
channel's ``g`` gives the same spikes with threshold ``theta / g``, bias ``b`` and linear leak ``l / g``; a decay stays
as it is. Average pooling of k x k multiplies the scale of the next weights by ``1 / k**2``. M distinct weights thus
remain M distinct weights.

``exact`` precision does this in float64. ``target`` precision then expresses every population in units of its own
weight scale, so that weights are the integers of the codebook, and rounds threshold, bias and leak to that unit. A unit
as large as the weight scale is coarse for a threshold; multiplying the integers by a *multiplier*, as far as the range
of the chip's weights allows, makes the unit finer.

The fold runs on the network's own device, reads no tensor back to the host, and copies constants to the device once.
The units of all blocks form one vector (:mod:`spikefit.program.unit_vectors`); only weights are handled layer by layer.
Every result carries the gradient of the real number that it represents, so that training with a chip's integers
(:mod:`spikefit.program.emulation`) and lowering (:mod:`spikefit.program.lower`) use this same function. Dead units keep
their positions, but are ignored when a common unit is chosen.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from spikefit.errors import check_choice
from spikefit.functional.neuron_models import constants_in_units, require_integer
from spikefit.functional.quantize import straight_through
from spikefit.hardware.deployment_context import DeploymentContext
from spikefit.hardware.sourced_value import known
from spikefit.hardware.target import HardwareTarget
from spikefit.input_kind import COUNT_MAX
from spikefit.networks.blocks import Network
from spikefit.networks.emulated import FoldedBlock, FoldedInput, FoldedSynapses
from spikefit.program.fold_real import RealLayer, RealNetwork, real_network
from spikefit.program.ir import Arithmetic, Precision
from spikefit.program.membrane_unit import Grid, multiplier, power_of_two, room, weight_unit
from spikefit.quantize.base import latent_weight, quantizer_of


def fold(network: Network, context: DeploymentContext, precision: Precision = "target") -> dict[str, FoldedBlock]:
    """The folded constants of every block, by block name.

    Args:
        network: not changed.
        context: the chip (of ``target`` precision) and what the network reads.
        precision: ``exact`` (real numbers, float64) or ``target`` (integers of the chip).

    Raises:
        ConfigurationError: for ``target`` precision without a chip, or a norm in a readout without neurons.
    """
    check_choice("precision", precision, ("exact", "target"))
    target = context.chip if precision == "target" else None
    arithmetic = Arithmetic() if target is None else target.arithmetic()
    inputs = FoldedInput(context.input_kind, spikes_of_inputs(context), arithmetic)
    with parametrize.cached():  # a layer's weight is read more than once
        real = real_network(network, inputs)
        blocks = real.blocks() if target is None else _to_integers(real, target)
    return dict(zip((name for name, _ in network.named_blocks()), blocks, strict=True))


def spikes_of_inputs(context: DeploymentContext) -> int:
    """The largest number of spikes of one input that the chip accepts in a step."""
    if context.input_kind != "counts":
        return 1
    taken = None if context.target is None else known(context.target.layers.input_spikes_max)
    return COUNT_MAX if taken is None else min(taken, COUNT_MAX)


def _to_integers(real: RealNetwork, target: HardwareTarget) -> list[FoldedBlock]:
    """Weights, threshold, bias and leak of each block in units of its main layer's weight scale."""
    units, layers, arithmetic = real.units, real.layers, real.inputs.arithmetic
    grids = [_grid(layer, alive, target) for layer, alive in zip(layers, real.alive.split(units.counts), strict=True)]
    host = [layer.graded and target.layers.graded_input.value == "host" for layer in layers]
    # A graded input has a unit of its own, which is a factor of the membrane's unit.
    inputs = [arithmetic.input_scale if layer.graded else 1.0 for layer in layers]
    scale = units.joined([grid.scale.reshape(-1) for grid in grids])
    integers = _integers(real, grids, scale)
    sums = units.joined([_row_sums(integer, grid.largest) for integer, grid in zip(integers, grids, strict=True)])
    unit, empty = weight_unit(scale * units.constants([1 / grid.places for grid in grids]), sums, real, grids, target)
    unit, counting = unit * units.constants(inputs), real.alive & ~empty
    reach = room(real, sums * units.constants([1 / one for one in inputs]), unit, host, target)
    times, exponent, scaled = multiplier(real, integers, counting, reach, grids, host, target)
    every = units.spread(times)
    unit = unit / every
    factor = every * counting
    slope = unit.reciprocal() * units.constants([one / layer.places for one, layer in zip(inputs, layers, strict=True)])
    # Weights are handled in float32 if it holds their integers.
    wide = factor.split(units.counts), slope.split(units.counts)
    narrow = factor.float().split(units.counts), slope.float().split(units.counts)
    synapses = []
    for i, (layer, grid, integer) in enumerate(zip(layers, grids, integers, strict=True)):
        factors, slopes = wide if integer.dtype == torch.float64 else narrow
        rows = [-1, *[1] * (integer.dim() - 1)]
        integer.mul_(factors[i].view(rows))
        synapses.append(
            replace(
                layer.synapses,
                weight=_StandsFor.apply(layer.synapses.weight, integer, slopes[i].view(rows)),
                largest=target.largest_weight(target.stored_bits(grid.bits)) if scaled[i] else grid.largest,
                bits=target.stored_bits(grid.bits),
                exponent=exponent[i],
                multiplier=times[i],
            )
        )
    return _rounded(real, synapses, unit, host, target)


def _row_sums(integer: Tensor, largest: int) -> Tensor:
    """The sum of magnitudes of each row, ``[units]``: an upper bound of the current in one step."""
    rows = integer.flatten(1)
    # float32 is faster, if it holds the sums of a row.
    wide = None if rows.shape[1] * largest < 2**24 else torch.float64
    return torch.linalg.vector_norm(rows, ord=1, dim=1, dtype=wide)


class _StandsFor(torch.autograd.Function):
    """Replaces weights by integers: the gradient of each weight is that of its integer times ``slope``.

    This is the straight-through gradient of ``weight * slope``, without computing that product.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, integer: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        ctx.dtype = weight.dtype
        return integer.view_as(integer)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return (grad * slope.to(grad.dtype)).to(ctx.dtype), None, None


def _grid(layer: RealLayer, alive: Tensor, target: HardwareTarget) -> Grid:
    """The grid of the weights of ``layer``; ``alive`` is the mask of its units."""
    main, quantizer = layer.synapses, quantizer_of(layer.block.synapses)
    weight = main.weight.detach()
    if quantizer is not None and quantizer.strength == 1:
        scale, bits = quantizer.scale_and_bits(latent_weight(layer.block.synapses).detach())
        return Grid(None, scale, main.places, bits, 2 ** (bits - 1))
    bits = target.widest_bits
    largest = target.largest_weight(bits)
    live = weight.double() * (1 / main.places) * alive.view(-1, *[1] * (weight.dim() - 1))
    if layer.columns is not None:
        live.mul_(layer.columns)
    scale = (live.abs().max() / largest).clamp_min(torch.finfo(torch.float64).tiny)
    return Grid((live / scale).round_(), scale.reshape([1] * weight.dim()), 1, bits, largest)


def _integers(real: RealNetwork, grids: Sequence[Grid], scale: Tensor) -> list[Tensor]:
    """Integers of the weights of each layer, 0 where their source is dead; the caller may change them in place.

    float32 holds the integers of a quantizer, float64 those of real weights.
    """
    inverse = scale.reciprocal().masked_fill(scale <= torch.finfo(torch.float32).tiny, 0.0)  # such a row has no weight
    wide, narrow = inverse.split(real.units.counts), inverse.float().split(real.units.counts)
    integers = []
    for i, (layer, grid) in enumerate(zip(real.layers, grids, strict=True)):
        if grid.integer is not None:
            integers.append(grid.integer)
            continue
        weight = layer.synapses.weight.detach()
        # The quotient is within a half of the integer, whatever the precision of the network.
        factor = (wide if weight.dtype == torch.float64 else narrow)[i]
        factor = (factor[:1] if grid.scale.numel() == 1 else factor).view(-1, *[1] * (weight.dim() - 1))
        if layer.columns is not None:
            factor = factor * layer.columns
        integers.append((weight * factor).round_().float())
    return integers


def _shortcut(
    skip: FoldedSynapses, layer: RealLayer, alive: Tensor, unit: Tensor, target: HardwareTarget
) -> FoldedSynapses:
    """A shortcut's weights, rounded in the membrane's unit with a separate exponent; 0 between dead units."""
    bits, rows = target.widest_bits, [-1, *[1] * (skip.weight.dim() - 1)]
    as_units = skip.weight.double() * (1 / skip.places) * (alive / unit).view(rows)
    if layer.skip_columns is not None:
        as_units = as_units * layer.skip_columns
    low, high = target.exponent_range(bits)
    most = as_units.detach().abs().max() / max(1, target.largest_weight(bits))
    mantissa, power = torch.frexp(most)
    exponent = (power - (mantissa == 0.5).to(power.dtype)).clamp(low, high)  # the smallest that suffices
    step = power_of_two(exponent)
    integer = (as_units.detach() / step).round() * step
    return replace(
        skip, weight=straight_through(as_units, integer), bits=bits, exponent=exponent.double(), multiplier=step
    )


def _rounded(
    real: RealNetwork, synapses: Sequence[FoldedSynapses], unit: Tensor, host: Sequence[bool], target: HardwareTarget
) -> list[FoldedBlock]:
    """Each block in its ``unit``, with threshold, bias and leak as the chip's registers hold them.

    A bias that the host adds is only rounded to an integer.
    """
    units, counts = real.units, real.units.counts
    as_units = real.bias / unit
    whole = as_units.detach()
    # The bias that the host adds is in no register.
    register = whole.round() if all(host) else target.round_bias(whole).double()
    if any(host) and not all(host):
        register = units.chosen(host, whole.round(), register)
    bias = straight_through(as_units, register)
    as_units = real.threshold / unit
    threshold = straight_through(as_units, target.round_threshold(as_units.detach()).clamp_min(1).double())
    leak = _rounded_leak(real, unit, target)
    vectors = [vector.split(counts) for vector in (bias, threshold, leak, unit, real.gain * unit, real.alive)]
    blocks = []
    for layer, block, own, *parts in zip(real.layers, real.blocks(), synapses, *vectors, strict=True):
        bias, threshold, leak, own_unit, slope, alive = parts
        changed: dict[str, Any] = {}
        if layer.model is not None:
            changed = {"threshold": threshold, "leak": leak, "constants": _rounded_constants(layer, block, own_unit)}
        if block.synaptic_leak is not None and block.synaptic_bias is not None:
            as_units = block.synaptic_bias / own_unit
            changed["synaptic_bias"] = straight_through(as_units, as_units.detach().round())
            changed["synaptic_leak"] = target.round_decay(block.synaptic_leak.detach()).double()
        skip = None if layer.skip is None else _shortcut(layer.skip, layer, alive, own_unit, target)
        blocks.append(replace(block, synapses=own, skip=skip, bias=bias, unit=own_unit, slope=slope, **changed))
    return blocks


def _rounded_leak(real: RealNetwork, unit: Tensor, target: HardwareTarget) -> Tensor:
    """The leaks as the chip's registers hold them, ``[N]``."""
    units, arithmetic, amount = real.units, real.inputs.arithmetic, real.leak / unit
    decays = [layer.model is None or layer.model.leak == "decay" for layer in real.layers]  # a readout fits either case
    kept = units.chosen(decays, real.leak, units.constants([0.5] * len(decays)))  # 0.5 has a gradient in every decay
    as_register, register = amount, amount.detach().round()
    if any(decays):
        as_register = units.chosen(decays, _lost(kept, arithmetic), amount)
        register = units.chosen(decays, target.round_decay(kept.detach()).double(), register)
    return straight_through(as_register, register)


def _rounded_constants(layer: RealLayer, block: FoldedBlock, unit: Tensor) -> dict[str, Tensor]:
    """The neurons' constants besides threshold and leak; those in units of the membrane are integers."""
    assert layer.model is not None
    constants = constants_in_units(require_integer(layer.model), block.constants, unit)
    return {
        name: values.round() if layer.model.constants[name] == "membrane" else values
        for name, values in constants.items()
    }


def _lost(kept: Tensor, arithmetic: Arithmetic) -> Tensor:
    """The number that a chip stores for a decay, before rounding."""
    return -(1 - kept).log2() if arithmetic.decay == "shift" else (1 - kept) * 2**arithmetic.decay_bits
