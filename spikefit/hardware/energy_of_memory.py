"""Energy of operations and of the memory accesses that they need: the energy model ``memory``.

A model that counts only additions charges the same for weights of any width. Lemaire et al. 2022 (arXiv 2210.13107) add
the cost of reading weights, and of reading and writing membranes, in static memory, which is far higher. This module
implements their model, as we understand it, for a network that is computed event by event, with separate memories for
every layer:

* A synaptic operation reads one weight, reads one membrane, adds, and writes the membrane.
* An update of a neuron reads its membrane, applies the leak (if any), adds the bias, compares, and writes it.
* A multiplication of a real-valued input reads one weight.

A weight is stored as the index of its value, ``ceil(log2(values))`` bits, if the index is narrower than the weight; the
few values are in registers, whose access is not counted. A membrane is as wide as the chip's state, or 32 bits if that
is not known. Words of 32 bits are read from a memory as large as all of the layer's weights or membranes; an access of
fewer bits costs its share. Addresses of events, biases, thresholds, and queues between layers are not counted.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from spikefit.functional.neuron_models import neuron_model
from spikefit.hardware.sourced_value import SourcedValue
from spikefit.program.ir import LayerActivity, Program, Projection
from spikefit.program.stored_weights import index_width

_HOROWITZ = "45 nm CMOS: Horowitz 2014, ISSCC; Lemaire 2022, arXiv 2210.13107"
ADD_J = SourcedValue(0.1e-12, f"int32 addition at {_HOROWITZ}", "P")
MULTIPLY_J = SourcedValue(3.1e-12, f"int32 multiplication at {_HOROWITZ}", "P")
WORD_BITS = 32
SRAM_BYTES = (8 * 1024.0, 32 * 1024.0, 1024 * 1024.0)
SRAM_WORD_J = SourcedValue(
    (10e-12, 20e-12, 100e-12), f"a 32-bit word of SRAM of 8 KB, 32 KB and 1 MB at {_HOROWITZ}", "P"
)
CONSTANTS: Mapping[str, SourcedValue[Any]] = {"add_j": ADD_J, "multiply_j": MULTIPLY_J, "sram_word_j": SRAM_WORD_J}


def access_j(memory_bits: float, bits: float) -> float:
    """Energy of reading or writing ``bits`` bits in a memory of ``memory_bits`` bits, joule.

    Between the sizes of :data:`SRAM_BYTES` the energy of a word is interpolated linearly. Below the smallest size it is
    constant; above the largest it is extrapolated from the last two sizes.
    """
    assert SRAM_WORD_J.value is not None
    size, sizes, energies = memory_bits / 8, SRAM_BYTES, SRAM_WORD_J.value
    word = float(np.interp(size, sizes, energies))
    if size > sizes[-1]:
        word += (size - sizes[-1]) * (energies[-1] - energies[-2]) / (sizes[-1] - sizes[-2])
    return word * bits / WORD_BITS


def index_bits(projection: Projection) -> int:
    """Bits of a stored synapse of ``projection``: of its value's index, or of the weight if the weight is narrower."""
    values = int(projection.stored.merged().distinct())
    return min(max(1, index_width(values)), projection.bits or WORD_BITS)


def state_bits(program: Program) -> int:
    """Width of a membrane, bits."""
    low, high = program.arithmetic.state_min, program.arithmetic.state_max
    if low is None or high is None:
        return WORD_BITS
    return max(1, index_width(high - low + 1))


def memory_terms(program: Program, layer: LayerActivity) -> dict[str, float]:
    """Energy of one layer, joule: operations ``synops``, ``updates`` and ``encoder``, and their ``memory`` accesses."""
    assert ADD_J.value is not None
    assert MULTIPLY_J.value is not None
    population = program.population(layer.name)
    membrane = 2 * access_j(layer.neurons * state_bits(program), state_bits(program))  # read and written
    reads = 0.0
    for projection in program.inputs_of(layer.name):
        bits = index_bits(projection)
        share = program.synapses(projection) / max(1, layer.synapses)
        operations = layer.macs if program.is_encoder(projection) else layer.synops * share
        reads += operations * access_j(projection.weight.numel() * bits, bits)
    leaks = MULTIPLY_J.value if population.spiking and neuron_model(population.model).multiplies else 0.0
    return {
        "synops": layer.synops * ADD_J.value,
        "updates": layer.updates * (ADD_J.value + leaks),
        "encoder": layer.macs * (ADD_J.value + MULTIPLY_J.value),
        "memory": reads + (layer.synops + layer.updates) * membrane,
    }
