"""Lower a trained network to a :class:`~spikefit.hardware.program.Program`.

The norm of a block, ``y = g * (x + b)`` with ``g > 0``, never reaches a weight. Dividing a neuron's equations by its
channel's ``g`` gives the same spikes with threshold ``theta / g``, bias ``b`` and linear leak ``l / g``; a decay stays.
Average pooling of k x k moves ``1 / k**2`` into the scale of the next weights. Both leave M distinct weights M distinct
weights.

``exact`` does this in float64. ``target`` then expresses every population in units of its own weight scale, so that
weights are the integers of the codebook, and rounds threshold, bias and leak to that unit. A unit as large as the
weight
scale is coarse for a threshold; a *gain* multiplies the integers, as far as the chip's weights reach, to make it finer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from spikefit.errors import ConfigurationError, check_choice
from spikefit.hardware.figures import known
from spikefit.hardware.program import Arithmetic, Population, Precision, Program, Projection
from spikefit.hardware.target import HardwareTarget
from spikefit.networks.blocks import Block, IdentitySkip, Network
from spikefit.neurons import CubaLIF, SpikingNeuron
from spikefit.prune.compact import compact
from spikefit.prune.mask import masked
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
    pool_kind: Literal["sum", "max"] = "max" if before is not None and before.pool_kind == "max" else "sum"
    factor = 1 / pool**2 if pool_kind == "sum" else 1.0
    if isinstance(layer, IdentitySkip):
        channels = source.shape[0]
        real = layer.weight.detach().expand(channels, 1, 1, 1) * factor
        projection = Projection(
            name, source.name, target, "conv", real, groups=channels, pool=pool, pool_kind=pool_kind
        )
        return _Synapses(projection, real, None, torch.ones(1, dtype=torch.float64), None)
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    real = layer.weight.detach() * factor
    integer, scale, bits, types = None, torch.ones([1] * real.dim(), dtype=torch.float64), None, None
    quantizer = quantizer_of(layer)
    if quantizer is not None and quantizer.strength == 1:
        stored = quantizer.integers(latent_weight(layer))
        integer, scale, bits = masked(layer, stored.integer), stored.scale * factor, stored.bits
        types = quantizer.input_types()
    if isinstance(layer, nn.Linear):
        projection = Projection(
            name, source.name, target, "dense", real, pool=pool, pool_kind=pool_kind, bits=bits, axon_types=types
        )
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
            pool_kind,
            bits,
            # The groups of a convolution share the columns of its weight, and so their types.
            axon_types=None if types is None else types.repeat(layer.groups),
        )
    return _Synapses(projection, real, integer, scale, bits)


def _pair(values: Sequence[int]) -> tuple[int, int]:
    return int(values[0]), int(values[1])


def _target_shape(projection: Projection, source: tuple[int, ...]) -> tuple[int, ...]:
    if projection.kind == "dense":
        return (projection.weight.shape[0],)
    pooled = projection.pooled_shape(source)
    out = nn.functional.conv2d(projection.weight.new_zeros(1, *pooled), projection.weight, **projection.conv_options)
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
        synaptic_leak=_synaptic_leak(neuron),
        max_spikes=neuron.max_spikes,
        reset=neuron.reset,
        unit=ones,
    )


def _synaptic_leak(neuron: SpikingNeuron) -> Tensor | None:
    if not isinstance(neuron, CubaLIF):
        return None
    return torch.full((neuron.units,), neuron.synaptic_decay, dtype=torch.float64)


def _to_integers(
    population: Population,
    synapses: list[_Synapses],
    sources: dict[str, tuple[Population, Block | None]],
    target: HardwareTarget,
    arithmetic: Arithmetic,
) -> tuple[Population, list[Projection]]:
    """Weights, threshold, bias and leak in units of the main projection's weight scale."""
    main = synapses[0]
    integer, scale, bits = main.integer, main.scale, target.stored_bits(main.bits or target.widest_bits)
    if integer is None:  # real weights: rounded to the chip's widest ones after training
        largest = main.real.abs().max() / target.largest_weight(bits)
        scale = largest.clamp_min(torch.finfo(torch.float64).tiny).reshape([1] * main.real.dim())
        integer = (main.real / scale).round().to(torch.int64)
    graded = sources[main.projection.source][0].graded
    host = graded and target.layers.graded_input.value == "host"
    unit = scale.reshape(-1).expand(len(integer)) * (arithmetic.input_scale if graded else 1.0)
    inputs = 1 / arithmetic.input_scale if graded else 1.0
    room = _room(integer, inputs, population, unit, target, host)
    factor, exponent = _gain(integer, room, bits, target, host)
    unit = unit / (factor * 2**exponent)
    projections = []
    for entry in synapses:
        if entry is main:
            weight = integer * factor * 2**exponent
        else:  # a shortcut shares the unit: its weights are rounded to it
            real = entry.real / unit.view(-1, *[1] * (entry.real.dim() - 1))
            weight = ((real / 2**exponent).round() * 2**exponent).to(torch.int64)
        projections.append(replace(entry.projection, weight=weight, bits=bits, exponent=exponent))
    return _rounded(population, unit, target, host), projections


def _room(
    integer: Tensor, inputs: float, population: Population, unit: Tensor, target: HardwareTarget, host: bool
) -> float:
    """How often the weights' unit may be divided before threshold, bias, leak or a one-step current leaves its range.

    Half of the state is left to what the membrane has gathered before.
    """
    bounds = [math.inf]
    peak = float(integer.abs().flatten(1).sum(dim=1).max()) * inputs
    state_max, bias_max = target.arithmetic().state_max, target.bias_max
    if state_max is not None and peak:
        bounds.append(state_max / 2 / peak)
    if population.threshold is not None and target.threshold_max is not None:
        bounds.append(target.threshold_max / float((population.threshold / unit).max()))
    if population.bias is not None and bias_max is not None and not host and bool(population.bias.any()):
        bounds.append(bias_max / float((population.bias / unit).abs().max()))
    leak_max = known(target.neuron.leak_max)
    if population.model == "linear_leak_if" and population.leak is not None and leak_max is not None:
        bounds.append(leak_max / max(float((population.leak / unit).max()), 1e-30))
    return min(bounds)


def _gain(integer: Tensor, room: float, bits: int, target: HardwareTarget, host: bool) -> tuple[int, int]:
    """Integer factor and power of two on all weights: the largest that ``room`` and the stored width allow.

    A chip with exponents keeps the codebook's integers and shifts them. The host's weights are not stored anywhere.
    """
    low, high = target.exponent_range(bits)
    power = math.floor(math.log2(min(max(1.0, room), 2.0**16 if host else 2.0**high)))  # of a room without end too
    if host:
        return 2**power, 0
    if high > 0:
        return 1, max(low, power)
    reach = target.largest_weight(bits) // max(1, int(integer.abs().max()))
    return max(1, int(min(reach, room))), 0


def _rounded(population: Population, unit: Tensor, target: HardwareTarget, host: bool) -> Population:
    """Threshold, bias and leak in ``unit``, as the chip's registers hold them; the host's bias is just an integer."""
    threshold, bias, leak, synaptic = population.threshold, population.bias, population.leak, population.synaptic_leak
    if threshold is not None:
        threshold = target.round_threshold(threshold / unit).clamp_min(1)
    if bias is not None:
        bias = (bias / unit).round().to(torch.int64) if host else target.round_bias(bias / unit)
    if leak is not None:
        decays = population.model in ("lif", "cuba_lif")
        leak = target.round_decay(leak) if decays else (leak / unit).round().to(torch.int64)
    if synaptic is not None:
        synaptic = target.round_decay(synaptic)
    return replace(population, threshold=threshold, bias=bias, leak=leak, synaptic_leak=synaptic, unit=unit)
