"""Does a network respect a chip's limits? Every violation becomes a :class:`Finding` that says what would
mend it.

*Structure* is what neither training nor pruning can mend (a neuron model, a reset, a kind of layer);
*capacity* is what they can. Limits that a core sets (how much fits into one) are found by
:mod:`spikefit.hardware.placement`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from spikefit.functional.neuron_models import lacks_integer, names_of, neuron_model
from spikefit.hardware.codebook import joined
from spikefit.hardware.figures import known
from spikefit.hardware.mends import fewer_inputs, fewer_targets, fewer_units, prunable, receivers, senders
from spikefit.hardware.program import Population, Program, Projection
from spikefit.hardware.target import HardwareTarget


@dataclass(frozen=True)
class Finding:
    """One violated limit.

    Attributes:
        limit: its name.
        where: the population, projection or chip.
        needed: what the network needs.
        available: what the chip has.
        mend: a sentence that says what would help.
        kind: ``structure`` or ``capacity``.
        prune_blocks: populations of which fewer units would mend it; empty where pruning can't.
    """

    limit: str
    where: str
    needed: int | float | str
    available: int | float | str
    mend: str
    kind: Literal["structure", "capacity"]
    prune_blocks: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.where}: {self.limit}: needs {self.needed}, the chip has {self.available}; {self.mend}."


def check(target: HardwareTarget, program: Program) -> list[Finding]:
    """All findings of :func:`check_structure` and :func:`check_capacity`."""
    return check_structure(target, program) + check_capacity(target, program)


def check_structure(target: HardwareTarget, program: Program) -> list[Finding]:
    """What the chip can't do, however the network is trained or pruned.

    Neuron models, resets, kinds of layers, kernels, strides, paddings, pooling, sizes of maps, and the
    readout.
    """
    findings = [f for population in program.populations for f in _neuron_structure(target, population)]
    findings += _ends(target, program)
    for projection in program.projections:
        findings += _layer_structure(target, program, projection)
    return findings + _readout_structure(target, program.populations[-1])


def check_capacity(target: HardwareTarget, program: Program) -> list[Finding]:
    """What is too much for the chip: numbers of neurons and synapses, ranges of weights, thresholds and
    biases.

    The integer ranges are checked only in ``target`` precision. Synapses of an encoder layer that the host
    computes count nowhere.
    """
    findings = [*_neuron_count(target, program), *_chip_counts(target, program)]
    findings += [*_fans(target, program), *_destinations(target, program)]
    for population in program.populations[1:]:
        findings += _unique_values(target, program, population)
        findings += _signs(target, program, population)
        findings += _channels(target, program, population)
    if program.precision == "target":
        for projection in chip_projections(target, program):
            findings += _weight_range(target, projection)
        for population in program.populations[1:]:
            findings += _constants(target, program, population)
    return findings


def unknown_limits(target: HardwareTarget) -> list[str]:
    """Dotted names of the limits that nobody published, so that no check could look at them."""
    return [path for path, figure in target.figures() if figure.value is None and not path.startswith("energy.")]


def on_host(target: HardwareTarget, program: Program, projection: Projection) -> bool:
    """Whether the host computes ``projection``: an encoder on a chip that does not multiply inputs."""
    return program.is_encoder(projection) and known(target.layers.graded_input) == "host"


def chip_projections(target: HardwareTarget, program: Program, population: str | None = None) -> list[Projection]:
    """Projections whose synapses are on the chip; those into ``population`` only, if given."""
    return [
        projection
        for projection in program.projections
        if population in (None, projection.target) and not on_host(target, program, projection)
    ]


def _structure(limit: str, where: str, needed: object, available: object, mend: str) -> Finding:
    return Finding(limit, where, _plain(needed), _plain(available), mend, "structure")


def _capacity(
    limit: str, where: str, needed: object, available: object, mend: str, prune_blocks: tuple[str, ...] = ()
) -> Finding:
    return Finding(limit, where, _plain(needed), _plain(available), mend, "capacity", prune_blocks)


def _plain(value: object) -> int | float | str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return value if isinstance(value, int | float | str) else str(value)


def _neuron_structure(target: HardwareTarget, population: Population) -> Iterator[Finding]:
    if not population.spiking:
        return
    models, resets = known(target.neuron.models) or (), known(target.neuron.resets) or ()
    if population.model not in models:
        entry, none = neuron_model(population.model), "no integrate-and-fire neuron runs there; use another chip"
        mend = f"use {names_of(models)} neurons" if models else none
        mend = f"{entry.neuron} {lacks_integer(entry)}; {mend}" if lacks_integer(entry) else mend
        yield _structure("neuron model", population.name, population.model, models or "none", mend)
    often = known(target.neuron.spikes_max) or 1
    if population.max_spikes > often:
        yield _structure("spikes a step", population.name, population.max_spikes, often, f"use max_spikes {often}")
    if population.synaptic_bias is not None:
        mend = "use synapses without a bias (bias=False); that of a norm is added to the membrane"
        yield _structure("bias of synapses", population.name, "before the synaptic current", "of the membrane", mend)
    if resets and population.reset not in resets:
        mend = f"reset to {' or '.join(resets)}" if resets == ("zero",) else f"use reset {' or '.join(resets)}"
        yield _structure("reset", population.name, population.reset, resets, mend)


def _layer_structure(target: HardwareTarget, program: Program, projection: Projection) -> Iterator[Finding]:
    layers, name = target.layers, projection.name
    if not on_host(target, program, projection):
        yield from _pooling(target, projection)
        if projection.kind not in (known(layers.kinds) or ()):
            yield _structure("layer", name, projection.kind, known(layers.kinds), f"avoid {projection.kind} layers")
        else:
            yield from _geometry(target, program, projection)
    shape = program.population(projection.target).shape
    size, allowed = max(shape[1:], default=1), known(layers.output_size_max)
    if allowed is not None and size > allowed:
        yield _structure("output size", name, size, allowed, "use a larger stride or pool earlier")


def _pooling(target: HardwareTarget, projection: Projection) -> Iterator[Finding]:
    kinds, sizes = known(target.layers.pooling) or (), known(target.layers.pool_sizes)
    if projection.pool == 1:
        return
    if projection.pool_kind not in kinds:
        other = "average" if projection.pool_kind == "max" else "max"
        yield _structure("pooling", projection.name, projection.pool_kind, kinds, f"use {other} pooling")
    if sizes is not None and projection.pool not in sizes:
        mend = f"pool by {', '.join(str(size) for size in sizes if size > 1)}"
        yield _structure("pool size", projection.name, projection.pool, sizes, mend)


def _geometry(target: HardwareTarget, program: Program, projection: Projection) -> Iterator[Finding]:
    """Kernel, stride, padding, dilation and input size; a dense layer can be a kernel as large as its map."""
    layers, name = target.layers, projection.name
    pooled = projection.pooled_shape(program.population(projection.source).shape)
    conv = projection.kind == "conv"
    kernel = tuple(projection.weight.shape[2:]) if conv else pooled[1:]
    if kernel and (conv or known(layers.dense_as_conv)):
        mend = "use smaller kernels" if conv else "pool the map before the dense layer"
        yield from _at_most("kernel", name, max(kernel), known(layers.kernel_max), mend)
    if conv:
        strides = known(layers.strides)
        for stride in sorted(set(projection.stride)):
            if strides is not None and stride not in strides:
                mend = f"use a stride among {', '.join(map(str, strides))}"
                yield _structure("stride", name, stride, strides, mend)
        yield from _at_most("padding", name, max(projection.padding), known(layers.padding_max), "pad less")
        mend = "use a plain convolution"
        yield from _at_most("dilation", name, max(projection.dilation), known(layers.dilation_max), mend)
    size = max(pooled[1:], default=1)
    yield from _at_most("input size", name, size, known(layers.input_size_max), "shrink the input or pool earlier")


def _at_most(limit: str, where: str, needed: int, available: int | None, mend: str) -> Iterator[Finding]:
    if available is not None and needed > available:
        yield _structure(limit, where, needed, available, mend)


def _readout_structure(target: HardwareTarget, last: Population) -> list[Finding]:
    readouts = known(target.layers.readouts) or ()
    needed = "spikes" if last.spiking else "membrane"
    if needed in readouts:
        return []
    mend = "use a spiking readout" if "spikes" in readouts else "use a readout without neurons"
    return [_structure("readout", last.name, needed, readouts, mend)]


def _ends(target: HardwareTarget, program: Program) -> Iterator[Finding]:
    """What chips say of their first and last layers alone."""
    first, last = program.populations[0], program.populations[-1]
    mend = "shrink the input"
    yield from _at_most("inputs", first.name, first.neurons, known(target.limits.inputs), mend)
    yield from _at_most("outputs", last.name, last.neurons, known(target.limits.outputs), "split the classes")
    often = known(target.layers.readout_spikes_max)
    yield from _at_most("spikes a step", last.name, last.max_spikes, often, f"use max_spikes {often} in the readout")
    if known(target.layers.biases_behind_neurons) is False:
        for population in program.populations[1:]:
            behind = any(projection.source != first.name for projection in program.inputs_of(population.name))
            biased = 0 if population.bias is None else int((population.bias != 0).sum())
            mend = "use the norm gain, which adds none"
            yield from _at_most("biases behind neurons", population.name, biased if behind else 0, 0, mend)


def _chip_counts(target: HardwareTarget, program: Program) -> Iterator[Finding]:
    """Hidden neurons and synapses of a chip that limits them as a whole."""
    hidden = sum(population.neurons for population in program.populations[1:-1])
    synapses = sum(program.synapses(projection) for projection in chip_projections(target, program))
    for limit, needed, available in (
        ("hidden neurons", hidden, known(target.limits.hidden_neurons)),
        ("synapses per chip", synapses, known(target.limits.synapses_per_chip)),
    ):
        if available is not None and needed > available:
            mend = f"prune {needed - available} {limit.removesuffix(' per chip')}"
            yield _capacity(limit, target.name, needed, available, mend, prunable(program))


def _neuron_count(target: HardwareTarget, program: Program) -> Iterator[Finding]:
    available = known(target.limits.neurons_per_chip)
    needed = sum(population.neurons * target.cells(population) for population in program.populations)
    if available is not None and needed > available:
        mend = f"prune {needed - available} neurons"
        if needed > program.neurons:
            mend += " (a neuron that subtracts its threshold takes several) or reset to zero"
        yield _capacity("neurons per chip", target.name, needed, available, mend, prunable(program))


def _fans(target: HardwareTarget, program: Program) -> Iterator[Finding]:
    projections = chip_projections(target, program)
    ways = (
        ("fan-in", known(target.limits.fan_in), "target", Program.fan_in, senders, fewer_inputs),
        ("fan-out", known(target.limits.fan_out), "source", Program.fan_out, receivers, fewer_targets),
    )
    for limit, available, side, count, others, mended in ways:
        for population in program.populations if available is not None else ():
            fans = [count(program, p).flatten() for p in projections if getattr(p, side) == population.name]
            worst = int(torch.stack(fans).sum(dim=0).max()) if fans else 0
            if available is not None and worst > available:
                mend = mended(program, population.name, worst, available)
                yield _capacity(limit, population.name, worst, available, mend, others(program, population.name))


def _destinations(target: HardwareTarget, program: Program) -> Iterator[Finding]:
    available = known(target.limits.destination_layers)
    for population in program.populations:
        needed = len({projection.target for projection in program.outputs_of(population.name)})
        if available is not None and needed > available:
            mend = "connect it to fewer layers"
            yield _capacity("destination layers", population.name, needed, available, mend)


def _channels(target: HardwareTarget, program: Program, population: Population) -> Iterator[Finding]:
    needed, available = population.shape[0], known(target.layers.channels_max)
    if available is not None and needed > available:
        mend, own = fewer_units(population, needed, available), prunable(program, population.name)
        yield _capacity("channels", population.name, needed, available, mend, own)


def _unique_values(target: HardwareTarget, program: Program, population: Population) -> Iterator[Finding]:
    """Counted by neuron (the worst one), or over the population, of which a core or layer may hold all."""
    rule = target.weights.unique_values
    projections = chip_projections(target, program, population.name)
    if rule is None or rule.count.value is None or not projections:
        return
    stored = joined([projection.stored for projection in projections])
    stored = stored.by_output() if rule.scope.value == "neuron" else stored
    needed = int(stored.distinct(zero_counts=not rule.zero_is_free.value).max())
    if needed > rule.count.value:
        limit = f"unique weights per {rule.scope.value}"
        mend = f"use a codebook of {rule.count.value} values"
        yield _capacity(limit, population.name, needed, rule.count.value, mend)


def _signs(target: HardwareTarget, program: Program, population: Population) -> Iterator[Finding]:
    """Sources (channels of a convolution, whose neurons share their weights) that excite and inhibit."""
    if not known(target.weights.sign_by_source):
        return
    for projection in chip_projections(target, program, population.name):
        by_group = projection.weight.flatten(2).chunk(projection.groups) if projection.kind == "conv" else None
        parts = by_group or (projection.weight.unsqueeze(2),)  # [out, in, taps] each
        mixed = sum(int(((part > 0).any(2).any(0) & (part < 0).any(2).any(0)).sum()) for part in parts)
        if mixed:
            mend = f"split {mixed} of its sources into those that excite and those that inhibit"
            yield _capacity("signs per source", projection.name, 2, 1, mend)


def _weight_range(target: HardwareTarget, projection: Projection) -> Iterator[Finding]:
    bits, exponent, name = projection.bits or target.widest_bits, projection.exponent, projection.name
    if bits not in (known(target.weights.bits) or ()):
        mend = f"store weights of {target.stored_bits(bits)} bits"
        yield _capacity("weight bits", name, bits, known(target.weights.bits), mend)
        return
    low, high = target.exponent_range(bits)
    if not low <= exponent <= high:
        mend = "store wider weights or change their common factor"
        yield _capacity("weight exponent", name, exponent, f"{low} to {high}", mend)
    values = projection.stored.values
    smallest, largest = int(values.min()), int(values.max())
    low, high = (bound * 2**exponent for bound in target.weight_range(bits))
    if smallest < low or largest > high:
        mend = "quantise to fewer bits or to a smaller common factor"
        yield _capacity("weight range", name, f"{smallest} to {largest}", f"{low} to {high}", mend)
    if exponent and bool((values % 2**exponent != 0).any()):
        yield _capacity("weight exponent", name, "finer weights", f"steps of {2**exponent}", "lower the exponent")


def _constants(target: HardwareTarget, program: Program, population: Population) -> Iterator[Finding]:
    """Ranges and steps of threshold, bias (unless the host adds it to its current) and linear leak."""
    neuron = target.neuron
    fewer = "lower the common factor of its weights"
    if population.threshold is not None:
        low, high = known(neuron.threshold_min), known(neuron.threshold_max)
        yield from _within("threshold", population, population.threshold, low, high, fewer)
        rounded = target.round_threshold(population.threshold)
        yield from _representable("threshold", population, population.threshold, rounded)
    host = any(on_host(target, program, projection) for projection in program.inputs_of(population.name))
    if population.bias is not None and not host:
        low, high = known(neuron.bias_min), known(neuron.bias_max)
        yield from _within("bias", population, population.bias, low, high, f"{fewer} or its norm's shift")
        yield from _representable("bias", population, population.bias, target.round_bias(population.bias))
    if population.leak is not None and neuron_model(population.model).leak == "linear":
        yield from _within("leak", population, population.leak, 0, known(neuron.leak_max), fewer)


def _within(
    limit: str, population: Population, values: Tensor, low: int | None, high: int | None, mend: str
) -> Iterator[Finding]:
    smallest, largest = int(values.min()), int(values.max())
    if (low is not None and smallest < low) or (high is not None and largest > high):
        available = f"{'any' if low is None else low} to {'any' if high is None else high}"
        yield _capacity(f"{limit} range", population.name, f"{smallest} to {largest}", available, mend)


def _representable(limit: str, population: Population, values: Tensor, rounded: Tensor) -> Iterator[Finding]:
    wrong = values != rounded
    if bool(wrong.any()):
        needed, nearest = int(values[wrong][0]), int(rounded[wrong][0])
        mend = f"round each {limit} to what the register holds"
        yield _capacity(f"{limit} step", population.name, needed, f"{nearest} as the nearest value", mend)
