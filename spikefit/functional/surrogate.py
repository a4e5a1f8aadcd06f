"""Surrogate gradients: replacements for the derivative of the spike in the backward pass.

The forward pass is exact, ``s = 1 if v >= theta else 0``. Each function here maps ``x = v - theta`` to a
pseudo-derivative ``ds/dx`` (Neftci et al. 2019, arXiv 1901.09948).
"""

import math
from collections.abc import Callable

from torch import Tensor

from spikefit.errors import check_choice


def atan(x: Tensor, alpha: float) -> Tensor:
    """Derivative of an arctangent (Fang et al. 2021, arXiv 2007.05785).

    ``alpha / 2 / (1 + (pi / 2 * alpha * x)**2)``.
    """
    return (alpha / 2) / (1 + (math.pi / 2 * alpha * x).square())


def sigmoid(x: Tensor, alpha: float) -> Tensor:
    """Derivative of a sigmoid, ``alpha * y * (1 - y)`` with ``y = sigmoid(alpha * x)``."""
    y = (alpha * x).sigmoid()
    return alpha * y * (1 - y)


def triangle(x: Tensor, alpha: float) -> Tensor:
    """Triangular function, ``alpha * max(0, 1 - alpha * |x|)`` (Esser et al. 2016; Bellec et al. 2018)."""
    return alpha * (1 - alpha * x.abs()).clamp_min(0)


SURROGATES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "atan": atan,
    "sigmoid": sigmoid,
    "triangle": triangle,
}
ATAN, SIGMOID, TRIANGLE = range(3)
KERNEL_KINDS = {"atan": ATAN, "sigmoid": SIGMOID, "triangle": TRIANGLE}  # codes passed to kernels


def surrogate(name: str) -> Callable[[Tensor, float], Tensor]:
    """Return the surrogate function ``name``.

    Raises:
        ConfigurationError: for an unknown name.
    """
    check_choice("surrogate", name, SURROGATES)
    return SURROGATES[name]
