"""Fit a codebook and its assignment to the output currents of a layer instead of to its weights.

Rounding to the nearest value minimises the error of each weight. Neurons, however, receive a current ``I = W x``, and
inputs are strongly correlated: a filter whose small weights sum to zero, rounded one by one, may start to respond to
the mean brightness of the patch. With the covariance ``G`` of the inputs, replacing the weights ``w`` of an output by
``a * q`` changes its current by

    E = (w - a q)' G (w - a q)

in the mean square. A norm after the layer cancels a factor on each output, so the gain ``a`` is free there. Minimising
E over a grid is the layer-wise problem of post-training quantization (Nagel et al. 2020, arXiv 2004.10568; Frantar and
Alistarh 2022, arXiv 2208.11580). Here the grid is a codebook that all outputs share and that is itself unknown. Three
steps alternate: the assignment by coordinate descent, ``a`` in closed form, the codebook by least squares.

Everything runs in float64 on the CPU, a few times per training run.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from spikefit.functional.kmeans import kmeans_1d
from spikefit.functional.quantize import assign

_SWEEPS = 4  # at most; the first does most of the descent
_TRIED = 4  # grids
_STARTS, _FEW = 8, 512  # initial gains, for layers of up to _FEW weights per output
_TINY = 1e-30


@dataclass(frozen=True)
class Match:
    """A codebook fitted to weights, and its assignment: ``weight ~ gain[:, None] * codebook[index]``.

    Attributes:
        codebook: float64 ``[M]``, ascending.
        index: int64 ``[out, n]``.
        gain: float64 ``[out]``, above 0; all equal if the gain is not free.
        error: float64 ``[out]``, E divided by the variance of the float current.
    """

    codebook: Tensor
    index: Tensor
    gain: Tensor
    error: Tensor

    @property
    def values(self) -> Tensor:
        """The codebook value of each weight, without the gain: ``[out, n]``."""
        return self.codebook[self.index]


def prepared(gram: Tensor) -> Tensor:
    """Prepare ``gram`` for the functions below: float64 on the CPU, with a small constant added to its diagonal.

    The constant keeps the weights of inputs that are always 0.
    """
    gram = gram.detach().to("cpu", torch.float64, copy=True)
    gram.diagonal().add_(1e-6 * gram.diagonal().mean() + _TINY)
    return gram


def match_codebook(
    weight: Tensor, gram: Tensor, levels: int, *, free_gain: bool, zero: bool = False, rounds: int = 4
) -> Match:
    """Find the codebook and the assignment that change the currents of a layer least.

    Args:
        weight: ``[out, n]``; every row must have a current with variance above 0.
        gram: ``[n, n]``, covariance of the inputs (second moments if the mean current matters), :func:`prepared`.
        levels: M.
        free_gain: whether each output has its own gain, as before a norm.
        zero: whether one of the M values is fixed at 0.
        rounds: number of rounds that alternate assignment and codebook.

    Returns:
        The match found. The objective is the mean over outputs of :attr:`Match.error`.
    """
    weight = _double(weight)
    unit = weight.square().mean(dim=1).sqrt() if free_gain else weight.square().mean().sqrt().expand(len(weight))
    codebook = kmeans_1d(weight / unit[:, None], levels)[0]
    fixed = torch.zeros(levels, dtype=torch.bool)
    if zero:
        fixed[codebook.abs().argmin()] = True
        codebook[fixed] = 0
    starts = _STARTS if weight.shape[1] <= _FEW else 1  # with many weights the result hardly depends on the start
    match = best_start(weight, gram, codebook, unit, free_gain, starts)
    for _ in range(rounds):
        codebook = _least_squares(weight, gram, match, fixed)
        match = _follow(weight, gram, codebook, match, free_gain)
    match = _better(match, _from_nearest(weight, gram, codebook, match.gain, free_gain))
    order = match.codebook.argsort(stable=True)
    return Match(match.codebook[order], order.argsort()[match.index], match.gain, match.error)


def rematch(weight: Tensor, gram: Tensor, candidates: Tensor, match: Match, *, free_gain: bool) -> tuple[Match, int]:
    """Repeat the assignment for several fixed codebooks close to ``match.codebook``, and choose the best.

    Only the candidates that change the quantised weights least are tried, :data:`_TRIED` of them.

    Args:
        weight, gram: as in :func:`match_codebook`.
        candidates: codebooks ``[K, M]``, in the order of ``match.codebook``: for example its values on several grids.
        match: the start.
        free_gain: as in :func:`match_codebook`.

    Returns:
        The best match, and the index of its candidate.
    """
    weight, candidates = _double(weight), _double(candidates)
    counts = match.index.flatten().bincount(minlength=len(match.codebook))
    nearest = ((candidates - match.codebook).square() * counts).sum(dim=1).argsort(stable=True)[:_TRIED].tolist()
    found = [_follow(weight, gram, candidates[which], match, free_gain) for which in nearest]
    best = min(range(len(found)), key=lambda position: float(found[position].error.mean()))
    return found[best], nearest[best]


def best_start(weight: Tensor, gram: Tensor, codebook: Tensor, unit: Tensor, free_gain: bool, starts: int) -> Match:
    """Coordinate descent from ``starts`` initial gains around ``unit``; the best result per output (float64)."""
    factors = torch.linspace(0.5, 1.6, starts, dtype=torch.float64).tolist() if free_gain and starts > 1 else [1.0]
    best: Match | None = None
    for factor in factors:
        found = _from_nearest(weight, gram, codebook, unit * factor, free_gain)
        best = found if best is None else _better(best, found)
    assert best is not None
    return best


def _from_nearest(weight: Tensor, gram: Tensor, codebook: Tensor, gain: Tensor, free_gain: bool) -> Match:
    """Coordinate descent from the nearest values for ``gain``."""
    ascending, order = codebook.sort()
    index = order[assign((weight / gain[:, None]).reshape(1, -1), ascending[None]).view_as(weight)]
    return _follow(weight, gram, codebook, Match(codebook, index, gain, gain), free_gain)


def _better(first: Match, second: Match) -> Match:
    """Combine two matches with the same codebook: for each output, the one with the smaller error."""
    better = second.error < first.error
    return Match(
        first.codebook,
        torch.where(better[:, None], second.index, first.index),
        torch.where(better, second.gain, first.gain),
        torch.minimum(second.error, first.error),
    )


def _follow(weight: Tensor, gram: Tensor, codebook: Tensor, start: Match, free_gain: bool) -> Match:
    """Descend to an assignment and a gain for ``codebook``, from those of ``start``."""
    from spikefit.functional.kernels.cpu.output_matching import sweep  # numba takes a while to import

    index, gain = start.index.clone(), start.gain.clone()
    wanted, projected = weight @ gram, codebook[index] @ gram  # each sweep updates the second
    for _ in range(_SWEEPS):
        if free_gain:
            gain = _gain(weight, projected, codebook[index], gain)
        if not sweep(gram, codebook, gain, wanted, projected, index):
            break
    if free_gain:
        gain = _gain(weight, projected, codebook[index], gain)
    variance = (wanted * weight).sum(dim=1)
    overlap, power = (projected * weight).sum(dim=1), (projected * codebook[index]).sum(dim=1)
    error = (variance - 2 * gain * overlap + gain.square() * power) / variance.clamp_min(_TINY)
    return Match(codebook, index, gain, error.clamp_min(0))


def _gain(weight: Tensor, projected: Tensor, values: Tensor, gain: Tensor) -> Tensor:
    """The gain of least error of each row, with ``projected = values @ gram``; ``gain`` where that is not positive."""
    overlap, power = (projected * weight).sum(dim=1), (projected * values).sum(dim=1)
    return torch.where((overlap > 0) & (power > 0), overlap / power.clamp_min(_TINY), gain)


def _least_squares(weight: Tensor, gram: Tensor, match: Match, fixed: Tensor) -> Tensor:
    """Codebook of least relative error for an assignment; ``fixed`` and unassigned values stay."""
    inverse_power = ((weight @ gram) * weight).sum(dim=1).clamp_min(_TINY).reciprocal()
    free = [m for m in range(len(match.codebook)) if not bool(fixed[m]) and bool((match.index == m).any())]
    codebook = match.codebook.clone()
    if not free:
        return codebook
    members = [(match.index == m).double() * match.gain[:, None] for m in free]
    through = [(member @ gram) * inverse_power[:, None] for member in members]
    normal = torch.stack([torch.stack([(a * b).sum() for b in members]) for a in through])
    right = torch.stack([(a * weight).sum() for a in through])
    ridge = 1e-9 * normal.diagonal().mean() * torch.eye(len(free), dtype=torch.float64)
    codebook[free] = torch.linalg.solve(normal + ridge, right + ridge.diagonal() * codebook[free])
    return codebook


def _double(x: Tensor) -> Tensor:
    return x.detach().to("cpu", torch.float64)
