"""Size of a network in bytes: that of the tensors in its bundle.

:mod:`spikefit.program.storage` decides how each tensor is stored. A convolution's kernels count once, not once per
position, and dead units are left out.
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
        bytes: bytes of all tensors of the deployed program, as a bundle stores them.
        bits_per_weight: average bits of a stored weight, without the tables of values: bits of its index, or of the
            weight itself if it is stored plainly. Types of inputs are counted too, divided among the weights.
        float_bytes: bytes of the same network in real numbers; see :func:`float_bytes`.
    """

    bytes: int
    bits_per_weight: float
    float_bytes: int


def model_size(stored: Program, exact: Program) -> ModelSize:
    """Measure the size of a network.

    Args:
        stored: the deployed program, of integers.
        exact: the ``exact`` program of the same network, of real numbers.
    """
    tensors = describe(stored)[1].values()
    weights = sum(projection.weight.numel() for projection in stored.projections)
    bits = sum(_index_bits(projection) for projection in stored.projections)
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return ModelSize(size, bits / max(1, weights), float_bytes(exact))


def float_bytes(exact: Program) -> int:
    """Bytes of weights, thresholds, biases and leaks in 32 bits each; a constant that all channels share counts once.

    Args:
        exact: an ``exact`` program, without dead units. A pruned synapse is a weight of 0 and also takes 32 bits.
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
