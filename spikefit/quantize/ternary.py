"""Ternary weights: -a, 0, a."""

import torch
from torch import Tensor

from spikefit.errors import ConfigurationError
from spikefit.quantize.base import IntegerWeights, on_grid
from spikefit.quantize.weight_derived import WeightDerived


class Ternary(WeightDerived):
    """Quantizer of ternary weight networks (Li et al. 2016, arXiv 1605.04711).

    A weight with magnitude above ``threshold * mean(|w|)`` becomes ``sign(w) * a``, where ``a`` is the mean magnitude
    of these weights; all others become 0. Border and amplitude are recomputed from the weights
    (:class:`~spikefit.quantize.weight_derived.WeightDerived`).

    Args:
        weight: the layer's initial weight.
        threshold: fraction of the mean magnitude, above 0; the paper's value is 0.7.

    Raises:
        ConfigurationError: for a threshold that is not positive.

    Example:
        >>> weight = torch.tensor([[-0.75, -0.5, 0.125, 0.25]])
        >>> Ternary(weight)(weight).tolist()
        [[-0.625, -0.625, 0.0, 0.0]]
    """

    bits = 2
    amplitude: Tensor
    border: Tensor

    def __init__(self, weight: Tensor, threshold: float = 0.7) -> None:
        super().__init__(weight)
        if not threshold > 0:
            raise ConfigurationError(f"threshold: got {threshold!r}, expected a value above 0.")
        self.threshold = threshold
        self.register_buffer("amplitude", torch.ones((), dtype=weight.dtype))
        self.register_buffer("border", torch.zeros((), dtype=weight.dtype))
        self.refit(weight)

    def follow(self, weight: Tensor) -> None:
        """Compute border and amplitude from the weights in use."""
        magnitude, count = weight.abs() * self.in_use, self.in_use.sum()
        border = self.threshold * magnitude.sum() / count.clamp_min(1)
        large = magnitude > border
        amplitude = (magnitude * large).sum() / large.sum().clamp_min(1)
        self.border.copy_(torch.where(count > 0, border, self.border))
        self.amplitude.copy_(torch.where(count > 0, amplitude, self.amplitude))

    def nearest(self, weight: Tensor) -> Tensor:
        """Round each weight to -a, 0 or a."""
        return self._sign(weight) * self.amplitude

    def _sign(self, weight: Tensor) -> Tensor:
        return (weight.abs() > self.border) * weight.sign()

    @torch.no_grad()
    def integers(self, weight: Tensor) -> IntegerWeights:
        """Integers -1, 0 and 1, and the amplitude as their scale."""
        return IntegerWeights(on_grid(self._sign(weight), -1, 1), *self.scale_and_bits(weight))

    @torch.no_grad()
    def scale_and_bits(self, weight: Tensor) -> tuple[Tensor, int]:
        """The amplitude and the width in bits."""
        return self.amplitude.double().reshape([1] * weight.dim()), self.bits

    def extra_repr(self) -> str:
        """Threshold."""
        return f"threshold={self.threshold}"
