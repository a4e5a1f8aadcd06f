"""Prune the units whose spikes matter least, on a schedule."""

from collections.abc import Sequence
from itertools import islice
from typing import Literal

import lightning.pytorch as pl
import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import Tensor

from callbacks.base import Interval, ScheduledCallback, broadcast, reduce_sum, training_batches, undisturbed
from spikefit.errors import ConfigurationError, check_choice, check_range
from spikefit.module import SpikingClassifier
from spikefit.prune.groups import alive_units, set_alive, unit_groups
from spikefit.prune.schedule import Growth, pruned_fraction
from spikefit.prune.scores import FSC, Score, select

UnitKind = Literal["channel", "neuron"]


class FSCPruning(ScheduledCallback):
    """Remove a growing fraction of the channels and neurons: those of least score over the whole network.

    Before each event the score looks at a few training batches in evaluation mode; no ordinary step pays for it. A
    pruned unit is a False in its neuron's ``alive`` buffer, so a checkpoint restores it; :func:`spikefit.prune.compact`
    makes the network physically smaller. Logs ``prune/units_alive`` and ``prune/fraction``.

    Args:
        fraction: share of the prunable units that is gone after the last event, in [0, 1).
        start: epoch (or step) of the first event.
        stop: last position at which an event may be; the fraction is reached at the last event.
        every: distance between events.
        interval: ``epoch`` or ``step``.
        growth: ``one_shot``, ``linear`` or ``cubic``.
        score: importance of units; :class:`~spikefit.prune.scores.FSC` on 8 batches by default.
        units: which kinds to prune: ``channel`` (behind convolutions), ``neuron`` (behind linear layers), or both.
        min_units: every group of units keeps at least this many.
        name: tells two callbacks of the same schedule apart.

    Raises:
        ConfigurationError: for values that are not allowed.
    """

    def __init__(
        self,
        fraction: float = 0.5,
        start: int = 1,
        stop: int = 5,
        every: int = 1,
        interval: Interval = "epoch",
        growth: Growth = "cubic",
        score: Score | None = None,
        units: Sequence[UnitKind] = ("channel", "neuron"),
        min_units: int = 2,
        name: str = "",
    ) -> None:
        super().__init__(start, stop, every, interval, name)
        if not 0 <= fraction < 1:
            raise ConfigurationError(f"fraction: got {fraction!r}, expected a value in [0, 1).")
        check_choice("growth", growth, ("one_shot", "linear", "cubic"))
        check_range("min_units", min_units, 1)
        for kind in units:
            check_choice("units", kind, ("channel", "neuron"))
        self.fraction, self.growth, self.min_units = fraction, growth, min_units
        self.score = FSC() if score is None else score
        self.units = tuple(units)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Say so when training ends before the last event."""
        assert self.stop is not None
        last = self.stop - (self.stop - self.start) % self.every
        end = trainer.max_epochs if self.interval == "epoch" else trainer.max_steps
        if stage == "fit" and end is not None and 0 < end <= last:
            rank_zero_warn(
                f"stop: the last pruning event is due at {self.interval} {last}, but training ends at {end}; the "
                f"fraction of {self.fraction} will not be reached."
            )

    def act(self, trainer: pl.Trainer, module: SpikingClassifier, position: int) -> None:
        """Score, decide on process 0, and kill the same units everywhere."""
        assert self.stop is not None
        event = (position - self.start) // self.every + 1
        events = (self.stop - self.start) // self.every + 1
        groups = [group for group in unit_groups(module.network) if group.kind in self.units]
        total = sum(group.units for group in groups)
        keep = total - round(total * pruned_fraction(self.fraction, event, events, self.growth))
        scores = self._scores(trainer, module, position)
        alive = {group.name: alive_units(module.network, group).clone() for group in groups}
        masks = select(scores, groups, alive, keep, self.min_units)
        broadcast(trainer, masks.values())
        for group in groups:
            set_alive(module.network, group, masks[group.name])
        left = sum(int(mask.sum()) for mask in masks.values())
        if left > keep:
            rank_zero_warn(
                f"fraction: {1 - keep / total:.1%} of {total} units can't go, because each of {len(groups)} groups "
                f"keeps min_units={self.min_units}; {1 - left / total:.1%} are gone."
            )
        if self.interval == "epoch":
            module.log("prune/units_alive", float(left))
            module.log("prune/fraction", 1 - left / total)

    def _scores(self, trainer: pl.Trainer, module: SpikingClassifier, position: int) -> dict[str, Tensor]:
        """Mean scores over the samples of all processes; the module's mode and the random state stay as they were."""
        with undisturbed(module, "pruning", position, trainer.global_rank):
            module.eval()
            totals, samples = self.score.accumulate(
                module.network, islice(training_batches(trainer), self.score.batches), module.loss
            )
        count = reduce_sum(trainer, torch.tensor(float(samples), device=module.device))
        return {name: reduce_sum(trainer, total.to(module.device)) / count for name, total in totals.items()}
