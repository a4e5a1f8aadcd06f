"""Which kernels a device has, and numbers that wait on it."""

from functools import lru_cache
from importlib.util import find_spec

import torch
from torch import Tensor

_TRITON = find_spec("triton") is not None  # looked for once: it asks the file system


def has_triton() -> bool:
    """Whether torch came with Triton, as its CUDA builds do."""
    return _TRITON


def runs_triton(tensor: Tensor) -> bool:
    """Whether Triton kernels take ``tensor``: it lies on a CUDA device, and torch came with Triton."""
    return _TRITON and tensor.device.type == "cuda"


@lru_cache(maxsize=1024)
def constants(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """``values`` on ``device``, ``[len(values)]``, copied there once; the caller must not change them.

    A tensor that is made of Python numbers anew in each step makes the host wait for the device each time.
    """
    with torch.inference_mode(False):  # what is made in an evaluation may be saved for a backward pass later
        return torch.tensor(values, dtype=dtype, device=device)
