"""Callback that simulates the deployed network on the test set and reports the results."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import WandbLogger
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn
from torch import Tensor

from callbacks import epoch_record
from callbacks.base import Place, run_directory
from callbacks.float_accuracy import accuracy_on_test_part, batches_of_test_part, float_network
from callbacks.provenance import provenance
from spikefit.checkpoints import read_checkpoint
from spikefit.deploy.deployment import require_structure
from spikefit.deploy.report.data import Report
from spikefit.deploy.report.html import write_html
from spikefit.deploy.report.logger_values import layer_table, scalars
from spikefit.deploy.report.terminal import print_report
from spikefit.deploy.several import Deployments
from spikefit.errors import ConfigurationError, check_choice, check_range
from spikefit.hardware.deployment_context import DeploymentContext
from spikefit.hardware.energy import ENERGY_MODELS, EnergyModelName
from spikefit.hardware.target import HardwareTarget
from spikefit.module import STATE, SpikingClassifier
from spikefit.networks.blocks import Network
from spikefit.preflight import Preflight
from spikefit.program.emulation import Emulator


class DeploymentSimulation(pl.Callback):
    """Lowers the network to a chip, simulates it on the test set, and reports accuracy, fit, synops and energy.

    It runs in every ``test``, and after ``fit`` if ``at_fit_end`` is set. After ``fit`` it uses the data module's test
    set and the best checkpoint of the first checkpoint callback with a monitored metric (without one, the current
    weights). It writes ``deployment/report.json`` and ``report.html`` into the run's directory, prints the report, logs
    its scalars as ``deploy/...``, and logs the layers as a W&B table.

    By default the chip is the ``hardware`` of the run. The option ``hardware`` of this callback lists other chips, or
    several; it is the only way to deploy on a chip that the run is not for. With several chips, each has a folder
    ``deployment/CHIP``, and its scalars are logged as ``deploy/CHIP/...``.

    When the first compressing callback begins, this callback measures the float network on the same samples, so that
    the report shows the price of compression. At the end of every epoch it records accuracy, energy, living units and
    codebooks for the report. Neither affects training.

    Args:
        hardware: chips to deploy on, names in ``configs/hardware`` or paths of YAML files; None for the run's chip.
        energy_model: ``target`` (the chip's own constants), ``horowitz45`` (45 nm CMOS operations) or ``memory``
            (operations and the memory that they read and write).
        at_fit_end: whether to run when ``fit`` ends.
        max_samples: number of samples to simulate, from the start of the test set; None for all. If the test set is
            sorted by class, they only cover the first classes. Several processes share them.
        parity_samples: number of samples on which the exact program is compared with the network, spike for spike.

    Attributes:
        reports: reports of the last run, by chip.

    Raises:
        ConfigurationError: for an unknown energy model, a chip that is listed twice, or a run that names no chip.
        TargetError: for an unknown or malformed chip; before training, if the network uses a feature that a chip does
            not have.

    Example:
        >>> simulation = DeploymentSimulation(hardware=["loihi", "truenorth"], at_fit_end=True)
        >>> [target.name for target in simulation.targets]
        ['loihi', 'truenorth']
    """

    place = Place.DEPLOYMENT

    def __init__(
        self,
        hardware: Sequence[str] | None = None,
        energy_model: EnergyModelName = "target",
        at_fit_end: bool = False,
        max_samples: int | None = None,
        parity_samples: int = 64,
    ) -> None:
        check_choice("energy_model", energy_model, ENERGY_MODELS)
        check_range("parity_samples", parity_samples, 0)
        if max_samples is not None:
            check_range("max_samples", max_samples, 1)
        self.targets = [HardwareTarget.load(name) for name in hardware or ()]
        names = [target.name for target in self.targets]
        if len(set(names)) < len(names):
            raise ConfigurationError(f"hardware: got {', '.join(names)}, expected each chip once.")
        self.energy_model: EnergyModelName = energy_model
        self.at_fit_end = at_fit_end
        self.max_samples = max_samples
        self.parity_samples = parity_samples
        self.reports: dict[str, Report] = {}
        self._deployments: Deployments | None = None
        self._paths: dict[str, Path] = {}
        self._seen: Tensor | None = None  # the first inputs of an epoch, for the energy of the network at its end

    @property
    def report(self) -> Report | None:
        """The report of the last run, for the first chip if there are several; None before the first run."""
        return next(iter(self.reports.values()), None)

    def contexts(self, module: SpikingClassifier) -> list[DeploymentContext]:
        """One deployment context per listed chip, or that of the run if none is listed."""
        if not self.targets:
            _ = module.context.chip
            return [module.context]
        return [replace(module.context, target=target) for target in self.targets]

    def preflight(self, check: Preflight) -> None:
        """Raise if a chip can't run this kind of network at any size, before any data is loaded."""
        known = self.targets or check.module.hardware is not None
        if check.fitting or (check.command == "test" and known):  # a test may get the chip from its checkpoint
            for context in self.contexts(check.module):
                require_structure(check.module.network, context, training=check.fitting)

    def on_compression_start(self, trainer: pl.Trainer, module: SpikingClassifier) -> None:
        """Measure the accuracy of the float network, unless an earlier callback or run has done so."""
        epoch_record.record_weights(trainer, module)
        if module.accuracy_before_compression is not None or getattr(trainer, "fast_dev_run", False):
            return
        measured = None
        if trainer.is_global_zero and float_network(trainer, module):
            measured = accuracy_on_test_part(trainer, module, self.max_samples)
        # The other processes wait here, so that their next collective does not mix with one of the evaluation.
        module.accuracy_before_compression = trainer.strategy.broadcast(measured)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin the record of the training, or continue that of a checkpoint."""
        assert isinstance(pl_module, SpikingClassifier)
        epoch_record.begin(pl_module, self._first_context(pl_module))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the codebooks that a callback has just switched on."""
        assert isinstance(pl_module, SpikingClassifier)
        epoch_record.record_codebooks(pl_module)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep some inputs of the epoch, for the energy; validation replaces them by its own."""
        if batch_idx == 0:
            self._keep(batch)

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep some inputs, for the energy."""
        if batch_idx == 0 and dataloader_idx == 0:
            self._keep(batch)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the epoch, before a checkpoint is saved."""
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self._record(trainer, pl_module, "val")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the epoch, with the accuracy on its training data."""
        self._record(trainer, pl_module, "train")

    def _keep(self, batch: tuple[Tensor, Tensor]) -> None:
        self._seen = batch[0][:, : epoch_record.SAMPLES].clone()

    def _record(self, trainer: pl.Trainer, module: pl.LightningModule, stage: Literal["val", "train"]) -> None:
        assert isinstance(module, SpikingClassifier)
        epoch_record.record_codebooks(module)
        epoch_record.record_epoch(trainer, module, stage, self._first_context(module), self._seen)

    def _first_context(self, module: SpikingClassifier) -> DeploymentContext | None:
        return self.contexts(module)[0] if self.targets or module.hardware is not None else None

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lower the network for each chip."""
        assert isinstance(pl_module, SpikingClassifier)
        self._begin(pl_module, pl_module.network, trainer.global_rank, trainer.world_size)

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Simulate the batch that was just tested."""
        self._update(batch, outputs["logits"])

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add up the counts of all processes and write the reports."""
        assert self._deployments is not None
        for deployment in self._deployments.each if trainer.world_size > 1 else ():
            parts: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(parts, deployment.tally)
            total = parts[0]
            for part in parts[1:]:
                total.add(part)
            deployment.tally = total
        assert isinstance(pl_module, SpikingClassifier)
        path = None if trainer.ckpt_path is None else str(trainer.ckpt_path)
        trained_here = path is None and trainer.current_epoch > 0
        epoch = last_epoch(trainer) if trained_here else pl_module.checkpoint_epoch
        self._finish(trainer, pl_module, run_directory(trainer), path, epoch)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Simulate the best checkpoint on the test set, if ``at_fit_end`` is set."""
        data = getattr(trainer, "datamodule", None)
        if not self.at_fit_end or getattr(trainer, "fast_dev_run", False):
            return
        if data is None:
            rank_zero_warn("at_fit_end: True needs a data module with a test set; no deployment was simulated.")
            return
        folder = run_directory(trainer)  # a collective: every process must call it
        if trainer.is_global_zero:
            assert isinstance(pl_module, SpikingClassifier)
            path = best_checkpoint(trainer)
            network, epoch = best_network(trainer, pl_module, path)
            rank_zero_info(f"Deploying {path or 'the final weights (no checkpoint callback monitors a metric)'}")
            self._begin(pl_module, network)
            with torch.no_grad():
                for inputs, labels in batches_of_test_part(data, pl_module):
                    if not self._update((inputs, labels), network.logits(network(inputs))):
                        break
            self._finish(trainer, pl_module, folder, path, epoch)
        trainer.strategy.barrier("deployment")

    def _begin(self, module: SpikingClassifier, network: Network, rank: int = 0, processes: int = 1) -> None:
        """Discard the results of an earlier run and lower ``network`` for every chip.

        Of several processes, each simulates every ``processes``-th sample, from sample ``rank`` on.
        """
        contexts = self.contexts(module)
        for context in contexts:
            if module.hardware is not None and context.chip.name != module.hardware.name:
                rank_zero_info(f"Deploying on {context.chip.name}, although the run is for {module.hardware.name}.")
        self.reports = {}
        self._deployments = Deployments(
            network, contexts, self.energy_model, self.parity_samples, self.max_samples, rank, processes
        )

    def _update(self, batch: tuple[Tensor, Tensor], logits: Tensor) -> bool:
        """Simulate a batch and return whether more samples are needed."""
        assert self._deployments is not None
        return self._deployments.update(*batch, logits)

    def _finish(
        self, trainer: pl.Trainer, module: SpikingClassifier, run: Path, path: str | None, epoch: int | None
    ) -> None:
        assert self._deployments is not None
        origin, record = provenance(trainer, run, path, epoch), module.training_record
        before = module.accuracy_before_compression
        self.reports = {
            report.target: report for report in self._deployments.reports(before, origin, record, rank_zero_info)
        }
        several = len(self.reports) > 1
        for chip, report in self.reports.items() if trainer.is_global_zero else ():
            folder = run / "deployment" / chip if several else run / "deployment"
            self._paths[chip] = report.write(folder)
            write_html(report, folder)
            prefix = f"deploy/{chip}/" if several else "deploy/"
            columns, rows = layer_table(report)
            for logger in trainer.loggers:
                logger.log_metrics(
                    {name.replace("deploy/", prefix): value for name, value in scalars(report).items()},
                    step=trainer.global_step,
                )
                if isinstance(logger, WandbLogger):
                    logger.log_table(f"{prefix}layers", columns=columns, data=rows)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Print the reports, after the progress bar has been closed."""
        bar = trainer.progress_bar_callback
        if self._paths and isinstance(bar, RichProgressBar):
            bar.teardown(trainer, pl_module, stage)
        for chip, path in self._paths.items():
            print_report(self.reports[chip], path.with_name("report.html"), path)
        self._paths = {}


def last_epoch(trainer: pl.Trainer) -> int | None:
    """The last epoch, counted from 0, that this trainer has finished; None if there is none."""
    return trainer.current_epoch - 1 if trainer.current_epoch > 0 else None


def best_checkpoint(trainer: pl.Trainer) -> str | None:
    """Path of the best checkpoint of the first checkpoint callback with a monitored metric; None if there is none."""
    monitored = (callback for callback in trainer.checkpoint_callbacks if getattr(callback, "monitor", None))
    best = next((str(getattr(callback, "best_model_path", "")) for callback in monitored), "")
    return best if best and Path(best).is_file() else None


def best_network(trainer: pl.Trainer, module: SpikingClassifier, path: str | None) -> tuple[Network, int | None]:
    """Copy the network, with the weights of a checkpoint of this run.

    Args:
        trainer: trainer of the run.
        module: module that holds the network.
        path: the checkpoint; None for the current weights.

    Returns:
        The copy, in evaluation mode, and the epoch after which the checkpoint was saved.
    """
    network = copy.deepcopy(module.network).eval()
    if path is None:
        return network, last_epoch(trainer)
    checkpoint = read_checkpoint(Path(path), "best_model_path")
    state = {name: tensor.to(module.device) for name, tensor in checkpoint["state_dict"].items()}
    prefix = "network."
    network.load_state_dict({name[len(prefix) :]: t for name, t in state.items() if name.startswith(prefix)})
    emulation = checkpoint.get(STATE, {}).get("emulation")
    network.emulation = None if emulation is None else Emulator.from_state_dict(emulation)
    return network, checkpoint.get("epoch")
