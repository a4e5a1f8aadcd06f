"""Callback that makes the network fit a chip during training."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import lightning.pytorch as pl
from lightning_utilities.core.rank_zero import rank_zero_info

from callbacks.base import Milestone, Place, ScheduledCallback
from callbacks.fsc_pruning import FSCPruning, UnitKind
from callbacks.schedule import Schedule
from spikefit.deploy.deployment import require_structure
from spikefit.deploy.fitting import Trial, fewest_units, findings_on, masks_that_fit, suited_quantizers, towards
from spikefit.deploy.unit_cost import UnitCost
from spikefit.errors import ConfigurationError, TargetError
from spikefit.hardware.finding import Finding
from spikefit.module import SpikingClassifier
from spikefit.preflight import Preflight
from spikefit.program.emulation import Emulator, require_emulated_neurons
from spikefit.prune.fraction_schedule import Growth, growth_progress
from spikefit.prune.groups import require_whole_groups
from spikefit.prune.scores.base import Score
from spikefit.prune.selection import Masks
from spikefit.quantize import Quantizer
from spikefit.quantize.described import described


class FitToHardware(ScheduledCallback):
    """Makes a network fit all limits of a chip: replaces quantizers, prunes units, emulates the chip's arithmetic.

    Before training it reports which limits the dense network violates. It replaces quantizers whose weights the chip
    can't store (:func:`~spikefit.deploy.fitting.suited_quantizers`). It raises an error if the network would not fit
    the chip even with only ``min_units`` units left in every group.

    At each event of the schedule it determines which units with the lowest scores must be removed for every limit to
    hold, and removes the share of them that is due. The limits are those of the hardware check and of the placement,
    applied to the current network. Once all limits hold, nothing more is removed. If further training violates a limit
    again, the next event fixes it.

    From epoch ``emulate_from`` on, the network computes with the integers of the chip
    (:class:`~callbacks.chip_emulation.ChipEmulation`), so that the validated accuracy is the deployed one.

    It acts before ``CodebookReclustering``, which therefore works on the replaced quantizers. It logs
    ``fit/findings`` (the number of limits that are still violated), ``prune/units_alive`` and ``prune/fraction``.

    Args:
        schedule: when to prune; the network fits after the last event. The limits are still checked after it, at the
            same interval.
        growth: how the pruned share grows: ``one_shot``, ``linear`` or ``cubic``.
        score: importance of units; :class:`~spikefit.prune.scores.fsc.FSC` on 8 batches by default.
        units: kinds of units to prune: ``channel``, ``neuron``, or both.
        min_units: minimum number of units to keep in every group.
        cost: cost of a unit on the chip; scores are divided by it.
        quantize: whether to replace quantizers that the chip can't store.
        quantizer: class of the new quantizers, one of :mod:`spikefit.quantize` or your own, by its path; its
            ``options_for`` gives their options. None for codebooks.
        emulate_from: epoch (or step) after ``schedule.stop`` from which the chip is emulated; None for never.
        recovery: epochs (or steps) after the last event during which ``CompressedCheckpoint`` waits.
        name: distinguishes two callbacks of the same schedule in a checkpoint.

    Raises:
        ConfigurationError: for options that are not allowed; before training, for a grouped convolution that is not
            depthwise.
        TargetError: before training, if the network can't fit the chip; the message lists the findings.

    Example:
        >>> from callbacks import FitToHardware, Schedule
        >>> fit = FitToHardware(Schedule(2, 6, every=2), emulate_from=8)
        >>> [milestone.option for milestone in fit.milestones()], fit.may_settle(8)
        (['schedule.stop', 'emulate_from'], True)
    """

    place = Place.HARDWARE

    def __init__(
        self,
        schedule: Schedule = Schedule(1, 5),
        growth: Growth = "cubic",
        score: Score | None = None,
        units: Sequence[UnitKind] = ("channel", "neuron"),
        min_units: int = 2,
        cost: UnitCost | None = None,
        quantize: bool = True,
        quantizer: type[Quantizer] | None = None,
        emulate_from: int | None = None,
        recovery: int = 0,
        name: str = "",
    ) -> None:
        super().__init__(schedule, name)
        schedule.require_end()
        if emulate_from is not None and emulate_from <= (schedule.stop or 0):
            raise ConfigurationError(
                f"emulate_from: got {emulate_from!r}, expected a position after schedule.stop={schedule.stop}, or null."
            )
        self.pruning = FSCPruning(0.0, schedule, growth, score, units, min_units, cost=cost, recovery=recovery)
        if quantizer is not None:
            described(quantizer, {})
        self.quantizer = quantizer
        self.growth, self.quantize, self.emulate_from, self.recovery = growth, quantize, emulate_from, recovery
        self.removed, self.fits = 0, False
        self._checked = False

    def due(self, position: int) -> bool:
        """Whether to act at epoch (or step) ``position``; limits are also checked after the last event."""
        if self.emulate_from is not None and position >= self.emulate_from:
            return position == self.emulate_from
        return self.schedule.endless.due(position)

    def settled(self, position: int) -> bool:
        """Whether every limit holds, the recovery is over, and the emulation (if any) has begun."""
        return self.fits and self.may_settle(position)

    def may_settle(self, position: int) -> bool:
        """Whether the recovery is over and the emulation (if any) has begun at ``position``."""
        return self.pruning.settled(position) and (self.emulate_from is None or position >= self.emulate_from)

    def milestones(self) -> Iterator[Milestone]:
        """The last event, the end of the recovery, and the start of the emulation."""
        yield from self.pruning.milestones()
        if self.emulate_from is not None:
            yield Milestone("emulate_from", self.emulate_from, self.emulate_from)

    def logged_metrics(self, module: SpikingClassifier) -> Iterable[str]:
        """``fit/findings`` and the metrics of pruning."""
        return ("fit/findings", *self.pruning.logged_metrics(module)) if self.schedule.interval == "epoch" else ()

    def preflight(self, check: Preflight) -> None:
        """Report violated limits, replace quantizers, and raise if the network can't fit; only once."""
        super().preflight(check)
        if check.fitting and not self._checked:  # a test takes the quantizers from the checkpoint
            self.pruning.require_cost(check.module)
            self._prepare(check.module)

    def _prepare(self, module: SpikingClassifier) -> None:
        context = module.context
        chip = context.chip
        require_structure(module.network, context, training=True)
        if self.emulate_from is not None:
            require_emulated_neurons(module.network)
        findings = findings_on(module.network, context)
        if findings:
            rank_zero_info(f"{chip.name}: the dense network violates {_listed(findings)}")
        wanted = suited_quantizers(module.network, chip, self.quantizer) if self.quantize else {}
        for layer, description in wanted.items():
            options = ", ".join(f"{option}={value}" for option, value in description.items() if option != "class")
            rank_zero_info(f"{chip.name}: the quantizer of {layer} is now {description['class']}({options}).")
        module.replace_quantizers(wanted)
        groups, alive = self.pruning.prunable(module.network)
        require_whole_groups(module.network, groups)
        trial = Trial(module.network, context, groups)
        left = trial.findings(fewest_units(groups, alive, self.pruning.min_units))
        if left:
            raise TargetError(
                f"target {chip.name} can't be fitted: even with min_units={self.pruning.min_units} units left in "
                f"each of {len(groups)} groups the network violates {_listed(left)}"
            )
        self._checked = True

    def act(self, trainer: pl.Trainer, module: SpikingClassifier, position: int) -> None:
        """Prune the share that is due, or begin the emulation; identically in every process."""
        if position == self.emulate_from:
            module.network.emulation = Emulator(module.context)
            chip = module.context.chip.name
            rank_zero_info(
                f"From {self.schedule.interval} {position} on the network computes with the integers of {chip}."
            )
            return
        groups, alive = self.pruning.prunable(module.network)
        trial = Trial(module.network, module.context, groups)
        findings = trial.findings(alive)
        if findings:
            findings = self._prune(trainer, module, position, trial, alive)
        self.fits = not findings
        self.pruning.publish(module, {"fit/findings": len(findings)})

    def _prune(
        self, trainer: pl.Trainer, module: SpikingClassifier, position: int, trial: Trial, alive: Masks
    ) -> list[Finding]:
        """Prune once and return the limits that are still violated."""
        scores = self.pruning.scores(trainer, module, position)
        goal, left = masks_that_fit(trial, scores, alive, self.pruning.min_units)
        if left:
            raise TargetError(
                f"target {module.context.chip.name} can't be fitted: even after pruning down to "
                f"min_units={self.pruning.min_units} units in the groups that matter, the network violates "
                f"{_listed(left)}"
            )
        event, events = self.pruning.event(position)
        going = sum(int((alive[name] & ~goal[name]).sum()) for name in alive)
        due = round(growth_progress(event, events, self.growth) * (self.removed + going)) - self.removed
        masks = goal if event == events else towards(alive, goal, scores, max(0, due))
        before = sum(int(mask.sum()) for mask in alive.values())
        self.removed += before - self.pruning.keep(trainer, module, trial.groups, masks)
        return trial.findings(masks)

    def state_dict(self) -> dict[str, Any]:
        """Position of the last action, number of removed units, and whether the network fits."""
        return {**super().state_dict(), "removed": self.removed, "fits": self.fits}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state saved by :meth:`state_dict`."""
        super().load_state_dict(state_dict)
        self.removed, self.fits = int(state_dict["removed"]), bool(state_dict["fits"])


def _listed(findings: Sequence[Finding]) -> str:
    lines = "\n".join(f"  - {finding}" for finding in findings)
    return f"{len(findings)} limits:\n{lines}"
