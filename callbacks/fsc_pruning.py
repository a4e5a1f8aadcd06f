"""Prune the units whose spikes matter least, on a schedule."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Literal

import lightning.pytorch as pl
import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import Tensor

from callbacks.base import Place, broadcast, reduce_sum, side_effect_free, training_batches
from callbacks.pruning_base import ROUNDING, PruningCallback
from callbacks.schedule import Schedule
from spikefit.deploy.unit_cost import UnitCost
from spikefit.errors import check_choice, check_range
from spikefit.module import SpikingClassifier
from spikefit.networks.blocks import Network
from spikefit.preflight import Preflight
from spikefit.prune.budget import Budget
from spikefit.prune.fraction_schedule import Growth
from spikefit.prune.groups import UnitGroup, alive_units, set_alive, unit_groups
from spikefit.prune.resources import ResourceUse, alive_by_block, with_groups
from spikefit.prune.scores.base import Score
from spikefit.prune.scores.fsc import FSC
from spikefit.prune.selection import Masks, ranks_in_group, select, select_within

UnitKind = Literal["channel", "neuron"]
Ranking = Literal["network", "layer"]


class FSCPruning(PruningCallback):
    """Remove channels and neurons, those of least score, until a fraction or a budget holds.

    Before each event the score looks at a few training batches in evaluation mode; no ordinary step pays for it. A
    pruned unit is a False in its neuron's ``alive`` buffer, so a checkpoint restores it; :func:`spikefit.prune.compact`
    makes the network physically smaller. Logs ``prune/units_alive`` and ``prune/fraction``, and under a budget its
    quantity, such as ``prune/energy_j``. What a budget does is told in
    :class:`~callbacks.pruning_base.PruningCallback`.

    Args:
        fraction: share of the prunable units that is gone after the last event, in [0, 1); 0.5 without a budget.
        schedule: of the events, with an end; fraction or budget is reached at the last one.
        growth: ``one_shot``, ``linear`` or ``cubic``.
        score: importance of units; :class:`~spikefit.prune.scores.fsc.FSC` on 8 batches by default.
        units: which kinds to prune: ``channel`` (after convolutions), ``neuron`` (after linear layers), or both.
        min_units: every group of units keeps at least this many.
        name: tells two callbacks of the same schedule apart.
        cost: what a unit takes on a chip, such as :class:`~spikefit.deploy.unit_cost.EnergyCost`; scores are divided by
            it.
        budget: neurons, synapses or energy that the network may take; given instead of ``fraction``.
        recovery: epochs (or steps) after the last event during which ``CompressedCheckpoint`` waits.
        ranking: ``network`` compares the scores of all units; ``layer`` those of one layer (or group tied by
            shortcuts), and takes the same share of each: for scores that differ in size between layers.

    Raises:
        ConfigurationError: for values that are not allowed; for a budget that ``min_units`` puts out of reach, before
            training as far as that does not depend on weights or firing rates, else at the event.
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
        """How many units are left, the share that is gone, and the budget's quantity."""
        more = super().logged_metrics(module)
        return ("prune/units_alive", "prune/fraction", *more) if self.schedule.interval == "epoch" else ()

    def preflight(self, check: Preflight) -> None:
        """Refuse a schedule that training is too short for, and a budget that can't be met."""
        super().preflight(check)
        network = check.module.network
        if check.fitting and self.cost is not None and self.cost.needs_chip:
            self.cost.require(check.module.context)
        if not check.fitting or self.budget is None or not self.budget.depends_on_units_alone(network):
            return
        groups, alive = self.prunable(network)
        fewest = select({group.name: torch.zeros(group.units) for group in groups}, groups, alive, 0, self.min_units)
        least = self.budget.resource_use(network, None).total(with_groups(alive_by_block(network), groups, fewest))
        self._require(least, self.budget.amount, groups)

    def prune_to_fraction(self, trainer: pl.Trainer, module: SpikingClassifier, position: int, fraction: float) -> None:
        """Keep the units of highest score."""
        groups, alive = self.prunable(module.network)
        total = sum(group.units for group in groups)
        keep = total - round(total * fraction)
        masks = select(self.scores(trainer, module, position), groups, alive, keep, self.min_units)
        left = self.keep(trainer, module, groups, masks)
        if left > keep:
            rank_zero_warn(
                f"fraction: {1 - keep / total:.1%} of {total} units can't go, because each of {len(groups)} groups "
                f"keeps min_units={self.min_units}; {1 - left / total:.1%} are gone."
            )

    def prune_to_limit(
        self, trainer: pl.Trainer, module: SpikingClassifier, position: int, footprint: ResourceUse, limit: float
    ) -> float:
        """Remove the fewest units, in the order of their scores."""
        groups, alive = self.prunable(module.network)
        blocks = alive_by_block(module.network)

        def size(masks: Masks) -> float:
            return footprint.total(with_groups(blocks, groups, masks))

        scores = self.scores(trainer, module, position)
        masks = select_within(scores, groups, alive, self.min_units, size, limit * ROUNDING)
        self._require(size(masks), limit, groups)
        self.keep(trainer, module, groups, masks)
        return size(masks)

    def prunable(self, network: Network) -> tuple[list[UnitGroup], Masks]:
        """The groups that may lose units, and which of these live."""
        groups = [group for group in unit_groups(network) if group.kind in self.units]
        return groups, {group.name: alive_units(network, group).clone() for group in groups}

    def _require(self, least: float, limit: float, groups: list[UnitGroup]) -> None:
        assert self.budget is not None
        if least > limit * ROUNDING:
            raise self.budget.unreachable(least, f"each of {len(groups)} groups keeps min_units={self.min_units}")

    def keep(self, trainer: pl.Trainer, module: SpikingClassifier, groups: list[UnitGroup], masks: Masks) -> int:
        """Put the masks of process 0 into every process; how many units are left."""
        broadcast(trainer, masks.values())
        for group in groups:
            set_alive(module.network, group, masks[group.name])
        self.tell_quantizers(module)
        left = sum(int(mask.sum()) for mask in masks.values())
        total = sum(group.units for group in groups)
        self.publish(module, {"prune/units_alive": left, "prune/fraction": 1 - left / total})
        return left

    def scores(self, trainer: pl.Trainer, module: SpikingClassifier, position: int) -> dict[str, Tensor]:
        """Scores, over costs if there are any, or their ranks by layer; the same in every process."""
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
        # What costs nothing is kept, unless its score is 0.
        nothing = torch.finfo(torch.float32).tiny
        return {name: score.double() / divisors[name].clamp_min(nothing).double() for name, score in scores.items()}
