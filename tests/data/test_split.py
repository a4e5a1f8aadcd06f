"""Splits by group: disjoint groups, every class on both sides, and the requested share."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikefit.data.split import stratified_split


@settings(max_examples=60)
@given(
    users=st.integers(2, 30),
    classes=st.integers(1, 6),
    repeats=st.integers(1, 3),
    fraction=st.floats(0.02, 0.9),
    seed=st.integers(0, 1000),
)
def test_groups_that_hold_every_class(users, classes, repeats, fraction, seed):
    """As DVS128 Gesture: everybody makes every gesture. The share is missed by less than a fold, or a person."""
    labels = np.tile(np.arange(classes), users * repeats)
    groups = np.repeat(np.arange(users), classes * repeats)
    order = np.random.default_rng(seed).permutation(len(labels))
    labels, groups = labels[order], groups[order]
    kept, held_out = stratified_split(labels, fraction, seed, groups)
    assert sorted([*kept, *held_out]) == list(range(len(labels)))
    assert not set(groups[kept]) & set(groups[held_out])
    assert set(labels[kept]) == set(labels[held_out]) == set(range(classes))
    assert abs(len(held_out) / len(labels) - fraction) <= 1 / min(users, 20)
    again = stratified_split(labels, fraction, seed, groups)
    assert np.array_equal(kept, again[0])


@settings(max_examples=60)
@given(data=st.data())
def test_any_groups_give_a_whole_split_or_a_reason(data):
    size = data.draw(st.integers(2, 40))
    labels = np.array(data.draw(st.lists(st.integers(0, 2), min_size=size, max_size=size)))
    groups = np.array(data.draw(st.lists(st.integers(0, 8), min_size=size, max_size=size)))
    try:
        kept, held_out = stratified_split(labels, data.draw(st.floats(0.05, 0.95)), 0, groups)
    except ValueError as error:
        reasons = ("no split by group has every class", "there is one group only")
        if not str(error).startswith(reasons):
            raise
        return
    assert sorted([*kept, *held_out]) == list(range(size))
    assert not set(groups[kept]) & set(groups[held_out])
    assert set(labels[kept]) == set(labels[held_out]) == set(labels)


@pytest.mark.parametrize(("fraction", "people"), [(0.1, 2), (0.2, 5), (0.25, 6), (0.02, 1), (0.97, 22)])
def test_the_share_comes_as_close_as_whole_groups_allow(fraction, people):
    """The 23 people of DVS128 Gesture's training part."""
    labels, groups = np.tile(np.arange(11), 23), np.repeat(np.arange(23), 11)
    assert len(set(groups[stratified_split(labels, fraction, 0, groups)[1]])) == people


def test_the_seed_chooses_the_groups():
    labels, groups = np.tile(np.arange(4), 30), np.repeat(np.arange(30), 4)
    chosen = {tuple(groups[stratified_split(labels, 0.2, seed, groups)[1]]) for seed in range(5)}
    assert len(chosen) > 1
    assert {len(set(held_out)) for held_out in chosen} == {6}


@pytest.mark.parametrize(
    ("labels", "groups", "reason"),
    [
        ([0, 1, 0, 1], [7, 7, 7, 7], "there is one group only"),
        ([0, 0, 1, 1], [1, 1, 2, 2], "no split by group has every class"),
    ],
)
def test_a_split_that_cannot_be_says_why(labels, groups, reason):
    with pytest.raises(ValueError, match=reason):
        stratified_split(labels, 0.5, 0, groups)


def test_without_groups_nothing_changed():
    labels = np.arange(100) % 5
    kept, held_out = stratified_split(labels, 0.1, 3)
    assert np.bincount(labels[held_out]).tolist() == [2] * 5
    assert (np.diff(kept) > 0).all()
