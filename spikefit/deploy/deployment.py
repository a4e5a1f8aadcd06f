"""Deployment of a trained network to one chip, and collection of the results for its report."""

import copy
import zlib
from dataclasses import dataclass, field

import torch
from torch import Tensor

from spikefit.deploy.report.build import build_report
from spikefit.deploy.report.collect import confusion_counts, sample_entry
from spikefit.deploy.report.data import Report
from spikefit.deploy.report.picture_data import SampleEntry, TrainingRecord
from spikefit.deploy.report.sections import Accuracy, Provenance
from spikefit.errors import DataError, TargetError
from spikefit.finite import require_finite
from spikefit.hardware.check_chip_capacity import check
from spikefit.hardware.check_supported_features import check_structure
from spikefit.hardware.deployment_context import DeploymentContext
from spikefit.hardware.energy import EnergyModelName
from spikefit.hardware.finding import Finding
from spikefit.hardware.placement import Placement, place
from spikefit.networks.blocks import Network
from spikefit.networks.norms import PositiveBatchNorm
from spikefit.program.ir import LayerActivity
from spikefit.program.lower import lower
from spikefit.program.parity import Parity, compare
from spikefit.program.simulate import Simulator


def require_structure(network: Network, context: DeploymentContext, training: bool = False) -> None:
    """Refuse a network with features that the chip lacks and that no training or pruning can change.

    Args:
        network: not changed.
        context: the chip, steps of an inference, and what the network reads.
        training: whether the network is going to be trained, so that its norms will add biases that are still 0.

    Raises:
        TargetError: names each neuron model, reset, layer, pooling or readout that the chip lacks, and what it has.
    """
    findings = structure_findings(network, context, training)
    if findings:
        lines = "\n".join(f"  - {finding}" for finding in findings)
        name = context.chip.name
        raise TargetError(f"target {name} can't run this network, however it is trained or pruned:\n{lines}")


def structure_findings(network: Network, context: DeploymentContext, training: bool = False) -> list[Finding]:
    """What :func:`require_structure` refuses, one finding for each feature that the chip lacks."""
    return check_structure(context.chip, lower(_with_biases(network) if training else network, context))


def _with_biases(network: Network) -> Network:
    """A copy in which every norm with a trainable bias adds one."""
    trained = copy.deepcopy(network)
    for module in trained.modules():
        if isinstance(module, PositiveBatchNorm) and module.bias.requires_grad:
            torch.nn.init.ones_(module.bias)
    return trained


def samples_checksum(inputs: Tensor) -> int:
    """Checksum of samples, all time steps included; the checksum of several batches is the sum of theirs.

    Args:
        inputs: ``[T, B, ...]``, on the host.
    """
    samples = inputs.transpose(0, 1).flatten(1).float().contiguous().numpy()
    return sum(zlib.crc32(sample) for sample in samples)


@dataclass
class Tally:
    """Counts over samples, which can be added over batches and processes.

    ``relay_synops`` is None if the relays are unknown, and ``confusion`` (int64 ``[classes, classes]``, by label and
    predicted class) before the first batch and for many classes. ``fired`` has the spikes of each neuron by population,
    and ``examples`` the first correctly (True) and wrongly (False) classified sample.
    """

    samples: int = 0
    checksum: int = 0
    correct_float: int = 0
    correct_deployed: int = 0
    relay_synops: float | None = 0.0
    activity: list[tuple[tuple[LayerActivity, ...], int]] = field(default_factory=list)
    parity: list[Parity] = field(default_factory=list)
    agreement: list[Parity] = field(default_factory=list)
    confusion: Tensor | None = None
    fired: dict[str, Tensor] = field(default_factory=dict)
    examples: dict[bool, SampleEntry] = field(default_factory=dict)

    def add(self, other: "Tally") -> None:
        """Add the counts of ``other`` to this tally."""
        self.samples += other.samples
        self.checksum += other.checksum
        self.correct_float += other.correct_float
        self.correct_deployed += other.correct_deployed
        if self.relay_synops is not None:
            self.relay_synops = None if other.relay_synops is None else self.relay_synops + other.relay_synops
        self.activity += other.activity
        self.parity += other.parity
        self.agreement += other.agreement
        if other.confusion is not None:
            self.confusion = other.confusion + (0 if self.confusion is None else self.confusion)
        for name, fired in other.fired.items():
            self.fired[name] = fired + self.fired.get(name, 0)
        for correct, example in other.examples.items():
            self.examples[correct] = min(self.examples.get(correct, example), example, key=lambda entry: entry.sample)


class Deployment:
    """Lowers a trained network to a chip, checks, places and simulates it, and estimates its energy.

    Args:
        network: trained; not changed.
        context: the chip, steps of an inference, and what the network reads.
        energy_model: ``target`` (the chip's own constants) or another name of :mod:`spikefit.hardware.energy`.
        parity_samples: number of samples on which to compare the exact program with the network, spike for spike.
        first_sample, sample_stride: position in the test set of the first sample, and the distance to the next, when
            several processes share the samples.

    Raises:
        NonFiniteError: for a network with NaN or infinite values.

    Example:
        >>> import torch
        >>> from spikefit.hardware.target import HardwareTarget
        >>> from spikefit.input_kind import InputKind
        >>> from spikefit.networks import MLP
        >>> network, inputs = MLP((1, 8, 8), 10, hidden=[16]).eval(), torch.ones(4, 2, 1, 8, 8)
        >>> deployment = Deployment(network, DeploymentContext(HardwareTarget.load("loihi"), 4, InputKind.SPIKES))
        >>> deployment.update(inputs, torch.tensor([3, 7]), network.logits(network(inputs)))
        >>> report = deployment.report()
        >>> report.fits, report.samples, report.neurons, report.parity.mismatches
        (True, 2, 26, 0)
    """

    def __init__(
        self,
        network: Network,
        context: DeploymentContext,
        *,
        energy_model: EnergyModelName = "target",
        parity_samples: int = 64,
        first_sample: int = 0,
        sample_stride: int = 1,
    ) -> None:
        require_finite(network, "deployment")
        self.network, self.context, self.target, self.energy_model = network, context, context.chip, energy_model
        self.program = lower(network, context, "target")
        self.exact = lower(network, context)
        self.placement: Placement = place(self.target, self.program)
        findings = [*check(self.target, self.program), *self.placement.findings]
        self.findings: list[Finding] = list(dict.fromkeys(findings))  # both may check a limit
        self.parity_left = parity_samples
        self.tally = Tally()
        self._first_sample, self._sample_stride = first_sample, sample_stride
        self._simulator = Simulator(self.program)

    def update(self, inputs: Tensor, labels: Tensor, logits: Tensor) -> None:
        """Simulate a batch and add its results to the tally.

        Args:
            inputs: ``[T, B, ...]``.
            labels: ``[B]``.
            logits: ``[B, classes]``, output of the trained network.

        Raises:
            DataError: for inputs whose kind or number of steps differs from the context's.
        """
        if len(inputs) != self.context.time_steps:
            raise DataError(f"time_steps: the run declares {self.context.time_steps}, but a batch has {len(inputs)}.")
        if inputs.stride(0) == 0:  # copy and compute a constant image once
            inputs = inputs[:1].cpu().expand(inputs.shape)
        inputs, labels, logits = inputs.cpu(), labels.cpu(), logits.cpu()
        simulation = self._simulator(inputs)
        predicted = simulation.logits.argmax(dim=1)
        examples = self._examples(inputs, labels, predicted == labels)
        self.tally.add(
            Tally(
                len(labels),
                samples_checksum(inputs),
                int((logits.argmax(dim=1) == labels).sum()),
                int((predicted == labels).sum()),
                self.placement.relay_synops(simulation.fired),
                [(simulation.activity, simulation.samples)],
                confusion=confusion_counts(labels, predicted, simulation.logits.shape[1]),
                fired=simulation.fired,
                examples=examples,
            )
        )
        few = inputs[:, : self.parity_left]
        if few.shape[1]:
            self.tally.parity.append(compare(self.network, self.exact, few))
            self.tally.agreement.append(compare(self.network, self.program, few, tolerance=None))
            self.parity_left -= few.shape[1]

    def _examples(self, inputs: Tensor, labels: Tensor, correct: Tensor) -> dict[bool, SampleEntry]:
        """The first correctly and the first wrongly classified sample, unless an earlier batch had one."""
        found = {}
        for wanted in (True, False):
            if wanted in self.tally.examples or not bool((correct == wanted).any()):
                continue
            position = int((correct == wanted).nonzero()[0])
            sample = self._first_sample + (self.tally.samples + position) * self._sample_stride
            alone = inputs[:, position : position + 1]
            simulation = self._simulator(alone, record=True)
            found[wanted] = sample_entry(self.program, simulation, alone, int(labels[position]), sample)
        return found

    def report(
        self,
        before_compression: Accuracy | None = None,
        provenance: Provenance | None = None,
        training: TrainingRecord | None = None,
    ) -> Report:
        """The report of all batches that have been simulated.

        Args:
            before_compression: accuracy of the float network; None for a run without one.
            provenance: where the network and the samples come from.
            training: what happened in training, epoch by epoch; None if it was not recorded.

        Raises:
            ValueError: if no batch has been simulated.
        """
        return build_report(self, before_compression, provenance, training)
