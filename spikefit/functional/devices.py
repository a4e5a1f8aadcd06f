"""Availability of Triton kernels, and a cache of constant tensors per device."""

from functools import lru_cache
from importlib.util import find_spec

import torch
from torch import Tensor

_TRITON = find_spec("triton") is not None  # once: the look-up reads the file system


def has_triton() -> bool:
    """Whether Triton is installed, as it is with torch's CUDA builds."""
    return _TRITON


def runs_triton(tensor: Tensor) -> bool:
    """Whether Triton kernels can process ``tensor``: it is on a CUDA device, and Triton is installed."""
    return _TRITON and tensor.device.type == "cuda"


@lru_cache(maxsize=1024)
def constants(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A cached tensor of ``values`` on ``device``, ``[len(values)]``; the caller must not modify it.

    Without the cache, each step would copy Python numbers to the device and wait for it.
    """
    with torch.inference_mode(False):  # a cached inference tensor could not be saved for a later backward pass
        return torch.tensor(values, dtype=dtype, device=device)
