"""Randomness as a function of (seed, epoch, process), so that a resumed run repeats the uninterrupted one."""

import hashlib
import os
import random

import numpy as np
import torch


def derived_seed(*keys: int | str) -> int:
    """A 63-bit seed that depends on every key."""
    digest = hashlib.sha256("/".join(map(str, keys)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def global_seed() -> int | None:
    """The seed that ``seed_everything`` was called with, or None."""
    value = os.environ.get("PL_GLOBAL_SEED")
    return None if value is None else int(value)


def reseed(*keys: int | str) -> None:
    """Seed Python, NumPy and torch from ``keys``, leaving what :func:`global_seed` says."""
    seed = derived_seed(*keys)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - what transforms of other libraries draw from
    torch.manual_seed(seed)
