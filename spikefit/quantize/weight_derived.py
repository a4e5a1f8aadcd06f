"""Quantizers whose constants are not trained but computed from the weights."""

import copy
from abc import abstractmethod

import torch
from torch import Tensor

from spikefit.functional.quantize import straight_through
from spikefit.quantize.base import Quantizer


class WeightDerived(Quantizer):
    """A quantizer whose constants follow the weights at every training step, and rest in evaluation.

    Resting, they give a compacted layer the values that it had. The gradient is that of the identity.

    Synapses that are not in use don't count. A training step can't tell which ones these are: it counts those that
    the last :meth:`use`, :meth:`refit` or :meth:`recluster` was told. Pruning callbacks do so after every event.

    Args:
        weight: the layer's initial weight.

    Attributes:
        in_use: bool buffer, the shape of ``weight``; a synapse that does not count is False.
    """

    in_use: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("in_use", torch.ones_like(weight, dtype=torch.bool))

    @abstractmethod
    def follow(self, weight: Tensor) -> None:
        """Set the constants from the live ones among ``weight``; they stay as they are where none is live."""

    @abstractmethod
    def nearest(self, weight: Tensor) -> Tensor:
        """The quantised value of each weight, for the constants as they are."""

    def quantize(self, weight: Tensor) -> Tensor:
        """Quantised weights with the gradient of the identity; in training the constants follow ``weight`` first."""
        latent = weight.detach()
        if self.training:
            self.follow(latent)
        return straight_through(weight, self.nearest(latent))

    def use(self, live: Tensor) -> None:
        """Count the synapses in ``live`` alone from the next training step on."""
        self.in_use.copy_(live)

    @torch.no_grad()
    def refit(self, weight: Tensor, live: Tensor | None = None) -> None:
        """Set the constants from the live weights, and remember which ones are live."""
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
