"""Kernels for the functions in :mod:`spikefit.functional`, one package per device."""
