"""The units of all blocks of a network in one vector, so that one operation computes a constant for all units.

Without this, the fold of a network with many small layers is limited by the launch overhead of the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=256)
def constant(values: tuple[float, ...], repeats: tuple[int, ...] | None, dtype: torch.dtype, device: str) -> Tensor:
    """A constant tensor of ``values``, each repeated ``repeats`` times; cached, so that it is copied only once."""
    with torch.inference_mode(False):  # the cached tensor may be used in a training step later
        made = torch.tensor(values, dtype=dtype)
        return (made if repeats is None else made.repeat_interleave(torch.tensor(repeats))).to(device)


@lru_cache(maxsize=64)
def _members(counts: tuple[int, ...], device: str) -> Tensor:
    """Positions of each block's units, int64 ``[blocks, most]``; a smaller block repeats its first unit."""
    with torch.inference_mode(False):
        place, first = torch.arange(max(counts)), torch.tensor([sum(counts[:i]) for i in range(len(counts))])
        return (first[:, None] + torch.where(place < torch.tensor(counts)[:, None], place, 0)).to(device)


@dataclass(frozen=True)
class Units:
    """Layout of the units of all blocks in one vector ``[N]``, block after block.

    Attributes:
        counts: units of each block, at least 1.
        device: device of the vectors.

    Example:
        >>> units = Units((2, 3), torch.device("cpu"))
        >>> units.constants([0.5, 2.0]).tolist()
        [0.5, 0.5, 2.0, 2.0, 2.0]
        >>> units.largest(torch.tensor([1.0, 4.0, 2.0, 0.0, 3.0])).tolist()
        [4.0, 3.0]
    """

    counts: tuple[int, ...]
    device: torch.device

    def numbers(self, values: Sequence[float], dtype: torch.dtype = torch.float64) -> Tensor:
        """One constant per block, ``[blocks]``."""
        return constant(tuple(values), None, dtype, str(self.device))

    def constants(self, values: Sequence[float], dtype: torch.dtype = torch.float64) -> Tensor:
        """One constant per block, repeated for each of its units: ``[N]``."""
        return constant(tuple(values), self.counts, dtype, str(self.device))

    def joined(self, parts: Sequence[Tensor | float]) -> Tensor:
        """Join one part per block to a vector ``[N]``, float64; a part is ``[units]``, broadcastable, or a number."""
        if not any(isinstance(part, Tensor) for part in parts):
            return self.constants([float(part) for part in parts])
        numbers = self.constants([0.0 if isinstance(part, Tensor) else float(part) for part in parts]).split(
            self.counts
        )
        own = [
            part.expand(len(number)) if isinstance(part, Tensor) else number
            for number, part in zip(numbers, parts, strict=True)
        ]
        return torch.cat(own).double()

    def spread(self, values: Tensor) -> Tensor:
        """Repeat the value of each block, ``[blocks]``, for each of its units: ``[N]``."""
        return values.index_select(0, self.constants(range(len(self.counts)), torch.int64))

    def largest(self, values: Tensor) -> Tensor:
        """The largest value of each block: ``[..., N]`` to ``[..., blocks]``."""
        return values[..., _members(self.counts, str(self.device))].amax(dim=-1)

    def chosen(self, which: Sequence[bool], values: Tensor, others: Tensor) -> Tensor:
        """``values`` ``[N]`` for the units of blocks whose ``which`` is True, ``others`` for the rest."""
        if all(which):
            return values
        return torch.where(self.constants(which, torch.bool), values, others) if any(which) else others

    def picked(self, which: Sequence[bool], values: Tensor, others: Tensor) -> Tensor:
        """``values`` ``[blocks]`` for blocks whose ``which`` is True, ``others`` for the rest."""
        if all(which):
            return values
        return torch.where(self.numbers(which, torch.bool), values, others) if any(which) else others
