"""The fold: a network's norms, pooling and gains as constants of its neurons, in real numbers or in a chip's integers.

The norm of a block, ``y = g * (x + b)`` with ``g > 0``, never reaches a weight. Dividing a neuron's equations by its
channel's ``g`` gives the same spikes with threshold ``theta / g``, bias ``b`` and linear leak ``l / g``; a decay stays.
Average pooling of k x k moves ``1 / k**2`` into the scale of the next weights. Both leave M distinct weights M distinct
weights.

``exact`` does this in float64. ``target`` then expresses every population in units of its own weight scale, so that
weights are the integers of the codebook, and rounds threshold, bias and leak to that unit. A unit as large as the
weight scale is coarse for a threshold; a *multiplier* on the integers, as far as the chip's weights reach, makes it
finer.

The fold runs on the network's own device, reads no tensor back to the host and copies nothing but constants. Everything
in it carries the gradient of the real number that it stands for, so that training with a chip's integers
(:mod:`spikefit.deploy.emulate`) and lowering (:mod:`spikefit.deploy.lower`) are this one function. Dead units keep
their places; common units are chosen without them.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from spikefit.errors import ConfigurationError, check_choice
from spikefit.functional.neuron_models import NeuronModel, constants_in_units, require_exact, require_integer
from spikefit.functional.quantize import straight_through
from spikefit.hardware.context import DeploymentContext
from spikefit.hardware.figures import known
from spikefit.hardware.program import Arithmetic, Precision
from spikefit.hardware.target import HardwareTarget
from spikefit.inputs import COUNT_MAX
from spikefit.networks.blocks import Block, Network
from spikefit.networks.emulated import FoldedBlock, FoldedInput, FoldedSynapses
from spikefit.prune.groups import source_alive
from spikefit.quantize.base import exact_weight, latent_weight, quantizer_of


def fold(network: Network, context: DeploymentContext, precision: Precision = "target") -> dict[str, FoldedBlock]:
    """The constants of every block, by its name.

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
    blocks, previous = {}, None
    with parametrize.cached():  # a layer's weight is asked for more than once
        for name, block in network.named_blocks():
            real = _real_block(network, name, block, previous, inputs, arithmetic)
            blocks[name] = real.block if target is None else _to_integers(real, target)
            previous = name
    return blocks


def spikes_of_inputs(context: DeploymentContext) -> int:
    """How many spikes of an input count in a step: what the chip takes of what may arrive."""
    if context.input_kind != "counts":
        return 1
    taken = None if context.target is None else known(context.target.layers.input_spikes_max)
    return COUNT_MAX if taken is None else min(taken, COUNT_MAX)


@dataclass(frozen=True)
class _Real:
    """A block in real numbers, and what its integers are made from.

    Attributes:
        block: in units of the network.
        layer: of the block's synapses.
        columns, skip_columns: bool, which inputs of the layer and of the shortcut live, broadcastable to their weights;
            None where all do.
        alive: bool ``[units]``.
        model: of the neurons; None for a readout.
    """

    block: FoldedBlock
    layer: nn.Conv2d | nn.Linear
    columns: Tensor | None
    skip_columns: Tensor | None
    alive: Tensor
    model: NeuronModel | None


def _real_block(
    network: Network, name: str, block: Block, previous: str | None, inputs: FoldedInput, arithmetic: Arithmetic
) -> _Real:
    units, device = block.units, block.synapses.weight.device
    one = torch.ones(units, dtype=torch.float64, device=device)
    synapses = _real_synapses(network, block.synapses, previous, inputs)
    skip = None if block.skip is None else _real_synapses(network, block.skip, str(block.skip_from), inputs)
    gain, bias, at_synapses = one, torch.zeros_like(one), torch.zeros_like(one)
    if block.norm is not None:
        if block.neuron is None:
            raise ConfigurationError(f"block {name}: a readout without neurons can't be lowered with a norm.")
        gain, bias = block.norm.folded()
    for layer in (block.synapses, block.skip):
        own = getattr(layer, "bias", None)
        if own is not None:
            at_synapses = at_synapses + own.double()
    columns = None if previous is None else _columns(network, previous, block.synapses)
    skip_columns = _columns(network, str(block.skip_from), block.skip) if isinstance(block.skip, nn.Conv2d) else None
    neuron = block.neuron
    folded = FoldedBlock(synapses, skip, bias + at_synapses, None, one, gain, None, None, None, arithmetic)
    if neuron is None:
        return _Real(folded, block.synapses, columns, skip_columns, torch.ones_like(one, dtype=torch.bool), None)
    model = require_exact(neuron.entry, neuron.own_dynamics)
    leak = torch.as_tensor(neuron.leak_amount(), dtype=torch.float64, device=device).expand(units)
    folded = replace(
        folded,
        threshold=neuron.threshold / gain,
        leak=leak / gain if model.leak_unit == "membrane" else leak,
        constants=constants_in_units(model, neuron.own_constants(), gain),
    )
    if model.synaptic:  # what synapses add passes the filter of the synaptic current, what the norm adds does not
        assert neuron.synaptic_decay is not None
        kept = torch.full_like(one, neuron.synaptic_decay)
        folded = replace(folded, bias=bias, synaptic_bias=at_synapses, synaptic_leak=kept)
    return _Real(folded, block.synapses, columns, skip_columns, neuron.alive, model)


def _columns(network: Network, source: str, layer: nn.Conv2d | nn.Linear) -> Tensor:
    """Which weights of ``layer`` read a living unit of block ``source``: bool, broadcastable to the weight."""
    inputs, weight, groups = source_alive(network, source, layer), latent_weight(layer), getattr(layer, "groups", 1)
    shape = [1] * (weight.dim() - 2)
    if groups == 1:
        return inputs.view(1, -1, *shape)
    rows = inputs.view(groups, -1).repeat_interleave(len(weight) // groups, dim=0)
    return rows.view(*rows.shape, *shape)


def _real_synapses(network: Network, layer: nn.Module, source: str | None, inputs: FoldedInput) -> FoldedSynapses:
    """Weights of ``layer``; for an exact program in float64, with the ``1 / k**2`` of the average pooling before it."""
    before = None if source is None else network.block(source)
    averaged = before is not None and before.pool > 1 and before.pool_kind == "avg"
    places = before.pool**2 if averaged and before is not None else 1
    spikes = 1 if before is None or before.neuron is None else before.neuron.max_spikes
    exact = not inputs.arithmetic.integer
    weight = exact_weight(layer) * (1 / places) if exact else layer.weight
    assert isinstance(weight, Tensor)
    if weight.dim() == 0:  # of an identity shortcut, one for all channels
        assert before is not None
        weight = weight.expand(before.units)
    one = torch.ones((), dtype=torch.float64, device=weight.device)
    return FoldedSynapses(weight, 2**53, None, one - 1, one, inputs if source is None else None, spikes, places)


def _to_integers(real: _Real, target: HardwareTarget) -> FoldedBlock:
    """Weights, threshold, bias and leak in units of the main layer's weight scale."""
    block, main, arithmetic = real.block, real.block.synapses, real.block.arithmetic
    integer, scale, stored, largest = _grid(real, target)
    bits = target.stored_bits(stored)
    graded = main.arrives is not None and main.arrives.kind.graded
    host = graded and target.layers.graded_input.value == "host"
    input_scale = arithmetic.input_scale if graded else 1.0
    sums = _row_sums(integer, largest)
    unit, empty = _weight_unit(scale, sums, real, target)
    unit, counting = unit * input_scale, real.alive & ~empty
    room = _room(real, sums, unit, 1 / input_scale, target, host)
    multiplier, exponent, scaled = _multiplier(integer, counting, room, bits, target, host)
    unit = unit / multiplier
    rows = [-1, *[1] * (integer.dim() - 1)]
    integer.mul_((multiplier * counting).to(integer.dtype).view(rows))
    # A graded input arrives in units of its own, which the unit of the membrane contains.
    slope = input_scale / main.places / unit
    synapses = replace(
        main,
        weight=_StandsFor.apply(main.weight, integer, slope.view(rows)),
        largest=target.largest_weight(bits) if scaled else largest,
        bits=bits,
        exponent=exponent,
        multiplier=multiplier,
    )
    skip = None if block.skip is None else _shortcut(block.skip, real, unit, target)
    return _rounded(replace(block, synapses=synapses, skip=skip, unit=unit), real, target, host)


def _row_sums(integer: Tensor, largest: int) -> Tensor:
    """The sum of magnitudes of each row, ``[units]``, float64: no current of one step is larger."""
    rows = integer.flatten(1)
    # Where float32 holds the sums of a row, it is faster.
    wide = None if rows.shape[1] * largest < 2**24 else torch.float64
    return torch.linalg.vector_norm(rows, ord=1, dim=1, dtype=wide).double()


def _weight_unit(scale: Tensor, sums: Tensor, real: _Real, target: HardwareTarget) -> tuple[Tensor, Tensor]:
    """What one unit of each row's integers is worth, ``[units]``, and which rows have no weight that counts.

    The scale of such a row means nothing (quantizers keep it just above 0): it takes the largest of the others. A layer
    of such rows holds its threshold (a readout its bias) as finely as the chip would hold its largest weight.
    """
    constant = real.block.bias.abs() if real.block.threshold is None else real.block.threshold
    amount = torch.where(real.alive, constant.detach(), 0.0).max()
    rows = scale.reshape(-1).expand(len(sums))
    empty = rows * sums <= amount * 2.0**-53
    if scale.numel() == 1:
        empty = empty.all().expand_as(empty)
    others = torch.where(empty, 0.0, rows).max()
    finest = amount / max(1, target.largest_weight(target.widest_bits))
    instead = torch.where(others > 0, others, torch.where(amount > 0, finest, 1.0))
    return torch.where(empty, instead, rows), empty


class _StandsFor(torch.autograd.Function):
    """Integers in the place of weights: the gradient of each weight is that of its integer times ``slope``.

    That is straight through ``weight * slope``, which nobody needs to compute.
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


def _grid(real: _Real, target: HardwareTarget) -> tuple[Tensor, Tensor, int, int]:
    """Integers of the main layer's weights, 0 where their source is dead; their scale, float64 and broadcastable; the
    width of a stored integer; and what none exceeds.

    The integers of a quantizer are held by float32, those of real weights by float64; the caller may change them.
    """
    main, quantizer = real.block.synapses, quantizer_of(real.layer)
    weight = main.weight.detach()
    if quantizer is not None and quantizer.strength == 1:
        scale, bits = quantizer.scale_and_bits(latent_weight(real.layer).detach())
        inverse = torch.where(scale > torch.finfo(torch.float32).tiny, 1 / scale, 0.0)  # below it is no weight at all
        # An integer times its scale is off by less than a half, whatever the precision of the network.
        precise = weight.to(torch.promote_types(weight.dtype, torch.float32))
        integer = (precise * inverse.to(precise.dtype)).round_().float()
        if real.columns is not None:
            integer.mul_(real.columns.to(integer.dtype))
        return integer, scale * (1 / main.places), bits, 2 ** (bits - 1)
    bits = target.widest_bits
    largest = target.largest_weight(bits)
    live = weight.double() * (1 / main.places) * real.alive.view(-1, *[1] * (weight.dim() - 1))
    if real.columns is not None:
        live.mul_(real.columns.to(live.dtype))
    scale = (live.abs().max() / largest).clamp_min(torch.finfo(torch.float64).tiny)
    return (live / scale).round_(), scale.reshape([1] * weight.dim()), bits, largest


def _shortcut(skip: FoldedSynapses, real: _Real, unit: Tensor, target: HardwareTarget) -> FoldedSynapses:
    """A shortcut's weights, rounded in the unit of the membrane with an exponent of their own; 0 between dead units."""
    bits, rows = target.widest_bits, [-1, *[1] * (skip.weight.dim() - 1)]
    as_units = skip.weight.double() * (1 / skip.places) * (real.alive / unit).view(rows)
    if real.skip_columns is not None:
        as_units = as_units * real.skip_columns
    low, high = target.exponent_range(bits)
    most = as_units.detach().abs().max() / max(1, target.largest_weight(bits))
    mantissa, power = torch.frexp(most)
    exponent = (power - (mantissa == 0.5).to(power.dtype)).clamp(low, high)  # the least that reaches
    step = _power_of_two(exponent)
    integer = (as_units.detach() / step).round() * step
    return replace(
        skip, weight=straight_through(as_units, integer), bits=bits, exponent=exponent.double(), multiplier=step
    )


def _room(real: _Real, sums: Tensor, unit: Tensor, inputs: float, target: HardwareTarget, host: bool) -> Tensor:
    """How often the weights' unit may be divided before threshold, bias, leak, a shortcut or a one-step current leaves
    its range, scalar.

    Half of the state is left to what the membrane has gathered before. Dead units don't count.
    """
    block, alive = real.block, real.alive

    def bound(limit: float, values: Tensor) -> Tensor:
        """``limit`` over the largest of ``values`` that lives; no bound where all are 0."""
        peak = torch.where(alive, values.detach().abs(), 0.0).max()
        return torch.where(peak > 0, limit / peak, math.inf)

    bounds = []
    state_max, bias_max, leak_max = block.arithmetic.state_max, target.bias_max, known(target.neuron.leak_max)
    if state_max is not None:
        bounds.append(bound(state_max / 2, sums * inputs))
    if block.threshold is not None and target.threshold_max is not None:
        bounds.append(bound(target.threshold_max, block.threshold / unit))
    if bias_max is not None and not host:
        bounds.append(bound(bias_max, block.bias / unit))
    has_amount = real.model is not None and real.model.leak_unit == "membrane"
    if has_amount and block.leak is not None and leak_max is not None:
        bounds.append(bound(leak_max, block.leak / unit))
    if block.skip is not None:
        bits = target.widest_bits
        reach = target.largest_weight(bits) * 2.0 ** target.exponent_range(bits)[1]
        living = (
            block.skip.weight.detach() if real.skip_columns is None else block.skip.weight.detach() * real.skip_columns
        )
        peaks = living.reshape(len(unit), -1).abs().amax(dim=1).double()
        bounds.append(bound(reach, peaks * (1 / block.skip.places) / unit))
    if not bounds:
        return torch.full((), math.inf, dtype=torch.float64, device=unit.device)
    return torch.stack(bounds).min()


def _multiplier(
    integer: Tensor, counting: Tensor, room: Tensor, bits: int, target: HardwareTarget, host: bool
) -> tuple[Tensor, Tensor, bool]:
    """The factor on all weights, the largest that ``room`` and the stored width allow; the exponent that the chip
    applies as a shift; and whether the stored integers themselves are multiplied by more than a power of two.

    A chip with exponents keeps the codebook's integers and shifts them. The host's weights are not stored anywhere.
    """
    low, high = target.exponent_range(bits)
    none = torch.zeros_like(room)
    if host or high > 0:
        _, power = torch.frexp(room.clamp(1.0, 2.0**16 if host else 2.0**high))
        exponent = (power - 1).clamp_min(0 if host else low)
        return _power_of_two(exponent), none if host else exponent.double(), False
    peaks = torch.linalg.vector_norm(integer.flatten(1), ord=math.inf, dim=1).double()
    reach = (target.largest_weight(bits) / torch.where(counting, peaks, 0.0).max().clamp_min(1)).floor()
    return torch.minimum(reach, room).floor().clamp_min(1), none, True


def _power_of_two(exponent: Tensor) -> Tensor:
    """``2**exponent`` of an integer tensor, exact on every device, float64."""
    return torch.ldexp(torch.ones_like(exponent, dtype=torch.float64), exponent)


def _rounded(block: FoldedBlock, real: _Real, target: HardwareTarget, host: bool) -> FoldedBlock:
    """Threshold, bias and leak in the unit, as the chip's registers hold them; the host's bias is just an integer."""
    unit = block.unit
    threshold, leak, synaptic_leak, synaptic_bias = (
        block.threshold,
        block.leak,
        block.synaptic_leak,
        block.synaptic_bias,
    )
    as_units = block.bias / unit
    bias = as_units.detach().round() if host else target.round_bias(as_units.detach()).double()
    bias = straight_through(as_units, bias)
    if threshold is not None:
        as_units = threshold / unit
        threshold = straight_through(as_units, target.round_threshold(as_units.detach()).clamp_min(1).double())
    if leak is not None:
        decays = real.model is not None and real.model.leak == "decay"
        as_register = _lost(leak, block.arithmetic) if decays else leak / unit
        register = target.round_decay(leak.detach()) if decays else (leak / unit).detach().round()
        leak = straight_through(as_register, register.double())
    if synaptic_leak is not None:
        synaptic_leak = target.round_decay(synaptic_leak.detach()).double()
    if synaptic_bias is not None:
        as_units = synaptic_bias / unit
        synaptic_bias = straight_through(as_units, as_units.detach().round())
    constants = {}
    if real.model is not None:
        constants = constants_in_units(require_integer(real.model), block.constants, unit)
        constants = {
            name: values.round() if real.model.constants[name] == "membrane" else values
            for name, values in constants.items()
        }
    return replace(
        block,
        constants=constants,
        bias=bias,
        threshold=threshold,
        leak=leak,
        synaptic_leak=synaptic_leak,
        synaptic_bias=synaptic_bias,
    )


def _lost(kept: Tensor, arithmetic: Arithmetic) -> Tensor:
    """What a chip stores for a decay, before it is rounded."""
    return -(1 - kept).log2() if arithmetic.decay == "shift" else (1 - kept) * 2**arithmetic.decay_bits
