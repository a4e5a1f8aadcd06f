"""Seeding by seed, epoch and process, so that a resumed run repeats the uninterrupted one."""

import hashlib
import os
import random

import numpy as np
import torch


def derived_seed(*keys: int | str) -> int:
    """Derive a 63-bit seed from all keys."""
    digest = hashlib.sha256("/".join(map(str, keys)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def global_seed() -> int | None:
    """The seed of the last call of ``seed_everything``, or None."""
    value = os.environ.get("PL_GLOBAL_SEED")
    return None if value is None else int(value)


def reseed(*keys: int | str) -> None:
    """Seed Python, NumPy and torch from ``keys``; :func:`global_seed` does not change."""
    seed = derived_seed(*keys)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - transforms of other libraries use this generator
    torch.manual_seed(seed)
