"""Import and export of networks as NIR graphs (Neuromorphic Intermediate Representation)."""

from spikefit.nir.read_network import FromNIR

__all__ = ["FromNIR"]
