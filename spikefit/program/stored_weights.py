"""Weights as a table of few distinct values, with an index into the table for every synapse.

A quantizer knows which values its weights take; chips, files and energy models need them too. The values and the
indices are therefore passed along with the weights, from the quantizer through lowering to every reader of a
:class:`~spikefit.program.ir.Projection`. Only :func:`from_weights` finds the values by comparing weights, for weights
that were rounded from real numbers without a quantizer.

The representation is canonical: two :class:`StoredWeights` of equal weights and groups are equal in every tensor.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

_INDEX_TYPES = ((torch.uint8, 2**8), (torch.int16, 2**15), (torch.int32, 2**31))


def index_width(values: int) -> int:
    """Bits of an index into ``values`` values: ``ceil(log2(values))``."""
    return max(0, (values - 1).bit_length())


@dataclass(frozen=True)
class StoredWeights:
    """The weights ``values[group_of_output[j], index[j, ...]]`` of a projection; :func:`store` builds them.

    Integers are in units of the membrane, including the common factor and the power of two, as the program's weights
    are: a chip with exponents stores ``values / 2**exponent``. The real value of one unit is the ``unit`` of the target
    population, and the width of a stored integer is the projection's ``bits``.

    Attributes:
        values: int64 (or the dtype of real weights) ``[groups, M]``. Each row holds the distinct values that occur in
            its group, ascending; a row with fewer than M values is padded with its last value.
        index: the column of each weight's value, in the shape of the weight ``[out, ...]``; uint8 if M is at most 256,
            else int16 or int32.
        group_of_output: int64 ``[out]``, the row of ``values`` that an output reads.

    Example:
        >>> stored = from_weights(torch.tensor([[3, 0, -1], [0, 3, 3]]))
        >>> stored.values.tolist(), stored.index.tolist()
        ([[-1, 0, 3]], [[2, 1, 0], [1, 2, 2]])
        >>> stored.by_output().distinct().tolist()
        [3, 2]
    """

    values: Tensor
    index: Tensor
    group_of_output: Tensor

    @property
    def groups(self) -> int:
        """Number of groups of outputs that share their values."""
        return len(self.values)

    def weight(self) -> Tensor:
        """The weights themselves, in the shape of ``index``."""
        return self._looked_up(self.values)

    def distinct(self, zero_counts: bool = True) -> Tensor:
        """Number of distinct values in each group: int64 ``[groups]``.

        Args:
            zero_counts: whether to count the value 0.
        """
        if not self.index.numel():
            return torch.zeros(self.groups, dtype=torch.int64, device=self.values.device)
        counts = (self.values[:, 1:] != self.values[:, :-1]).sum(dim=1) + 1
        return counts if zero_counts else counts - (self.values == 0).any(dim=1).to(torch.int64)

    def ranks(self) -> Tensor:
        """Rank of each weight among its group's non-zero values, from 1; 0 for a weight of 0. int64, weight's shape."""
        live = self.values != 0
        return self._looked_up(live.cumsum(dim=1) * live)

    def mapped(self, values: Tensor) -> "StoredWeights":
        """The same indices into new ``values`` ``[groups, M]``, which may coincide or be in another order."""
        return store(values, self.index, self.group_of_output)

    def scaled(self, factor: int) -> "StoredWeights":
        """All weights multiplied by ``factor`` > 0."""
        return replace(self, values=self.values * factor)

    def masked(self, live: Tensor) -> "StoredWeights":
        """The weights, set to 0 where ``live`` (bool, in the shape of the weight) is False."""
        values = torch.cat([self.values, self.values.new_zeros(self.groups, 1)], dim=1)
        return store(values, torch.where(live, self.index.long(), self.values.shape[1]), self.group_of_output)

    def part(self, rows: Tensor | None, columns: Tensor | None) -> "StoredWeights":
        """The weights of selected outputs and inputs.

        Args:
            rows: bool ``[out]``, the selected outputs; None for all.
            columns: bool, the selected entries of the weight's second dimension; None for all.
        """
        index, group_of_output = self.index, self.group_of_output
        if rows is not None:
            index, group_of_output = index[rows], group_of_output[rows]
        if columns is not None:
            index = index[:, columns]
        kept, renumbered = group_of_output.unique(return_inverse=True)
        return store(self.values[kept], index, renumbered)

    def holding(self, weight: Tensor) -> "StoredWeights":
        """``weight`` (int64, same shape) stored with the indices and groups of these weights.

        If outputs that share values here do not share them in ``weight``, because their units differ, every output gets
        its own values.
        """
        values = torch.zeros_like(self.values)
        values[self.group_of_output[:, None], self.index.flatten(1).long()] = weight.flatten(1)
        found = self.mapped(values)
        return found if torch.equal(found.weight(), weight) else self.by_output().holding(weight)

    def cpu(self) -> "StoredWeights":
        """The same weights on the CPU."""
        return StoredWeights(self.values.cpu(), self.index.cpu(), self.group_of_output.cpu())

    def merged(self) -> "StoredWeights":
        """The same weights with one group for all outputs."""
        if self.groups == 1:
            return self
        values = self.values.unique()
        index = self._looked_up(torch.searchsorted(values, self.values))
        return StoredWeights(values[None], _narrowed(index, len(values)), torch.zeros_like(self.group_of_output))

    def by_output(self) -> "StoredWeights":
        """The same weights with a group for every output."""
        rows = self.index.flatten(1)
        order_of_outputs = torch.arange(len(rows), device=rows.device)
        if torch.equal(self.group_of_output, order_of_outputs) or not rows.numel():
            return self
        ordered, order = rows.sort(dim=1)
        new = torch.zeros(rows.shape, dtype=torch.int64, device=rows.device)
        new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
        rank = new.cumsum(dim=1)
        longest = int(rank.max()) + 1
        # A row that is shorter than the longest is padded with its last index, its largest.
        columns = ordered[:, -1:].long().repeat(1, longest).scatter_(1, rank, ordered.long())
        index = torch.empty_like(order).scatter_(1, order, rank).view(self.index.shape)
        values = self.values[self.group_of_output[:, None], columns]
        return StoredWeights(values, _narrowed(index, longest), order_of_outputs)

    def _looked_up(self, table: Tensor) -> Tensor:
        """The entry of ``table`` ``[groups, M]`` of each weight, in the weight's shape."""
        rows = self.index.flatten(1).long()
        if self.groups == 1:
            return table[0][rows].view(self.index.shape)
        return table[self.group_of_output[:, None], rows].view(self.index.shape)


def store(values: Tensor, index: Tensor, group_of_output: Tensor | None = None) -> StoredWeights:
    """The canonical form of the weights ``values[group_of_output[j], index[j, ...]]``.

    Equal values are merged, and unused values are left out: if pruning has removed all weights of a value, a chip does
    not store that value.

    Args:
        values: ``[groups, M]``, in any order.
        index: integers ``[out, ...]``.
        group_of_output: int64 ``[out]``; None for a single group.
    """
    if group_of_output is None:
        group_of_output = torch.zeros(len(index), dtype=torch.int64, device=index.device)
    rows = index.flatten(1).long()
    used = torch.zeros(values.shape, dtype=torch.bool, device=values.device)
    used[group_of_output[:, None], rows] = True
    ordered, order = values.sort(dim=1)
    first = torch.ones_like(used)  # marks the first column of each run of equal values
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    number = first.cumsum(dim=1) - 1  # number of the distinct value in each column
    taken = torch.zeros_like(number).scatter_add_(1, number, used.gather(1, order).long()) > 0
    place = taken.cumsum(dim=1) - 1  # position of a distinct value among the used ones
    longest = max(1, int(place.max()) + 1) if place.numel() else 1
    column = place.gather(1, number).clamp_min(0)  # by ordered column; meaningless for unused values
    distinct = torch.zeros_like(values).scatter_(1, number, ordered)
    last = distinct.gather(1, (place == place[:, -1:]).long().argmax(dim=1, keepdim=True))
    # Unused values are written to an extra column, which is cut off.
    kept = last.repeat(1, longest + 1).scatter_(1, torch.where(taken, place, longest), distinct)[:, :longest]
    renamed = torch.empty_like(column).scatter_(1, order, column)
    found = StoredWeights(kept.contiguous(), index, group_of_output)
    fresh = renamed[group_of_output[:, None], rows].view(index.shape)
    return replace(found, index=_narrowed(fresh, longest))


def from_weights(weight: Tensor, group_of_output: Tensor | None = None) -> StoredWeights:
    """The values and indices of ``weight`` ``[out, ...]``, found by comparing its elements.

    Args:
        weight: integers, or real numbers.
        group_of_output: int64 ``[out]``, the group of outputs that share values; None if all share them.
    """
    values, index = weight.unique(return_inverse=True)
    if group_of_output is None:
        zeros = torch.zeros(len(weight), dtype=torch.int64, device=weight.device)
        return StoredWeights(values[None], _narrowed(index, len(values)), zeros)
    groups = int(group_of_output.max()) + 1
    return store(values.expand(groups, -1), index, group_of_output)


def joined(parts: Sequence[StoredWeights]) -> StoredWeights:
    """The weights of several projections into one population, concatenated per output: ``[out, n]``, one group.

    The weights of an output are in the order of ``parts``, each flattened.
    """
    single = [part.merged() for part in parts]
    values = torch.cat([part.values[0] for part in single]).unique()
    index = [part._looked_up(torch.searchsorted(values, part.values.to(values))).flatten(1) for part in single]
    return StoredWeights(values[None], _narrowed(torch.cat(index, dim=1), len(values)), single[0].group_of_output)


def _narrowed(index: Tensor, values: int) -> Tensor:
    """``index`` in the narrowest dtype that can index ``values`` values."""
    return index.to(next(dtype for dtype, room in _INDEX_TYPES if values <= room))
