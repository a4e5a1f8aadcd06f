"""Surrogates: symmetric, highest at the threshold, with integral 1."""

import math

import pytest
import torch
from scipy.integrate import quad

from spikefit.errors import ConfigurationError
from spikefit.functional.surrogate import SURROGATES, surrogate


@pytest.mark.parametrize("name", SURROGATES)
@pytest.mark.parametrize("alpha", [0.7, 2.0, 5.0])
def test_a_surrogate_is_the_derivative_of_a_step_from_0_to_1(name, alpha):
    """It is even, highest at the threshold, and its integral is 1."""
    function = surrogate(name)
    half, _ = quad(lambda x: float(function(torch.tensor(x, dtype=torch.float64), alpha)), 0, math.inf, limit=500)
    assert 2 * half == pytest.approx(1, abs=1e-6)
    x = torch.linspace(0, 3, 31, dtype=torch.float64)
    torch.testing.assert_close(function(x, alpha), function(-x, alpha))
    assert (function(x, alpha).diff() <= 0).all()


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigurationError, match=r"'atan', 'sigmoid', 'triangle'"):
        surrogate("step")
