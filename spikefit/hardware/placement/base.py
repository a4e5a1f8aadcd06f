"""The result of a placement, and functions that its families share."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spikefit.functional.convolution import ungrouped
from spikefit.hardware.finding import Finding
from spikefit.hardware.sourced_value import known
from spikefit.hardware.target import HardwareTarget
from spikefit.program.ir import Population, Program, Projection


@dataclass(frozen=True, eq=False)
class Part:
    """Neurons of one population on one core, as indices into the flattened population."""

    population: str
    neurons: np.ndarray


@dataclass(frozen=True, eq=False)
class CoreLoad:
    """The neurons on one core, and how much of its limits they use.

    Attributes:
        index: index of the core.
        parts: the neurons on the core, by population; empty for a core of relays.
        synapses: live synapses of the network that reach the core's neurons, without those of relays.
        utilisation: share of each of the core's limits that is used, 0 to 1.
        splitters: number of relay neurons on the core.
    """

    index: int
    parts: tuple[Part, ...]
    synapses: int
    utilisation: dict[str, float]
    splitters: int = 0

    @property
    def neurons(self) -> int:
        """Neurons of the network on this core."""
        return sum(len(part.neurons) for part in self.parts)

    @property
    def populations(self) -> tuple[str, ...]:
        """Names of the populations on this core."""
        return tuple(part.population for part in self.parts)


@dataclass(frozen=True, eq=False)
class Placement:
    """Assignment of a network's neurons to cores.

    Attributes:
        family: family of the chip.
        cores: the cores in use.
        findings: violated limits.
        lower_bound: number of cores that every placement of the placed populations needs.
        unplaced: populations that no core can hold; they are neither in ``cores`` nor in ``lower_bound``.
        relays: number of relay neurons that copy the spikes of each neuron, by population, int64 ``[C, H, W]``
            (:mod:`spikefit.hardware.placement.relays`); empty for a chip whose neurons reach all their destinations,
            None if it is unknown how many a neuron reaches.
        relay_ticks: ticks that the relays add on the longest path through the network; None if unknown.
        layer_ticks: ticks that the layers after the first take on this path; None for a family that does not define
            when a spike arrives.
        hops_per_spike: hops that a spike causes on the way to all of its cores, without detours to relays, averaged
            over the neurons that fire; None if it was not computed, or the chip has no mesh.
        positions: row and column of each core on the mesh, int64 ``[cores, 2]``; None without a mesh.

    Example:
        >>> from spikefit.hardware.deployment_context import DeploymentContext
        >>> from spikefit.hardware.placement import place
        >>> from spikefit.input_kind import InputKind
        >>> from spikefit.networks import MLP
        >>> from spikefit.program.lower import lower
        >>> context = DeploymentContext(HardwareTarget.load("loihi"), 4, InputKind.SPIKES)
        >>> placement = place(context.chip, lower(MLP((1, 8, 8), 10, hidden=[16]).eval(), context, "target"))
        >>> [(core.populations, core.neurons) for core in placement.cores]
        [(('fc1',), 16), (('readout',), 10)]
    """

    family: str
    cores: tuple[CoreLoad, ...]
    findings: tuple[Finding, ...] = ()
    lower_bound: int = 0
    unplaced: tuple[str, ...] = ()
    relays: Mapping[str, Tensor] | None = field(default_factory=dict)
    relay_ticks: int | None = 0
    layer_ticks: int | None = None
    hops_per_spike: float | None = field(default=None)
    positions: np.ndarray | None = field(default=None)

    @property
    def cores_used(self) -> int:
        """Number of cores in use."""
        return len(self.cores)

    @property
    def splitter_neurons(self) -> int | None:
        """Number of relay neurons; None if unknown."""
        return None if self.relays is None else sum(int(counts.sum()) for counts in self.relays.values())

    def relay_synops(self, fired: Mapping[str, Tensor]) -> float | None:
        """Synaptic operations of the relays: each spike of a neuron reaches all of the neuron's relays.

        Args:
            fired: number of spikes of each neuron, by population; populations that never fire may be missing.

        Returns:
            The number of operations; None if the relays are unknown.
        """
        if self.relays is None:
            return None
        return sum(
            float((fired[name].flatten() * relays.flatten()).sum())
            for name, relays in self.relays.items()
            if name in fired
        )


def too_many_cores(target: HardwareTarget, cores: int, prune_blocks: tuple[str, ...], other: str = "") -> list[Finding]:
    """A finding if the chip has fewer than ``cores`` cores; ``other`` is appended to its remedy."""
    available = known(target.limits.cores)
    if available is None or cores <= available:
        return []
    share = math.ceil(100 * (1 - available / cores))
    remedy = f"prune about {share} % of its neurons or synapses, or spread the network over more chips{other}"
    return [Finding("cores", target.name, cores, available, remedy, "capacity", prune_blocks)]


def cells_too_large(name: str, cells: int, available: int) -> Finding:
    """The finding for population ``name``, whose neurons of ``cells`` hardware neurons each exceed an empty core."""
    remedy = "reset to zero, which takes one hardware neuron" if cells > 1 else "use a chip with larger cores"
    return Finding("neurons per core", name, cells, available, remedy, "capacity")


def shared_constants(target: HardwareTarget) -> dict[str, int]:
    """Limits on the distinct values of a constant on a core, by the constant's name in a population."""
    rooms = {
        "threshold": known(target.limits.threshold_configurations_per_core),
        "leak": known(target.limits.decay_configurations_per_core),
    }
    return {name: room for name, room in rooms.items() if room is not None}


def configurations_by_channel(constant: str, population: Population) -> list[tuple[float, ...]]:
    """The values of ``constant`` in each channel; a ``leak`` includes that of the synaptic current. [] if none."""
    tensors = [getattr(population, constant), population.synaptic_leak if constant == "leak" else None]
    return list(zip(*(tensor.tolist() for tensor in tensors if tensor is not None), strict=True))


def configurations(constant: str, *populations: Population) -> set[tuple[float, ...]]:
    """The distinct values of ``constant`` in all channels of ``populations``."""
    return {values for population in populations for values in configurations_by_channel(constant, population)}


def too_many_configurations(constant: str, where: str, needed: int, available: int) -> Finding:
    """The finding for more distinct values of ``constant`` than a core holds."""
    limit = {"threshold": "threshold configurations per core", "leak": "decay configurations per core"}[constant]
    remedy = f"use at most {available} different values of the {constant} of the neurons on a core"
    return Finding(limit, where, needed, available, remedy, "capacity")


@dataclass(frozen=True, eq=False)
class Kernel:
    """A projection as one ungrouped convolution over the pooled map of its source.

    A dense layer is a kernel as large as the map. ``live`` is float32 0/1 ``[out, in, kh, kw]``. ``types`` are the
    types of the inputs, int64 ``[in, kh, kw]``; None for a projection without types.
    """

    projection: Projection
    weight: Tensor
    live: Tensor
    source: tuple[int, int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    types: Tensor | None = None

    @property
    def copies(self) -> int:
        """Number of source neurons that are pooled into one position of the map."""
        return self.projection.pool**2


def as_kernel(projection: Projection, source: tuple[int, ...]) -> Kernel:
    """``projection`` as a :class:`Kernel`; ``source`` is the shape of its source population."""
    pooled = projection.pooled_shape(source)
    channels, height, width = pooled if len(pooled) == 3 else (pooled[0], 1, 1)
    if projection.kind == "dense":
        weight = projection.weight.reshape(-1, channels, height, width)
        options = ((1, 1), (0, 0), (1, 1))
    else:
        weight = ungrouped(projection.weight, projection.groups)
        options = (projection.stride, projection.padding, projection.dilation)
    types = projection.axon_types
    if types is not None:
        places = (height, width) if projection.kind == "dense" else (1, 1)
        types = types.reshape(channels, *places).expand(weight.shape[1:])
    return Kernel(projection, weight, (weight != 0).float(), (channels, height, width), *options, types)


def kernels_of(program: Program, projections: list[Projection]) -> list[Kernel]:
    """Each of ``projections`` as a kernel."""
    return [as_kernel(projection, program.population(projection.source).shape) for projection in projections]


def map_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The shape of a population as ``(C, H, W)``; ``(N, 1, 1)`` for a flat population."""
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (shape[0], 1, 1)


def sources_used(kernel: Kernel, neurons: Tensor) -> Tensor:
    """Positions of the pooled source that reach ``neurons`` (bool ``[out, H, W]``): bool ``[in, H', W']``."""
    channels, height, width = kernel.source
    (above, left), (down, right) = kernel.padding, kernel.stride
    padded = torch.zeros(channels, height + 2 * above, width + 2 * left, dtype=torch.bool)
    rows, columns = (neurons.any(dim=0).any(dim=dim).nonzero().flatten().tolist() for dim in (1, 0))
    if rows:  # a core holds few positions of a map, whose receptive field is small
        top, first = rows[0], columns[0]
        held = neurons[None, :, top : rows[-1] + 1, first : columns[-1] + 1].float()
        spread = F.conv_transpose2d(held, kernel.live, stride=kernel.stride, dilation=kernel.dilation)[0] > 0
        top, first, (tall, wide) = top * down, first * right, spread.shape[1:]
        padded[:, top : top + tall, first : first + wide] = spread
    return padded[:, above : above + height, left : left + width]


def add_pooled(counts: Tensor, kernel: Kernel, pooled: Tensor) -> None:
    """Add ``pooled`` (after the kernel's pooling) to ``counts`` of the neurons before pooling, in place."""
    pool = kernel.projection.pool
    spread = pooled.to(counts.dtype).repeat_interleave(pool, dim=1).repeat_interleave(pool, dim=2)
    counts[:, : spread.shape[1], : spread.shape[2]] += spread
