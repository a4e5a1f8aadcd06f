"""Callback that prunes single synapses on a schedule."""

import math
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

import lightning.pytorch as pl
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import Tensor

from callbacks.base import Place, broadcast
from callbacks.pruning_base import ROUNDING, PruningCallback
from callbacks.schedule import Schedule
from spikefit.errors import ConfigurationError, check_range
from spikefit.module import SpikingClassifier
from spikefit.networks.blocks import Network
from spikefit.preflight import Preflight
from spikefit.prune import SynapseFisher, SynapseScore, live_synapses
from spikefit.prune.budget import Budget
from spikefit.prune.fraction_schedule import Growth
from spikefit.prune.resources import ResourceUse, alive_by_block
from spikefit.prune.selection import Masks, cut_to, cut_within, rank_synapses
from spikefit.prune.synapse_mask import SynapseMask, mask_of


class SynapsePruning(PruningCallback):
    """Prunes the synapses with the lowest scores over all layers, on a schedule, down to a fraction or a budget.

    A synapse is one entry of a layer's weight; in a convolution, removing it affects all positions of the map. The
    model needs ``prunable_synapses: true``. A pruned synapse is a False in the
    :class:`~spikefit.prune.synapse_mask.SynapseMask` of its layer, which checkpoints restore. Synapses of dead units
    count as removed, so that this callback can be combined with :class:`~callbacks.fsc_pruning.FSCPruning`. It logs
    ``prune/synapses_live`` and ``prune/synapse_fraction``, and with a budget its quantity. For budgets see
    :class:`~callbacks.pruning_base.PruningCallback`.

    Args:
        fraction: share of the synapses of ``layers`` to remove by the last event, in [0, 1); 0.5 without a budget.
        schedule: when to prune; it must have an end. The fraction or budget is reached at the last event.
        growth: how the pruned share grows: ``one_shot``, ``linear`` or ``cubic``.
        score: importance of synapses; :class:`~spikefit.prune.SynapseFisher` by default.
        layers: :mod:`fnmatch` patterns for the names of the layers to prune.
        layer_min: share of its synapses that every layer keeps, in [0, 1], whatever their scores.
        name: distinguishes two callbacks of the same schedule in a checkpoint.
        budget: maximum number of synapses, or maximum energy, of the network; excludes ``fraction``.
        recovery: epochs (or steps) after the last event during which ``CompressedCheckpoint`` waits.

    Raises:
        ConfigurationError: for values that are not allowed; before training, for a network without masks or a pattern
            that matches no layer; at an event, for a budget that ``layer_min`` makes unreachable.

    Example:
        >>> from callbacks import Schedule, SynapsePruning
        >>> pruning = SynapsePruning(fraction=0.9, schedule=Schedule(1, 5, every=2), layers=["conv*"])
        >>> [epoch for epoch in range(8) if pruning.due(epoch)]
        [1, 3, 5]
    """

    place = Place.SYNAPSES

    def __init__(
        self,
        fraction: float | None = None,
        schedule: Schedule = Schedule(1, 5),
        growth: Growth = "cubic",
        score: SynapseScore | None = None,
        layers: Sequence[str] = ("*",),
        layer_min: float = 0.01,
        name: str = "",
        budget: Budget | None = None,
        recovery: int = 0,
    ) -> None:
        super().__init__(fraction, budget, schedule, growth, recovery, name)
        check_range("layer_min", layer_min, 0, 1)
        if budget is not None and budget.quantity == "neurons":
            raise ConfigurationError(
                "budget.neurons: pruning synapses does not remove neurons, expected synapses or energy_j."
            )
        self.score = SynapseFisher() if score is None else score
        self.layers, self.layer_min = tuple(layers), layer_min

    def logged_metrics(self, module: SpikingClassifier) -> Iterable[str]:
        """``prune/synapses_live``, ``prune/synapse_fraction`` and the budget's quantity."""
        more = super().logged_metrics(module)
        return ("prune/synapses_live", "prune/synapse_fraction", *more) if self.schedule.interval == "epoch" else ()

    def preflight(self, check: Preflight) -> None:
        """Raise if training is too short for the schedule, or if the network has no synapse masks."""
        super().preflight(check)
        if check.fitting:
            self._masks(check.module.network)

    def prune_to_fraction(self, trainer: pl.Trainer, module: SpikingClassifier, position: int, fraction: float) -> None:
        """Keep the synapses with the highest scores."""
        live = self._live(module.network)
        total = sum(mask.numel() for mask in live.values())
        keep = total - round(total * fraction)
        order, protected = self._rank(trainer, module, position, live)
        self._cut(trainer, module, cut_to(order, max(keep, protected), live))
        if protected > keep:
            rank_zero_warn(
                f"fraction: {1 - keep / total:.1%} of {total} synapses can't be removed, because each layer keeps "
                f"layer_min={self.layer_min}; {1 - protected / total:.1%} are removed."
            )

    def prune_to_limit(
        self, trainer: pl.Trainer, module: SpikingClassifier, position: int, resource_use: ResourceUse, limit: float
    ) -> float:
        """Remove as few synapses as possible, in ascending order of their scores."""
        live = self._live(module.network)
        amounts = {name: resource_use.by_weight[name] for name in live}
        rest = resource_use.total(alive_by_block(module.network)) - _sum(amounts, live)
        order, protected = self._rank(trainer, module, position, live)
        keep = cut_within(order, amounts, rest, limit * ROUNDING)
        masks = cut_to(order, max(keep, protected), live)
        size = rest + _sum(amounts, masks)
        if size > limit * ROUNDING:
            assert self.budget is not None
            raise self.budget.unreachable(size, f"each layer keeps layer_min={self.layer_min} of its synapses")
        self._cut(trainer, module, masks)
        return size

    def _masks(self, network: Network) -> dict[str, SynapseMask]:
        """The masks of the layers to prune, by layer name."""
        layers = dict(network.named_synapses())
        for pattern in self.layers:
            if not any(fnmatchcase(name, pattern) for name in layers):
                raise ConfigurationError(f"layers: {pattern!r} matches no layer, expected {', '.join(layers)}.")
        masks = {}
        for name, layer in layers.items():
            if any(fnmatchcase(name, pattern) for pattern in self.layers):
                mask = mask_of(layer)
                if mask is None:
                    raise ConfigurationError(
                        f"SynapsePruning: layer {name} has no synapse mask, expected "
                        "model.init_args.prunable_synapses: true."
                    )
                masks[name] = mask
        return masks

    def _live(self, network: Network) -> Masks:
        return {name: live_synapses(network, name) for name in self._masks(network)}

    def _rank(self, trainer: pl.Trainer, module: SpikingClassifier, position: int, live: Masks) -> tuple[Tensor, int]:
        scores = self.mean_scores(trainer, module, position, self.score)
        least = {name: math.ceil(self.layer_min * mask.numel()) for name, mask in live.items()}
        return rank_synapses(scores, live, least)

    def _cut(self, trainer: pl.Trainer, module: SpikingClassifier, live: Masks) -> None:
        """Apply the masks of process 0 in every process."""
        broadcast(trainer, live.values())
        for name, mask in self._masks(module.network).items():
            mask.live.copy_(live[name])
        self.tell_quantizers(module)
        left, total = sum(int(mask.sum()) for mask in live.values()), sum(mask.numel() for mask in live.values())
        self.publish(module, {"prune/synapses_live": left, "prune/synapse_fraction": 1 - left / total})


def _sum(amounts: dict[str, Tensor], live: Masks) -> float:
    return sum(float(amounts[name][mask.cpu()].sum()) for name, mask in live.items())
