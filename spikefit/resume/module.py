"""Base class of the LightningModule: what a checkpoint needs so that a resumed run equals the uninterrupted one."""

from pathlib import Path
from typing import Any, Self

import lightning.pytorch as pl
import torch
from torch import Tensor

from spikefit.checkpoint_io import is_remote
from spikefit.checkpoints import require_intact
from spikefit.resume import epoch_metrics
from spikefit.resume.best_checkpoints import found_again, names_checkpoints, with_absolute_paths
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
        if self._trainer is None:
            return
        trainer, callbacks = self.trainer, checkpoint.get("callbacks", {})
        for key, state in callbacks.items():
            if names_checkpoints(state):
                callbacks[key] = with_absolute_paths(state)
        loop = trainer.fit_loop
        inside = inside_epoch(trainer)  # at the end of an epoch, its metrics are complete
        fetcher = loop._data_fetcher
        own = {
            "random": random_state(),
            "accumulated": epoch_metrics.accumulated(trainer) if inside else [],
            "gradients": self._gradients() if inside and loop._should_accumulate() else {},
        }
        parts: list[Any] = [own]
        if trainer.world_size > 1:
            parts = [None] * trainer.world_size
            torch.distributed.all_gather_object(parts, own)
        epoch = loop.epoch_progress.current.processed - 1  # type: ignore[attr-defined]
        checkpoint[PROGRESS] = {
            "processes": parts,
            "shown": _detached(trainer.callback_metrics),
            "last_epoch": {} if inside else {**_detached(trainer.logged_metrics), "epoch": epoch},
            "validates": inside and fetcher is not None and loop.epoch_loop._should_check_val_fx(fetcher),
        }

    def _gradients(self) -> dict[str, Tensor]:
        return {name: each.grad for name, each in self.named_parameters() if each.grad is not None}

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
        if self._resumed is not None:
            continue_after_batch(checkpoint["loops"]["fit_loop"], self._resumed["validates"])

    def on_train_start(self) -> None:
        """Restore random numbers, metrics and gradients of a resumed run.

        The metrics of the epoch before are logged again: the run that was killed may not have written them yet.
        """
        resumed, self._resumed = self._resumed, None
        if resumed is None:
            return
        trainer, row = self.trainer, resumed["last_epoch"]
        if row:
            start_next_epoch(trainer)
            for logger in trainer.loggers:
                shown = {**{name: float(value) for name, value in row.items()}, "epoch": row["epoch"]}
                logger.log_metrics(shown, step=trainer.global_step - 1)
                logger.save()
        trainer.callback_metrics.update(resumed["shown"])
        if len(resumed["processes"]) == trainer.world_size:
            part = resumed["processes"][trainer.global_rank]
            epoch_metrics.restore(self, part["accumulated"])
            for name, gradient in part["gradients"].items():
                self.get_parameter(name).grad = gradient.to(self.device)
            set_random_state(part["random"])


def inside_epoch(trainer: pl.Trainer) -> bool:
    """Whether a training epoch has begun and its last hooks have not been called yet."""
    epochs: Any = trainer.fit_loop.epoch_progress.current
    return epochs.processed < epochs.ready


def _detached(metrics: dict[str, Any]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in metrics.items()}


def continue_after_batch(progress: dict[str, Any], validates: bool) -> None:
    """Let a run that was saved at the end of a batch do what followed: a validation, or the end of the epoch. In place.

    Lightning would leave the validation out, and after the last batch also the hooks at the end of the epoch.

    Args:
        progress: state of Lightning's training loop in a checkpoint.
        validates: whether a validation followed the batch.
    """
    batches, epochs = progress["epoch_loop.batch_progress"], progress["epoch_progress"]["current"]
    at_batch_end = batches["current"]["completed"] == batches["current"]["ready"] - 1
    if not at_batch_end or epochs["processed"] == epochs["ready"] or not (validates or batches["is_last_batch"]):
        return
    for count in (batches["current"], batches["total"]):
        count["completed"] = count["ready"]
    if validates:
        waiting = {"ready": 1, "started": 1, "processed": 0, "completed": 0}  # a validation that was interrupted
        progress["epoch_loop.val_loop.batch_progress"].update(current=dict(waiting), total=dict(waiting))
    else:
        progress["epoch_loop.state_dict"]["_batches_that_stepped"] += 1


def start_next_epoch(trainer: pl.Trainer) -> None:
    """Let a run with ``max_steps`` that was saved at the end of an epoch continue with the next epoch.

    Lightning would call the hooks at the end of the epoch again, and leave the next epoch out.
    """
    loop, epochs = trainer.fit_loop, trainer.fit_loop.epoch_progress
    if trainer.max_steps == -1 or epochs.current.completed == epochs.current.processed:  # type: ignore[attr-defined]
        return
    epochs.increment_completed()
    loop.reset_restart_stage()
    for each in (loop.epoch_loop, loop.epoch_loop.val_loop):
        each.reset_restart_stage()
        each.restarting = False
    loop._restarting = False
