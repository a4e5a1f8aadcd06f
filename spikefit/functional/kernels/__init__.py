"""Kernels of the pure functions next door: one folder for each kind of device."""

from importlib.util import find_spec

TRITON = find_spec("triton") is not None  # asked once: finding a module takes longer than launching a kernel
