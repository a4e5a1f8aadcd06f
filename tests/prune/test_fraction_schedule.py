"""Growth of the pruned fraction, by hand and by properties of every growth."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikefit.errors import ConfigurationError
from spikefit.prune.fraction_schedule import budget_limit, pruned_fraction


@pytest.mark.parametrize(
    ("growth", "expected"),
    [
        ("one_shot", [0.8, 0.8, 0.8, 0.8]),
        ("linear", [0.2, 0.4, 0.6, 0.8]),
        ("cubic", [0.8 * 37 / 64, 0.8 * 56 / 64, 0.8 * 63 / 64, 0.8]),
    ],
)
def test_schedules_by_hand(growth, expected):
    assert [pruned_fraction(0.8, event, 4, growth) for event in range(1, 5)] == pytest.approx(expected)


@given(st.floats(0, 0.99), st.integers(1, 20), st.sampled_from(["one_shot", "linear", "cubic"]))
def test_every_growth_rises_to_the_final_fraction(final, events, growth):
    fractions = [pruned_fraction(final, event, events, growth) for event in range(1, events + 1)]
    assert fractions[-1] == pytest.approx(final)
    assert all(0 <= a <= b <= final + 1e-12 for a, b in zip([0, *fractions], fractions, strict=False))


@pytest.mark.parametrize(
    ("growth", "expected"),
    [
        ("one_shot", [200, 200, 200, 200]),
        ("linear", [800, 600, 400, 200]),
        ("cubic", [1000 - 800 * 37 / 64, 1000 - 800 * 56 / 64, 1000 - 800 * 63 / 64, 200]),
    ],
)
def test_the_way_down_to_a_budget_by_hand(growth, expected):
    """From 1000 to 200 in four events; the budget itself is exact."""
    limits = [budget_limit(1000, 200, event, 4, growth) for event in range(1, 5)]
    assert limits == pytest.approx(expected)
    assert limits[-1] == 200


def test_a_network_below_its_budget_may_grow_to_it():
    assert [budget_limit(150, 200, event, 3, "linear") for event in range(1, 4)] == [200, 200, 200]


@pytest.mark.parametrize(
    ("arguments", "named"), [((1.0, 1, 1), "fraction"), ((0.5, 0, 1), "event"), ((0.5, 1, 1, "square"), "growth")]
)
def test_a_bad_schedule_is_named(arguments, named):
    with pytest.raises(ConfigurationError, match=named):
        pruned_fraction(*arguments)
