"""Triton kernels for CUDA devices. Each has a plain-torch reference, with which tests compare it."""
