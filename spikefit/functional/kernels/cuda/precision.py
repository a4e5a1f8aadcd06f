"""Precision of the arithmetic in Triton kernels."""

from typing import Any

import torch
import triton.language as tl
from torch import Tensor


def compute_dtype(x: Tensor) -> torch.dtype:
    """Dtype of the arithmetic for ``x``: float64 for float64, else float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def number(dtype: torch.dtype) -> Any:
    """Triton's dtype for ``dtype``, float32 or float64."""
    return tl.float64 if dtype == torch.float64 else tl.float32
