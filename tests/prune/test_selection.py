"""Selection of units and synapses, compared with trying every number of them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikefit.prune.groups import UnitGroup
from spikefit.prune.selection import cut_to, cut_within, rank_synapses, ranks_in_group, select, select_within

GROUPS = [UnitGroup("a", ("a",), 3, "channel"), UnitGroup("b", ("b",), 5, "channel")]


def split(values):
    return {"a": torch.tensor(values[:3]), "b": torch.tensor(values[3:8])}


@given(
    scores=st.lists(st.integers(0, 5), min_size=8, max_size=8),
    sizes=st.lists(st.integers(0, 4), min_size=8, max_size=8),
    alive=st.lists(st.booleans(), min_size=8, max_size=8),
    limit=st.integers(-1, 30),
    min_units=st.integers(1, 2),
)
@settings(max_examples=50)
def test_the_fewest_units_go_that_meet_the_limit(scores, sizes, alive, limit, min_units):
    """Every ``keep`` is tried; a pair of units that both live takes 2 more, so that the size is no plain sum."""
    weights = torch.tensor(sizes)

    def size(masks):
        lives = torch.cat([masks["a"], masks["b"]])
        return float(weights[lives].sum() + 2 * int(lives[0] and lives[7]))

    scores, alive = split([float(score) for score in scores]), split(alive)
    found = select_within(scores, GROUPS, alive, min_units, size, limit)
    tried = [select(scores, GROUPS, alive, keep, min_units) for keep in range(9)]
    meeting = [masks for masks in tried if size(masks) <= limit]
    best = max(meeting or tried[:1], key=lambda masks: sum(int(mask.sum()) for mask in masks.values()))
    assert all(torch.equal(found[name], best[name]) for name in best)


@given(
    scores=st.lists(st.integers(-3, 5), min_size=8, max_size=8),
    alive=st.lists(st.booleans(), min_size=8, max_size=8),
)
@settings(max_examples=50)
def test_the_rank_of_a_unit_counts_the_lower_units_of_its_group(scores, alive):
    """The reference compares every pair: dead units rank below living ones, of equal scores the first ranks higher."""
    scores, alive = split([float(score) for score in scores]), split(alive)
    ranks = ranks_in_group(scores, GROUPS, alive)
    for name, units in (("a", 3), ("b", 5)):
        keys = [
            (bool(lives), float(score) if lives else 0.0, -unit)
            for unit, (score, lives) in enumerate(zip(scores[name], alive[name], strict=True))
        ]
        lower = [sum(other < key for other in keys) for key in keys]
        assert ranks[name].tolist() == pytest.approx([(number + 0.5) / units for number in lower])


@pytest.mark.parametrize(("keep", "left"), [(8, [3, 5]), (6, [2, 4]), (4, [2, 2]), (3, [1, 2]), (2, [1, 1])])
def test_ranks_take_the_same_share_of_every_group(keep, left):
    """By hand: ranks 1/6, 3/6, 5/6 and 1/10, 3/10, 5/10, 7/10, 9/10; whatever the size of the scores."""
    scores, alive = split([1e6, 2e6, 3e6, 1.0, 2.0, 3.0, 4.0, 5.0]), split([True] * 8)
    masks = select(ranks_in_group(scores, GROUPS, alive), GROUPS, alive, keep, 1)
    assert [int(masks[name].sum()) for name in ("a", "b")] == left


SHAPES = {"first": (2, 3), "second": (4, 1, 2)}


def by_layer(values):
    return {"first": torch.tensor(values[:6]).view(2, 3), "second": torch.tensor(values[6:]).view(4, 1, 2)}


@given(
    scores=st.lists(st.integers(0, 6), min_size=14, max_size=14),
    live=st.lists(st.booleans(), min_size=14, max_size=14),
    least=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    keep=st.integers(0, 14),
)
@settings(max_examples=60)
def test_synapses_stay_by_score_but_each_layer_keeps_its_least(scores, live, least, keep):
    """The reference sorts Python tuples: score first, then the place in the network."""
    spans = {"first": range(6), "second": range(6, 14)}
    protected, others = [], []
    for (_, span), number in zip(spans.items(), least, strict=True):
        ranked = sorted((-scores[place], place) for place in span if live[place])
        protected += ranked[:number]
        others += ranked[number:]
    expected = {place for _, place in protected + sorted(others)[: max(0, keep - len(protected))]}
    masks = by_layer(live)
    limits = dict(zip(spans, least, strict=True))
    order, count = rank_synapses(by_layer([float(score) for score in scores]), masks, limits)
    assert count == len(protected)
    cut = cut_to(order, max(keep, count), masks)
    assert {name: tuple(mask.shape) for name, mask in cut.items()} == SHAPES
    flat = torch.cat([mask.flatten() for mask in cut.values()])
    assert set(flat.nonzero().flatten().tolist()) == expected


@given(
    scores=st.permutations(range(14)),
    amounts=st.lists(st.integers(0, 5), min_size=14, max_size=14),
    rest=st.integers(0, 5),
    limit=st.integers(0, 60),
)
@settings(max_examples=50)
def test_as_many_synapses_stay_as_the_limit_allows(scores, amounts, rest, limit):
    live = by_layer([True] * 14)
    order, _ = rank_synapses(by_layer([float(score) for score in scores]), live, {"first": 0, "second": 0})
    keep = cut_within(order, by_layer(amounts), rest, limit)
    best_first = sorted(range(14), key=lambda place: -scores[place])
    sizes = [rest + sum(amounts[place] for place in best_first[:number]) for number in range(15)]
    assert keep == max((number for number in range(15) if sizes[number] <= limit), default=0)
