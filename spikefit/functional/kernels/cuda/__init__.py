"""Triton kernels for CUDA devices; tests compare each with its plain-torch reference."""
