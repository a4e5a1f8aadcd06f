"""How many bytes a network's weights and constants take: those of the tensors of its bundle.

:mod:`spikefit.program.storage` decides how each tensor is stored. A convolution's kernels count once, not once a
position, and dead units are gone.
"""

from dataclasses import dataclass

from spikefit.program.bit_packing import pack
from spikefit.program.ir import Program, Projection
from spikefit.program.storage import describe, pack_weights

REAL_BYTES = 4


@dataclass(frozen=True)
class ModelSize:
    """Size of a network.

    Attributes:
        bytes: of all tensors of the program that is deployed, as a bundle holds them.
        bits_per_weight: bits of an average stored weight without tables: of its index, or of the weight itself where it
            is stored plainly. Where inputs have types, these are shared out to the weights.
        float_bytes: what the same network takes in real numbers; see :func:`float_bytes`.
    """

    bytes: int
    bits_per_weight: float
    float_bytes: int


def model_size(stored: Program, exact: Program) -> ModelSize:
    """Size of a network.

    Args:
        stored: the program that is deployed, of integers.
        exact: its ``exact`` program, of real numbers.
    """
    tensors = describe(stored)[1].values()
    weights = sum(projection.weight.numel() for projection in stored.projections)
    bits = sum(_index_bits(projection) for projection in stored.projections)
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return ModelSize(size, bits / max(1, weights), float_bytes(exact))


def float_bytes(exact: Program) -> int:
    """Bytes of weights, thresholds, biases and leaks in 32 bits each; a constant that all channels share counts once.

    Args:
        exact: an ``exact`` program. Dead units are gone; a pruned synapse is a weight of 0 and takes its 32 bits.
    """
    constants = [
        constant
        for population in exact.populations
        for constant in (population.threshold, population.bias, population.leak, population.synaptic_leak)
        if constant is not None
    ]
    numbers = sum(1 if bool((constant == constant[:1]).all()) else len(constant) for constant in constants)
    return REAL_BYTES * (numbers + sum(projection.weight.numel() for projection in exact.projections))


def _index_bits(projection: Projection) -> int:
    packed, types = pack_weights(projection), projection.axon_types
    needed = packed.index_bits
    return needed if packed.layout != "axon" or types is None else needed + pack(types).index_bits
