"""NIR graphs (Neuromorphic Intermediate Representation): networks read from them, and written to them."""

from spikefit.nir.read import FromNIR

__all__ = ["FromNIR"]
