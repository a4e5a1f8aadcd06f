"""CAT for TrueNorth's axon types: a learned type per input, and learned values per output."""

import copy

import torch
from torch import Tensor, nn

from spikefit.errors import check_choice, check_range
from spikefit.functional.axon_types import AxonFit, axon_lookup, fit_axons, joined, starts
from spikefit.functional.quantize import round_ste
from spikefit.program.stored_weights import store
from spikefit.quantize.base import IntegerWeights, Quantizer


class AxonCodebook(Quantizer):
    """Codebook for crossbars with axon types: one type per input, one value per output and type.

    ``W_hat[j, i] = S[j, i] * c[j, type(i)]`` with ``S`` in {0, 1}. On a crossbar, the index of a weight belongs to the
    axon and the values belong to the neuron. A source then needs only one axon per core, whatever the weights of its
    synapses; with one codebook of M values for the layer, it needs up to M copies. An input is a feature of a linear
    layer or a channel of a convolution, whose taps share its type. In a grouped convolution, the inputs at the same
    index of all groups share a type.

    ``S`` is 1 where the latent weight is nearer to ``c`` than to 0. ``c`` is a parameter, rounded at each use to
    ``scale * round(c / scale)`` (straight through), with one scale per output. Backward, ``dL/dW = dL/dW_hat``, and
    ``dL/dc[j, t]`` is the sum of ``dL/dW_hat[j, i]`` over the inputs of type ``t`` with ``S = 1``. Types change only in
    :meth:`refit` and :meth:`recluster`.

    A layer with one input channel has one value per output. Where the chip does not impose axon types (an encoder on
    the host), ``Codebook`` loses less accuracy.

    Args:
        weight: the layer's initial weight, ``[out, in, ...]``.
        types: number of types, from 1 to 16; TrueNorth has 4.
        bits: width of a stored value: 2, 4 or 8. An output's scale is also the unit of its threshold and bias: at 8
            bits a bias may not fit into TrueNorth's 9-bit register.

    Raises:
        ConfigurationError: for values that are not allowed.

    Example:
        >>> weight = torch.tensor([[0.7, 0.7, -0.3, 0.0], [0.2, 0.2, 0.4, 0.4]])
        >>> quantizer = AxonCodebook(weight, types=2, bits=4)
        >>> quantizer.input_types().tolist(), quantizer.integers(weight).integer.tolist()
        ([1, 1, 0, 0], [[7, 7, -3, 0], [2, 2, 4, 4]])
    """

    scale: Tensor
    types_of_input: Tensor

    def __init__(self, weight: Tensor, types: int = 4, bits: int = 4) -> None:
        super().__init__()
        check_range("types", types, 1, 16)
        check_choice("bits", bits, (2, 4, 8))
        self.types, self.bits = types, bits
        self.codebook = nn.Parameter(torch.zeros(len(weight), types, dtype=weight.dtype, device=weight.device))
        self.register_buffer("scale", torch.ones(len(weight), 1, dtype=weight.dtype, device=weight.device))
        self.register_buffer("types_of_input", torch.zeros(weight.shape[1], dtype=torch.int64, device=weight.device))
        self.refit(weight)

    @property
    def largest(self) -> int:
        """The largest integer of the grid."""
        return 2 ** (self.bits - 1) - 1

    def values(self) -> Tensor:
        """The value of each output for each type, on the grid: ``[out, types]``."""
        return round_ste((self.codebook / self.scale).clamp(-self.largest, self.largest)) * self.scale

    def quantize(self, weight: Tensor) -> Tensor:
        """Round each weight to 0 or to its output's value for its input's type, whichever is nearer."""
        return axon_lookup(_by_input(weight), self.values(), self.types_of_input).view_as(weight)

    @torch.no_grad()
    def refit(self, weight: Tensor, live: Tensor | None = None) -> None:
        """Fit types and values by squared error, the best result of several starts; the current ones are ignored."""
        counted = _counted(weight, live)
        fits = [fit_axons(counted, start, self.types) for start in starts(counted, self.types)]
        self._take(min(fits, key=lambda fit: fit.error))

    @torch.no_grad()
    def recluster(self, weight: Tensor, live: Tensor | None = None) -> None:
        """Fit values and types to the current weights, starting from the current types."""
        self._take(fit_axons(_counted(weight, live), self.types_of_input.cpu(), self.types))

    def _take(self, fit: AxonFit) -> None:
        """Copy ``fit``; an output without live weights keeps its values."""
        rows = fit.values.any(dim=1)
        scales = _best_scales(fit.values[rows], fit.served[rows], self.largest)
        self.scale[rows] = scales.to(self.scale).clamp_min(torch.finfo(self.scale.dtype).tiny)
        self.codebook[rows] = fit.values[rows].to(self.codebook)
        self.types_of_input.copy_(fit.types)

    @torch.no_grad()
    def integers(self, weight: Tensor) -> IntegerWeights:
        """Integers of ``weight`` and the scale of each output, whose values are those of its types, and 0."""
        values = self.values()
        synapses = joined(_by_input(weight), values[:, self.types_of_input].unsqueeze(2))
        stored = (values / self.scale).round().to(torch.int64)
        index = torch.where(synapses, self.types_of_input[:, None], self.types).view(weight.shape)
        every_output = torch.arange(len(values), device=values.device)
        codebook = store(torch.cat([stored, stored.new_zeros(len(stored), 1)], dim=1), index, every_output)
        return IntegerWeights(codebook, *self.scale_and_bits(weight))

    def scale_and_bits(self, weight: Tensor) -> tuple[Tensor, int]:
        """The scale of each output, and the width in bits."""
        return self.scale.double().reshape(-1, *[1] * (weight.dim() - 1)), self.bits

    def input_types(self) -> Tensor:
        """The type of each input, int64 ``[in]``."""
        return self.types_of_input

    def sliced(self, outputs: Tensor, inputs: Tensor) -> "AxonCodebook":
        """A copy with the values of the remaining outputs and the types of the remaining inputs."""
        small = copy.deepcopy(self)
        small.codebook = nn.Parameter(self.codebook.detach()[outputs].clone())
        small.scale = self.scale[outputs].clone()
        small.types_of_input = self.types_of_input[inputs].clone()
        return small

    def extra_repr(self) -> str:
        """Types and bits."""
        return f"types={self.types}, bits={self.bits}"


def _by_input(weight: Tensor) -> Tensor:
    return weight.reshape(*weight.shape[:2], -1)


def _counted(weight: Tensor, live: Tensor | None) -> Tensor:
    """Weights to fit, float64 ``[out, in, taps]``, dead ones 0; on the CPU, so that the fit is the same everywhere."""
    weight = weight.detach() if live is None else torch.where(live, weight.detach(), 0.0)
    return _by_input(weight.to("cpu", torch.float64))


def _best_scales(values: Tensor, served: Tensor, largest: int, candidates: int = 64) -> Tensor:
    """Step of the grid per output that changes its values least, weighted by the number of weights that they serve.

    An output's largest value may become any integer from half of ``largest`` to twice ``largest``, where it is clipped.
    """
    peak = values.abs().amax(dim=1, keepdim=True)
    steps = peak / torch.linspace((largest + 1) / 2, 2 * largest, candidates).to(peak)
    ratio = values[:, None] / steps[:, :, None]
    error = (ratio - ratio.round().clamp(-largest, largest)) * steps[:, :, None]
    best = (error.square() * served[:, None]).sum(dim=2).argmin(dim=1, keepdim=True)
    return steps.gather(1, best)
