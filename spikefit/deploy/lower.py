"""Lower a trained network to a :class:`~spikefit.hardware.program.Program`.

The norm of a block, ``y = g * (x + b)`` with ``g > 0``, never reaches a weight. Dividing a neuron's equations by its
channel's ``g`` gives the same spikes with threshold ``theta / g``, bias ``b`` and linear leak ``l / g``; a decay stays.
Average pooling of k x k moves ``1 / k**2`` into the scale of the next weights. Both leave M distinct weights M distinct
weights.

``exact`` does this in float64. ``target`` then expresses every population in units of its own weight scale, so that
weights are the integers of the codebook, and rounds threshold, bias and leak to that unit. A unit as large as the weight
scale is coarse for a threshold; a *gain* multiplies the integers, as far as the chip's weights reach, to make it finer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from spikefit.errors import ConfigurationError, check_choice
from spikefit.hardware.program import Arithmetic, Population, Precision, Program, Projection
from spikefit.hardware.target import HardwareTarget
from spikefit.networks.blocks import Block, IdentitySkip, Network
from spikefit.neurons import SpikingNeuron
from spikefit.prune.compact import compact
from spikefit.quantize.base import latent_weight, quantizer_of

INPUT = "input"


@dataclass(frozen=True)
class _Synapses:
    """Weights of one projection before a unit is chosen: ``real = integer * scale`` (integer None: real only)."""

    projection: Projection
    real: Tensor
    integer: Tensor | None
    scale: Tensor
    bits: int | None


def lower(
    network: Network,
    time_steps: int,
    *,
    graded_input: bool,
    precision: Precision = "exact",
    target: HardwareTarget | None = None,
) -> Program:
    """The program that a chip runs.

    Args:
        network: trained; dead units are removed first. Not changed.
        time_steps: steps of one inference.
        graded_input: whether inputs are real numbers (direct coding) instead of spikes.
        precision: ``exact`` (float64) or ``target`` (integers of ``target``).
        target: the chip; needed for ``target`` precision.

    Raises:
        ConfigurationError: for ``target`` precision without a target, or a norm in a readout without neurons.
    """
    check_choice("precision", precision, ("exact", "target"))
    if precision == "target" and target is None:
        raise ConfigurationError("target: got None, expected a hardware target for precision 'target'.")
    small = compact(network).double().eval()
    arithmetic = Arithmetic() if precision == "exact" or target is None else target.arithmetic()
    populations = [Population(INPUT, small.input_shape, "input", graded=graded_input)]
    projections: list[Projection] = []
    sources: dict[str, tuple[Population, Block | None]] = {INPUT: (populations[0], None)}
    previous = INPUT
    for name, block in small.named_blocks():
        synapses = [_synapses(name, name, block.synapses, *sources[previous])]
        if block.skip is not None:
            synapses.append(_synapses(f"{name}.skip", name, block.skip, *sources[str(block.skip_from)]))
        population = _population(name, block, _target_shape(synapses[0].projection, sources[previous][0].shape))
        if precision == "exact" or target is None:
            lowered = [replace(entry.projection, weight=entry.real) for entry in synapses]
        else:
            population, lowered = _to_integers(population, synapses, sources, target, arithmetic)
        populations.append(population)
        projections.extend(lowered)
        sources[name] = (population, block)
        previous = name
    return Program(
        tuple(populations),
        tuple(projections),
        time_steps,
        precision,
        None if target is None else target.name,
        arithmetic,
    )


def _synapses(name: str, target: str, layer: nn.Module, source: Population, before: Block | None) -> _Synapses:
    """Weights of ``layer`` as a projection from ``source``, with the 1 / k**2 of an average pooling in the scale."""
    pool = 1 if before is None else before.pool
    pool_kind = "max" if before is not None and before.pool_kind == "max" else "sum"
    factor = 1 / pool**2 if pool_kind == "sum" else 1.0
    if isinstance(layer, IdentitySkip):
        channels = source.shape[0]
        real = layer.weight.detach().expand(channels, 1, 1, 1) * factor
        projection = Projection(name, source.name, target, "conv", real, groups=channels, pool=pool, pool_kind=pool_kind)
        return _Synapses(projection, real, None, torch.ones(1, dtype=torch.float64), None)
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    real = layer.weight.detach() * factor
    integer, scale, bits = None, torch.ones([1] * real.dim(), dtype=torch.float64), None
    quantizer = quantizer_of(layer)
    if quantizer is not None and bool(quantizer.active):
        stored = quantizer.integers(latent_weight(layer))
        integer, scale, bits = stored.integer, stored.scale * factor, stored.bits
    if isinstance(layer, nn.Linear):
        projection = Projection(name, source.name, target, "dense", real, pool=pool, pool_kind=pool_kind, bits=bits)
    else:
        padding = layer.padding
        assert isinstance(padding, tuple)
        projection = Projection(
            name,
            source.name,
            target,
            "conv",
            real,
            _pair(layer.stride),
            _pair(padding),
            _pair(layer.dilation),
            layer.groups,
            pool,
            pool_kind,  # type: ignore[arg-type]
            bits,
        )
    return _Synapses(projection, real, integer, scale, bits)


def _pair(values: Sequence[int]) -> tuple[int, int]:
    return int(values[0]), int(values[1])


def _target_shape(projection: Projection, source: tuple[int, ...]) -> tuple[int, ...]:
    if projection.kind == "dense":
        return (projection.weight.shape[0],)
    pooled = projection.pooled_shape(source)
    out = nn.functional.conv2d(
        projection.weight.new_zeros(1, *pooled), projection.weight, **projection.conv_options
    )
    return tuple(out.shape[1:])


def _population(name: str, block: Block, shape: tuple[int, ...]) -> Population:
    """The block's neurons with the norm folded into their constants, float64."""
    units = block.units
    ones = torch.ones(units, dtype=torch.float64)
    gain, bias = ones, torch.zeros_like(ones)
    if block.norm is not None:
        if block.neuron is None:
            raise ConfigurationError(f"block {name}: a readout without neurons can't be lowered with a norm.")
        gain, bias = block.norm.folded()
    for layer in (block.synapses, block.skip):
        own = getattr(layer, "bias", None)
        if own is not None:
            bias = bias + own.detach()
    bias = bias.detach()
    if block.neuron is None:
        return Population(name, shape, "readout", bias=bias, unit=ones)
    neuron: SpikingNeuron = block.neuron
    leak = torch.as_tensor(neuron.leak_amount(), dtype=torch.float64).detach().expand(units)
    return Population(
        name,
        shape,
        neuron.model,  # type: ignore[arg-type]
        threshold=(neuron.threshold / gain).detach(),
        bias=bias,
        leak=(leak / gain).detach() if neuron.model == "linear_leak_if" else leak,
        reset=neuron.reset,
        unit=ones,
    )


def _to_integers(
    population: Population,
    synapses: list[_Synapses],
    sources: dict[str, tuple[Population, Block | None]],
    target: HardwareTarget,
    arithmetic: Arithmetic,
) -> tuple[Population, list[Projection]]:
    """Weights, threshold, bias and leak in units of the main projection's weight scale."""
    main = synapses[0]
    integer, scale, bits = main.integer, main.scale, main.bits
    if integer is None:  # real weights: round to the chip's widest ones after training
        bits = target.widest_bits
        limit = target.largest_weight(bits)
        scale = (main.real.abs().max() / limit).clamp_min(torch.finfo(torch.float64).tiny).reshape([1] * main.real.dim())
        integer = (main.real / scale).round().to(torch.int64)
    graded = sources[main.projection.source][0].graded
    unit = scale.reshape(-1).expand(integer.shape[0]) * (arithmetic.input_scale if graded else 1.0)
    gain, exponent = _gain(integer, population, unit, graded, target, arithmetic)
    unit = unit / gain
    projections = [
        replace(main.projection, weight=integer * gain, bits=target.stored_bits(int(bits or 0)), exponent=exponent)
    ]
    for extra in synapses[1:]:  # a shortcut shares the unit: its weights are rounded to it
        weight = (extra.real / unit.view(-1, *[1] * (extra.real.dim() - 1)) / 2**exponent).round() * 2**exponent
        projections.append(
            replace(extra.projection, weight=weight.to(torch.int64), bits=projections[0].bits, exponent=exponent)
        )
    constants = _rounded_constants(population, unit, arithmetic)
    return constants, projections


def _gain(
    integer: Tensor,
    population: Population,
    unit: Tensor,
    graded: bool,
    target: HardwareTarget,
    arithmetic: Arithmetic,
) -> tuple[int, int]:
    """Factor on all integer weights, and how much of it is a power of two that the chip applies by itself.

    As large as the weights' range, the threshold's range and a one-step current within half of the state allow.
    """
    largest = max(1, int(integer.abs().max()))
    row = integer.abs().flatten(1).sum(dim=1).max()
    peak = max(1, int(row)) * ((arithmetic.input_max or 1) if graded else 1)
    room = math.inf
    if arithmetic.state_max is not None:
        room = arithmetic.state_max / 2 / peak
    if population.threshold is not None and target.threshold_max is not None:
        room = min(room, target.threshold_max / float((population.threshold / unit).max()))
    factor = max(1, min(target.largest_weight(target.widest_bits) // largest, math.floor(room)))
    if target.exponent_max:
        exponent = max(0, min(target.exponent_max, math.floor(math.log2(max(1.0, room)))))
        return 2**exponent, exponent
    return factor, 0


def _rounded_constants(population: Population, unit: Tensor, arithmetic: Arithmetic) -> Population:
    def rounded(values: Tensor | None) -> Tensor | None:
        return None if values is None else (values / unit).round().to(torch.int64)

    leak = population.leak
    if population.model == "lif" and leak is not None:
        leak = ((1 - leak) * 2**arithmetic.decay_bits).round().to(torch.int64)
    else:
        leak = rounded(leak)
    threshold = rounded(population.threshold)
    return replace(
        population,
        threshold=None if threshold is None else threshold.clamp_min(1),
        bias=rounded(population.bias),
        leak=leak,
        unit=unit,
    )
