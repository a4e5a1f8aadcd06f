"""Check for features that a chip lacks, which no training or pruning can change: neuron models, resets, layers."""

from collections.abc import Iterator

from spikefit.functional.neuron_models import lacks_integer, names_of, neuron_model
from spikefit.hardware.finding import Finding, plain
from spikefit.hardware.host import on_host
from spikefit.hardware.sourced_value import known, known_or
from spikefit.hardware.target import HardwareTarget
from spikefit.program.ir import Population, Program, Projection


def check_structure(target: HardwareTarget, program: Program) -> list[Finding]:
    """Features of the network that the chip lacks, which no training or pruning can change.

    These are neuron models, resets, registers with two uses, kinds of layers, kernels, strides, paddings, pooling,
    sizes of maps, and the readout.
    """
    findings = [f for population in program.populations for f in _neuron_structure(target, population)]
    findings += _ends(target, program)
    findings += _shared_registers(target, program)
    for projection in program.projections:
        findings += _layer_structure(target, program, projection)
    return findings + _readout_structure(target, program.populations[-1])


def _structure(limit: str, where: str, needed: object, available: object, remedy: str) -> Finding:
    return Finding(limit, where, plain(needed), plain(available), remedy, "structure")


def _neuron_structure(target: HardwareTarget, population: Population) -> Iterator[Finding]:
    if not population.spiking:
        return
    models, resets = known(target.neuron.models) or (), known(target.neuron.resets) or ()
    if population.model not in models:
        entry, none = neuron_model(population.model), "the chip has no integrate-and-fire neurons; use another chip"
        remedy = f"use {names_of(models)} neurons" if models else none
        remedy = f"{entry.neuron} {lacks_integer(entry)}; {remedy}" if lacks_integer(entry) else remedy
        yield _structure("neuron model", population.name, population.model, models or "none", remedy)
    often = known_or(1, target.neuron.spikes_max)
    if population.max_spikes > often:
        yield _structure("spikes a step", population.name, population.max_spikes, often, f"use max_spikes {often}")
    if population.synaptic_bias is not None:
        remedy = "use synapses without a bias (bias=False); the bias of a norm is added to the membrane"
        yield _structure("bias of synapses", population.name, "before the synaptic current", "of the membrane", remedy)
    if resets and population.reset not in resets:
        remedy = f"reset to {' or '.join(resets)}" if resets == ("zero",) else f"use reset {' or '.join(resets)}"
        yield _structure("reset", population.name, population.reset, resets, remedy)


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
        remedy = f"pool by {', '.join(str(size) for size in sizes if size > 1)}"
        yield _structure("pool size", projection.name, projection.pool, sizes, remedy)


def _geometry(target: HardwareTarget, program: Program, projection: Projection) -> Iterator[Finding]:
    """Kernel, stride, padding, dilation and input size; on some chips a dense layer is a kernel of the map's size."""
    layers, name = target.layers, projection.name
    pooled = projection.pooled_shape(program.population(projection.source).shape)
    conv = projection.kind == "conv"
    kernel = tuple(projection.weight.shape[2:]) if conv else pooled[1:]
    if kernel and (conv or known(layers.dense_as_conv)):
        remedy = "use smaller kernels" if conv else "pool the map before the dense layer"
        yield from _at_most("kernel", name, max(kernel), known(layers.kernel_max), remedy)
    if conv:
        strides = known(layers.strides)
        for stride in sorted(set(projection.stride)):
            if strides is not None and stride not in strides:
                remedy = f"use a stride among {', '.join(map(str, strides))}"
                yield _structure("stride", name, stride, strides, remedy)
        yield from _at_most("padding", name, max(projection.padding), known(layers.padding_max), "pad less")
        remedy = "use a plain convolution"
        yield from _at_most("dilation", name, max(projection.dilation), known(layers.dilation_max), remedy)
    size = max(pooled[1:], default=1)
    yield from _at_most("input size", name, size, known(layers.input_size_max), "shrink the input or pool earlier")


def _at_most(limit: str, where: str, needed: int, available: int | None, remedy: str) -> Iterator[Finding]:
    if available is not None and needed > available:
        yield _structure(limit, where, needed, available, remedy)


def _readout_structure(target: HardwareTarget, last: Population) -> list[Finding]:
    readouts = known(target.layers.readouts) or ()
    needed = "spikes" if last.spiking else "membrane"
    if needed in readouts:
        return []
    remedy = "use a spiking readout" if "spikes" in readouts else "use a readout without neurons"
    return [_structure("readout", last.name, needed, readouts, remedy)]


def _ends(target: HardwareTarget, program: Program) -> Iterator[Finding]:
    """Limits that apply to the first and the last layer, and to biases after the first layer."""
    first, last = program.populations[0], program.populations[-1]
    remedy = "shrink the input"
    yield from _at_most("inputs", first.name, first.neurons, known(target.limits.inputs), remedy)
    yield from _at_most(
        "outputs", last.name, target.all_cells((last,)), known(target.limits.outputs), "split the classes"
    )
    often = known(target.layers.readout_spikes_max)
    yield from _at_most("spikes a step", last.name, last.max_spikes, often, f"use max_spikes {often} in the readout")
    if known(target.layers.biases_after_neurons) is False:
        for population in program.populations[1:]:
            reads_neurons = any(projection.source != first.name for projection in program.inputs_of(population.name))
            biased = 0 if population.bias is None else int((population.bias != 0).sum())
            remedy = "use the norm gain, which adds no bias"
            yield from _at_most("biases after neurons", population.name, biased if reads_neurons else 0, 0, remedy)


def _shared_registers(target: HardwareTarget, program: Program) -> Iterator[Finding]:
    """Channels with both a bias and a linear leak, on a chip with one register for the two.

    The host adds the bias of a layer that it computes.
    """
    if not known(target.neuron.bias_shares_leak_register):
        return
    for population in program.populations[1:]:
        bias, leak = population.bias, population.leak
        if bias is None or leak is None or neuron_model(population.model).leak != "linear":
            continue
        both = int(((bias != 0) & (leak != 0)).sum())
        if both and not any(on_host(target, program, projection) for projection in program.inputs_of(population.name)):
            needed = f"both in {both} of {len(bias)} channels"
            remedy = "use the norm gain, which adds no bias, IF neurons, or a leak of 0 in these channels"
            yield _structure("bias and leak in one register", population.name, needed, "one of them", remedy)
