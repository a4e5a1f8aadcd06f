"""Data of the pictures in a report: frozen dataclasses of JSON values, of bounded size.

A report stores histograms as counts, and two samples as the spikes of some neurons, so that its page can be made again
from the JSON file alone.
"""

import string
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spikefit.deploy.report.data import Report

DIGITS = string.digits + string.ascii_lowercase  # of spike counts and energy levels, one character each
RELAYS = "relays"  # stands for a population in a core map
MAX_EPOCHS = 400  # of a training record; a longer one keeps every second epoch


@dataclass(frozen=True)
class Histogram:
    """Counts of values in bins of equal width.

    Attributes:
        low: lower edge of the first bin.
        high: upper edge of the last bin, above ``low``.
        counts: number of values in each bin.

    Example:
        >>> Histogram(0.0, 1.0, (3, 0, 1, 0)).edges
        (0.0, 0.25, 0.5, 0.75, 1.0)
    """

    low: float
    high: float
    counts: tuple[int, ...]

    @property
    def edges(self) -> tuple[float, ...]:
        """The edges of the bins, one more than there are bins."""
        bins = len(self.counts)
        return tuple(self.low + (self.high - self.low) * edge / bins for edge in range(bins + 1))

    @property
    def total(self) -> int:
        """Number of all values."""
        return sum(self.counts)


@dataclass(frozen=True)
class CodebookEntry:
    """Weights of one layer: the trained (latent) ones, and the values to which its quantizer maps them.

    Attributes:
        layer: name of the layer.
        quantizer: class name of its quantizer; None for real weights.
        tables: number of tables of values: 1 for a codebook of the layer, one per output for a codebook by channel.
        latent: the trained weights of living synapses.
        values: the values that synapses take, ascending; the centres of bins if there are many; empty for real weights.
        counts: number of synapses (entries of the weight) with each of ``values``.
        binned: whether ``values`` are centres of bins.
        before: weights of the float network, just before compression began; None if they were not recorded.
        first_values: the values when the quantizer was switched on, ascending; empty if they were not recorded.
    """

    layer: str
    quantizer: str | None
    tables: int
    latent: Histogram
    values: tuple[float, ...]
    counts: tuple[int, ...]
    binned: bool
    before: Histogram | None = None
    first_values: tuple[float, ...] = ()


@dataclass(frozen=True)
class RatesEntry:
    """Firing rates of the neurons of one population, over all samples.

    Attributes:
        layer: name of the population.
        rates: spikes per step, by neuron.
        silent: number of neurons without a single spike.
        saturated: number of neurons that fire in at least 95 % of all steps (of the spikes that a step allows).
        neurons: number of neurons.
    """

    layer: str
    rates: Histogram
    silent: int
    saturated: int
    neurons: int


@dataclass(frozen=True)
class RasterRows:
    """Spikes of some neurons of one population, for one sample.

    Attributes:
        layer: name of the population.
        neurons: number of neurons of the population.
        shown: indices of the neurons in ``spikes``, into the flattened population.
        spikes: for each neuron a text with one character per step: ``.`` for no spike, else the number of spikes in
            base 36 (``z`` for 35 and more).
    """

    layer: str
    neurons: int
    shown: tuple[int, ...]
    spikes: tuple[str, ...]


@dataclass(frozen=True)
class SampleEntry:
    """One sample as the program on the chip classified it.

    Attributes:
        sample: position in the test set, from 0.
        label: its class.
        predicted: class that the program chose.
        scores: the largest outputs: spike counts, or mean inputs of a readout without neurons.
        classes: the classes of ``scores``.
        steps: number of time steps.
        picture: the input, averaged over channels and steps: rows of hexadecimal digits from dark to bright. For inputs
            without an image one row for each input, one digit for each step.
        over_time: whether the columns of ``picture`` are time steps.
        rows: spikes of the spiking populations; the first steps only of a long sample.
    """

    sample: int
    label: int
    predicted: int
    scores: tuple[float, ...]
    classes: tuple[int, ...]
    steps: int
    picture: tuple[str, ...]
    over_time: bool
    rows: tuple[RasterRows, ...]

    @property
    def correct(self) -> bool:
        """Whether the program chose the sample's class."""
        return self.label == self.predicted


@dataclass(frozen=True)
class CoreMapEntry:
    """Content and position of the cores in use; the last four attributes have one entry for each core.

    Attributes:
        mesh: whether the positions are those on the chip's mesh.
        used: number of cores in use; a map has at most 4096 of them.
        layers: names of the populations, and ``relays``.
        content: what the core holds: index into ``layers`` and number of neurons, of each population in turn; the
            population with the most neurons comes first.
        fill: utilisation of the fullest limit of the core, percent.
        row: row on the mesh.
        column: column on the mesh.
    """

    mesh: bool
    used: int
    layers: tuple[str, ...]
    content: tuple[tuple[int, ...], ...]
    fill: tuple[int, ...]
    row: tuple[int, ...]
    column: tuple[int, ...]

    @property
    def parts(self) -> list[list[tuple[int, int]]]:
        """The ``content`` as pairs of a layer's index and a number of neurons."""
        return [list(zip(held[::2], held[1::2], strict=True)) for held in self.content]


@dataclass(frozen=True)
class EpochEntry:
    """State of the network at the end of an epoch of training.

    Attributes:
        epoch: number of the epoch, from 0.
        accuracy_val: accuracy on the validation set, 0 to 1; None without validation.
        accuracy_train: accuracy during the epoch, 0 to 1; None if it was not logged.
        energy_j: energy of an inference on the chip, joule, without the terms that
            :attr:`TrainingRecord.energy_without` names; None if it is unknown.
        alive: number of living units of each of :attr:`TrainingRecord.layers`.
        synapses: number of live synapses of each of :attr:`TrainingRecord.masked`.
        quantised: share of the layers with quantizers that are at full strength, 0 to 1; None without quantizers.
        emulated: whether the network computed with a chip's integers.
    """

    epoch: int
    accuracy_val: float | None
    accuracy_train: float | None
    energy_j: float | None
    alive: tuple[int, ...]
    synapses: tuple[int, ...]
    quantised: float | None
    emulated: bool


@dataclass(frozen=True)
class TrainingRecord:
    """What happened in training: accuracy, energy, pruning and codebooks, epoch by epoch.

    Attributes:
        layers: blocks with prunable units.
        units: number of units of each of ``layers``.
        masked: layers with synapse masks.
        weights: number of weights of each of ``masked``.
        energy_on: chip of the energies; None without a chip.
        energy_without: terms that the energies do not contain.
        before: weights of the float network by layer, just before compression began.
        first_values: values of the codebooks by layer, when they were switched on.
        epochs: the epochs, in ascending order.

    Example:
        >>> record = TrainingRecord(layers=("fc1",), units=(8,))
        >>> for epoch, alive in enumerate((8, 6, 6)):
        ...     record = record.with_epoch(EpochEntry(epoch, None, None, None, (alive,), (), None, False))
        >>> record.removed()
        [(1, {'fc1': 2})]
    """

    layers: tuple[str, ...] = ()
    units: tuple[int, ...] = ()
    masked: tuple[str, ...] = ()
    weights: tuple[int, ...] = ()
    energy_on: str | None = None
    energy_without: tuple[str, ...] = ()
    before: Mapping[str, Histogram] | None = None
    first_values: Mapping[str, tuple[float, ...]] | None = None
    epochs: tuple[EpochEntry, ...] = ()

    def with_epoch(self, entry: EpochEntry) -> "TrainingRecord":
        """The record with ``entry`` in place of an entry of the same epoch and of later ones."""
        kept = [other for other in self.epochs if other.epoch < entry.epoch]
        return replace(self, epochs=(*(kept[::2] if len(kept) >= MAX_EPOCHS else kept), entry))

    def removed(self) -> list[tuple[int, dict[str, int]]]:
        """Units (and weights of masked layers, named ``LAYER weights``) removed, by the epoch that began with it."""
        names = (*self.layers, *(f"{name} weights" for name in self.masked))
        before, events = (*self.units, *self.weights), list[tuple[int, dict[str, int]]]()
        for entry in self.epochs:
            now = (*entry.alive, *entry.synapses)
            lost = {name: old - new for name, old, new in zip(names, before, now, strict=True) if new != old}
            events += [(entry.epoch, lost)] if lost else []
            before = now
        return events


@dataclass(frozen=True)
class ChipEntry:
    """The main figures of a deployment, for a comparison of several chips.

    Attributes:
        target: name of the chip.
        fits: whether no limit is violated.
        partial: whether cores and energy are incomplete.
        findings: number of violated limits.
        accuracy_deployed: accuracy of the program on the chip, 0 to 1.
        energy_j: known part of the energy of an inference, joule; None if no part is known.
        unknown: names of the unknown terms of the energy.
        cores_used: number of cores in use.
        cores_available: number of cores of the chip; None if unknown.
        model_bytes: size of the program's tensors, bytes.
        synops: synaptic operations of an inference.
    """

    target: str
    fits: bool
    partial: bool
    findings: int
    accuracy_deployed: float
    energy_j: float | None
    unknown: tuple[str, ...]
    cores_used: int
    cores_available: int | None
    model_bytes: int
    synops: float

    @classmethod
    def of(cls, report: "Report") -> "ChipEntry":
        """The main figures of ``report``."""
        return cls(
            target=report.target,
            fits=report.fits,
            partial=report.partial,
            findings=len(report.findings),
            accuracy_deployed=report.accuracy_deployed,
            energy_j=report.energy_per_inference_j,
            unknown=report.energy.unknown,
            cores_used=report.cores_used,
            cores_available=report.cores.available,
            model_bytes=report.model_bytes,
            synops=report.synops_per_inference,
        )
