"""Weights under TrueNorth's axon types: each input selects a type, each output holds one value per type.

A synapse is either present or absent: ``W_hat[j, i] = S[j, i] * c[j, type(i)]`` with ``S`` in {0, 1}. Weights are
``[out, in, taps]`` here. The taps are the positions of a convolution kernel; they share the type of their input.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spikefit.functional.kmeans import kmeans_1d

ROUNDS = 50
NEGLIGIBLE = 1e-9  # a smaller share of an input's squared weights is rounding error


class _AxonLookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, values: Tensor, types: Tensor) -> Tensor:
        own = values[:, types].unsqueeze(2)
        synapses = joined(weight, own)
        ctx.save_for_backward(synapses, types)
        ctx.count = values.shape[1]
        return torch.where(synapses, own, 0.0)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        synapses, types = ctx.saved_tensors
        grad_values = None
        if ctx.needs_input_grad[1]:
            member = torch.nn.functional.one_hot(types, ctx.count).to(grad)
            grad_values = (grad * synapses).sum(dim=2) @ member
        return grad, grad_values, None


def joined(weight: Tensor, own: Tensor) -> Tensor:
    """The mask ``S``, bool: True where ``weight`` is nearer to its value ``own`` than to 0; False for a value of 0."""
    return weight * own.sign() > own.abs() / 2


def axon_lookup(weight: Tensor, values: Tensor, types: Tensor) -> Tensor:
    """Replace each weight by its output's value for its input's type or by 0, whichever is nearer.

    Backward: ``dL/dW = dL/dW_hat`` (straight through), and ``dL/dc[j, t]`` is the sum of ``dL/dW_hat[j, i]`` over the
    present synapses (``S = 1``) from inputs of type ``t``.

    Args:
        weight: ``[out, in, taps]``.
        values: ``c``, ``[out, types]``.
        types: int64 ``[in]``.

    Returns:
        ``[out, in, taps]``.
    """
    return _AxonLookup.apply(weight, values, types)


def best_centres(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Free centre of exact one-dimensional 2-means of each row, with the other centre fixed at 0.

    The free centre is the mean of the ``k`` largest or the ``k`` smallest entries of the row. If they sum to ``P``, it
    lowers the squared error by ``P**2 / k``, so sorting and prefix sums find the best ``k``. Entries of 0 have no
    effect.

    Args:
        rows: ``[n, m]``.

    Returns:
        Centres ``[n]``, and the number of entries that each one serves, int64 ``[n]``.
    """
    ordered = rows.sort(dim=1).values
    sums = torch.cat([ordered.cumsum(dim=1), ordered.flip(1).cumsum(dim=1)], dim=1)
    sizes = torch.arange(1, rows.shape[1] + 1, device=rows.device).repeat(2)
    best = (sums.square() / sizes).argmax(dim=1)
    return sums.gather(1, best[:, None])[:, 0] / sizes[best], sizes[best]


def best_values(weight: Tensor, types: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Values of least squared error for given types, and the number of weights each one serves: ``[out, count]``."""
    values, served = weight.new_zeros(len(weight), count), types.new_zeros(len(weight), count)
    for kind in range(count):
        rows = weight[:, types == kind].flatten(1)
        if rows.shape[1]:
            values[:, kind], served[:, kind] = best_centres(rows)
    return values, served


def savings(weight: Tensor, values: Tensor) -> Tensor:
    """Reduction of each input's squared error by each type, compared with the value 0: ``[in, types]``."""
    columns = [(c * (2 * weight - c)).clamp_min(0).sum(dim=(0, 2)) for c in values.t()[:, :, None, None]]
    return torch.stack(columns, dim=1)


def best_types(weight: Tensor, values: Tensor, types: Tensor) -> Tensor:
    """Type of least squared error for each input, given the values, int64 ``[in]``; a tie keeps the current type.

    A type without inputs takes the input with the largest error among the types that have more than one input.
    """
    count = values.shape[1]
    saved = savings(weight, values)
    best = saved.max(dim=1)
    types = torch.where(best.values > saved.gather(1, types[:, None])[:, 0], best.indices, types)
    energy = weight.square().sum(dim=(0, 2))
    error = energy - best.values
    error = torch.where(error > NEGLIGIBLE * energy, error, 0.0)
    for kind in range(count):
        members = torch.bincount(types[energy > 0], minlength=count)
        spare = torch.where(members[types] > 1, error, 0.0)
        if members[kind] == 0 and bool(spare.any()):
            types[spare.argmax()] = kind
    return types


class AxonFit(NamedTuple):
    """Result of :func:`fit_axons`: types ``[in]``, values ``[out, types]``, weights per value, squared error."""

    types: Tensor
    values: Tensor
    served: Tensor
    error: float


def fit_axons(weight: Tensor, types: Tensor, count: int, rounds: int = ROUNDS) -> AxonFit:
    """Alternate between the best values and the best types, starting from ``types``, until no type changes.

    The squared error never increases from one round to the next.

    Args:
        weight: float64 ``[out, in, taps]``; weights of 0 are ignored.
        types: initial types, int64 ``[in]``.
        count: number of types.
        rounds: maximum number of rounds.
    """
    for _ in range(rounds):
        moved = best_types(weight, best_values(weight, types, count)[0], types)
        if torch.equal(moved, types):
            break
        types = moved
    values, served = best_values(weight, types, count)
    error = (weight - axon_lookup(weight, values, types)).square().sum()
    return AxonFit(types, values, served, float(error))


def starts(weight: Tensor, count: int) -> Iterator[Tensor]:
    """Three initial assignments, int64 ``[in]``: k-means of the inputs' sums, farthest inputs first, round robin."""
    sums = weight.sum(dim=(0, 2))
    centres, _ = kmeans_1d(sums, count)
    yield torch.bucketize(sums, (centres[1:] + centres[:-1]) / 2)
    yield _farthest_first(weight, count)
    yield torch.arange(weight.shape[1], device=weight.device) % count


def _farthest_first(weight: Tensor, count: int) -> Tensor:
    """Fit each type to one input: the input with the largest error under the types before it."""
    energy = weight.square().sum(dim=(0, 2))
    error, values = energy, weight.new_zeros(len(weight), 0)
    for _ in range(count):
        centres, _ = best_centres(weight[:, error.argmax()])
        values = torch.cat([values, centres[:, None]], dim=1)
        best = savings(weight, values).max(dim=1)
        error = energy - best.values
    return best.indices
