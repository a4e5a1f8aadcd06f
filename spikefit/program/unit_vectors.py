"""The units of all blocks of a network in one vector: what is worked out for each unit takes one operation for all.

A network of many small layers is otherwise bound by how fast a device is told what to do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=256)
def constant(values: tuple[float, ...], repeats: tuple[int, ...] | None, dtype: torch.dtype, device: str) -> Tensor:
    """``values``, each repeated as often as ``repeats`` says: copied to ``device`` at the first call alone."""
    with torch.inference_mode(False):  # it may be part of a training step later
        made = torch.tensor(values, dtype=dtype)
        return (made if repeats is None else made.repeat_interleave(torch.tensor(repeats))).to(device)


@lru_cache(maxsize=64)
def _members(counts: tuple[int, ...], device: str) -> Tensor:
    """The units of each block, int64 ``[blocks, most]``; a block with fewer repeats its first."""
    with torch.inference_mode(False):
        place, first = torch.arange(max(counts)), torch.tensor([sum(counts[:i]) for i in range(len(counts))])
        return (first[:, None] + torch.where(place < torch.tensor(counts)[:, None], place, 0)).to(device)


@dataclass(frozen=True)
class Units:
    """How the units of blocks lie in one vector ``[N]``, block after block.

    Attributes:
        counts: units of each block, at least 1.
        device: of the vectors.
    """

    counts: tuple[int, ...]
    device: torch.device

    def numbers(self, values: Sequence[float], dtype: torch.dtype = torch.float64) -> Tensor:
        """A constant of each block, ``[blocks]``."""
        return constant(tuple(values), None, dtype, str(self.device))

    def constants(self, values: Sequence[float], dtype: torch.dtype = torch.float64) -> Tensor:
        """A constant of each block, for each of its units: ``[N]``."""
        return constant(tuple(values), self.counts, dtype, str(self.device))

    def joined(self, parts: Sequence[Tensor | float]) -> Tensor:
        """One vector ``[N]`` of what each block has: ``[units]``, anything broadcast to it, or a number; float64."""
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
        """What each block has, ``[blocks]``, for each of its units: ``[N]``."""
        return values.index_select(0, self.constants(range(len(self.counts)), torch.int64))

    def largest(self, values: Tensor) -> Tensor:
        """The largest value of each block: ``[..., N]`` to ``[..., blocks]``."""
        return values[..., _members(self.counts, str(self.device))].amax(dim=-1)

    def chosen(self, which: Sequence[bool], values: Tensor, others: Tensor) -> Tensor:
        """``values`` ``[N]`` in the blocks that ``which`` names, ``others`` in the rest."""
        if all(which):
            return values
        return torch.where(self.constants(which, torch.bool), values, others) if any(which) else others

    def picked(self, which: Sequence[bool], values: Tensor, others: Tensor) -> Tensor:
        """``values`` ``[blocks]`` of the blocks that ``which`` names, ``others`` of the rest."""
        if all(which):
            return values
        return torch.where(self.numbers(which, torch.bool), values, others) if any(which) else others
