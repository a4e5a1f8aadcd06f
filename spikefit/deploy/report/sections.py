"""The parts of a report, each a frozen dataclass of JSON values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Value = bool | int | float | str


@dataclass(frozen=True)
class Accuracy:
    """How many samples were classified correctly.

    Attributes:
        correct: samples whose class was found.
        samples: samples that were classified.
        checksum: of these samples and their steps (:func:`spikefit.deploy.deployment.samples_checksum`); None if not
            known.
    """

    correct: int
    samples: int
    checksum: int | None = None

    @property
    def share(self) -> float:
        """Accuracy, 0 to 1."""
        return self.correct / self.samples


@dataclass(frozen=True)
class FindingEntry:
    """One limit of the chip that the network violates.

    Attributes:
        limit: its name.
        where: the population, projection or chip.
        needed: what the network needs, in the limit's own unit.
        available: what the chip has, in the same unit.
        remedy: a sentence that says what would help.
        kind: ``structure`` (no training helps) or ``capacity``.
        prune_blocks: populations of which fewer units would help; empty where pruning can't.
        text: all of it as one sentence.
    """

    limit: str
    where: str
    needed: Value
    available: Value
    remedy: str
    kind: str
    prune_blocks: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class SourcedEntry:
    """A figure of a chip or of an energy model.

    Attributes:
        name: dotted path; its end says the unit: ``_j`` joule, ``_w`` watt, ``_s`` second.
        value: None for a figure that nobody published.
        source: where it was read.
        confidence: a letter of :mod:`spikefit.hardware.sourced_value`.
    """

    name: str
    value: Any
    source: str | None
    confidence: str | None


@dataclass(frozen=True)
class Utilisation:
    """How full the cores in use are, by one limit.

    Attributes:
        mean: of the cores, 0 to 1.
        max: of the fullest core, 0 to 1.
    """

    mean: float
    max: float


@dataclass(frozen=True)
class CoresEntry:
    """The placement.

    Attributes:
        used: cores that hold something.
        available: cores of the chip; None where unknown.
        lower_bound: cores that any placement needs.
        unplaced: populations that no core can hold.
        splitter_neurons: relay neurons that copy spikes.
        hops_per_spike: links that the messages of an average spike cross; None where the chip has no mesh.
        utilisation: by limit of a core.
    """

    used: int
    available: int | None
    lower_bound: int
    unplaced: tuple[str, ...]
    splitter_neurons: int
    hops_per_spike: float | None
    utilisation: Mapping[str, Utilisation]


@dataclass(frozen=True)
class EnergyEntry:
    """Energy of one inference.

    Attributes:
        model: name of the energy model.
        terms_j: joule; None for a term of which a constant is unknown.
        unknown: names of these terms. Derived.
        constants: what the model multiplies counts with.
    """

    model: str
    terms_j: Mapping[str, float | None]
    unknown: tuple[str, ...] = field(init=False)
    constants: tuple[SourcedEntry, ...]

    def __post_init__(self) -> None:
        unknown = tuple(name for name, joule in self.terms_j.items() if joule is None)
        object.__setattr__(self, "unknown", unknown)


@dataclass(frozen=True)
class ParityEntry:
    """A comparison with the trained network, spike for spike.

    Attributes:
        compared: neurons x steps x samples.
        mismatches: of those, how many differ although the membrane is not on its threshold.
        ties: how many differ while the membrane is so near its threshold that rounding decides.
        agreement: share whose spikes are equal, 0 to 1. Derived.
    """

    compared: int
    mismatches: int
    ties: int
    agreement: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "agreement", 1 - (self.mismatches + self.ties) / max(1, self.compared))


@dataclass(frozen=True)
class LayerEntry:
    """A population: its size, its weights, and what it did in an average inference.

    Attributes:
        name: of the population.
        model: of its neurons; ``readout`` for a readout without neurons.
        encoder: whether it multiplies graded inputs.
        shape: ``(C, H, W)`` or ``(N,)``.
        neurons: living ones.
        synapses: that are not zero and within bounds.
        unique_weights: distinct weights, zero among them.
        bits: of a stored weight; 0 for real numbers.
        spikes: per inference.
        rate: spikes a neuron and step.
        synops: synaptic operations per inference.
        macs: multiplications of graded inputs per inference.
        updates: neuron updates per inference.
        overflows: how often per inference a membrane left the state's range.
        energy_j: known part, joule; None where nothing is known.
        energy_terms_j: joule by term; None for an unknown one.
    """

    name: str
    model: str
    encoder: bool
    shape: tuple[int, ...]
    neurons: int
    synapses: int
    unique_weights: int
    bits: int
    spikes: float
    rate: float
    synops: float
    macs: float
    updates: float
    overflows: float
    energy_j: float | None
    energy_terms_j: Mapping[str, float | None]


@dataclass(frozen=True)
class Provenance:
    """Where the deployed network and the samples come from. None for what is not known.

    Attributes:
        data_set: class name.
        run: the run's directory, the last two parts of its path.
        configuration: path of the run's ``config.yaml``.
        seed: of the run.
        commit: of the checkout that spikefit runs from, with ``-dirty`` where a tracked file differs from it.
        version: of spikefit.
        checkpoint: file that the network was read from; None for the network as training left it.
        epoch: last epoch, from 0, that the network was trained for.
    """

    data_set: str | None = None
    run: str | None = None
    configuration: str | None = None
    seed: int | None = None
    commit: str | None = None
    version: str | None = None
    checkpoint: str | None = None
    epoch: int | None = None
