"""Run the deployment simulator on the test set and log what it finds."""

import copy
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import WandbLogger
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn
from torch import Tensor

from callbacks.base import run_directory
from spikefit.deploy.html import write_html
from spikefit.deploy.report import layer_table, print_report, scalars, write_report
from spikefit.deploy.run import Deployment, require_structure
from spikefit.errors import check_choice, check_range
from spikefit.hardware.energy import ENERGY_MODELS, EnergyModelName
from spikefit.hardware.target import HardwareTarget
from spikefit.module import SpikingClassifier
from spikefit.networks.blocks import Network


class DeploymentSimulation(pl.Callback):
    """Lowers the network to a chip, simulates it on the test set, and reports accuracy, fit, synops and energy.

    Runs on every ``test``, and after ``fit`` when ``at_fit_end`` is set: then on the best checkpoint of the first
    checkpoint callback that monitors something (else on the weights as they are) and the data module's test set. Writes
    ``deployment/report.json`` and ``report.html`` into the run's directory, prints them, and logs the scalars as
    ``deploy/...`` and the layers as a W&B table.

    Args:
        target: name of a chip in ``configs/hardware`` or path of a YAML file that describes one.
        energy_model: ``target`` (the chip's own constants), ``horowitz45`` (45 nm CMOS operations) or ``memory``
            (operations and the memory that they read and write).
        at_fit_end: whether to run when ``fit`` ends.
        max_samples: simulate at most this many samples; None for the whole test set.
        parity_samples: compare the exact program with the network on this many samples, spike for spike.

    Raises:
        ConfigurationError: for an unknown energy model.
        TargetError: for an unknown or malformed target; before training when the network uses something that the chip
            does not have.
    """

    def __init__(
        self,
        target: str = "loihi",
        energy_model: EnergyModelName = "target",
        at_fit_end: bool = False,
        max_samples: int | None = None,
        parity_samples: int = 64,
    ) -> None:
        check_choice("energy_model", energy_model, ENERGY_MODELS)
        check_range("parity_samples", parity_samples, 0)
        if max_samples is not None:
            check_range("max_samples", max_samples, 1)
        self.target = HardwareTarget.load(target)
        self.energy_model: EnergyModelName = energy_model
        self.at_fit_end = at_fit_end
        self.max_samples = max_samples
        self.parity_samples = parity_samples
        self.report: dict[str, Any] | None = None
        self._deployment: Deployment | None = None
        self._path: Path | None = None

    def preflight(self, module: SpikingClassifier, data: object) -> None:
        """Refuse a network that the chip can't run in any size, before any data is loaded."""
        graded = bool(getattr(data, "static", False))
        require_structure(module.network, self.target, int(getattr(data, "time_steps", 1)), graded)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """The same check for programs that do not use the command line."""
        if stage in ("fit", "test"):
            assert isinstance(pl_module, SpikingClassifier)
            self.preflight(pl_module, getattr(trainer, "datamodule", None))

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget an earlier run."""
        self._deployment = None

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
        assert isinstance(pl_module, SpikingClassifier)
        self._update(pl_module.network, batch, outputs["logits"])

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report, after adding up the counts of all processes."""
        if self._deployment is None:
            return
        if trainer.world_size > 1:
            parts: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(parts, self._deployment.tally)
            total = parts[0]
            for part in parts[1:]:
                total.add(part)
            self._deployment.tally = total
        self._finish(trainer)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Simulate the best checkpoint on the test set, if asked."""
        data = getattr(trainer, "datamodule", None)
        if not self.at_fit_end or getattr(trainer, "fast_dev_run", False):
            return
        if data is None:
            rank_zero_warn("at_fit_end: True needs a data module with a test set; no deployment was simulated.")
            return
        if trainer.is_global_zero:
            assert isinstance(pl_module, SpikingClassifier)
            network, source = best_network(trainer, pl_module)
            rank_zero_info(f"Deploying {source}")
            self._deployment = None
            data.setup("test")
            with torch.no_grad():
                for batch in data.test_dataloader():
                    moved = pl_module.transfer_batch_to_device(batch, pl_module.device, 0)
                    inputs, labels = data.on_after_batch_transfer(moved, 0)
                    if not self._update(network, (inputs, labels), network.logits(network(inputs))):
                        break
            self._finish(trainer)
        trainer.strategy.barrier("deployment")

    def _update(self, network: Network, batch: tuple[Tensor, Tensor], logits: Tensor) -> bool:
        """Whether more samples are wanted."""
        inputs, labels = batch
        if self._deployment is None:
            graded = bool(((inputs[0] != 0) & (inputs[0] != 1)).any())
            self._deployment = Deployment(
                copy.deepcopy(network).cpu(),
                self.target,
                len(inputs),
                graded_input=graded,
                energy_model=self.energy_model,
                parity_samples=self.parity_samples,
            )
        left = None if self.max_samples is None else self.max_samples - self._deployment.tally.samples
        if left is None or left > 0:
            self._deployment.update(inputs[:, :left], labels[:left], logits[:left])
        return left is None or left > len(labels)

    def _finish(self, trainer: pl.Trainer) -> None:
        assert self._deployment is not None
        self.report = self._deployment.report()
        if not trainer.is_global_zero:
            return
        folder = run_directory(trainer) / "deployment"
        self._path = write_report(self.report, folder)
        write_html(self.report, folder)
        columns, rows = layer_table(self.report)
        for logger in trainer.loggers:
            logger.log_metrics(scalars(self.report), step=trainer.global_step)
            if isinstance(logger, WandbLogger):
                logger.log_table("deploy/layers", columns=columns, data=rows)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Print the report, below a progress bar that has come to rest."""
        if self.report is None or self._path is None:
            return
        bar = trainer.progress_bar_callback
        if isinstance(bar, RichProgressBar):
            bar.teardown(trainer, pl_module, stage)
        print_report(self.report, self._path)
        self._path = None


def best_network(trainer: pl.Trainer, module: SpikingClassifier) -> tuple[Network, str]:
    """A copy of the network with the weights of the best checkpoint, and where they come from.

    The first checkpoint callback that monitors a metric decides; without one, the module's weights are taken.
    """
    network = copy.deepcopy(module.network).eval()
    best = next(
        (
            str(getattr(callback, "best_model_path", ""))
            for callback in trainer.checkpoint_callbacks
            if getattr(callback, "monitor", None)
        ),
        "",
    )
    if not best or not Path(best).is_file():
        return network, "the network as training left it (no checkpoint was monitored)"
    state = torch.load(best, map_location=module.device, weights_only=True)["state_dict"]
    prefix = "network."
    network.load_state_dict({name[len(prefix) :]: t for name, t in state.items() if name.startswith(prefix)})
    return network, best
