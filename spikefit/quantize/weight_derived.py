"""Base class of quantizers whose constants are computed from the weights instead of trained."""

import copy
from abc import abstractmethod

import torch
from torch import Tensor

from spikefit.functional.quantize import straight_through
from spikefit.quantize.base import Quantizer


class WeightDerived(Quantizer):
    """A quantizer whose constants are recomputed from the weights in every training step and fixed in evaluation.

    Fixed constants keep the values of a layer when it is compacted. The gradient is that of the identity.

    Synapses that are not in use are ignored. The synapses in use are those passed to the last call of :meth:`use`,
    :meth:`refit` or :meth:`recluster`; pruning callbacks update them after every event.

    Args:
        weight: the layer's initial weight.

    Attributes:
        in_use: bool buffer in the shape of ``weight``; False for ignored synapses.
    """

    in_use: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("in_use", torch.ones_like(weight, dtype=torch.bool))

    @abstractmethod
    def follow(self, weight: Tensor) -> None:
        """Compute the constants from the weights in use; where no weight is in use they stay unchanged."""

    @abstractmethod
    def nearest(self, weight: Tensor) -> Tensor:
        """The quantised value of each weight, for the current constants."""

    def quantize(self, weight: Tensor) -> Tensor:
        """Quantise ``weight``, with the gradient of the identity; in training the constants are recomputed first."""
        latent = weight.detach()
        if self.training:
            self.follow(latent)
        return straight_through(weight, self.nearest(latent))

    def use(self, live: Tensor) -> None:
        """Ignore synapses outside ``live`` from the next training step on."""
        self.in_use.copy_(live)

    @torch.no_grad()
    def refit(self, weight: Tensor, live: Tensor | None = None) -> None:
        """Compute the constants from the live weights, and store which synapses are live."""
        if live is not None:
            self.use(live)
        self.follow(weight.detach())

    def recluster(self, weight: Tensor, live: Tensor | None = None) -> None:
        """The same as :meth:`refit`."""
        self.refit(weight, live)

    def sliced(self, outputs: Tensor, inputs: Tensor) -> "WeightDerived":
        """A copy for some outputs and inputs, with the same constants."""
        small = copy.deepcopy(self)
        small.in_use = self.in_use[outputs][:, inputs].clone()
        return small
