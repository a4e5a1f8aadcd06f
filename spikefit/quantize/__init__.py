"""Quantizers, which map latent weights to the few values that a chip can store."""

from spikefit.quantize.axon_codebook import AxonCodebook
from spikefit.quantize.base import Quantizer, QuantizerFactory
from spikefit.quantize.codebook import Codebook
from spikefit.quantize.post_training import PostTraining
from spikefit.quantize.rescaled import RescaledUniform
from spikefit.quantize.ternary import Ternary
from spikefit.quantize.uniform import Uniform

__all__ = [
    "AxonCodebook",
    "Codebook",
    "PostTraining",
    "Quantizer",
    "QuantizerFactory",
    "RescaledUniform",
    "Ternary",
    "Uniform",
]
