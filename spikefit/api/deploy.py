"""Deployment of a trained network to chips, with the data and options of its run."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

import spikefit
from callbacks.base import side_effect_free
from callbacks.float_accuracy import batches_of_test_part
from spikefit.api.chips import Hardware, chip_of, chosen_chips
from spikefit.api.load import CONFIGURATION, TrainedRun
from spikefit.deploy.deployment import require_structure, structure_findings
from spikefit.deploy.report import Provenance, Report
from spikefit.deploy.report.git_commit import checkout_commit
from spikefit.deploy.several import Deployments
from spikefit.errors import ConfigurationError, DataError, check_choice, check_range
from spikefit.hardware.energy import ENERGY_MODELS, EnergyModelName
from spikefit.hardware.finding import grouped
from spikefit.hardware.target import HardwareTarget
from spikefit.module import SpikingClassifier

Batches = Iterable[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Outcome:
    """Result of a deployment on one chip of several.

    Attributes:
        chip: the chip.
        report: the report; None if the chip can't run this kind of network at any size.
        reasons: what the chip lacks; empty with a report.
    """

    chip: HardwareTarget
    report: Report | None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Options:
    """How to deploy; None stands for the value of the run's ``DeploymentSimulation``, or else its default.

    Attributes:
        samples: number of samples to simulate, from the start of the test set; 0 for all.
        parity_samples: number of samples whose spikes are compared with those of the network.
        energy_model: ``target`` (the chip's own constants), ``horowitz45`` or ``memory``.
    """

    samples: int | None = None
    parity_samples: int | None = None
    energy_model: EnergyModelName | None = None

    def of_run(self, run: TrainedRun) -> dict[str, Any]:
        """Arguments of :class:`~spikefit.deploy.several.Deployments`.

        Raises:
            ConfigurationError: for a value that is not allowed; names it.
        """
        stored = run.deployment_options
        samples = stored.get("max_samples") if self.samples is None else self.samples or None
        compared = stored.get("parity_samples", 64) if self.parity_samples is None else self.parity_samples
        model = self.energy_model or stored.get("energy_model", "target")
        if samples is not None:
            check_range("samples", samples, 1)
        check_range("parity_samples", compared, 0)
        check_choice("energy_model", model, ENERGY_MODELS)
        return {"max_samples": samples, "parity_samples": compared, "energy_model": model}


def deploy(
    source: str | Path | SpikingClassifier,
    hardware: Hardware | None = None,
    data: pl.LightningDataModule | Batches | None = None,
    *,
    samples: int | None = None,
    parity_samples: int | None = None,
    energy_model: EnergyModelName | None = None,
) -> Report:
    """Deploy a trained network to a chip: lower, check, place and simulate it, and estimate its energy.

    Args:
        source: a checkpoint, the directory of a run, or a trained module.
        hardware: the chip: a name, the path of a YAML file, or a description. None for the chip of the run.
        data: data module whose test part is simulated, or batches ``([T, B, ...], [B])``. None for the data of the
            run's configuration, or of the trainer that trained the module.
        samples: number of samples to simulate, from the start of the test set; 0 for all. None for the value of the
            run's ``DeploymentSimulation``; without one, all.
        parity_samples: number of samples whose spikes are compared with those of the network; None as for ``samples``,
            and 64 without one.
        energy_model: ``target`` (the chip's own constants), ``horowitz45`` or ``memory``; None as for ``samples``.

    Returns:
        The report, with the same figures as that of the run itself if no option differs.

    Raises:
        TargetError: for an unknown chip, or a chip that can't run this kind of network at any size.
        CheckpointError: if the checkpoint can't be loaded.
        ConfigurationError: if the chip or the data are not known, or an option has a value that is not allowed.
        DataError: if the data are missing or damaged, or the network can't read a batch.

    Example:
        >>> from spikefit.data import SpikeDataModule
        >>> from spikefit.data.images import Digits
        >>> from spikefit.networks import MLP
        >>> data = SpikeDataModule(Digits())
        >>> module = SpikingClassifier(lambda shape, classes: MLP(shape, classes, hidden=[16]), (1, 8, 8), 10)
        >>> report = deploy(module, "loihi", data, samples=8)
        >>> report.target, report.fits, report.samples, report.neurons
        ('loihi', True, 8, 26)
    """
    run = TrainedRun.of(source)
    if hardware is None:
        (target,) = chosen_chips([], run.module.hardware)
    else:
        target = chip_of(hardware, run.module.hardware)
    (outcome,) = deploy_to_all(run, [target], data, Options(samples, parity_samples, energy_model))
    if outcome.report is None:
        require_structure(run.module.network, replace(run.module.context, target=target))
    assert outcome.report is not None
    return outcome.report


def deploy_to_all(
    run: TrainedRun,
    targets: Sequence[HardwareTarget],
    data: pl.LightningDataModule | Batches | None = None,
    options: Options = Options(),
    tell: Callable[[str], object] = lambda message: None,
) -> list[Outcome]:
    """Deploy a trained network to several chips in one pass over the samples.

    Args:
        run: the trained module and its configuration.
        targets: the chips.
        data: as in :func:`deploy`.
        options: how to deploy.
        tell: is called with messages about the course.

    Raises:
        ConfigurationError, DataError: as in :func:`deploy`.
    """
    arguments = options.of_run(run)
    module = run.module
    data = _data(run, data)
    module.declare(data)
    contexts = [replace(module.context, target=target) for target in targets]
    lacking = [grouped(structure_findings(module.network, context)) for context in contexts]
    outcomes = [
        Outcome(target, None, tuple(str(finding).removesuffix(".") for finding in findings))
        for target, findings in zip(targets, lacking, strict=True)
    ]
    able = [context for context, findings in zip(contexts, lacking, strict=True) if not findings]
    if not able:
        return outcomes
    with run.threads(), side_effect_free(module, "deployment"), torch.no_grad():
        module.to(run.device).eval()
        deployments = Deployments(module.network, able, **arguments)
        for inputs, labels in _batches(data, module):
            if not deployments.update(inputs, labels, module(inputs)):
                break
        origin = _provenance(run, data)
        before, record = module.accuracy_before_compression, module.training_record
        reports = {report.target: report for report in deployments.reports(before, origin, record, tell)}
    return [replace(outcome, report=reports.get(outcome.chip.name)) for outcome in outcomes]


def _data(run: TrainedRun, data: pl.LightningDataModule | Batches | None) -> pl.LightningDataModule | Batches:
    if data is not None:
        if isinstance(data, str) or not isinstance(data, pl.LightningDataModule | Iterable):
            raise ConfigurationError(
                f"data: got {data!r}, expected a LightningDataModule or batches of inputs [T, B, C, H, W] and labels "
                "[B]."
            )
        return data
    trainer = run.module._trainer
    attached = getattr(trainer, "datamodule", None)
    return run.data() if attached is None else attached


def _batches(data: pl.LightningDataModule | Batches, module: SpikingClassifier) -> Iterator[tuple[Tensor, Tensor]]:
    if isinstance(data, pl.LightningDataModule):
        data.prepare_data()
        for batch in batches_of_test_part(data, module):
            yield _checked(batch, module)
        return
    for batch in data:
        inputs, labels = _checked(batch, module)
        yield inputs.to(module.device), labels.to(module.device)


def _checked(batch: Any, module: SpikingClassifier) -> tuple[Tensor, Tensor]:
    """Inputs and labels of a batch.

    Raises:
        DataError: if the network can't read them; says what was expected and received.
    """
    shape, classes = module.network.input_shape, int(module.hparams["num_classes"])
    found = _contradiction(batch, shape, classes)
    if found is not None:
        wanted = ", ".join(["T", "B", *map(str, shape)])
        raise DataError(
            f"data: got {found}, expected inputs [{wanted}] and labels [B], whole numbers in 0..{classes - 1}."
        )
    return batch[0], batch[1]


def _contradiction(batch: Any, shape: tuple[int, ...], classes: int) -> str | None:
    """What is wrong with a batch of frames of ``shape`` and labels below ``classes``; None for nothing."""
    if not isinstance(batch, list | tuple):
        return f"a {type(batch).__name__} instead of a pair"
    if len(batch) != 2:
        return f"{len(batch)} values instead of a pair"
    for name, part in zip(("inputs", "labels"), batch, strict=True):
        if not isinstance(part, Tensor):
            return f"{name} of the type {type(part).__name__}"
    inputs, labels = batch
    if inputs.dim() < 3 or inputs.shape[2:] != shape:
        return f"inputs of shape {tuple(inputs.shape)}"
    if labels.shape != inputs.shape[1:2]:
        return f"labels of shape {tuple(labels.shape)} for {inputs.shape[1]} samples"
    if labels.is_floating_point() or labels.is_complex():
        return f"labels of the type {labels.dtype}"
    if len(labels) and (int(labels.min()) < 0 or int(labels.max()) >= classes):
        return f"labels from {int(labels.min())} to {int(labels.max())}"
    return None


def _provenance(run: TrainedRun, data: Any) -> Provenance:
    source, folder, seed = getattr(data, "dataset", data), run.folder, run.settings.get("seed_everything")
    return Provenance(
        data_set=type(source).__name__,
        run=None if folder is None else "/".join(folder.resolve().parts[-2:]),
        configuration=None if folder is None else str(folder / CONFIGURATION),
        seed=seed if isinstance(seed, int) and not isinstance(seed, bool) else None,
        commit=checkout_commit(),
        version=spikefit.__version__,
        checkpoint=None if run.checkpoint is None else str(run.checkpoint),
        epoch=run.module.checkpoint_epoch,
    )
