"""What all compressing callbacks share: a schedule, a state that resumes, and equal tensors in every process."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

from spikefit.errors import check_choice, check_range
from spikefit.module import SpikingClassifier
from spikefit.seeding import global_seed, reseed

Interval = Literal["epoch", "step"]


class ScheduledCallback(pl.Callback):
    """Acts at the start of the epochs (or steps) that its schedule names.

    Acting before an epoch, not behind it, lets a checkpoint that is saved at the epoch's end pair weights with a score
    that was measured on them. Override :meth:`due` for another schedule.

    Args:
        start: first epoch (or optimizer step) to act at, counted from 0.
        stop: last one; None for no end.
        every: distance between two.
        interval: whether these count ``epoch`` or ``step``.
        name: tells two callbacks of the same class and schedule apart in a checkpoint.

    Raises:
        ConfigurationError: for negative positions, a stop before the start, or another interval.
    """

    def __init__(
        self, start: int, stop: int | None, every: int = 1, interval: Interval = "epoch", name: str = ""
    ) -> None:
        check_range("start", start, 0)
        check_range("every", every, 1)
        check_choice("interval", interval, ("epoch", "step"))
        if stop is not None:
            check_range("stop", stop, start)
        self.start, self.stop, self.every, self.interval, self.name = start, stop, every, interval, name
        self.last_acted = -1

    @property
    def state_key(self) -> str:
        """Key of this callback's state in a checkpoint; differs with the schedule and the name."""
        return self._generate_state_key(start=self.start, every=self.every, interval=self.interval, name=self.name)

    def due(self, position: int) -> bool:
        """Whether to act at epoch (or step) ``position``."""
        if position < self.start or (self.stop is not None and position > self.stop):
            return False
        return (position - self.start) % self.every == 0

    def settled(self, position: int) -> bool:
        """Whether the network's form is final from ``position`` on: which weights and units it has."""
        return self.stop is not None and position >= self.stop - (self.stop - self.start) % self.every

    @abstractmethod
    def act(self, trainer: pl.Trainer, module: SpikingClassifier, position: int) -> None:
        """Change the network in place, equally in every process."""

    def position(self, trainer: pl.Trainer) -> int:
        """Where training stands, in this schedule's interval."""
        return trainer.current_epoch if self.interval == "epoch" else trainer.global_step

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Act at epochs."""
        if self.interval == "epoch":
            self._act_once(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Act at steps; once a step, also when gradients are accumulated over several batches."""
        if self.interval == "step":
            self._act_once(trainer, pl_module)

    def _act_once(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        position = self.position(trainer)
        if position == self.last_acted or not self.due(position):
            return
        assert isinstance(pl_module, SpikingClassifier)
        self.act(trainer, pl_module, position)
        self.last_acted = position

    def state_dict(self) -> dict[str, Any]:
        """The position of the last action."""
        return {"last_acted": self.last_acted}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self.last_acted = int(state_dict["last_acted"])


def broadcast(trainer: pl.Trainer, tensors: Iterable[Tensor]) -> None:
    """Copy the tensors of process 0 into those of the others, in place. Every process must call it."""
    if trainer.world_size > 1:
        for tensor in tensors:
            torch.distributed.broadcast(tensor.data, src=0)


def reduce_sum(trainer: pl.Trainer, tensor: Tensor) -> Tensor:
    """The sum of ``tensor`` over processes, in place. Every process must call it."""
    if trainer.world_size > 1:
        torch.distributed.all_reduce(tensor)
    return tensor


def training_batches(trainer: pl.Trainer) -> Iterator[Any]:
    """Training batches on the module's device, behind the data module's transfer hooks."""
    assert trainer.train_dataloader is not None
    for batch in trainer.train_dataloader:
        yield trainer.strategy.batch_to_device(batch)


@contextmanager
def undisturbed(module: nn.Module, *purpose: int | str) -> Iterator[None]:
    """Random numbers of the global seed and ``purpose`` inside; random state and modes as they were behind it."""
    modes = {name: child.training for name, child in module.named_modules()}
    try:
        with isolate_rng():
            reseed(global_seed() or 0, *purpose)
            yield
    finally:
        for name, child in module.named_modules():
            child.training = modes[name]


def run_directory(trainer: pl.Trainer) -> Path:
    """The directory of this run: where the first logger writes, else the trainer's root."""
    return Path(trainer.log_dir or trainer.default_root_dir)
