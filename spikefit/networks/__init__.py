"""Spiking networks; each is an ordered list of blocks."""

from spikefit.networks.blocks import Block, IdentitySkip, Network
from spikefit.networks.norms import FixedNorm, GainNorm, PositiveBatchNorm
from spikefit.networks.plain import MLP, VGG, ConvSNN
from spikefit.networks.residual import ResidualSNN

__all__ = [
    "MLP",
    "VGG",
    "Block",
    "ConvSNN",
    "FixedNorm",
    "GainNorm",
    "IdentitySkip",
    "Network",
    "PositiveBatchNorm",
    "ResidualSNN",
]
