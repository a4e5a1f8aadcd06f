"""Masks of pruned synapses on the weights of layers."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from spikefit.program.stored_weights import StoredWeights
from spikefit.quantize.base import latent_weight


class SynapseMask(nn.Module):
    """Sets the weights of pruned synapses to zero: ``W = quantised weight * live``.

    A parametrization that is applied after the quantizer, so that no codebook value can revive a pruned synapse. A
    pruned synapse gets no gradient.

    Args:
        weight: the layer's weight.

    Attributes:
        live: bool buffer, the shape of the weight; False for a pruned synapse.

    Example:
        >>> mask = SynapseMask(torch.ones(2, 3))
        >>> mask.live[0, 0] = False
        >>> mask(torch.ones(2, 3)).tolist()
        [[0.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """

    live: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("live", torch.ones_like(weight, dtype=torch.bool))

    def forward(self, weight: Tensor) -> Tensor:
        """``weight`` with zeros for the pruned synapses, in the same shape."""
        return weight * self.live


def attach_mask(layer: nn.Module) -> SynapseMask:
    """Attach a mask to the weight of ``layer``, after its quantizer, which must be attached first."""
    mask = SynapseMask(latent_weight(layer).detach())
    parametrize.register_parametrization(layer, "weight", mask)
    return mask


def mask_of(layer: nn.Module) -> SynapseMask | None:
    """The mask on ``layer``, or None."""
    if not parametrize.is_parametrized(layer, "weight"):
        return None
    return next((module for module in layer.parametrizations.weight if isinstance(module, SynapseMask)), None)  # type: ignore[union-attr]


def masked(layer: nn.Module, stored: StoredWeights) -> StoredWeights:
    """The integers ``stored`` of ``layer`` with 0 for its pruned synapses; 0 becomes a new value if it was not one."""
    mask = mask_of(layer)
    return stored if mask is None else stored.masked(mask.live)
