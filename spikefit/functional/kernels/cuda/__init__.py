"""Triton kernels, for CUDA devices; import them only where there is Triton."""
