"""Post-training quantization, the baseline for quantization-aware training."""

from typing import Literal

import torch
from torch import Tensor

from spikefit.errors import check_choice, check_range
from spikefit.functional.quantize import straight_through
from spikefit.quantize.base import IntegerWeights, Quantizer, on_grid
from spikefit.quantize.codebook import Codebook

Method = Literal["kmeans", "uniform"]


class PostTraining(Quantizer):
    """Post-training quantization: weights are float during training and are quantised once afterwards.

    The initial strength is 0, which leaves the weights unchanged. The callback ``PostTrainingQuantization`` fits the
    quantizer to the trained weights and switches it on at the start of ``test``. A deployment at the end of ``fit``
    therefore uses the float network. Do not combine it with ``CodebookReclustering``, which switches every quantizer
    on during training.

    Args:
        weight: the layer's initial weight.
        method: ``kmeans``: the optimal codebook of the weights, rounded to the integer grid
            (:class:`~spikefit.quantize.codebook.Codebook`). ``uniform``: equidistant values with the step of least
            squared error (:func:`best_step`).
        levels: number of values, at least 2; null for all values of the grid: ``2**bits - 1`` for ``kmeans``,
            ``2**bits`` for ``uniform``.
        bits: width of a stored integer: 2, 4 or 8.

    Raises:
        ConfigurationError: for values that are not allowed, or more levels than the grid has values.

    Example:
        >>> weight = torch.tensor([[-0.8, -0.6, 0.1, 0.3, 0.4]])
        >>> quantizer = PostTraining(weight, method="uniform", levels=4, bits=4)
        >>> torch.equal(quantizer(weight), weight), quantizer.integers(weight).integer.tolist()
        (True, [[-3, -3, 1, 1, 1]])
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
        """Round each weight to the nearest value, with the gradient of the identity."""
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
        """Integers of ``weight`` and their scale."""
        return self.fitted.integers(weight)

    def scale_and_bits(self, weight: Tensor) -> tuple[Tensor, int]:
        """Scale and width in bits of the integers."""
        return self.fitted.scale_and_bits(weight)

    def extra_repr(self) -> str:
        """The method; the fitted quantizer prints the other options."""
        return f"method={self.method!r}"


class UniformGrid(Quantizer):
    """Uniform grid with the step of least squared error.

    The grid is symmetric around 0 for an odd number of ``levels``. For an even number it is symmetric, on odd integers,
    if these fit into ``bits`` bits; else it is that of two's complement, with one more value below 0 than above.

    Args:
        weight: the layer's initial weight.
        levels: number of values, at least 2.
        bits: width of a stored integer.

    Raises:
        ConfigurationError: for fewer levels than 2 or more than ``2**bits``.

    Example:
        >>> UniformGrid(torch.tensor([[-0.8, 0.1, 0.9]]), levels=4, bits=4).grid().tolist()
        [-3, -1, 1, 3]
    """

    levels: int
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
        """The integers of the grid, int64 ``[levels]``, ascending."""
        return self.lowest + self.spacing * torch.arange(self.levels, device=self.step.device)

    def quantize(self, weight: Tensor) -> Tensor:
        """Round each weight to the nearest value, with the gradient of the identity."""
        return straight_through(weight, self._integer(weight.detach()) * self.step)

    def _integer(self, weight: Tensor) -> Tensor:
        place = ((weight / self.step - self.lowest) / self.spacing).round().clamp(0, self.levels - 1)
        return place * self.spacing + self.lowest

    @torch.no_grad()
    def refit(self, weight: Tensor, live: Tensor | None = None) -> None:
        """Fit the step to the (live) weights."""
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
        """The step and the width in bits."""
        return self.step.double().reshape([1] * weight.dim()), self.bits

    def extra_repr(self) -> str:
        """Levels and bits."""
        return f"levels={self.levels}, bits={self.bits}"


def best_step(values: Tensor, grid: Tensor, candidates: int = 512, rounds: int = 10) -> Tensor:
    """Step of an integer grid that minimises the squared error of rounding ``values`` to it.

    Each of several initial steps is refined by Lloyd's iteration with one parameter: assign the values, then choose the
    best step for the assignment, which never increases the error. The best result is returned. The initial steps are
    spaced geometrically, from the step that maps the mean magnitude to the largest integer to the step that maps the
    largest magnitude to 1.

    Args:
        values: any shape, at least one value, all finite.
        grid: integers ``[L]``, ascending, at least one of them not 0.
        candidates: number of initial steps.
        rounds: number of iterations.

    Returns:
        Scalar in the dtype of ``values``, above 0; 1 if all values are 0.
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
    # The error is sum(w**2) - product**2 / square; a step that rounds everything to 0 gains nothing.
    gain = torch.where(square > 0, product.square() / square, 0)
    return steps[gain.argmax()].to(values).clamp_min(torch.finfo(values.dtype).tiny)
