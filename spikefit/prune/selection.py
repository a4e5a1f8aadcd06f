"""Which units or synapses live on, given their scores: so many, or as many as a limit allows."""

from collections.abc import Callable

import torch
from torch import Tensor

from spikefit.prune.groups import UnitGroup

Masks = dict[str, Tensor]


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


def ranks_in_group(scores: dict[str, Tensor], groups: list[UnitGroup], alive: Masks) -> dict[str, Tensor]:
    """The share of its own group that each unit is ahead of, which takes an equal share of every group.

    For scores whose size differs from layer to layer without meaning anything, such as magnitudes. The dead rank below
    the living; of equal scores the first unit ranks highest, as in :func:`select`.

    Args:
        scores: ``{group: [units]}``.
        groups: the groups that may lose units.
        alive: ``{group: bool [units]}``.

    Returns:
        ``{group: float64 [units]}`` in (0, 1): the middle of each unit's step, so that unequal groups mix evenly.
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

    By bisection: a mask that keeps more units holds all those of one that keeps fewer.

    Args:
        scores, groups, alive, min_units: as in :func:`select`.
        size: of the network with the given masks; never larger for fewer units.
        limit: in the units of ``size``.

    Returns:
        ``{group: bool [units]}``; where even ``min_units`` are too many, those: compare its size with ``limit``.
    """
    fewest, most = 0, sum(int(mask.sum()) for mask in alive.values())
    while fewest < most:
        middle = (fewest + most + 1) // 2
        fits = size(select(scores, groups, alive, middle, min_units)) <= limit
        fewest, most = (middle, most) if fits else (fewest, middle - 1)
    return select(scores, groups, alive, fewest, min_units)


def rank_synapses(scores: dict[str, Tensor], live: Masks, least: dict[str, int]) -> tuple[Tensor, int]:
    """Live synapses in the order in which they are kept, over all layers.

    First those of highest score in each layer, as many as it keeps in any case; then the others by score. Equal scores
    stay in the order of layers and weights, so that every process decides alike.

    Args:
        scores: ``{layer: [weight's shape]}``.
        live: ``{layer: bool [weight's shape]}``; the dead stay dead.
        least: ``{layer: number}`` of synapses that a layer keeps (or all it still has).

    Returns:
        int64 positions in the concatenation of all layers' flattened weights, and how many of the first are protected.
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
    """Masks in which the first ``keep`` synapses of ``order`` (:func:`rank_synapses`) live.

    Args:
        order: int64 ``[N]``.
        keep: how many.
        live: ``{layer: bool}``, for names and shapes.
    """
    flat = torch.zeros(sum(mask.numel() for mask in live.values()), dtype=torch.bool)
    flat[order[:keep]] = True
    parts = flat.split([mask.numel() for mask in live.values()])
    return {name: part.view(mask.shape).to(mask.device) for (name, mask), part in zip(live.items(), parts, strict=True)}


def cut_within(order: Tensor, amounts: dict[str, Tensor], rest: float, limit: float) -> int:
    """How many synapses of ``order`` may stay such that ``rest`` and what they amount to is at most ``limit``.

    Args:
        order: int64 ``[N]`` from :func:`rank_synapses`.
        amounts: ``{layer: [weight's shape]}``, what each synapse adds to the size; never negative.
        rest: size without any synapse of ``order``.
        limit: in the units of the size.
    """
    each = torch.cat([amount.flatten().cpu().double() for amount in amounts.values()])[order]
    return int(torch.searchsorted(each.cumsum(0), torch.tensor(limit - rest, dtype=torch.float64), right=True))
