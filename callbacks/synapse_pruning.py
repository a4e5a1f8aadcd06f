"""Prune single synapses, on a schedule."""

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
    """Remove synapses: those of least score over all layers, until a fraction or a budget holds.

    A synapse is one entry of a layer's weight; in a convolution it goes at all places of the map at once. The model
    needs ``prunable_synapses: true``; a pruned synapse is then a False in its layer's
    :class:`~spikefit.prune.synapse_mask.SynapseMask`, which a checkpoint restores. Synapses of dead units count as
    gone, so that this callback and :class:`~callbacks.fsc_pruning.FSCPruning` may share a run. Logs
    ``prune/synapses_live`` and ``prune/synapse_fraction``, and under a budget its quantity. What a budget does is told
    in :class:`~callbacks.pruning_base.PruningCallback`.

    Args:
        fraction: share of the synapses of ``layers`` that is gone after the last event, in [0, 1); 0.5 without a
            budget.
        schedule: of the events, with an end; fraction or budget is reached at the last one.
        growth: ``one_shot``, ``linear`` or ``cubic``.
        score: importance of synapses; :class:`~spikefit.prune.SynapseFisher` by default.
        layers: patterns of :mod:`fnmatch` for the names of the layers to prune.
        layer_min: share of its synapses that every layer keeps, in [0, 1], whatever their scores.
        name: tells two callbacks of the same schedule apart.
        budget: synapses or energy that the network may take; given instead of ``fraction``.
        recovery: epochs (or steps) after the last event during which ``CompressedCheckpoint`` waits.

    Raises:
        ConfigurationError: for values that are not allowed; before training for a network without masks or a pattern
            that matches no layer; at an event for a budget that ``layer_min`` puts out of reach.
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
            raise ConfigurationError("budget.neurons: pruned synapses free no neuron, expected synapses or energy_j.")
        self.score = SynapseFisher() if score is None else score
        self.layers, self.layer_min = tuple(layers), layer_min

    def logged_metrics(self, module: SpikingClassifier) -> Iterable[str]:
        """How many synapses are left, the share that is gone, and the budget's quantity."""
        more = super().logged_metrics(module)
        return ("prune/synapses_live", "prune/synapse_fraction", *more) if self.schedule.interval == "epoch" else ()

    def preflight(self, check: Preflight) -> None:
        """Refuse a schedule that training is too short for, and a network without masks."""
        super().preflight(check)
        if check.fitting:
            self._masks(check.module.network)

    def prune_to_fraction(self, trainer: pl.Trainer, module: SpikingClassifier, position: int, fraction: float) -> None:
        """Keep the synapses of highest score."""
        live = self._live(module.network)
        total = sum(mask.numel() for mask in live.values())
        keep = total - round(total * fraction)
        order, protected = self._rank(trainer, module, position, live)
        self._cut(trainer, module, cut_to(order, max(keep, protected), live))
        if protected > keep:
            rank_zero_warn(
                f"fraction: {1 - keep / total:.1%} of {total} synapses can't go, because each layer keeps "
                f"layer_min={self.layer_min}; {1 - protected / total:.1%} are gone."
            )

    def prune_to_limit(
        self, trainer: pl.Trainer, module: SpikingClassifier, position: int, footprint: ResourceUse, limit: float
    ) -> float:
        """Remove the fewest synapses, in the order of their scores."""
        live = self._live(module.network)
        amounts = {name: footprint.by_weight[name] for name in live}
        rest = footprint.total(alive_by_block(module.network)) - _sum(amounts, live)
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
        """The masks of the chosen layers, by name."""
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
                        f"SynapsePruning: layer {name} carries no mask of its synapses, expected "
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
        """Put the masks of process 0 into every process."""
        broadcast(trainer, live.values())
        for name, mask in self._masks(module.network).items():
            mask.live.copy_(live[name])
        self.tell_quantizers(module)
        left, total = sum(int(mask.sum()) for mask in live.values()), sum(mask.numel() for mask in live.values())
        self.publish(module, {"prune/synapses_live": left, "prune/synapse_fraction": 1 - left / total})


def _sum(amounts: dict[str, Tensor], live: Masks) -> float:
    return sum(float(amounts[name][mask.cpu()].sum()) for name, mask in live.items())
