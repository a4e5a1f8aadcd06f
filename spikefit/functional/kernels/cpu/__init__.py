"""numba kernels for CPUs. Each has a plain-torch reference, with which tests compare it."""
