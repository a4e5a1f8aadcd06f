"""Quantization after training: the baseline of training with it."""

from typing import Literal

import torch
from torch import Tensor

from spikefit.errors import check_choice, check_range
from spikefit.functional.quantize import straight_through
from spikefit.quantize.base import IntegerWeights, Quantizer, on_grid
from spikefit.quantize.codebook import Codebook

Method = Literal["kmeans", "uniform"]


class PostTraining(Quantizer):
    """Leaves the weights alone in training and quantises them once, behind it.

    It starts at strength 0, where it changes nothing. The callback ``PostTrainingQuantization`` fits it to the trained
    weights when a ``test`` begins and switches it on; a deployment at the end of ``fit`` still sees the float network.
    ``CodebookReclustering`` would switch it on in training, as it does with every quantizer: leave it out.

    Args:
        weight: the layer's initial weight.
        method: ``kmeans``: the optimal codebook of the weights, rounded to the integer grid
            (:class:`~spikefit.quantize.codebook.Codebook`). ``uniform``: values at equal distances, whose step has the
            least squared error (:func:`best_step`).
        levels: how many values, at least 2; null for as many as the grid has, ``2**bits - 1`` and ``2**bits``.
        bits: width of a stored integer: 2, 4 or 8.

    Raises:
        ConfigurationError: for values that are not allowed, or more levels than the grid has values.
    """

    def __init__(self, weight: Tensor, method: Method = "kmeans", levels: int | None = 4, bits: int = 4) -> None:
        super().__init__()
        check_choice("method", method, ("kmeans", "uniform"))
        check_choice("bits", bits, (2, 4, 8))
        self.method = method
        self.fitted: Quantizer = (
            Codebook(weight, 2**bits - 1 if levels is None else levels, bits)
            if method == "kmeans"
            else UniformGrid(weight, 2**bits if levels is None else levels, bits)
        )
        self.fitted.requires_grad_(False)
        self.strength = 0.0

    def quantize(self, weight: Tensor) -> Tensor:
        """Nearest value of each weight, with the gradient of the identity."""
        return self.fitted.quantize(weight)

    def refit(self, weight: Tensor, live: Tensor | None = None) -> None:
        """Fit to the (live) weights."""
        self.fitted.refit(weight, live)

    def sliced(self, outputs: Tensor, inputs: Tensor) -> "PostTraining":
        """A copy for some outputs and inputs."""
        small = super().sliced(outputs, inputs)
        assert isinstance(small, PostTraining)
        small.fitted = self.fitted.sliced(outputs, inputs).requires_grad_(False)
        return small

    def integers(self, weight: Tensor) -> IntegerWeights:
        """Integers and scale of the grid."""
        return self.fitted.integers(weight)

    def scale_and_bits(self, weight: Tensor) -> tuple[Tensor, int]:
        """Scale and width of the grid."""
        return self.fitted.scale_and_bits(weight)

    def extra_repr(self) -> str:
        """The method; the grid tells the rest."""
        return f"method={self.method!r}"


class UniformGrid(Quantizer):
    """Values at equal distances, with the step of least squared error.

    An odd number of ``levels`` lies around 0. So does an even one, on odd integers, if ``bits`` hold them; else it is
    that of two's complement, with one value more below 0 than above.

    Args:
        weight: the layer's initial weight.
        levels: how many values, at least 2.
        bits: width of a stored integer.

    Raises:
        ConfigurationError: for fewer levels than 2 or more than ``2**bits``.
    """

    step: Tensor

    def __init__(self, weight: Tensor, levels: int, bits: int) -> None:
        super().__init__()
        check_range("levels", levels, 2, 2**bits)
        self.levels, self.bits = levels, bits
        self.spacing = 2 if levels % 2 == 0 and levels <= 2 ** (bits - 1) else 1
        self.register_buffer("step", torch.ones((), dtype=weight.dtype))
        self.refit(weight)

    @property
    def lowest(self) -> int:
        """The smallest integer of the grid."""
        return -(self.levels - 1) if self.spacing == 2 else -(self.levels // 2)

    def grid(self) -> Tensor:
        """The integers that stand for the values, int64 ``[levels]``, ascending."""
        return self.lowest + self.spacing * torch.arange(self.levels, device=self.step.device)

    def quantize(self, weight: Tensor) -> Tensor:
        """Nearest value of each weight, with the gradient of the identity."""
        return straight_through(weight, self._integer(weight.detach()) * self.step)

    def _integer(self, weight: Tensor) -> Tensor:
        place = ((weight / self.step - self.lowest) / self.spacing).round().clamp(0, self.levels - 1)
        return place * self.spacing + self.lowest

    @torch.no_grad()
    def refit(self, weight: Tensor, live: Tensor | None = None) -> None:
        """Set the step from the (live) weights."""
        values = weight.detach() if live is None else weight.detach()[live]
        if values.numel():
            self.step.copy_(best_step(values, self.grid()))

    @torch.no_grad()
    def integers(self, weight: Tensor) -> IntegerWeights:
        """Integers of ``weight`` and the step."""
        highest = self.lowest + self.spacing * (self.levels - 1)
        codebook = on_grid(self._integer(weight), self.lowest, highest, self.spacing)
        return IntegerWeights(codebook, *self.scale_and_bits(weight))

    @torch.no_grad()
    def scale_and_bits(self, weight: Tensor) -> tuple[Tensor, int]:
        """The step and the width."""
        return self.step.double().reshape([1] * weight.dim()), self.bits

    def extra_repr(self) -> str:
        """Levels and bits."""
        return f"levels={self.levels}, bits={self.bits}"


def best_step(values: Tensor, grid: Tensor, candidates: int = 512, rounds: int = 10) -> Tensor:
    """The factor on ``grid`` that brings the values nearest to it, by squared error.

    From a fine row of factors, assigning values and choosing the factor that is best for the assignment take turns,
    which never raises the error (Lloyd's iteration with one parameter); the best of all is taken. The row leads from
    the factor that brings the mean magnitude to the largest integer to the one that brings the largest to 1.

    Args:
        values: any shape, at least one, all finite.
        grid: integers, ``[L]``, ascending, with one beside 0.
        candidates: length of the row.
        rounds: how often to take turns.

    Returns:
        scalar of the values' dtype, above 0; 1 when all values are 0.
    """
    ordered, integers = values.flatten().double().sort().values, grid.double()
    magnitude = ordered.abs()
    peak = magnitude.max()
    if peak == 0:
        return torch.ones_like(values.flatten()[0])
    sums = torch.cat([ordered.new_zeros(1), ordered.cumsum(0)])
    low = magnitude.mean() / integers.abs().max()
    steps = low * (peak / low) ** torch.linspace(0, 1, candidates).to(ordered)
    middles = (integers[1:] + integers[:-1]) / 2
    ends = torch.tensor([0, len(ordered)], device=ordered.device).expand(candidates, 2)
    for _ in range(rounds):
        cut = torch.searchsorted(ordered, steps[:, None] * middles)
        cut = torch.cat([ends[:, :1], cut, ends[:, 1:]], dim=1)
        product = (sums[cut].diff(dim=1) * integers).sum(dim=1)
        square = (cut.diff(dim=1) * integers.square()).sum(dim=1)
        steps = torch.where(square > 0, product / square, steps)
    # The error is sum(w**2) - product**2 / square; a factor that rounds everything to 0 gains nothing.
    gain = torch.where(square > 0, product.square() / square, 0)
    return steps[gain.argmax()].to(values).clamp_min(torch.finfo(values.dtype).tiny)
