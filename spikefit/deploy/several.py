"""Deployment of one network to several chips in one pass over the samples."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor

from spikefit.deploy.deployment import Deployment
from spikefit.deploy.report.data import Report
from spikefit.deploy.report.picture_data import ChipEntry, TrainingRecord
from spikefit.deploy.report.sections import Accuracy, Provenance
from spikefit.errors import ConfigurationError
from spikefit.hardware.deployment_context import DeploymentContext
from spikefit.hardware.energy import EnergyModelName
from spikefit.networks.blocks import Network


class Deployments:
    """Simulates the same samples on one or more chips.

    Args:
        network: trained; copied to the CPU, not changed.
        contexts: one per chip.
        energy_model: name of the energy model.
        parity_samples: number of samples whose spikes are compared with those of the network.
        max_samples: number of samples to simulate; None for all.
        rank, processes: this process simulates every ``processes``-th sample, from sample ``rank`` on, so that all
            processes together simulate ``max_samples`` and compare ``parity_samples``.

    Example:
        >>> import torch
        >>> from spikefit.hardware.target import HardwareTarget
        >>> from spikefit.input_kind import InputKind
        >>> from spikefit.networks import MLP
        >>> network, inputs = MLP((1, 8, 8), 10, hidden=[16]).eval(), torch.ones(4, 3, 1, 8, 8)
        >>> contexts = [DeploymentContext(HardwareTarget.load(n), 4, InputKind.SPIKES) for n in ("loihi", "loihi2")]
        >>> deployments = Deployments(network, contexts, max_samples=2)
        >>> deployments.update(inputs, torch.tensor([3, 7, 1]), network.logits(network(inputs)))
        False
        >>> [(report.target, report.samples) for report in deployments.reports()]
        [('loihi', 2), ('loihi2', 2)]
    """

    def __init__(
        self,
        network: Network,
        contexts: Sequence[DeploymentContext],
        energy_model: EnergyModelName = "target",
        parity_samples: int = 64,
        max_samples: int | None = None,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        on_cpu = copy.deepcopy(network).cpu()
        self._left = None if max_samples is None else len(range(rank, max_samples, processes))
        compared = len(range(rank, parity_samples, processes))
        self.each = [
            Deployment(
                on_cpu,
                context,
                energy_model=energy_model,
                parity_samples=compared,
                first_sample=rank,
                sample_stride=processes,
            )
            for context in contexts
        ]

    def update(self, inputs: Tensor, labels: Tensor, logits: Tensor) -> bool:
        """Simulate a batch, and return whether more samples are needed.

        Args:
            inputs: ``[T, B, ...]``.
            labels: ``[B]``.
            logits: ``[B, classes]``, output of the trained network.
        """
        if self._left != 0:
            for deployment in self.each:
                deployment.update(inputs[:, : self._left], labels[: self._left], logits[: self._left])
        if self._left is not None:
            self._left = max(0, self._left - len(labels))
        return self._left != 0

    def reports(
        self,
        before: Accuracy | None = None,
        provenance: Provenance | None = None,
        training: TrainingRecord | None = None,
        tell: Callable[[str], object] = lambda message: None,
    ) -> list[Report]:
        """One report per chip.

        Args:
            before: accuracy of the float network; left out if it was measured on other samples.
            provenance: where the network and the samples come from.
            training: what happened in training, epoch by epoch; left out if it holds no epoch.
            tell: is called with a message if ``before`` is left out.

        Raises:
            ConfigurationError: if no sample was simulated.
        """
        if not all(deployment.tally.samples for deployment in self.each):
            raise ConfigurationError("deployment: the test part has no batch; expected at least one.")
        if before is not None and before.checksum not in (None, *(each.tally.checksum for each in self.each[:1])):
            tell(
                f"The report omits the accuracy of the float network ({before.share:.2%}), because it was measured on "
                "other samples or time steps than the deployment."
            )
            before = None
        record = training if training is not None and training.epochs else None
        reports = [deployment.report(before, provenance, record) for deployment in self.each]
        if len(reports) == 1:
            return reports
        chips = tuple(ChipEntry.of(report) for report in reports)
        return [replace(report, chips=chips) for report in reports]
