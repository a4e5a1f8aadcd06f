"""A quantizer of your own: from latent weights to the values of synapses, and to the integers that a chip stores."""

import torch
from torch import Tensor

from spikefit.quantize.base import IntegerWeights, on_grid
from spikefit.quantize.weight_derived import WeightDerived


class PowersOfTwo(WeightDerived):
    """``a * {-4, -2, -1, 1, 2, 4}``, where 4a is the largest magnitude; recomputed from the weights in training."""

    levels = 6  # FitToHardware keeps it on chips that store as many values

    def __init__(self, weight: Tensor) -> None:
        super().__init__(weight)
        self.register_buffer("unit", torch.ones(()))  # constants are buffers: checkpoints store them
        self.refit(weight)

    def follow(self, weight: Tensor) -> None:
        """Compute the constants from the weights of living synapses."""
        self.unit.copy_((weight.abs() * self.in_use).amax().clamp_min(1e-8) / 4)

    def nearest(self, weight: Tensor) -> Tensor:
        """The value of each weight."""
        exponent = (weight.abs() / self.unit).clamp(1, 4).log2().round()
        return torch.where(weight < 0, -self.unit, self.unit) * 2**exponent

    def integers(self, weight: Tensor) -> IntegerWeights:
        """The same values as integers of 4 bits and their scale."""
        scale = self.unit.double().reshape([1] * weight.dim())
        return IntegerWeights(on_grid((self.nearest(weight).double() / scale).round().long(), -4, 4), scale, 4)
