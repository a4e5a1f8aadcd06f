"""Seeding by seed, epoch and process, so that a resumed run repeats the uninterrupted one."""

import hashlib
import os
import random
from collections.abc import Mapping
from typing import Any

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


def random_state() -> dict[str, Any]:
    """State of the random numbers of Python, NumPy and torch on all devices; tensors and primitives only."""
    name, keys, *position = np.random.get_state(legacy=True)  # noqa: NPY002 - as in `reseed`
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys, np.int64)), *position),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Restore a :func:`random_state`; devices that were not there keep theirs."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *position = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *position))  # noqa: NPY002 - as in `reseed`
    torch.set_rng_state(state["torch"].cpu())
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([each.cpu() for each in state["cuda"]])
