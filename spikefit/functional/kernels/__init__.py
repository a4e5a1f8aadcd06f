"""Kernels of the functions in :mod:`spikefit.functional`, one folder a device."""
