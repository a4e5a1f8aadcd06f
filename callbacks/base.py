"""What all compressing callbacks share: a schedule, a state that resumes, and equal tensors in every process."""

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
    """The order in which callbacks act where several are due, whatever their order in the configuration.

    A callback of your own takes part when its class sets ``place``. Without one it stays where it is in the list.
    """

    INITIAL_WEIGHTS = 1  # everything else works on the weights that came
    HARDWARE = 2  # exchanges quantizers, which the next one switches on
    CODEBOOKS = 3  # before pruning: scores are those of the quantised network
    UNITS = 4
    SYNAPSES = 5  # those of dead units count as gone
    EMULATION = 6  # of the network as it is by then
    NORMS = 7
    POST_TRAINING = 8
    MONITOR = 9  # sees what the others did
    DEPLOYMENT = 10
    PREDICTIONS = 11


@dataclass(frozen=True)
class Milestone:
    """A position that training must reach for an option to take effect.

    Attributes:
        option: which.
        value: what it was set to.
        position: the epoch (or step) that must be among those of the training.
    """

    option: str
    value: float
    position: int


class ScheduledCallback(pl.Callback):
    """Acts at the start of the epochs (or steps) that its schedule names.

    Acting before an epoch, not after it, lets a checkpoint that is saved at the epoch's end pair weights with a score
    that was measured on them. Override :meth:`due` for another schedule.

    Args:
        schedule: when to act.
        name: tells two callbacks of the same class and schedule apart in a checkpoint.

    Attributes:
        compresses: whether the first action takes precision, units or synapses from the network.
        place: where it stands among the callbacks that act at the same time.

    Raises:
        ConfigurationError: for another kind of schedule; before training for one that training ends too early for.
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
        """Whether the network's form is final from ``position`` on: which weights and units it has."""
        return self.schedule.settled(position)

    def may_settle(self, position: int) -> bool:
        """Whether it can be :meth:`settled` at ``position``, as far as the schedule decides that."""
        return self.settled(position)

    def milestones(self) -> Iterator[Milestone]:
        """The positions that training must reach, next to one that is due."""
        yield from ()

    def logged_metrics(self, module: SpikingClassifier) -> Iterable[str]:
        """Names of what this callback logs, or patterns of :mod:`fnmatch`, for ``monitor`` of a checkpoint."""
        return ()

    def preflight(self, check: Preflight) -> None:
        """Refuse a schedule that the training ends too early for, as far as its length is known by now."""
        if check.fitting:
            self.require_time(check.trainer)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The same check, as soon as the number of batches is known."""
        self.require_time(trainer)

    def require_time(self, trainer: pl.Trainer) -> None:
        """Raise unless training is long enough for something to be due, and for every milestone.

        Raises:
            ConfigurationError: naming the option.
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
        """Change the network in place, equally in every process."""

    def position(self, trainer: pl.Trainer) -> int:
        """Where training stands, in this schedule's interval."""
        return trainer.current_epoch if self.schedule.interval == "epoch" else trainer.global_step

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Act at epochs."""
        if self.schedule.interval == "epoch":
            self._act_once(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Act at steps; once a step, also when gradients are accumulated over several batches."""
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
        """Restore what :meth:`state_dict` gave."""
        self.last_acted = int(state_dict["last_acted"])


def announce_compression(trainer: pl.Trainer, module: SpikingClassifier) -> None:
    """Call ``on_compression_start(trainer, module)`` of the callbacks that have it. Every process must call it."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        begin = getattr(callback, "on_compression_start", None)
        if begin is not None:
            begin(trainer, module)


def too_late(owner: str, milestone: Milestone, interval: str, end: int) -> ConfigurationError:
    """What is wrong with a milestone that a training of ``end`` epochs (or steps) does not reach."""
    allowed, position = milestone.value - (milestone.position - (end - 1)), milestone.position
    limits = "trainer.max_epochs" if interval == "epoch" else "trainer.max_epochs, trainer.max_steps"
    return ConfigurationError(
        f"{owner}.{milestone.option}: got {milestone.value}, which takes effect at {interval} {position}, but "
        f"training has {end} {interval}s, numbered 0 to {end - 1}. Expected at most {allowed}, or a longer training "
        f"({limits})."
    )


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
    """Training batches on the module's device, after the data module's transfer hooks."""
    assert trainer.train_dataloader is not None
    for batch in trainer.train_dataloader:
        yield trainer.strategy.batch_to_device(batch)


@contextmanager
def side_effect_free(module: nn.Module, *purpose: int | str) -> Iterator[None]:
    """Random numbers of the global seed and ``purpose`` inside; random state and modes as they were after it."""
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
