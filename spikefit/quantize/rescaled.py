"""Weight rescaling of QP-SNN: weights are scaled to the range of a uniform grid before rounding."""

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

    The paper quantises ``w`` to the ``2**bits`` values that divide [-1, 1] into ``s = 2**bits - 1`` equal steps.
    Weights much smaller than 1 would use few of these values. So the weights are divided by a coefficient ``gamma``
    before rounding and multiplied by it afterwards: ``gamma * (2/s * round(s/2 * (clip(w / gamma, -1, 1) + 1)) - 1)``.
    With 2 bits the values are ``gamma`` times -1, -1/3, 1/3 and 1. According to the paper, the mean magnitude is the
    best ``gamma``.

    The formula is taken from secondary sources, not from the full text of the paper. Public code that follows it
    computes one coefficient per output channel anew at each step, without a gradient, and uses the gradient of the
    identity, also for clipped weights. The coefficient ``max``, which clips nothing, and the scope ``layer`` are
    additions of this library.

    No value is 0: the values are odd multiples of ``gamma / s``, whose integers take ``bits + 1`` bits. A chip that
    stores indices into a table of values needs only ``bits`` bits per weight.

    Args:
        weight: the layer's initial weight, ``[out, ...]``.
        bits: 2, 4 or 8.
        coefficient: ``gamma`` is the ``mean`` or the ``max`` magnitude of the weights.
        scope: one ``gamma`` per output ``channel``, or one for the ``layer``.

    Raises:
        ConfigurationError: for values that are not allowed.

    Example:
        >>> weight = torch.tensor([[-0.8, -0.6, 0.1, 0.3, 0.4]])
        >>> RescaledUniform(weight, bits=2).integers(weight).integer.tolist()
        [[-3, -3, 1, 3, 3]]
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
        """Compute ``gamma`` from the weights in use."""
        groups = len(self.gamma)
        magnitude, live = (weight.abs() * self.in_use).reshape(groups, -1), self.in_use.reshape(groups, -1)
        count = live.sum(dim=1)
        found = magnitude.amax(dim=1) if self.coefficient == "max" else magnitude.sum(dim=1) / count.clamp_min(1)
        found = found.clamp_min(torch.finfo(found.dtype).tiny)
        self.gamma.copy_(torch.where(count > 0, found, self.gamma.flatten()).view_as(self.gamma))

    def nearest(self, weight: Tensor) -> Tensor:
        """Rescale, round and scale back."""
        return self._odd(weight) * self._unit()

    def _odd(self, weight: Tensor) -> Tensor:
        """Quantised weights as odd integers from ``-s`` to ``s``."""
        steps = 2**self.bits - 1
        return 2 * (steps / 2 * ((weight / self.gamma).clamp(-1, 1) + 1)).round() - steps

    def _unit(self) -> Tensor:
        return self.gamma / (2**self.bits - 1)

    def sliced(self, outputs: Tensor, inputs: Tensor) -> "RescaledUniform":
        """A copy for some outputs and inputs, with the coefficients of the remaining outputs."""
        small = super().sliced(outputs, inputs)
        assert isinstance(small, RescaledUniform)
        if self.scope == "channel":
            small.gamma = self.gamma[outputs].clone()
        return small

    @torch.no_grad()
    def integers(self, weight: Tensor) -> IntegerWeights:
        """Odd integers, and their unit ``gamma / s``."""
        largest = 2**self.bits - 1
        return IntegerWeights(on_grid(self._odd(weight), -largest, largest, 2), *self.scale_and_bits(weight))

    @torch.no_grad()
    def scale_and_bits(self, weight: Tensor) -> tuple[Tensor, int]:
        """Unit of the odd integers, and their width in bits."""
        return self._unit().double(), self.bits + 1

    def extra_repr(self) -> str:
        """Bits, coefficient and scope."""
        return f"bits={self.bits}, coefficient={self.coefficient!r}, scope={self.scope!r}"
