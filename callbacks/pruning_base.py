"""Base class of the pruning callbacks: fractions, budgets, scores and recovery."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

import lightning.pytorch as pl
import torch
from lightning_utilities.core.rank_zero import rank_zero_info
from torch import Tensor

from callbacks.base import Milestone, ScheduledCallback, broadcast, reduce_sum, side_effect_free, training_batches
from callbacks.schedule import Schedule
from spikefit.errors import ConfigurationError, check_choice, check_range
from spikefit.hardware.energy import unknown_energy
from spikefit.hardware.target import HardwareTarget
from spikefit.module import SpikingClassifier
from spikefit.preflight import Preflight
from spikefit.prune.budget import Budget
from spikefit.prune.fraction_schedule import Growth, budget_limit, pruned_fraction
from spikefit.prune.groups import live_synapses
from spikefit.prune.resources import ResourceUse, Traffic, alive_by_block, measure_traffic
from spikefit.prune.scores.base import Score, SynapseScore

ROUNDING = 1 + 1e-9  # tolerance for sums of the same terms in another order


class PruningCallback(ScheduledCallback):
    """Base class of callbacks that prune gradually at scheduled events until a fraction or a budget is reached.

    With a budget, the allowed size of the network decreases from its size before the first event to the budget, and
    every event prunes as little as possible to meet the current limit. After the last event the size is still checked
    at the same interval, because the energy varies with the firing rates during further training. If it exceeds the
    budget again, more is pruned. A checkpoint saved between two checks may exceed the budget by the increase in
    between.

    Args:
        fraction: share to remove by the last event, in [0, 1); 0.5 if neither fraction nor budget is given.
        budget: the size to reach; excludes ``fraction``.
        schedule: when to prune; it must have an end. The fraction or budget is reached at the last event.
        growth: how the pruned share grows: ``one_shot``, ``linear`` or ``cubic``.
        recovery: epochs (or steps) after the last event during which the network does not count as settled.
        name: distinguishes two callbacks of the same schedule in a checkpoint.

    Raises:
        ConfigurationError: for values that are not allowed, or a schedule without an end.
    """

    def __init__(
        self,
        fraction: float | None,
        budget: Budget | None,
        schedule: Schedule,
        growth: Growth,
        recovery: int,
        name: str,
    ) -> None:
        super().__init__(schedule, name)
        self.last_event = schedule.require_end()
        if fraction is not None and budget is not None:
            raise ConfigurationError("fraction: got a budget as well, expected one of fraction and budget.")
        if fraction is not None and not 0 <= fraction < 1:
            raise ConfigurationError(f"fraction: got {fraction!r}, expected a value in [0, 1).")
        check_choice("growth", growth, ("one_shot", "linear", "cubic"))
        check_range("recovery", recovery, 0)
        self.fraction = 0.5 if fraction is None else fraction
        self.budget, self.growth, self.recovery = budget, growth, recovery
        self.first_size: float | None = None

    def due(self, position: int) -> bool:
        """Whether to act at epoch (or step) ``position``; a budget is also checked after the last event."""
        return (self.schedule if self.budget is None else self.schedule.endless).due(position)

    def event(self, position: int) -> tuple[int, int]:
        """Number of the event at ``position``, counted from 1, and the total; later checks count as the last event."""
        start, every = self.schedule.start, self.schedule.every
        events = (self.last_event - start) // every + 1
        return min(events, (position - start) // every + 1), events

    def settled(self, position: int) -> bool:
        """Whether the last scheduled event and the recovery are over.

        With a budget, a later check may still prune a little. The callback counts as settled nevertheless; otherwise it
        never would.
        """
        return position >= self.last_event + self.recovery

    def milestones(self) -> Iterator[Milestone]:
        """The last event, and the end of the recovery."""
        stop = self.last_event if self.schedule.stop is None else self.schedule.stop
        yield Milestone("schedule.stop", stop, self.last_event)
        if self.recovery > 0:  # it ends at the start of an epoch, or when the last of its steps is done
            done = self.last_event + self.recovery
            yield Milestone("recovery", self.recovery, done if self.schedule.interval == "epoch" else done - 1)

    def logged_metrics(self, module: SpikingClassifier) -> Iterable[str]:
        """The budget's quantity and what it leaves out; empty for a schedule of steps, which logs nothing."""
        if self.schedule.interval == "step" or self.budget is None:
            return ()
        unknown = ("prune/energy_unknown*",) if self.budget.needs_traffic else ()
        return (f"prune/{self.budget.quantity}", *unknown)

    def preflight(self, check: Preflight) -> None:
        """Raise if training is too short for the schedule, or if the budget's quantity can't be computed."""
        super().preflight(check)
        if check.fitting and self.budget is not None and self.budget.needs_traffic:
            self.budget.require(check.module.context)
            say_left_out(self.budget.goal, check.module.context.chip, self.budget.left_out(check.module.context))

    def act(self, trainer: pl.Trainer, module: SpikingClassifier, position: int) -> None:
        """Measure, score and prune, identically in every process."""
        event, events = self.event(position)
        if self.budget is None:
            fraction = pruned_fraction(self.fraction, event, events, self.growth)
            self.prune_to_fraction(trainer, module, position, fraction)
            return
        resource_use = self._resource_use(trainer, module, position)
        size = resource_use.total(alive_by_block(module.network))
        if self.first_size is None:
            self.first_size = size
        limit = budget_limit(self.first_size, self.budget.amount, event, events, self.growth)
        if size > limit * ROUNDING:
            size = self.prune_to_limit(trainer, module, position, resource_use, limit)
        unknown = unknown_energy("prune", self.budget.left_out(module.context)) if self.budget.needs_traffic else {}
        self.publish(module, {f"prune/{self.budget.quantity}": size, **unknown})

    @abstractmethod
    def prune_to_fraction(self, trainer: pl.Trainer, module: SpikingClassifier, position: int, fraction: float) -> None:
        """Remove the parts with the lowest scores until ``fraction`` is removed."""

    @abstractmethod
    def prune_to_limit(
        self, trainer: pl.Trainer, module: SpikingClassifier, position: int, resource_use: ResourceUse, limit: float
    ) -> float:
        """Remove the parts with the lowest scores until the size by ``resource_use`` is at most ``limit``.

        Returns:
            The remaining size.

        Raises:
            ConfigurationError: if ``limit`` is below the minimum that must remain.
        """

    def mean_scores(
        self, trainer: pl.Trainer, module: SpikingClassifier, position: int, score: Score | SynapseScore
    ) -> dict[str, Tensor]:
        """Mean scores over the samples of all processes; module mode and random state are restored."""
        with side_effect_free(module, "pruning", position, trainer.global_rank):
            module.eval()
            totals, samples = score.accumulate(
                module.network, islice(training_batches(trainer), score.batches), module.loss
            )
        count = reduce_sum(trainer, torch.tensor(float(samples), device=module.device))
        return {name: reduce_sum(trainer, total.to(module.device)) / count for name, total in totals.items()}

    def publish(self, module: SpikingClassifier, values: Mapping[str, float]) -> None:
        """Log ``values`` if the schedule counts epochs; Lightning does not allow it for steps."""
        if self.schedule.interval == "epoch":
            module.log_dict({name: float(value) for name, value in values.items()})

    def tell_quantizers(self, module: SpikingClassifier) -> None:
        """Pass the masks of the remaining synapses to the quantizers, for their next fit."""
        for name, _, quantizer in module.quantized_layers():
            quantizer.use(live_synapses(module.network, name))

    def _resource_use(self, trainer: pl.Trainer, module: SpikingClassifier, position: int) -> ResourceUse:
        """Resource use in the budget's quantity, equal in every process."""
        assert self.budget is not None
        with side_effect_free(module, "traffic", position, trainer.global_rank):
            module.eval()
            if not self.budget.needs_traffic:
                return self.budget.resource_use(module.network, None)
            context, batches = module.context, islice(training_batches(trainer), self.budget.batches)
            found = shared(trainer, measure_traffic(module.network, batches, context.input_kind))
            return self.budget.resource_use(module.network, context, found)

    def state_dict(self) -> dict[str, Any]:
        """Position of the last action, and the size before the first one."""
        return {**super().state_dict(), "first_size": self.first_size}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state saved by :meth:`state_dict`."""
        super().load_state_dict(state_dict)
        self.first_size = state_dict["first_size"]


def say_left_out(what: str, chip: HardwareTarget, terms: Mapping[str, str]) -> None:
    """Say which ``terms`` of the energy on ``chip`` are left out of ``what``, with the reasons; nothing if none is."""
    if terms:
        listed = "; ".join(f"{term} ({reason})" for term, reason in terms.items())
        rank_zero_info(f"{what}: the energy on {chip.name} is counted without {listed}.")


def shared(trainer: pl.Trainer, found: Traffic) -> Traffic:
    """Sum ``found`` over all processes, bit-identical in each. Every process must call this function."""
    if trainer.world_size == 1:
        return found
    any_tensor = next(iter(found.sent.values()))
    samples = torch.tensor([found.samples], dtype=torch.float32, device=any_tensor.device)
    for tensor in (*found.sent.values(), samples):
        reduce_sum(trainer, tensor)
    broadcast(trainer, [*found.sent.values(), samples])
    return replace(found, samples=int(samples))
