"""Callback that prunes channels and neurons on a schedule."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Literal

import lightning.pytorch as pl
import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import Tensor

from callbacks.base import Place, broadcast, reduce_sum, side_effect_free, training_batches
from callbacks.pruning_base import ROUNDING, PruningCallback, say_left_out
from callbacks.schedule import Schedule
from spikefit.deploy.unit_cost import UnitCost
from spikefit.errors import check_choice, check_range
from spikefit.module import SpikingClassifier
from spikefit.networks.blocks import Network
from spikefit.preflight import Preflight
from spikefit.prune.budget import Budget
from spikefit.prune.fraction_schedule import Growth
from spikefit.prune.groups import UnitGroup, alive_units, require_whole_groups, set_alive, unit_groups
from spikefit.prune.resources import ResourceUse, alive_by_block, with_groups
from spikefit.prune.scores.base import Score
from spikefit.prune.scores.fsc import FSC
from spikefit.prune.selection import Masks, ranks_in_group, select, select_within

UnitKind = Literal["channel", "neuron"]
Ranking = Literal["network", "layer"]


class FSCPruning(PruningCallback):
    """Prunes channels and neurons by FSC or any other score, on a schedule, down to a fraction or a budget.

    Units are removed in ascending order of their scores: Fisher Spike Contribution (FSC) by default, or any other
    :class:`~spikefit.prune.scores.base.Score`. The size to reach is a ``fraction`` of the units, or a ``budget`` of
    neurons, synapses or energy (see :class:`~callbacks.pruning_base.PruningCallback`).

    Before each event the score is computed on a few training batches in evaluation mode; ordinary training steps have
    no extra cost. A pruned unit is a False in the ``alive`` buffer of its neuron, which checkpoints restore;
    :func:`spikefit.prune.compact` makes the network physically smaller. The callback logs ``prune/units_alive`` and
    ``prune/fraction``, and with a budget its quantity, such as ``prune/energy_j``. Next to an energy,
    ``prune/energy_unknown_terms`` is the number of terms that it leaves out, and each of them is named by a metric of
    value 1, such as ``prune/energy_unknown/hops``.

    Args:
        fraction: share of the prunable units to remove by the last event, in [0, 1); 0.5 by default.
        schedule: when to prune; it must have an end. The fraction or budget is reached at the last event.
        growth: how the pruned share grows: ``one_shot``, ``linear`` or ``cubic``.
        score: importance of units; :class:`~spikefit.prune.scores.fsc.FSC` on 8 batches by default.
        units: kinds of units to prune: ``channel`` (after convolutions), ``neuron`` (after linear layers), or both.
        min_units: minimum number of units to keep in every group.
        name: distinguishes two callbacks of the same schedule in a checkpoint.
        cost: cost of a unit on the chip, such as :class:`~spikefit.deploy.unit_cost.EnergyCost`; scores are divided by
            it.
        budget: maximum number of neurons or synapses, or maximum energy, of the network; excludes ``fraction``.
        recovery: epochs (or steps) after the last event during which ``CompressedCheckpoint`` waits.
        ranking: ``network`` compares the scores of all units. ``layer`` compares those within a layer (or group tied by
            shortcuts) and removes the same share of each, for scores whose scale differs between layers.

    Raises:
        ConfigurationError: for values that are not allowed; before training, for a grouped convolution that is not
            depthwise; for a budget that ``min_units`` makes unreachable, before training where it does not depend on
            weights or firing rates, else at the event.

    Example:
        >>> from callbacks import FSCPruning, Schedule
        >>> pruning = FSCPruning(fraction=0.5, schedule=Schedule(2, 6, every=2))
        >>> [epoch for epoch in range(10) if pruning.due(epoch)]
        [2, 4, 6]
        >>> pruning.event(4)  # the second of three events
        (2, 3)
    """

    place = Place.UNITS

    def __init__(
        self,
        fraction: float | None = None,
        schedule: Schedule = Schedule(1, 5),
        growth: Growth = "cubic",
        score: Score | None = None,
        units: Sequence[UnitKind] = ("channel", "neuron"),
        min_units: int = 2,
        name: str = "",
        cost: UnitCost | None = None,
        budget: Budget | None = None,
        recovery: int = 0,
        ranking: Ranking = "network",
    ) -> None:
        super().__init__(fraction, budget, schedule, growth, recovery, name)
        check_range("min_units", min_units, 1)
        for kind in units:
            check_choice("units", kind, ("channel", "neuron"))
        check_choice("ranking", ranking, ("network", "layer"))
        self.score = FSC() if score is None else score
        self.units, self.min_units, self.cost, self.ranking = tuple(units), min_units, cost, ranking

    def logged_metrics(self, module: SpikingClassifier) -> Iterable[str]:
        """``prune/units_alive``, ``prune/fraction`` and the budget's quantity."""
        more = super().logged_metrics(module)
        return ("prune/units_alive", "prune/fraction", *more) if self.schedule.interval == "epoch" else ()

    def preflight(self, check: Preflight) -> None:
        """Raise if training is too short for the schedule, the budget can't be met, or groups would become unequal."""
        super().preflight(check)
        network = check.module.network
        if check.fitting:
            require_whole_groups(network, self.prunable(network)[0])
            self.require_cost(check.module)
        if not check.fitting or self.budget is None or not self.budget.depends_on_units_alone(network):
            return
        groups, alive = self.prunable(network)
        fewest = select({group.name: torch.zeros(group.units) for group in groups}, groups, alive, 0, self.min_units)
        least = self.budget.resource_use(network, None).total(with_groups(alive_by_block(network), groups, fewest))
        self._require(least, self.budget.amount, groups)

    def require_cost(self, module: SpikingClassifier) -> None:
        """Raise if the cost can't be computed on the run's chip, and say which terms of the energy it leaves out."""
        if self.cost is not None and self.cost.needs_chip:
            self.cost.require(module.context)
            say_left_out(type(self.cost).__name__, module.context.chip, self.cost.left_out(module.context))

    def prune_to_fraction(self, trainer: pl.Trainer, module: SpikingClassifier, position: int, fraction: float) -> None:
        """Keep the units with the highest scores."""
        groups, alive = self.prunable(module.network)
        total = sum(group.units for group in groups)
        keep = total - round(total * fraction)
        masks = select(self.scores(trainer, module, position), groups, alive, keep, self.min_units)
        left = self.keep(trainer, module, groups, masks)
        if left > keep:
            rank_zero_warn(
                f"fraction: {1 - keep / total:.1%} of {total} units can't be removed, because each of {len(groups)} "
                f"groups keeps min_units={self.min_units}; {1 - left / total:.1%} are removed."
            )

    def prune_to_limit(
        self, trainer: pl.Trainer, module: SpikingClassifier, position: int, resource_use: ResourceUse, limit: float
    ) -> float:
        """Remove as few units as possible, in ascending order of their scores."""
        groups, alive = self.prunable(module.network)
        blocks = alive_by_block(module.network)

        def size(masks: Masks) -> float:
            return resource_use.total(with_groups(blocks, groups, masks))

        scores = self.scores(trainer, module, position)
        masks = select_within(scores, groups, alive, self.min_units, size, limit * ROUNDING)
        self._require(size(masks), limit, groups)
        self.keep(trainer, module, groups, masks)
        return size(masks)

    def prunable(self, network: Network) -> tuple[list[UnitGroup], Masks]:
        """The groups of units that may be pruned, and the masks of their living units."""
        groups = [group for group in unit_groups(network) if group.kind in self.units]
        return groups, {group.name: alive_units(network, group).clone() for group in groups}

    def _require(self, least: float, limit: float, groups: list[UnitGroup]) -> None:
        assert self.budget is not None
        if least > limit * ROUNDING:
            raise self.budget.unreachable(least, f"each of {len(groups)} groups keeps min_units={self.min_units}")

    def keep(self, trainer: pl.Trainer, module: SpikingClassifier, groups: list[UnitGroup], masks: Masks) -> int:
        """Apply the masks of process 0 in every process and return the number of units that are left."""
        broadcast(trainer, masks.values())
        for group in groups:
            set_alive(module.network, group, masks[group.name])
        self.tell_quantizers(module)
        left = sum(int(mask.sum()) for mask in masks.values())
        total = sum(group.units for group in groups)
        self.publish(module, {"prune/units_alive": left, "prune/fraction": 1 - left / total})
        return left

    def scores(self, trainer: pl.Trainer, module: SpikingClassifier, position: int) -> dict[str, Tensor]:
        """Scores of units, divided by costs and replaced by ranks if so configured; equal in every process."""
        scores = self.mean_scores(trainer, module, position, self.score)
        if self.cost is not None:
            scores = self._over_costs(scores, self.cost, trainer, module, position)
        return scores if self.ranking == "network" else ranks_in_group(scores, *self.prunable(module.network))

    def _over_costs(
        self,
        scores: dict[str, Tensor],
        cost: UnitCost,
        trainer: pl.Trainer,
        module: SpikingClassifier,
        position: int,
    ) -> dict[str, Tensor]:
        with side_effect_free(module, "cost", position, trainer.global_rank):
            module.eval()
            batches = islice(training_batches(trainer), cost.batches)
            costs = cost.per_unit(module.network, batches, module.context if cost.needs_chip else None)
        divisors = {
            name: reduce_sum(trainer, amount.float().to(module.device)) / trainer.world_size
            for name, amount in costs.items()
        }
        # A unit without cost is kept, unless its score is 0.
        nothing = torch.finfo(torch.float32).tiny
        return {name: score.double() / divisors[name].clamp_min(nothing).double() for name, score in scores.items()}
