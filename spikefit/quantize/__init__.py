"""Quantizers: maps from latent weights to the few values that a chip can store."""

from spikefit.quantize.base import Quantizer, QuantizerFactory
from spikefit.quantize.codebook import Codebook
from spikefit.quantize.ternary import Ternary
from spikefit.quantize.uniform import Uniform

__all__ = ["Codebook", "Quantizer", "QuantizerFactory", "Ternary", "Uniform"]
