"""QP-SNN's weight rescaling: a uniform grid that the weights are stretched over before they are rounded."""

from typing import Literal

import torch
from torch import Tensor

from spikefit.errors import check_choice
from spikefit.quantize.base import IntegerWeights, on_grid
from spikefit.quantize.weight_derived import WeightDerived

Coefficient = Literal["mean", "max"]
RescalingScope = Literal["layer", "channel"]


class RescaledUniform(WeightDerived):
    """Weight rescaling (ReScaW) of QP-SNN (Wei et al., ICLR 2025, arXiv 2502.05905).

    The paper quantises ``w`` to the ``2**bits`` values that part [-1, 1] into ``s = 2**bits - 1`` equal steps. Weights
    that are small beside 1 use few of them, so it divides them by a coefficient before and multiplies by it behind:
    ``gamma * (2/s * round(s/2 * (clip(w / gamma, -1, 1) + 1)) - 1)``. With 2 bits the values are ``gamma`` times -1,
    -1/3, 1/3 and 1. The paper finds the mean magnitude the best ``gamma``.

    We know the formula at second hand, not from the paper's full text. From public code that follows it we take one
    coefficient for each output channel, computed anew at each step and without a gradient of its own, and the gradient
    of the identity, also for weights that are clipped. The coefficient ``max``, which clips nothing, and one for the
    whole layer are ours.

    There is no 0 among the values: they are odd multiples of ``gamma / s``, which take ``bits + 1`` bits as integers. A
    chip that stores ``bits`` bits an index and has a table of values needs no more than ``bits``.

    Args:
        weight: the layer's initial weight, ``[out, ...]``.
        bits: 2, 4 or 8.
        coefficient: ``gamma`` is the ``mean`` or the ``max`` magnitude of the weights.
        scope: one ``gamma`` for each output ``channel`` or for the ``layer``.

    Raises:
        ConfigurationError: for values that are not allowed.
    """

    gamma: Tensor

    def __init__(
        self,
        weight: Tensor,
        bits: int = 2,
        coefficient: Coefficient = "mean",
        scope: RescalingScope = "channel",
    ) -> None:
        super().__init__(weight)
        check_choice("bits", bits, (2, 4, 8))
        check_choice("coefficient", coefficient, ("mean", "max"))
        check_choice("scope", scope, ("layer", "channel"))
        self.bits, self.coefficient, self.scope = bits, coefficient, scope
        groups = len(weight) if scope == "channel" else 1
        self.register_buffer("gamma", torch.ones(groups, *[1] * (weight.dim() - 1), dtype=weight.dtype))
        self.refit(weight)

    def follow(self, weight: Tensor) -> None:
        """Set ``gamma``."""
        groups = len(self.gamma)
        magnitude, live = (weight.abs() * self.in_use).reshape(groups, -1), self.in_use.reshape(groups, -1)
        count = live.sum(dim=1)
        found = magnitude.amax(dim=1) if self.coefficient == "max" else magnitude.sum(dim=1) / count.clamp_min(1)
        found = found.clamp_min(torch.finfo(found.dtype).tiny)
        self.gamma.copy_(torch.where(count > 0, found, self.gamma.flatten()).view_as(self.gamma))

    def nearest(self, weight: Tensor) -> Tensor:
        """Rescaled, rounded, scaled back."""
        return self._odd(weight) * self._unit()

    def _odd(self, weight: Tensor) -> Tensor:
        """Odd integers from ``-s`` to ``s``."""
        steps = 2**self.bits - 1
        return 2 * (steps / 2 * ((weight / self.gamma).clamp(-1, 1) + 1)).round() - steps

    def _unit(self) -> Tensor:
        return self.gamma / (2**self.bits - 1)

    def sliced(self, outputs: Tensor, inputs: Tensor) -> "RescaledUniform":
        """A copy for some outputs and inputs, with the coefficients of the outputs that are left."""
        small = super().sliced(outputs, inputs)
        assert isinstance(small, RescaledUniform)
        if self.scope == "channel":
            small.gamma = self.gamma[outputs].clone()
        return small

    @torch.no_grad()
    def integers(self, weight: Tensor) -> IntegerWeights:
        """Odd integers, and what they count."""
        largest = 2**self.bits - 1
        return IntegerWeights(on_grid(self._odd(weight), -largest, largest, 2), *self.scale_and_bits(weight))

    @torch.no_grad()
    def scale_and_bits(self, weight: Tensor) -> tuple[Tensor, int]:
        """What the odd integers count, and their width."""
        return self._unit().double(), self.bits + 1

    def extra_repr(self) -> str:
        """Bits, coefficient and scope."""
        return f"bits={self.bits}, coefficient={self.coefficient!r}, scope={self.scope!r}"
