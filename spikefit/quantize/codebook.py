"""CAT, clusterization-aware training: the values that synapses may take are learned together with the weights."""

import copy
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from spikefit.errors import ConfigurationError, check_choice, check_range
from spikefit.functional.kmeans import kmeans_1d, kmeans_1d_with_zero
from spikefit.functional.output_matching import Match, match_codebook, prepared, rematch
from spikefit.functional.quantize import (
    Zero,
    assign,
    codebook_lookup,
    grid_step,
    grid_values,
    indexed_lookup,
    round_to_grid,
)
from spikefit.program.stored_weights import store
from spikefit.quantize.base import IntegerWeights, Quantizer

CodebookScope = Literal["layer", "channel", "core"]
ZeroOption = Literal["counted", "kept", "free", "none"]
Grid = Literal["fitted", "learned", "power_of_two"]


class Codebook(Quantizer):
    """A learned codebook of ``levels`` values on an integer grid of ``bits`` bits.

    The codebook ``c`` is a parameter. Each use rounds it to ``scale * round(c / scale)`` (straight through), with
    integers in ``[-(2**(bits-1) - 1), 2**(bits-1) - 1]``, and replaces each weight by its nearest value, ``W_hat =
    c[a]``. Backward, ``dL/dW = dL/dW_hat``, and ``dL/dc_m`` is the sum of ``dL/dW_hat`` over the weights assigned to
    ``m``. The mathematics is our reconstruction of SpikeFit (arXiv 2510.15542).

    After :meth:`freeze` the index of each weight is fixed, and only the values are trained.

    Args:
        weight: the layer's initial weight, ``[out, ...]``.
        levels: M, the number of values that a synapse may take, at least 2.
        bits: width of a stored value: 2, 4 or 8.
        scope: one codebook per ``layer``, per output ``channel``, or per ``core``, which holds ``core_outputs``
            consecutive outputs of the layer.
        core_outputs: number of outputs per core; only for scope ``core``.
        zero: ``counted``: any value may be 0, and then counts among the M. ``kept``: one of the M values is always 0,
            for a low energy (a weight of 0 is no synapse). ``free``: 0 is allowed in addition to the M values, for
            chips on which an absent synapse costs nothing. ``none``: no value may be 0.
        grid: step of the integer grid. ``fitted``: fitted to the codebook whenever the weights are clustered.
            ``learned``: fitted at first, then learned with the gradient of LSQ (Esser et al. 2020, arXiv 1902.08153).
            ``power_of_two``: fitted among powers of two, which a chip applies as a shift.

    Raises:
        ConfigurationError: for values that are not allowed, or more levels than the grid has values.

    Example:
        >>> weight = torch.tensor([[-0.9, -0.7, 0.1, 0.2, 0.8]])
        >>> codebook = Codebook(weight, levels=3, bits=4)
        >>> codebook.integers(weight).integer.tolist(), round(codebook.step().item(), 3)
        ([[-5, -5, 1, 1, 5]], 0.16)
    """

    levels: int
    scale: Tensor
    group_of_output: Tensor
    index: Tensor
    frozen: bool
    switches: ClassVar[Mapping[str, float | bool]] = {**Quantizer.switches, "frozen": False}

    def __init__(
        self,
        weight: Tensor,
        levels: int = 4,
        bits: int = 4,
        scope: CodebookScope = "layer",
        core_outputs: int | None = None,
        zero: ZeroOption = "counted",
        grid: Grid = "fitted",
    ) -> None:
        super().__init__()
        check_range("levels", levels, 2)
        check_choice("bits", bits, (2, 4, 8))
        check_choice("scope", scope, ("layer", "channel", "core"))
        check_choice("zero", zero, get_args(ZeroOption))
        check_choice("grid", grid, ("fitted", "learned", "power_of_two"))
        self.levels, self.bits, self.scope, self.zero, self.grid = levels, bits, scope, zero, grid
        available = 2 * self.largest + 1 - (zero in ("free", "none"))
        if levels > available:
            raise ConfigurationError(
                f"levels: got {levels}, expected at most {available}: a grid of {bits} bits with zero={zero!r} has "
                "no more values. Raise bits or lower levels."
            )
        self.register_buffer("group_of_output", _groups(len(weight), scope, core_outputs))
        groups = int(self.group_of_output[-1]) + 1
        learned = levels - (zero == "kept")
        self.codebook = nn.Parameter(torch.zeros(groups, learned, dtype=weight.dtype))
        scale = torch.ones(groups, 1, dtype=weight.dtype)
        if grid == "learned":
            self.scale = nn.Parameter(scale)
        else:
            self.register_buffer("scale", scale)
        self.register_buffer("index", torch.zeros(weight.shape, dtype=torch.uint8))
        self.refit(weight)

    @classmethod
    def options_for(cls, levels: int | None, bits: int) -> dict[str, Any]:
        """As many values of as many bits as allowed, of 2, 4 or 8 bits."""
        bits = max(width for width in (2, 4, 8) if width <= max(bits, 2))
        return {"levels": min(levels or 2**bits - 1, 2**bits - 1), "bits": bits}

    @property
    def options(self) -> dict[str, Any]:
        """Constructor arguments, primitives only, for a codebook of a layer with the same number of outputs."""
        names = ("levels", "bits", "scope", "zero", "grid")
        core_outputs = int((self.group_of_output == 0).sum()) if self.scope == "core" else None
        return {**{name: getattr(self, name) for name in names}, "core_outputs": core_outputs}

    @property
    def _on_grid(self) -> Zero:
        """How 0 joins the learned values on the grid."""
        return "free" if self.zero == "kept" else self.zero

    @property
    def has_zero(self) -> bool:
        """Whether a value may be 0."""
        return self.zero != "none"

    @property
    def largest(self) -> int:
        """The largest integer of the grid."""
        return 2 ** (self.bits - 1) - 1

    def step(self) -> Tensor:
        """Step of the grid of each group, ``[groups, 1]``, above 0."""
        return grid_step(self.scale, self.grid == "learned")

    def values(self) -> Tensor:
        """The values that synapses may take, ``[groups, M]`` (with ``zero="free"`` ``[groups, M + 1]``), ascending."""
        return grid_values(self.codebook, self.scale, self.largest, self._on_grid, self.grid == "learned")

    def _by_row(self, values: Tensor) -> Tensor:
        """Expand ``values`` ``[groups, ...]`` to the rows of :meth:`_rows`."""
        return values[self.group_of_output] if self.scope == "core" else values

    def _rows(self, weight: Tensor) -> Tensor:
        """Reshape ``weight`` to one row per codebook lookup: one for the layer, or one per output."""
        return weight.reshape(1 if self.scope == "layer" else len(weight), -1)

    def quantize(self, weight: Tensor) -> Tensor:
        """Nearest codebook value of each weight, or the value of its frozen index."""
        values = self._by_row(self.values())
        if self.frozen:
            return indexed_lookup(self._rows(weight), values, self._rows(self.index)).view_as(weight)
        return codebook_lookup(self._rows(weight), values).view_as(weight)

    @torch.no_grad()
    def freeze(self, weight: Tensor) -> None:
        """Fix the index of each weight from now on; only the values are trained further."""
        self.index.copy_(self._assignment(weight).to(torch.uint8))
        self.frozen = True

    def assignment(self, weight: Tensor) -> Tensor:
        """Index of each weight's value in its codebook (:meth:`values`), int64, in the shape of ``weight``."""
        return self.index.long() if self.frozen else self._assignment(weight)

    def _assignment(self, weight: Tensor) -> Tensor:
        return assign(self._rows(weight.detach()), self._by_row(self.values().detach())).view_as(weight)

    @torch.no_grad()
    def refit(self, weight: Tensor, live: Tensor | None = None) -> None:
        """Set the codebook to the optimal one-dimensional k-means of the live weights, and fit the grid to it.

        A group without live weights keeps its codebook. A frozen assignment is released.
        """
        self.frozen = False
        groups = self.group_of_output.cpu()
        for group in range(len(self.codebook)):
            rows = slice(None) if self.scope == "layer" else groups == group
            values = weight.detach()[rows]
            values = values.flatten() if live is None else values[live[rows]]
            if len(values):
                self._refit_group(group, values)

    def recluster(self, weight: Tensor, live: Tensor | None = None) -> None:
        """The same as :meth:`refit`, but does nothing while the assignment is frozen."""
        if not self.frozen:
            self.refit(weight, live)

    @torch.no_grad()
    def match(self, weight: Tensor, gram: Tensor, free_gain: bool, live: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Fit codebook and assignment to the output currents of the layer instead of to its weights.

        See :mod:`spikefit.functional.output_matching`. A frozen assignment is released.

        Args:
            weight: the latent weights ``[out, ...]``.
            gram: covariance of the inputs of an output, ``[n, n]`` (:mod:`spikefit.quantize.input_moments`).
            free_gain: whether a norm after the layer cancels a factor on each output.
            live: bool, in the shape of ``weight``; outputs without live synapses stay unchanged.

        Returns:
            Latent weights, moved as little as necessary for their nearest values to be the assignment, and the factor
            ``[out]`` by which the current of each output grows (1 without ``free_gain``).
        """
        self.frozen = False
        moved, factor = weight.detach().clone(), weight.new_ones(len(weight))
        gram = prepared(gram)
        living = weight.detach().flatten(1).any(dim=1)
        if live is not None:
            living &= live.flatten(1).any(dim=1)
        for group in range(len(self.codebook)):
            rows = (self.group_of_output == group).to(living.device) & living
            if bool(rows.any()):
                part, gain = self._match_group(group, weight.detach()[rows].flatten(1), gram, free_gain)
                moved[rows], factor[rows] = part.to(weight).view_as(moved[rows]), gain.reciprocal().to(weight)
        return moved, factor

    def _match_group(self, group: int, weight: Tensor, gram: Tensor, free_gain: bool) -> tuple[Tensor, Tensor]:
        """Set codebook and scale of ``group``; return its latent weights ``[out, n]`` and the gain of each output."""
        with_zero = self._on_grid == "free"
        found = match_codebook(weight, gram, self.codebook.shape[1] + with_zero, free_gain=free_gain, zero=with_zero)
        unit = found.gain.mean()
        found = Match(found.codebook * unit, found.index, found.gain / unit, found.error)
        own = found.codebook != 0 if with_zero else torch.ones_like(found.codebook, dtype=torch.bool)
        steps = self._steps(found.codebook)
        candidates = torch.zeros(len(steps), len(own), dtype=steps.dtype)
        candidates[:, own] = (
            round_to_grid(found.codebook[own] / steps[:, None], self.largest, self._on_grid) * steps[:, None]
        )
        found, step = rematch(weight, gram, candidates, found, free_gain=free_gain)
        self.scale.data[group] = steps[step].to(self.scale)
        self.codebook.data[group] = found.codebook[own].to(self.codebook)
        return _inside_cells(weight.double().cpu() / found.gain[:, None], found), found.gain

    def _refit_group(self, group: int, values: Tensor) -> None:
        if self.zero == "free":
            centroids, counts = kmeans_1d(values, self.levels + 1)
            order = centroids.abs().argsort(stable=True)[1:].sort().values
            centroids, counts = centroids[order], counts[order]
        elif self.zero == "kept":
            centroids, counts = kmeans_1d_with_zero(values, self.levels)
        else:
            centroids, counts = kmeans_1d(values, self.levels)
        steps = self._steps(centroids)
        rounded = (centroids / steps[:, None]).round().clamp(-self.largest, self.largest) * steps[:, None]
        error = ((rounded - centroids).square() * counts).sum(dim=1)
        self.scale.data[group] = steps[error.argmin()]
        self.codebook.data[group] = centroids

    def _steps(self, codebook: Tensor, candidates: int = 64) -> Tensor:
        """Candidate steps of the grid for a codebook ``[M]``: ``[candidates]``.

        The largest value becomes any integer from half of ``largest`` to ``largest``. With powers of two, a coarser
        choice, it may also exceed the grid and be clipped.
        """
        peak = codebook.abs().max()
        if peak == 0:
            return torch.ones_like(peak)[None]
        if self.grid == "power_of_two":
            return ((peak / self.largest).log2().ceil() - torch.arange(8).to(codebook)).exp2()
        count = candidates if self.largest > 1 else 1
        return peak / torch.linspace((self.largest + 1) / 2, self.largest, count).to(codebook)

    def sliced(self, outputs: Tensor, inputs: Tensor) -> "Codebook":
        """A copy for some outputs and inputs, without codebooks that have no remaining output."""
        small = copy.deepcopy(self)
        kept, group_of_output = self.group_of_output[outputs].unique(return_inverse=True)
        small.group_of_output = group_of_output
        if len(kept):
            small.codebook = nn.Parameter(self.codebook.detach()[kept].clone())
            scale = self.scale.detach()[kept].clone()
            small.scale = nn.Parameter(scale) if self.grid == "learned" else scale
        small.index = self.index[outputs][:, inputs].clone()
        return small

    @torch.no_grad()
    def integers(self, weight: Tensor) -> IntegerWeights:
        """Codebook integers of ``weight`` and their scale, per layer or per output."""
        step = self.step()
        integers = (self.values() / step).round().to(torch.int64)
        codebook = store(integers, self.assignment(weight), self.group_of_output.to(integers.device))
        return IntegerWeights(codebook, *self.scale_and_bits(weight))

    @torch.no_grad()
    def scale_and_bits(self, weight: Tensor) -> tuple[Tensor, int]:
        """The step of the grid, per layer or per output, and the width in bits."""
        return self._by_row(self.step().double()).reshape(-1, *[1] * (weight.dim() - 1)), self.bits

    def extra_repr(self) -> str:
        """M, bits, scope and zero."""
        return f"levels={self.levels}, bits={self.bits}, scope={self.scope!r}, zero={self.zero!r}"


def _groups(outputs: int, scope: CodebookScope, core_outputs: int | None) -> Tensor:
    """The codebook of each output, int64 ``[out]``, ascending from 0."""
    if (scope == "core") != (core_outputs is not None):
        raise ConfigurationError(
            f"core_outputs: got {core_outputs!r} with scope={scope!r}, expected the number of outputs per core for "
            "scope 'core' and null otherwise."
        )
    order = torch.arange(outputs)
    if core_outputs is not None:
        check_range("core_outputs", core_outputs, 1)
        return order // core_outputs
    return order if scope == "channel" else torch.zeros_like(order)


def _inside_cells(weight: Tensor, match: Match, margin: float = 1e-3) -> Tensor:
    """Move ``weight`` ``[out, n]`` as little as necessary, so that its nearest codebook value is that of ``match``.

    ``margin`` is the distance kept from the border of the cell, as a share of the codebook's range.
    """
    codebook = match.codebook
    gap = margin * (codebook[-1] - codebook[0])
    middle = (codebook[1:] + codebook[:-1]) / 2
    end = torch.full((1,), torch.inf, dtype=codebook.dtype)
    low, high = (torch.cat([-end, middle]) + gap)[match.index], (torch.cat([middle, end]) - gap)[match.index]
    return torch.where(low < high, torch.minimum(torch.maximum(weight, low), high), match.values)
