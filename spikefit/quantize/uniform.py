"""LSQ: a uniform grid whose step is learned."""

from typing import Any

import torch
from torch import Tensor, nn

from spikefit.errors import check_range
from spikefit.functional.quantize import round_ste, scale_gradient
from spikefit.quantize.base import IntegerWeights, Quantizer, on_grid


class Uniform(Quantizer):
    """LSQ, learned step size quantization (Esser et al. 2020, arXiv 1902.08153).

    Integers lie in ``[-2**(bits-1), 2**(bits-1) - 1]``, so 2 bits give the four values -2, -1, 0, 1 times the step.

    Args:
        weight: the layer's initial weight.
        bits: width of a stored weight, 2 to 8.

    Raises:
        ConfigurationError: for other bits.

    Example:
        >>> weight = torch.tensor([[-0.8, -0.6, 0.1, 0.3, 0.4]])
        >>> Uniform(weight, bits=4).integers(weight).integer.tolist()
        [[-2, -2, 0, 1, 1]]
    """

    def __init__(self, weight: Tensor, bits: int = 4) -> None:
        super().__init__()
        check_range("bits", bits, 2, 8)
        self.bits = bits
        self.step = nn.Parameter(torch.ones((), dtype=weight.dtype))
        self.refit(weight)

    @classmethod
    def options_for(cls, levels: int | None, bits: int) -> dict[str, Any]:
        """The largest width, from 2 to 8 bits, with at most ``levels`` integers."""
        return {"bits": max(2, min(bits, 8, bits if levels is None else levels.bit_length() - 1))}

    @property
    def lowest(self) -> int:
        """The smallest integer of the grid."""
        return -(2 ** (self.bits - 1))

    @property
    def highest(self) -> int:
        """The largest integer of the grid."""
        return 2 ** (self.bits - 1) - 1

    def quantize(self, weight: Tensor) -> Tensor:
        """Round ``weight`` to the grid; the step's gradient is scaled by ``1 / sqrt(N * highest)`` as in the paper."""
        step = scale_gradient(self.step.abs(), (weight.numel() * self.highest) ** -0.5)
        return round_ste((weight / step).clamp(self.lowest, self.highest)) * step

    @torch.no_grad()
    def refit(self, weight: Tensor, live: Tensor | None = None) -> None:
        """Set the step to ``2 * mean(|w|) / sqrt(highest)``, the initial value of the paper."""
        values = weight.detach() if live is None else weight.detach()[live]
        if values.numel():
            step = 2 * values.abs().mean() / self.highest**0.5
            self.step.copy_(step.clamp_min(torch.finfo(step.dtype).tiny))

    @torch.no_grad()
    def integers(self, weight: Tensor) -> IntegerWeights:
        """Grid integers of ``weight`` and the step."""
        integer = (weight / self.step.abs()).clamp(self.lowest, self.highest).round()
        return IntegerWeights(on_grid(integer, self.lowest, self.highest), *self.scale_and_bits(weight))

    @torch.no_grad()
    def scale_and_bits(self, weight: Tensor) -> tuple[Tensor, int]:
        """The step and the width in bits."""
        return self.step.abs().double().reshape([1] * weight.dim()), self.bits

    def extra_repr(self) -> str:
        """Bits."""
        return f"bits={self.bits}"
