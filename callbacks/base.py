"""Base class and helpers of the callbacks: schedules, resumable state, and equal tensors in every process."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, ClassVar

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

from callbacks.schedule import Schedule, require_schedule
from spikefit.errors import ConfigurationError
from spikefit.module import SpikingClassifier
from spikefit.preflight import Preflight, training_end
from spikefit.seeding import global_seed, reseed


class Place(IntEnum):
    """Order in which callbacks act when several are due, independent of their order in the configuration.

    A user's own callback takes part when its class sets ``place``. Without a place it keeps its position in the list.
    """

    INITIAL_WEIGHTS = 1  # all others work on the copied weights
    HARDWARE = 2  # replaces quantizers, which CODEBOOKS switches on
    CODEBOOKS = 3  # before pruning, so that scores are those of the quantised network
    UNITS = 4
    SYNAPSES = 5  # after UNITS, because synapses of dead units count as removed
    EMULATION = 6  # emulates the network after compression
    NORMS = 7
    POST_TRAINING = 8
    MONITOR = 9  # measures the result of the others
    DEPLOYMENT = 10
    PREDICTIONS = 11


@dataclass(frozen=True)
class Milestone:
    """An epoch (or step) that training must reach for an option to take effect.

    Attributes:
        option: name of the option.
        value: value of the option.
        position: the epoch (or step), counted from 0, that training must include.
    """

    option: str
    value: float
    position: int


class ScheduledCallback(pl.Callback):
    """Base class of callbacks that act at the start of scheduled epochs (or steps).

    It acts before an epoch, not after it. A checkpoint saved at the end of an epoch then holds the same weights that
    its validation metric was measured on. Override :meth:`due` for a schedule of your own.

    Args:
        schedule: when to act.
        name: distinguishes two callbacks of the same class and schedule in a checkpoint.

    Attributes:
        compresses: whether the first action removes precision, units or synapses from the network.
        place: position among the callbacks that act at the same time.

    Raises:
        ConfigurationError: if ``schedule`` is not a :class:`~callbacks.schedule.Schedule`; before training, if
            training ends before the schedule begins.
    """

    compresses = True
    place: ClassVar[Place | None] = None

    def __init__(self, schedule: Schedule, name: str = "") -> None:
        self.schedule, self.name = require_schedule(schedule), name
        self.last_acted = -1

    @property
    def state_key(self) -> str:
        """Key of this callback's state in a checkpoint; differs with the schedule and the name."""
        schedule = self.schedule
        options = {"start": schedule.start, "every": schedule.every, "interval": schedule.interval}
        return self._generate_state_key(**options, name=self.name)

    def due(self, position: int) -> bool:
        """Whether to act at epoch (or step) ``position``."""
        return self.schedule.due(position)

    def settled(self, position: int) -> bool:
        """Whether this callback no longer changes which weights and units exist, from ``position`` on."""
        return self.schedule.settled(position)

    def may_settle(self, position: int) -> bool:
        """Whether the schedule allows the callback to be :meth:`settled` at ``position``."""
        return self.settled(position)

    def milestones(self) -> Iterator[Milestone]:
        """Positions that training must reach, in addition to at least one scheduled position."""
        yield from ()

    def logged_metrics(self, module: SpikingClassifier) -> Iterable[str]:
        """Names (or :mod:`fnmatch` patterns) of the metrics that this callback logs, to validate ``monitor``."""
        return ()

    def preflight(self, check: Preflight) -> None:
        """Raise if training is too short for the schedule, where its length is already known."""
        if check.fitting:
            self.require_time(check.trainer)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Repeat the check of the schedule, now that the number of batches is known."""
        self.require_time(trainer)

    def require_time(self, trainer: pl.Trainer) -> None:
        """Raise unless training reaches a scheduled position and every milestone.

        Raises:
            ConfigurationError: if training is too short; the message names the option.
        """
        end, owner = training_end(trainer, self.schedule.interval), type(self).__name__
        if end is None:
            return
        if not any(self.due(position) for position in range(end)):
            start = Milestone("schedule.start", self.schedule.start, max(self.schedule.start, end))
            raise too_late(owner, start, self.schedule.interval, end)
        for milestone in self.milestones():
            if milestone.position >= end:
                raise too_late(owner, milestone, self.schedule.interval, end)

    @abstractmethod
    def act(self, trainer: pl.Trainer, module: SpikingClassifier, position: int) -> None:
        """Change the network in place, identically in every process."""

    def position(self, trainer: pl.Trainer) -> int:
        """Current epoch (or step) of the training, depending on the schedule's interval."""
        return trainer.current_epoch if self.schedule.interval == "epoch" else trainer.global_step

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Act if the schedule counts epochs and one is due."""
        if self.schedule.interval == "epoch":
            self._act_once(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Act if the schedule counts steps and one is due; once per step, also under gradient accumulation."""
        if self.schedule.interval == "step":
            self._act_once(trainer, pl_module)

    def _act_once(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        position = self.position(trainer)
        if position == self.last_acted or not self.due(position):
            return
        assert isinstance(pl_module, SpikingClassifier)
        if self.compresses and self.last_acted < 0:
            announce_compression(trainer, pl_module)
        self.act(trainer, pl_module, position)
        self.last_acted = position

    def state_dict(self) -> dict[str, Any]:
        """The position of the last action."""
        return {"last_acted": self.last_acted}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state saved by :meth:`state_dict`."""
        self.last_acted = int(state_dict["last_acted"])


def announce_compression(trainer: pl.Trainer, module: SpikingClassifier) -> None:
    """Call ``on_compression_start(trainer, module)`` of every callback that defines it. Collective: all processes."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        begin = getattr(callback, "on_compression_start", None)
        if begin is not None:
            begin(trainer, module)


def too_late(owner: str, milestone: Milestone, interval: str, end: int) -> ConfigurationError:
    """Build the error for a milestone that a training of ``end`` epochs (or steps) does not reach."""
    allowed, position = milestone.value - (milestone.position - (end - 1)), milestone.position
    limits = "trainer.max_epochs" if interval == "epoch" else "trainer.max_epochs, trainer.max_steps"
    return ConfigurationError(
        f"{owner}.{milestone.option}: got {milestone.value}, which takes effect at {interval} {position}, but "
        f"training has {end} {interval}s, numbered 0 to {end - 1}. Expected at most {allowed}, or a longer training "
        f"({limits})."
    )


def broadcast(trainer: pl.Trainer, tensors: Iterable[Tensor]) -> None:
    """Copy the tensors of process 0 to all other processes, in place. Every process must call this function."""
    if trainer.world_size > 1:
        for tensor in tensors:
            torch.distributed.broadcast(tensor.data, src=0)


def reduce_sum(trainer: pl.Trainer, tensor: Tensor) -> Tensor:
    """Sum ``tensor`` over all processes, in place, and return it. Every process must call this function."""
    if trainer.world_size > 1:
        torch.distributed.all_reduce(tensor)
    return tensor


def training_batches(trainer: pl.Trainer) -> Iterator[Any]:
    """Iterate over training batches on the module's device, after the data module's transfer hooks."""
    assert trainer.train_dataloader is not None
    for batch in trainer.train_dataloader:
        yield trainer.strategy.batch_to_device(batch)


@contextmanager
def side_effect_free(module: nn.Module, *purpose: int | str) -> Iterator[None]:
    """Context with random numbers seeded by the global seed and ``purpose``.

    On exit, the random state and the train/eval mode of every submodule are restored.
    """
    modes = {name: child.training for name, child in module.named_modules()}
    try:
        with isolate_rng():
            reseed(global_seed() or 0, *purpose)
            yield
    finally:
        for name, child in module.named_modules():
            child.training = modes[name]


def run_directory(trainer: pl.Trainer) -> Path:
    """The directory of this run: that of the first logger, else the trainer's ``default_root_dir``."""
    return Path(trainer.log_dir or trainer.default_root_dir)
