"""CAT, clusterization-aware training: the values that synapses may take are learned together with the weights."""

import copy
from typing import Literal

import torch
from torch import Tensor, nn

from spikefit.errors import ConfigurationError, check_choice, check_range
from spikefit.functional.kmeans import kmeans_1d
from spikefit.functional.quantize import assign, codebook_lookup, round_ste, scale_gradient, straight_through
from spikefit.quantize.base import IntegerWeights, Quantizer

Zero = Literal["counted", "free", "none"]
Scope = Literal["layer", "channel"]


class Codebook(Quantizer):
    """A learned codebook of ``levels`` values on an integer grid of ``bits`` bits.

    The codebook ``c`` is a parameter. Each use rounds it to ``scale * round(c / scale)`` (straight through), with
    integers in ``[-(2**(bits-1) - 1), 2**(bits-1) - 1]``, and gives every weight its nearest value, ``W_hat = c[a]``.
    Backward, ``dL/dW = dL/dW_hat`` and ``dL/dc_m`` sums ``dL/dW_hat`` over the weights assigned to ``m``. The
    mathematics is our reconstruction of SpikeFit (arXiv 2510.15542).

    Args:
        weight: the layer's initial weight, ``[out, ...]``.
        levels: M, how many values a synapse may take, at least 2.
        bits: width of a stored value: 2, 4 or 8.
        scope: one codebook for the ``layer`` or one for each output ``channel``.
        zero: ``counted``: the values are free and one that lands on 0 counts among the M. ``free``: 0 is allowed beside
            the M values, for chips on which an absent synapse costs nothing. ``none``: no value may be 0.
        gradient_scale: factor on the codebook's gradient.

    Raises:
        ConfigurationError: for values that are not allowed, or more levels than the grid has values.
    """

    scale: Tensor

    def __init__(
        self,
        weight: Tensor,
        levels: int = 4,
        bits: int = 4,
        scope: Scope = "layer",
        zero: Zero = "counted",
        gradient_scale: float = 1.0,
    ) -> None:
        super().__init__()
        check_range("levels", levels, 2)
        check_choice("bits", bits, (2, 4, 8))
        check_choice("scope", scope, ("layer", "channel"))
        check_choice("zero", zero, ("counted", "free", "none"))
        self.levels, self.bits, self.scope, self.zero = levels, bits, scope, zero
        self.gradient_scale = gradient_scale
        available = 2 * self.largest + 1 - (zero != "counted")
        if levels > available:
            raise ConfigurationError(
                f"levels: got {levels}, expected at most {available}: a grid of {bits} bits with zero={zero!r} has "
                "no more values. Raise bits or lower levels."
            )
        groups = weight.shape[0] if scope == "channel" else 1
        self.codebook = nn.Parameter(torch.zeros(groups, levels, dtype=weight.dtype))
        self.register_buffer("scale", torch.ones(groups, 1, dtype=weight.dtype))
        self.refit(weight)

    @property
    def largest(self) -> int:
        """The largest integer of the grid."""
        return 2 ** (self.bits - 1) - 1

    def values(self) -> Tensor:
        """The values that synapses may take, ``[groups, M]`` (with ``zero="free"`` ``[groups, M + 1]``), ascending."""
        codebook = scale_gradient(self.codebook, self.gradient_scale) if self.gradient_scale != 1 else self.codebook
        integer = self._on_grid(codebook / self.scale)
        values = integer * self.scale
        if self.zero == "free":
            values = torch.cat([values, values.new_zeros(len(values), 1)], dim=1)
        return values.sort(dim=1).values

    def _on_grid(self, codebook: Tensor) -> Tensor:
        clamped = codebook.clamp(-self.largest, self.largest)
        if self.zero == "counted":
            return round_ste(clamped)
        # 0 is taken off the grid: a value that would round to it goes to the nearest of -1 and 1.
        away = torch.where(clamped < 0, -1.0, 1.0).to(clamped)
        integer = torch.where(clamped.abs() < 0.5, away, clamped.round())
        return straight_through(clamped, integer.detach())

    def quantize(self, weight: Tensor) -> Tensor:
        """Nearest codebook value of each weight."""
        values = self.values()
        return codebook_lookup(weight.reshape(len(values), -1), values).view_as(weight)

    @torch.no_grad()
    def refit(self, weight: Tensor, live: Tensor | None = None) -> None:
        """Move the codebook to the optimal one-dimensional k-means of the live weights, and the scale with it.

        A group without live weights keeps its codebook.
        """
        groups = len(self.codebook)
        rows = weight.detach().reshape(groups, -1)
        keep = torch.ones_like(rows, dtype=torch.bool) if live is None else live.reshape(groups, -1)
        for group, (row, mask) in enumerate(zip(rows, keep, strict=True)):
            values = row[mask]
            if len(values):
                self._refit_group(group, values)

    def sliced(self, outputs: Tensor, inputs: Tensor) -> "Codebook":
        """A copy; with one codebook a channel, without those of the dead channels."""
        small = copy.deepcopy(self)
        if self.scope == "channel":
            small.codebook = nn.Parameter(self.codebook.detach()[outputs].clone())
            small.scale = self.scale[outputs].clone()
        return small

    def recluster(self, weight: Tensor, live: Tensor | None = None) -> None:
        """The same as :meth:`refit`."""
        self.refit(weight, live)

    def _refit_group(self, group: int, values: Tensor) -> None:
        if self.zero == "free":
            centroids, counts = kmeans_1d(values, self.levels + 1)
            order = centroids.abs().argsort(stable=True)[1:].sort().values
            centroids, counts = centroids[order], counts[order]
        else:
            centroids, counts = kmeans_1d(values, self.levels)
        self.scale[group] = _best_scale(centroids, counts, self.largest)
        self.codebook.data[group] = centroids

    @torch.no_grad()
    def integers(self, weight: Tensor) -> IntegerWeights:
        """Codebook integers of ``weight`` and the group's scale."""
        values = self.values()
        index = assign(weight.reshape(len(values), -1), values)
        integer = (values / self.scale).round().gather(1, index).view_as(weight).to(torch.int64)
        scale = self.scale.double().reshape(-1, *[1] * (weight.dim() - 1))
        return IntegerWeights(integer, scale, self.bits)

    def extra_repr(self) -> str:
        """M, bits, scope and zero."""
        return f"levels={self.levels}, bits={self.bits}, scope={self.scope!r}, zero={self.zero!r}"


def _best_scale(centroids: Tensor, counts: Tensor, largest: int, candidates: int = 64) -> Tensor:
    """The step of the grid that moves the centroids least when they are rounded to it, weighted by cluster size.

    The largest centroid may land on any integer from half of ``largest`` upwards; clipping is not tried.
    """
    peak = centroids.abs().max()
    if peak == 0:
        return torch.ones_like(peak)
    steps = peak / torch.linspace((largest + 1) / 2, largest, candidates if largest > 1 else 1).to(centroids)
    error = (centroids / steps[:, None]).round() * steps[:, None] - centroids
    return steps[(error.square() * counts).sum(dim=1).argmin()]
