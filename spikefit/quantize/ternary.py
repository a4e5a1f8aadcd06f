"""Ternary weights: -a, 0, a."""

import torch
from torch import Tensor

from spikefit.errors import ConfigurationError
from spikefit.functional.quantize import straight_through
from spikefit.quantize.base import IntegerWeights, Quantizer


class Ternary(Quantizer):
    """Ternary weight networks (Li et al. 2016, arXiv 1605.04711).

    A weight beyond ``threshold * mean(|w|)`` becomes ``sign(w) * a``, with ``a`` the mean magnitude of those weights;
    the others become 0. Border and amplitude follow the weights at every training step, with a straight-through
    gradient, and rest in evaluation, so that a compacted layer keeps its values.

    Args:
        weight: the layer's initial weight.
        threshold: fraction of the mean magnitude, above 0; the paper's value is 0.7.

    Raises:
        ConfigurationError: for a threshold that is not positive.
    """

    bits = 2
    amplitude: Tensor
    border: Tensor

    def __init__(self, weight: Tensor, threshold: float = 0.7) -> None:
        super().__init__()
        if threshold <= 0:
            raise ConfigurationError(f"threshold: got {threshold!r}, expected a value above 0.")
        self.threshold = threshold
        self.register_buffer("amplitude", torch.ones((), dtype=weight.dtype))
        self.register_buffer("border", torch.zeros((), dtype=weight.dtype))
        self.refit(weight)

    def quantize(self, weight: Tensor) -> Tensor:
        """Ternary weights with the gradient of the identity; in training the amplitude follows ``weight`` first."""
        if self.training:
            self.refit(weight)
        return straight_through(weight, self._sign(weight) * self.amplitude)

    def _sign(self, weight: Tensor) -> Tensor:
        return (weight.detach().abs() > self.border) * weight.detach().sign()

    @torch.no_grad()
    def refit(self, weight: Tensor, live: Tensor | None = None) -> None:
        """Set border and amplitude from the (live) weights."""
        magnitude = (weight if live is None else weight[live]).detach().abs()
        if magnitude.numel():
            self.border.copy_(self.threshold * magnitude.mean())
            large = magnitude > self.border
            self.amplitude.copy_((magnitude * large).sum() / large.sum().clamp_min(1))

    @torch.no_grad()
    def integers(self, weight: Tensor) -> IntegerWeights:
        """-1, 0 or 1, and the amplitude."""
        return IntegerWeights(
            self._sign(weight).to(torch.int64), self.amplitude.double().reshape([1] * weight.dim()), self.bits
        )

    def extra_repr(self) -> str:
        """Threshold."""
        return f"threshold={self.threshold}"
