"""Check of a program against the capacity of a chip as a whole; :mod:`spikefit.hardware.placement` checks the cores."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from spikefit.functional.neuron_models import neuron_model
from spikefit.hardware.check_supported_features import check_structure
from spikefit.hardware.finding import Finding, plain
from spikefit.hardware.host import chip_projections, on_host
from spikefit.hardware.remedies import fewer_inputs, fewer_targets, fewer_units, prunable, receivers, senders
from spikefit.hardware.sourced_value import known, known_or
from spikefit.hardware.target import HardwareTarget
from spikefit.program.ir import Population, Program, Projection
from spikefit.program.stored_weights import joined


def check(target: HardwareTarget, program: Program) -> list[Finding]:
    """All findings of :func:`check_structure` and :func:`check_capacity`."""
    return check_structure(target, program) + check_capacity(target, program)


def check_capacity(target: HardwareTarget, program: Program) -> list[Finding]:
    """Violated capacity limits of the chip: numbers of neurons and synapses, and ranges of integers.

    The ranges of weights, thresholds and biases are checked only in ``target`` precision. Synapses of an encoder layer
    that the host computes are not counted.
    """
    findings = [*_neuron_count(target, program), *_chip_counts(target, program)]
    findings += [*_fans(target, program), *_destinations(target, program)]
    findings += [*_unique_values(target, program), *_signs(target, program)]
    for population in program.populations[1:]:
        findings += _channels(target, program, population)
    if program.precision == "target":
        for projection in chip_projections(target, program):
            findings += _weight_range(target, projection)
        for population in program.populations[1:]:
            findings += _constants(target, program, population)
    return findings


def unknown_limits(target: HardwareTarget) -> list[str]:
    """Dotted names of the limits that nobody published, and that therefore can't be checked."""
    return [path for path, figure in target.sourced_values() if figure.value is None and not path.startswith("energy.")]


def _capacity(
    limit: str, where: str, needed: object, available: object, remedy: str, prune_blocks: tuple[str, ...] = ()
) -> Finding:
    return Finding(limit, where, plain(needed), plain(available), remedy, "capacity", prune_blocks)


def _chip_counts(target: HardwareTarget, program: Program) -> Iterator[Finding]:
    """Hidden neurons and synapses of a chip that limits them as a whole."""
    hidden = target.all_cells(program.populations[1:-1])
    synapses = sum(program.synapses(projection) for projection in chip_projections(target, program))
    for limit, needed, available in (
        ("hidden neurons", hidden, known(target.limits.hidden_neurons)),
        ("synapses per chip", synapses, known(target.limits.synapses_per_chip)),
    ):
        if available is not None and needed > available:
            remedy = f"prune {needed - available} {limit.removesuffix(' per chip')}"
            yield _capacity(limit, target.name, needed, available, remedy, prunable(program))


def _neuron_count(target: HardwareTarget, program: Program) -> Iterator[Finding]:
    available = known(target.limits.neurons_per_chip)
    needed = target.all_cells(program.populations)
    if available is not None and needed > available:
        remedy = f"prune {needed - available} neurons"
        if needed > program.neurons:
            remedy += " (a neuron that subtracts its threshold takes several) or reset to zero"
        yield _capacity("neurons per chip", target.name, needed, available, remedy, prunable(program))


def _fans(target: HardwareTarget, program: Program) -> Iterator[Finding]:
    projections = chip_projections(target, program)
    ways = (
        ("fan-in", known(target.limits.fan_in), "target", Program.fan_in, senders, fewer_inputs),
        ("fan-out", known(target.limits.fan_out), "source", Program.fan_out, receivers, fewer_targets),
    )
    for limit, available, side, count, others, remedy_for in ways:
        for population in program.populations if available is not None else ():
            fans = [count(program, p).flatten() for p in projections if getattr(p, side) == population.name]
            worst = int(torch.stack(fans).sum(dim=0).max()) if fans else 0
            if available is not None and worst > available:
                remedy = remedy_for(program, population.name, worst, available)
                yield _capacity(limit, population.name, worst, available, remedy, others(program, population.name))


def _destinations(target: HardwareTarget, program: Program) -> Iterator[Finding]:
    available = known(target.limits.destination_layers)
    for population in program.populations:
        needed = len({projection.target for projection in program.outputs_of(population.name)})
        if available is not None and needed > available:
            remedy = "connect it to fewer layers"
            yield _capacity("destination layers", population.name, needed, available, remedy)


def _channels(target: HardwareTarget, program: Program, population: Population) -> Iterator[Finding]:
    needed, available = population.shape[0], known(target.layers.channels_max)
    if available is not None and needed > available:
        remedy, own = fewer_units(population, needed, available), prunable(program, population.name)
        yield _capacity("channels", population.name, needed, available, remedy, own)


def _unique_values(target: HardwareTarget, program: Program) -> Iterator[Finding]:
    """Distinct weights of the worst neuron of each population, or of each core or layer.

    A population counts as a whole for a core, although it may take several cores; a single core holds all populations.
    """
    rule = target.weights.unique_values
    if rule is None:
        return
    scope, count = known(rule.scope), known_or(0, rule.count)
    one_core = scope == "core" and target.family == "single_core"
    for where in (None,) if one_core else tuple(population.name for population in program.populations[1:]):
        projections = chip_projections(target, program, where)
        if not projections:
            continue
        if scope == "neuron":
            stored = joined([projection.stored for projection in projections]).by_output()
            needed = int(stored.distinct(zero_counts=not known(rule.zero_is_free)).max())
        else:
            values = torch.cat([projection.stored.values.flatten() for projection in projections]).unique()
            needed = int((values != 0).sum()) if known(rule.zero_is_free) else len(values)
        if needed > count:
            remedy = f"use a codebook of {count} values" if where else f"use at most {count} values in all layers"
            yield _capacity(f"unique weights per {scope}", where or target.name, needed, count, remedy)


def _signs(target: HardwareTarget, program: Program) -> Iterator[Finding]:
    """Sources that have both excitatory and inhibitory weights; of a map that only convolutions read, channels."""
    if not known(target.weights.sign_by_source):
        return
    for population in program.populations:
        leaving = [p for p in chip_projections(target, program) if p.source == population.name]
        excite = [replace(p, weight=p.weight.clamp(min=0), codebook=None) for p in leaving]
        inhibit = [replace(p, weight=p.weight.clamp(max=0), codebook=None) for p in leaving]
        if not leaving:
            continue
        mixed = torch.ones(population.shape, dtype=torch.bool)
        for part in (excite, inhibit):
            mixed &= torch.stack([program.fan_out(p).view(population.shape) for p in part]).sum(dim=0) > 0
        if all(projection.kind == "conv" for projection in leaving):
            mixed = mixed.flatten(1).any(dim=1)
        if number := int(mixed.sum()):
            remedy = f"split {number} of its sources into excitatory and inhibitory ones"
            yield _capacity("signs per source", ", ".join(p.name for p in leaving), 2, 1, remedy)


def _weight_range(target: HardwareTarget, projection: Projection) -> Iterator[Finding]:
    bits, exponent, name = projection.bits or target.widest_bits, projection.exponent, projection.name
    if bits not in (known(target.weights.bits) or ()):
        remedy = f"store weights of {target.stored_bits(bits)} bits"
        yield _capacity("weight bits", name, bits, known(target.weights.bits), remedy)
        return
    low, high = target.exponent_range(bits)
    if not low <= exponent <= high:
        remedy = "store wider weights or change their common factor"
        yield _capacity("weight exponent", name, exponent, f"{low} to {high}", remedy)
    values = projection.stored.values
    smallest, largest = int(values.min()), int(values.max())
    low, high = (bound * 2**exponent for bound in target.weight_range(bits))
    if smallest < low or largest > high:
        remedy = "quantise to fewer bits or to a smaller common factor"
        yield _capacity("weight range", name, f"{smallest} to {largest}", f"{low} to {high}", remedy)
    if exponent and bool((values % 2**exponent != 0).any()):
        yield _capacity("weight exponent", name, "finer weights", f"steps of {2**exponent}", "lower the exponent")


def _constants(target: HardwareTarget, program: Program, population: Population) -> Iterator[Finding]:
    """Ranges and steps of threshold, bias (unless the host adds it to the current), linear leak and decays."""
    neuron = target.neuron
    fewer = "lower the common factor of its weights"
    if population.threshold is not None:
        low, high = known(neuron.threshold_min), target.threshold_max
        yield from _within("threshold", population, population.threshold, low, high, fewer)
        rounded = target.round_threshold(population.threshold)
        yield from _representable("threshold", population, population.threshold, rounded)
    host = any(on_host(target, program, projection) for projection in program.inputs_of(population.name))
    if population.bias is not None and not host:
        low, high = known(neuron.bias_min), known(neuron.bias_max)
        yield from _within("bias", population, population.bias, low, high, f"{fewer} or its norm's shift")
        yield from _representable("bias", population, population.bias, target.round_bias(population.bias))
    if not population.spiking:
        return
    leak = neuron_model(population.model).leak
    if population.leak is not None and leak == "linear":
        yield from _within("leak", population, population.leak, 0, known(neuron.leak_max), fewer)
    decays = (population.leak if leak == "decay" else None, population.synaptic_leak)
    shifts = known(neuron.decay) == "shift"
    low, high = (1, known(neuron.shift_max)) if shifts else (0, 2 ** target.arithmetic().decay_bits)
    for values in decays:
        if values is not None:
            yield from _within("decay", population, values, low, high, "choose a decay that the register holds")


def _within(
    limit: str, population: Population, values: Tensor, low: int | None, high: int | None, remedy: str
) -> Iterator[Finding]:
    smallest, largest = int(values.min()), int(values.max())
    if (low is not None and smallest < low) or (high is not None and largest > high):
        available = f"{'any' if low is None else low} to {'any' if high is None else high}"
        yield _capacity(f"{limit} range", population.name, f"{smallest} to {largest}", available, remedy)


def _representable(limit: str, population: Population, values: Tensor, rounded: Tensor) -> Iterator[Finding]:
    wrong = values != rounded
    if bool(wrong.any()):
        needed, nearest = int(values[wrong][0]), int(rounded[wrong][0])
        remedy = f"round each {limit} to what the register holds"
        yield _capacity(f"{limit} step", population.name, needed, f"{nearest} as the nearest value", remedy)
