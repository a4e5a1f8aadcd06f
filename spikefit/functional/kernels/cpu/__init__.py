"""numba kernels for CPUs; tests compare each with its plain-torch reference."""
