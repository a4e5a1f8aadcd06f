"""How much each unit matters: low scores are pruned first. All scores share one interface."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from spikefit.errors import check_range
from spikefit.functional.fisher import fisher_sum, spike_contribution
from spikefit.networks.blocks import Network
from spikefit.prune.groups import UnitGroup, live_synapses, unit_groups

Batch = tuple[Tensor, Tensor]
LossPerSample = Callable[[Tensor, Tensor], Tensor]


class Score(ABC):
    """Importance of every unit.

    A score is a sum over samples (``accumulate``) that may be added up over processes before it is divided by the
    number of samples, or a function of the weights alone, which needs no batches.

    Args:
        batches: how many training batches to look at; 0 for scores of the weights alone.
    """

    def __init__(self, batches: int = 0) -> None:
        check_range("batches", batches, 0)
        self.batches = batches

    @abstractmethod
    def accumulate(
        self, network: Network, batches: Iterable[Batch], loss: LossPerSample
    ) -> tuple[dict[str, Tensor], int]:
        """Sums of the score, ``{group: [units]}``, and the number of samples that they add up.

        Args:
            network: read only, in evaluation mode.
            batches: inputs ``[T, B, ...]`` and labels ``[B]``.
            loss: loss of each sample ``[B]`` from logits ``[B, classes]`` and labels.
        """


@contextmanager
def recorded_spikes(network: Network) -> Iterator[dict[str, Tensor]]:
    """A dictionary that holds each neuron's spikes ``[T, B, K, ...]``, by block, after every forward.

    A compiled network runs uncompiled meanwhile: what was compiled knows nothing of hooks that are new.
    """
    spikes: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: object, _inputs: object, output: Tensor) -> None:
            spikes[name] = output

        return hook

    handles = [
        block.neuron.register_forward_hook(keep(name))
        for name, block in network.named_blocks()
        if block.neuron is not None
    ]
    compiled = network._compiled_call_impl is not None
    try:
        with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
            yield spikes
    finally:
        for handle in handles:
            handle.remove()


class FSC(Score):
    """Fisher Spike Contribution, ``1/(2N) * sum_n (sum_{t,h,w} dL_n/ds_k * s_k)**2``.

    The contributions of blocks that a shortcut ties together are added before the square: one gate silences them all.

    Args:
        batches: how many training batches to look at.
    """

    def __init__(self, batches: int = 8) -> None:
        check_range("batches", batches, 1)
        super().__init__(batches)

    def accumulate(
        self, network: Network, batches: Iterable[Batch], loss: LossPerSample
    ) -> tuple[dict[str, Tensor], int]:
        """Gradients reach spikes only: no parameter's gradient is touched, so that DDP's hooks stay silent."""
        groups = unit_groups(network)
        totals: dict[str, Tensor] = {}
        samples = 0
        with torch.enable_grad(), recorded_spikes(network) as spikes:
            for inputs, labels in batches:
                total_loss = loss(network.logits(network(inputs)), labels).sum()
                names = list(spikes)
                gradients = torch.autograd.grad(total_loss, [spikes[name] for name in names])
                by_block = {
                    name: spike_contribution(spikes[name].detach().float(), gradient.float())
                    for name, gradient in zip(names, gradients, strict=True)
                }
                for group in groups:
                    contribution = torch.stack([by_block[name] for name in group.blocks]).sum(dim=0)
                    totals[group.name] = totals.get(group.name, 0) + fisher_sum(contribution)
                samples += len(labels)
        return totals, samples


class FiringRate(Score):
    """Mean spikes a neuron, step and sample: the unit that fires least goes first.

    Args:
        batches: how many training batches to look at.
    """

    def __init__(self, batches: int = 8) -> None:
        check_range("batches", batches, 1)
        super().__init__(batches)

    @torch.no_grad()
    def accumulate(
        self, network: Network, batches: Iterable[Batch], loss: LossPerSample
    ) -> tuple[dict[str, Tensor], int]:
        """Sums over samples of the rate."""
        totals: dict[str, Tensor] = {}
        samples = 0
        with recorded_spikes(network) as spikes:
            for inputs, labels in batches:
                network(inputs)
                rates = {name: s.flatten(3).mean(3) if s.dim() > 3 else s for name, s in spikes.items()}
                for group in unit_groups(network):
                    rate = torch.stack([rates[name].mean(0).sum(0) for name in group.blocks]).sum(0)
                    totals[group.name] = totals.get(group.name, 0) + rate
                samples += len(labels)
        return totals, samples


class Magnitude(Score):
    """L1 norm of the incoming live weights (Li et al. 2017, arXiv 1608.08710), divided by how many there are."""

    def __init__(self) -> None:
        super().__init__(0)

    @torch.no_grad()
    def accumulate(
        self, network: Network, batches: Iterable[Batch], loss: LossPerSample
    ) -> tuple[dict[str, Tensor], int]:
        """Mean magnitude of each unit's fan-in."""
        layers = dict(network.named_synapses())
        totals: dict[str, Tensor] = {}
        for group in unit_groups(network):
            norms = []
            for name in group.blocks:
                live = live_synapses(network, name).flatten(1)
                weight = layers[name].weight.flatten(1)
                norms.append((weight.abs() * live).sum(1) / live.sum(1).clamp_min(1))
            totals[group.name] = torch.stack(norms).sum(0)
        return totals, 1


class Random(Score):
    """A seeded random order: the baseline that every score must beat.

    Args:
        seed: of the order; it does not touch the global random state.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__(0)
        self.seed = seed

    def accumulate(
        self, network: Network, batches: Iterable[Batch], loss: LossPerSample
    ) -> tuple[dict[str, Tensor], int]:
        """Uniform numbers in [0, 1)."""
        generator = torch.Generator().manual_seed(self.seed)
        return {group.name: torch.rand(group.units, generator=generator) for group in unit_groups(network)}, 1


def select(
    scores: dict[str, Tensor], groups: list[UnitGroup], alive: dict[str, Tensor], keep: int, min_units: int
) -> dict[str, Tensor]:
    """New alive masks: the ``keep`` units of highest score over all groups live on.

    The dead stay dead. Every group keeps at least ``min_units`` (or all it still has), whatever its scores. Equal
    scores fall in the order of groups and units, so that every process decides alike.

    Args:
        scores: ``{group: [units]}``.
        groups: the groups that may lose units.
        alive: ``{group: bool [units]}``.
        keep: how many units over all of ``groups`` to keep.
        min_units: least number of units of a group.

    Returns:
        ``{group: bool [units]}``.
    """
    protected, candidates = [], []
    for position, group in enumerate(groups):
        living = alive[group.name].nonzero().flatten().tolist()
        score = scores[group.name].double().cpu()
        ranked = sorted(living, key=lambda unit, score=score: (-float(score[unit]), unit))  # type: ignore[misc]
        protected += [(position, unit) for unit in ranked[:min_units]]
        candidates += [(-float(score[unit]), position, unit) for unit in ranked[min_units:]]
    spare = max(0, keep - len(protected))
    kept = protected + [(position, unit) for _, position, unit in sorted(candidates)[:spare]]
    masks = {group.name: torch.zeros_like(alive[group.name]) for group in groups}
    for position, unit in kept:
        masks[groups[position].name][unit] = True
    return masks
