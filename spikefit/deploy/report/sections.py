"""The parts of a report, each a frozen dataclass of JSON values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Value = bool | int | float | str


@dataclass(frozen=True)
class Accuracy:
    """The number of correctly classified samples.

    Attributes:
        correct: number of correctly classified samples.
        samples: number of all samples.
        checksum: checksum of the samples and their steps (:func:`spikefit.deploy.deployment.samples_checksum`); None if
            unknown.

    Example:
        >>> Accuracy(correct=45, samples=60).share
        0.75
    """

    correct: int
    samples: int
    checksum: int | None = None

    @property
    def share(self) -> float:
        """The accuracy, 0 to 1."""
        return self.correct / self.samples


@dataclass(frozen=True)
class FindingEntry:
    """One limit of the chip that the network violates.

    Attributes:
        limit: name of the limit.
        where: name of the population, projection or chip that violates it.
        needed: amount that the network needs, in the limit's unit.
        available: amount that the chip has, in the same unit.
        remedy: a sentence that says what would help.
        kind: ``structure`` (no training helps) or ``capacity``.
        prune_blocks: populations whose pruning would resolve the finding; empty if pruning can't.
        text: the whole finding as one sentence.
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
    """A figure of a chip or of an energy model, with its source.

    Attributes:
        name: dotted path; its end gives the unit: ``_j`` joule, ``_w`` watt, ``_s`` second.
        value: the value; None for a figure that nobody published.
        source: where the value was published.
        confidence: a letter of :mod:`spikefit.hardware.sourced_value`.
    """

    name: str
    value: Any
    source: str | None
    confidence: str | None


@dataclass(frozen=True)
class Utilisation:
    """Utilisation of one limit by the cores in use.

    Attributes:
        mean: mean over the cores, 0 to 1.
        max: utilisation of the fullest core, 0 to 1.
    """

    mean: float
    max: float


@dataclass(frozen=True)
class CoresEntry:
    """The cores that the placement uses.

    Attributes:
        used: number of cores in use.
        available: number of cores of the chip; None if unknown.
        lower_bound: number of cores that every placement of the placed populations needs.
        unplaced: populations that no core can hold; neither ``used`` nor ``lower_bound`` includes them.
        splitter_neurons: number of relay neurons, which copy spikes (:mod:`spikefit.hardware.placement.relays`); None
            if unknown.
        hops_per_spike: links that the messages of an average spike cross, without detours to relays; None if the chip
            has no mesh.
        utilisation: utilisation of the cores, by limit.
        relay_ticks: ticks that the relays add to an inference; None if unknown.
        ticks_per_inference: ticks from the first step of the first layer to the last step of the last layer, relays
            included; None if unknown, or if the chip's family does not define when a spike arrives.
    """

    used: int
    available: int | None
    lower_bound: int
    unplaced: tuple[str, ...]
    splitter_neurons: int | None
    hops_per_spike: float | None
    utilisation: Mapping[str, Utilisation]
    relay_ticks: int | None = None
    ticks_per_inference: int | None = None


@dataclass(frozen=True)
class EnergyEntry:
    """Energy of one inference.

    Attributes:
        model: name of the energy model.
        terms_j: terms of the energy, joule; None for a term with an unknown constant.
        unknown: names of the unknown terms. Derived.
        constants: constants of the model.
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
    """Result of a comparison with the trained network, spike for spike.

    Attributes:
        compared: number of compared values: neurons x steps x samples.
        mismatches: how many values differ although the membrane is not on its threshold.
        ties: how many values differ while the membrane is so near its threshold that rounding decides.
        agreement: share of equal values, 0 to 1. Derived.
    """

    compared: int
    mismatches: int
    ties: int
    agreement: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "agreement", 1 - (self.mismatches + self.ties) / max(1, self.compared))


@dataclass(frozen=True)
class LayerEntry:
    """A population: its size, its weights, and its activity in an average inference.

    Attributes:
        name: name of the population.
        model: neuron model; ``readout`` for a readout without neurons.
        encoder: whether the population multiplies graded inputs.
        shape: ``(C, H, W)`` or ``(N,)``.
        neurons: number of living neurons.
        synapses: number of synapses that are not zero and within bounds.
        unique_weights: number of distinct weights, including zero.
        bits: bits of a stored weight; 0 for real numbers.
        spikes: spikes per inference.
        rate: spikes per neuron and step.
        synops: synaptic operations per inference.
        macs: multiplications of graded inputs per inference.
        updates: neuron updates per inference.
        overflows: how often per inference a membrane left the state's range.
        energy_j: known part of the energy, joule; None if no part is known.
        energy_terms_j: energy by term, joule; None for an unknown term.
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
    """Origin of the deployed network and of the samples; a field is None if it is unknown.

    Attributes:
        data_set: class name of the data set.
        run: the last two parts of the path of the run's directory.
        configuration: path of the run's ``config.yaml``.
        seed: seed of the run.
        commit: commit of the checkout that spikefit runs from, with ``-dirty`` if a tracked file differs from it.
        version: version of spikefit.
        checkpoint: file that the network was loaded from; None for the network at the end of training.
        epoch: last epoch of training, counted from 0.

    Example:
        >>> Provenance(data_set="Digits", seed=3).seed
        3
    """

    data_set: str | None = None
    run: str | None = None
    configuration: str | None = None
    seed: int | None = None
    commit: str | None = None
    version: str | None = None
    checkpoint: str | None = None
    epoch: int | None = None
