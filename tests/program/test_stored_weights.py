"""Values and indices of weights, compared with sets of Python numbers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikefit.program.ir import Projection
from spikefit.program.stored_weights import from_weights, joined, store


@st.composite
def codebooks(draw, most=7, outputs=None):
    """Values ``[groups, M]``, with repetitions and in any order, indices ``[out, in, k]`` and each output's group."""
    outputs = draw(st.integers(1, 6)) if outputs is None else outputs
    groups, size = draw(st.integers(1, outputs)), draw(st.integers(1, most))
    values = draw(
        st.lists(st.lists(st.integers(-4, 4), min_size=size, max_size=size), min_size=groups, max_size=groups)
    )
    group = sorted([*range(groups), *(draw(st.integers(0, groups - 1)) for _ in range(outputs - groups))])
    shape = (outputs, draw(st.integers(1, 4)), draw(st.integers(1, 2)))
    index = torch.randint(size, shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 999))))
    return torch.tensor(values), index, torch.tensor(group)


def dense(values, index, group):
    """The weights, one by one."""
    rows = zip(index.flatten(1).tolist(), group.tolist(), strict=True)
    return [[int(values[own][column]) for column in row] for row, own in rows]


def assert_canonical(stored, weights):
    """Rebuilds ``weights`` (lists), and each row of values is the sorted set of its group's weights."""
    assert stored.weight().flatten(1).tolist() == weights
    assert stored.index.dtype == torch.uint8
    sets = [set() for _ in range(stored.groups)]
    for row, group in zip(weights, stored.group_of_output.tolist(), strict=True):
        sets[group] |= set(row)
    longest = max(map(len, sets))
    for row, own in zip(stored.values.tolist(), sets, strict=True):
        assert row == sorted(own) + [max(own)] * (longest - len(own))
    assert stored.distinct().tolist() == [len(own) for own in sets]
    assert stored.distinct(zero_counts=False).tolist() == [len(own - {0}) for own in sets]
    assert stored.ranks().flatten(1).tolist() == [
        [sorted(sets[group] - {0}).index(value) + 1 if value else 0 for value in row]
        for row, group in zip(weights, stored.group_of_output.tolist(), strict=True)
    ]


def same(first, second):
    return all(
        torch.equal(getattr(first, name), getattr(second, name))
        and getattr(first, name).dtype == getattr(second, name).dtype
        for name in ("values", "index", "group_of_output")
    )


@settings(max_examples=150)
@given(codebooks())
def test_any_codebook_gives_its_weights_and_the_values_in_use(content):
    values, index, group = content
    weights, stored = dense(values, index, group), store(values, index, group)
    assert stored.index.shape == index.shape
    assert_canonical(stored, weights)
    assert same(from_weights(stored.weight(), group), stored), "there is one form of equal weights and groups"
    assert_canonical(stored.merged(), weights)
    assert_canonical(stored.by_output(), weights)
    assert same(stored.merged(), from_weights(stored.weight()))
    assert same(stored.by_output(), from_weights(stored.weight(), torch.arange(len(index))))


@settings(max_examples=80)
@given(codebooks(), st.integers(0, 999), st.integers(1, 5))
def test_operations_on_values_are_those_on_weights(content, seed, factor):
    stored = store(*content)
    weight = torch.tensor(dense(*content)).view(stored.index.shape)
    live = torch.rand(weight.shape, generator=torch.Generator().manual_seed(seed)) < 0.5
    assert_canonical(stored.scaled(factor), (weight * factor).flatten(1).tolist())
    assert_canonical(stored.masked(live), (weight * live).flatten(1).tolist())
    halved = torch.div(-stored.values, 2, rounding_mode="floor")  # turns the order round and makes values coincide
    assert_canonical(stored.mapped(halved), torch.div(-weight, 2, rounding_mode="floor").flatten(1).tolist())


@settings(max_examples=60)
@given(st.integers(1, 5).flatmap(lambda n: st.lists(codebooks(outputs=n), min_size=1, max_size=3)))
def test_projections_into_one_population_are_joined(contents):
    found = joined([store(*content) for content in contents])
    by_output = zip(*(dense(*content) for content in contents), strict=True)
    rows = [[weight for part in parts for weight in part] for parts in by_output]
    assert found.groups == 1
    assert_canonical(found, rows)


def test_a_masked_weight_is_a_value_of_its_own():
    """Group 1 has no 0 before; the value 7 is not used once it is masked."""
    stored = store(torch.tensor([[0, 3], [5, 7]]), torch.tensor([[0, 1], [0, 1]]), torch.tensor([0, 1]))
    masked = stored.masked(torch.tensor([[True, True], [True, False]]))
    assert masked.values.tolist() == [[0, 3], [0, 5]]
    assert masked.weight().tolist() == [[0, 3], [5, 0]]


@pytest.mark.parametrize(("values", "dtype"), [(256, torch.uint8), (257, torch.int16), (2**15 + 1, torch.int32)])
def test_an_index_is_as_narrow_as_it_can_be(values, dtype):
    weight = torch.arange(values).view(1, -1)
    stored = from_weights(weight)
    assert stored.index.dtype == dtype
    assert torch.equal(stored.weight(), weight)
    assert torch.equal(stored.by_output().weight(), weight)


def test_real_weights_keep_their_type():
    weight = torch.tensor([[0.5, -0.25], [0.5, 0.0]], dtype=torch.float64)
    stored = from_weights(weight)
    assert stored.values.dtype == torch.float64
    assert torch.equal(stored.weight(), weight)


def test_a_layer_without_weights_has_no_values():
    stored = from_weights(torch.zeros(3, 0, dtype=torch.int64))
    assert stored.weight().shape == (3, 0)
    assert stored.distinct().tolist() == [0]
    assert store(torch.tensor([[1, 2]]), torch.zeros(3, 0, dtype=torch.int64)).weight().shape == (3, 0)


def test_a_projection_finds_its_values_and_refuses_those_of_other_weights():
    weight = torch.tensor([[4, 0], [4, -2]])
    assert Projection("l1", "input", "l1", "dense", weight).stored.values.tolist() == [[-2, 0, 4]]
    by_output = from_weights(weight, torch.arange(2))
    own = Projection("l1", "input", "l1", "dense", weight, codebook=by_output)
    assert own.stored is by_output
    with pytest.raises(ValueError, match="l1"):
        _ = Projection("l1", "input", "l1", "dense", weight + 1, codebook=by_output).stored
