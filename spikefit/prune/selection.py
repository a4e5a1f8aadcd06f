"""Selection of the units or synapses to keep, by score: a given number, or as many as a limit allows."""

from collections.abc import Callable

import torch
from torch import Tensor

from spikefit.prune.groups import UnitGroup

Masks = dict[str, Tensor]


def select(
    scores: dict[str, Tensor], groups: list[UnitGroup], alive: dict[str, Tensor], keep: int, min_units: int
) -> dict[str, Tensor]:
    """New alive masks that keep the ``keep`` units with the highest scores over all groups.

    Dead units stay dead. Every group keeps at least ``min_units`` (or all that it still has), whatever its scores. Ties
    are broken by the order of groups and units, so that all processes decide alike.

    Args:
        scores: ``{group: [units]}``.
        groups: the groups that may lose units.
        alive: ``{group: bool [units]}``.
        keep: number of units to keep over all of ``groups``.
        min_units: smallest number of units of a group.

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


def ranks_in_group(scores: dict[str, Tensor], groups: list[UnitGroup], alive: Masks) -> dict[str, Tensor]:
    """Rank of each unit in its group, scaled to (0, 1), so that an equal share of every group is pruned.

    Used for scores whose scale differs between layers without meaning, such as magnitudes. Dead units rank below living
    ones; of equal scores the first unit ranks highest, as in :func:`select`.

    Args:
        scores: ``{group: [units]}``.
        groups: the groups that may lose units.
        alive: ``{group: bool [units]}``.

    Returns:
        ``{group: float64 [units]}``: the midpoint of each unit's rank interval, so that groups of different sizes mix
        evenly.
    """
    ranks = {}
    for group in groups:
        score = scores[group.name].double().cpu().masked_fill(~alive[group.name].cpu(), -torch.inf)
        falling = score.argsort(descending=True, stable=True)
        rank = torch.empty_like(score)
        rank[falling] = 1 - (torch.arange(group.units, dtype=torch.float64) + 0.5) / group.units
        ranks[group.name] = rank
    return ranks


def select_within(
    scores: dict[str, Tensor],
    groups: list[UnitGroup],
    alive: Masks,
    min_units: int,
    size: Callable[[Masks], float],
    limit: float,
) -> Masks:
    """The masks of :func:`select` that remove the fewest units such that the network's size is at most ``limit``.

    Found by bisection: a mask that keeps more units contains every mask that keeps fewer.

    Args:
        scores, groups, alive, min_units: as in :func:`select`.
        size: returns the network's size with the given masks; must not grow when units are removed.
        limit: in the units of ``size``.

    Returns:
        ``{group: bool [units]}``. If even ``min_units`` units per group exceed the limit, the masks that keep these:
        compare their size with ``limit``.
    """
    fewest, most = 0, sum(int(mask.sum()) for mask in alive.values())
    while fewest < most:
        middle = (fewest + most + 1) // 2
        fits = size(select(scores, groups, alive, middle, min_units)) <= limit
        fewest, most = (middle, most) if fits else (fewest, middle - 1)
    return select(scores, groups, alive, fewest, min_units)


def rank_synapses(scores: dict[str, Tensor], live: Masks, least: dict[str, int]) -> tuple[Tensor, int]:
    """Rank the live synapses of all layers in the order in which they are kept.

    The protected synapses come first, those with the highest scores of each layer; then the others by score. Ties are
    broken by the order of layers and weights, so that all processes decide alike.

    Args:
        scores: ``{layer: [weight's shape]}``.
        live: ``{layer: bool [weight's shape]}``; dead synapses stay dead.
        least: ``{layer: number}`` of protected synapses, which a layer keeps in any case (or all that it still has).

    Returns:
        int64 positions in the concatenation of all layers' flattened weights, and the number of protected synapses.
    """
    values, positions, protected, offset = [], [], [], 0
    for name, mask in live.items():
        score = scores[name].flatten().cpu().double()
        index = mask.flatten().cpu().nonzero().flatten()
        index = index[score[index].argsort(descending=True, stable=True)]
        values.append(score[index])
        positions.append(index + offset)
        protected.append(torch.arange(len(index)) < least[name])
        offset += mask.numel()
    kept = torch.cat(protected)
    order = torch.cat(values).argsort(descending=True, stable=True)
    order = order[kept[order].logical_not().to(torch.uint8).argsort(stable=True)]
    return torch.cat(positions)[order], int(kept.sum())


def cut_to(order: Tensor, keep: int, live: Masks) -> Masks:
    """Masks that keep the first ``keep`` synapses of ``order``.

    Args:
        order: int64 ``[N]`` from :func:`rank_synapses`.
        keep: number of synapses to keep.
        live: ``{layer: bool}``, which provides names and shapes.
    """
    flat = torch.zeros(sum(mask.numel() for mask in live.values()), dtype=torch.bool)
    flat[order[:keep]] = True
    parts = flat.split([mask.numel() for mask in live.values()])
    return {name: part.view(mask.shape).to(mask.device) for (name, mask), part in zip(live.items(), parts, strict=True)}


def cut_within(order: Tensor, amounts: dict[str, Tensor], rest: float, limit: float) -> int:
    """The largest number of synapses of ``order`` with which the size is at most ``limit``.

    Args:
        order: int64 ``[N]`` from :func:`rank_synapses`.
        amounts: ``{layer: [weight's shape]}``, the amount that each synapse adds to the size; never negative.
        rest: size without any synapse of ``order``.
        limit: in the units of the size.
    """
    each = torch.cat([amount.flatten().cpu().double() for amount in amounts.values()])[order]
    return int(torch.searchsorted(each.cumsum(0), torch.tensor(limit - rest, dtype=torch.float64), right=True))
