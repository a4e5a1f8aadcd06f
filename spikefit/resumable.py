"""Base class of the LightningModule: what a checkpoint needs so that a resumed run equals the uninterrupted one."""

from pathlib import Path
from typing import Any, Self

import lightning.pytorch as pl
import torch
from torch import Tensor

from spikefit import epoch_metrics
from spikefit.best_checkpoints import found_again, names_checkpoints, with_absolute_paths
from spikefit.checkpoint_io import is_remote
from spikefit.checkpoints import require_intact
from spikefit.seeding import random_state, set_random_state

PROGRESS = "spikefit_progress"  # key in a checkpoint


class ResumableModule(pl.LightningModule):
    """A ``LightningModule`` that continues exactly where a checkpoint was saved, also in the middle of an epoch.

    A checkpoint also has the random numbers and the accumulated metrics of every process, the metrics of the last
    epoch, and the absolute paths of the best checkpoints. The data loader must be resumable, as those of
    :class:`~spikefit.data.datamodule.SpikeDataModule` are.
    """

    _resumed: dict[str, Any] | None = None

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> Self:
        """Load a module as Lightning does, after comparing the file with its checksums.

        Raises:
            CheckpointError: if the file does not exist or is damaged.
        """
        if isinstance(checkpoint_path, str | Path) and not is_remote(checkpoint_path):
            require_intact(Path(checkpoint_path), "checkpoint_path")
        return super().load_from_checkpoint(checkpoint_path, *args, **kwargs)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what Lightning does not: see the class. Collective: every process calls it."""
        trainer, callbacks = self.trainer, checkpoint.get("callbacks", {})
        for key, state in callbacks.items():
            if names_checkpoints(state):
                callbacks[key] = with_absolute_paths(state)
        epochs: Any = trainer.fit_loop.epoch_progress.current
        inside = epochs.processed < epochs.ready  # at the end of an epoch, its metrics are complete
        own = {"random": random_state(), "accumulated": epoch_metrics.accumulated(trainer) if inside else []}
        parts: list[Any] = [own]
        if trainer.world_size > 1:
            parts = [None] * trainer.world_size
            torch.distributed.all_gather_object(parts, own)
        last = {} if inside else {"epoch": epochs.processed - 1, **_detached(trainer.logged_metrics)}
        checkpoint[PROGRESS] = {"processes": parts, "shown": _detached(trainer.callback_metrics), "last_epoch": last}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Prepare what :meth:`on_train_start` restores, and correct what Lightning would restore wrongly.

        Raises:
            CheckpointError: if the best checkpoint so far can't be found.
        """
        trainer = self._trainer
        if trainer is None or not trainer.training or not trainer.ckpt_path:
            return
        callbacks = checkpoint.get("callbacks", {})
        for callback in trainer.checkpoint_callbacks:
            state = callbacks.get(callback.state_key)
            if names_checkpoints(state):
                folder = None if callback.dirpath is None else str(callback.dirpath)  # type: ignore[attr-defined]
                callbacks[callback.state_key] = found_again(state, Path(trainer.ckpt_path), folder)
        self._resumed = checkpoint.get(PROGRESS)  # a checkpoint of an earlier version has none
        if "loops" in checkpoint:
            finish_epoch(checkpoint["loops"]["fit_loop"])

    def on_train_start(self) -> None:
        """Restore random numbers and metrics of a resumed run.

        The metrics of the epoch before are logged again: the run that was killed may not have written them yet.
        """
        resumed, self._resumed = self._resumed, None
        if resumed is None:
            return
        trainer = self.trainer
        trainer.callback_metrics.update(resumed["shown"])
        row = {name: float(value) for name, value in resumed["last_epoch"].items()}
        for logger in trainer.loggers if row else ():
            logger.log_metrics({**row, "epoch": resumed["last_epoch"]["epoch"]}, step=trainer.global_step - 1)
            logger.save()
        parts = resumed["processes"]
        if len(parts) == trainer.world_size:
            part = parts[trainer.global_rank]
            epoch_metrics.restore(self, part["accumulated"])
            set_random_state(part["random"])


def _detached(metrics: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in metrics.items()}


def finish_epoch(progress: dict[str, Any]) -> None:
    """Let a run that was saved after the last batch of an epoch validate and finish this epoch, in place.

    Lightning would regard the epoch as finished, without its validation and without the hooks at its end.

    Args:
        progress: state of Lightning's training loop in a checkpoint.
    """
    batches, epochs = progress["epoch_loop.batch_progress"], progress["epoch_progress"]
    at_batch_end = batches["current"]["completed"] == batches["current"]["ready"] - 1
    if not (batches["is_last_batch"] and at_batch_end and epochs["current"]["processed"] < epochs["current"]["ready"]):
        return
    for count in (batches["current"], batches["total"]):
        count["completed"] = count["ready"]
    waiting = {"ready": 1, "started": 1, "processed": 0, "completed": 0}  # a validation that was interrupted at once
    progress["epoch_loop.val_loop.batch_progress"].update(current=dict(waiting), total=dict(waiting))
