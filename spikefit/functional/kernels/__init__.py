"""Kernels of the functions in :mod:`spikefit.functional`, one folder a device."""

from importlib.util import find_spec

TRITON = find_spec("triton") is not None  # it comes with torch's CUDA builds
