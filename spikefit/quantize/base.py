"""Base class of quantizers, and functions that attach a quantizer to a layer."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from spikefit.errors import ConfigurationError
from spikefit.program.stored_weights import StoredWeights, store


@dataclass(frozen=True)
class IntegerWeights:
    """Weights as a chip stores them: ``weight = scale * integer``.

    Attributes:
        codebook: the integers that the weights take, and the index of each weight.
        scale: float64, broadcastable to the layer's weight: one value, or one per output channel.
        bits: width of a stored integer, sign included.
    """

    codebook: StoredWeights
    scale: Tensor
    bits: int

    @cached_property
    def integer(self) -> Tensor:
        """The integer of each weight: int64, in the shape of the layer's weight."""
        return self.codebook.weight()


def on_grid(integer: Tensor, lowest: int, highest: int, spacing: int = 1) -> StoredWeights:
    """Convert integers on a grid that all outputs share to values and indices.

    Args:
        integer: ``[out, ...]``, of any dtype, each one of ``lowest, lowest + spacing, ..., highest``.
        lowest: smallest integer of the grid.
        highest: largest integer of the grid.
        spacing: distance between neighbours on the grid.
    """
    values = torch.arange(lowest, highest + 1, spacing, device=integer.device)
    return store(values[None], ((integer - lowest) / spacing).round().to(torch.int64))


class Quantizer(nn.Module, ABC):
    """Maps latent weights to the weights that a layer uses, as a parametrization of ``Conv2d`` or ``Linear``.

    The layer uses ``(1 - strength) * weight + strength * quantize(weight)``, unless a subclass overrides :meth:`mix`.
    The initial strength is 1. Callbacks such as ``CodebookReclustering`` set it to 0 for a warm-up in floating point,
    then to 1, in one step or gradually (alpha-blending, Liu and Mattina 2019, arXiv 1903.01061, here with the
    straight-through gradient).

    Subclasses implement :meth:`quantize`, :meth:`refit` to the current weights, and :meth:`integers`, the integers that
    represent the weights.

    A number that controls the forward pass is a *switch*: a Python number, so that no pass waits for the device. Set it
    by assignment (``quantizer.strength = 0.5``). The buffer of the same name, which stores the switch in a state dict,
    is updated with each assignment and must not be written otherwise.

    Attributes:
        strength: a switch, from 0 (float weights) to 1 (quantised weights).
        levels: largest number of distinct values of a layer, or of each output if they differ; None for all integers of
            the width that :meth:`integers` gives.
        switches: name and initial value of each switch of the class.
    """

    switches: ClassVar[Mapping[str, float | bool]] = {"strength": 1.0}
    strength: float
    levels: int | None = None

    @classmethod
    def options_for(cls, levels: int | None, bits: int) -> dict[str, Any]:
        """Options with which this class keeps to the limits of a chip; ``FitToHardware(quantizer=...)`` asks for them.

        Args:
            levels: most distinct values of a layer; None for any number.
            bits: largest width of a stored integer.

        Returns:
            Arguments of the class besides the weight, primitives only. By default none: the class has one width.
        """
        return {}

    def __init__(self) -> None:
        super().__init__()
        for name, value in self.switches.items():
            self.register_buffer(name, torch.tensor(value))
            self.__dict__[name] = value  # takes precedence over the buffer

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.switches or isinstance(value, Tensor):  # a tensor replaces the buffer
            super().__setattr__(name, value)
            if name in self.switches:
                self.read_switches()
            return
        value = type(self.switches[name])(value)
        if not 0 <= value <= 1:
            raise ConfigurationError(f"{name}: got {value!r}, expected a value from 0 to 1.")
        buffer = self._buffers[name]
        assert buffer is not None
        buffer.fill_(value)
        self.__dict__[name] = torch.tensor(value, dtype=buffer.dtype).item()  # rounded as in a checkpoint

    def read_switches(self) -> None:
        """Read the switches from their buffers, after a checkpoint or a broadcast; waits for the device."""
        for module in self.modules():
            if isinstance(module, Quantizer):
                module.__dict__.update({name: module._buffers[name].item() for name in module.switches})  # type: ignore[union-attr]

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.read_switches()

    def forward(self, weight: Tensor) -> Tensor:
        """The weights that the layer uses, in the shape of ``weight``."""
        if self.strength == 1:
            return self.quantize(weight)
        if self.strength > 0:
            return self.mix(weight, self.strength)
        return touch(weight, *self.parameters()) if torch.distributed.is_initialized() else weight

    def mix(self, weight: Tensor, strength: float) -> Tensor:
        """Interpolate between float (``strength`` 0) and quantised (1) weights, in the shape of ``weight``."""
        return torch.lerp(weight, self.quantize(weight), strength)

    @property
    def has_zero(self) -> bool:
        """Whether a weight may become exactly zero, so that its synapse disappears."""
        return True

    @abstractmethod
    def quantize(self, weight: Tensor) -> Tensor:
        """Quantised ``weight`` (same shape), differentiable."""

    @abstractmethod
    def refit(self, weight: Tensor, live: Tensor | None = None) -> None:
        """Fit the grid or the codebook to ``weight``, in place; called when the quantizer is switched on.

        Args:
            weight: the latent weights.
            live: bool, same shape; False for synapses of pruned neurons, which are ignored. None if all are live.
        """

    def sliced(self, outputs: Tensor, inputs: Tensor) -> "Quantizer":
        """A copy for a layer of which only some outputs and inputs remain.

        The copy must give each remaining weight the same value as before.

        Args:
            outputs: bool ``[out]``, the remaining rows of the weight.
            inputs: bool, the remaining columns (second dimension) of the weight.
        """
        return copy.deepcopy(self)

    def recluster(self, weight: Tensor, live: Tensor | None = None) -> None:
        """Fit again during training, like :meth:`refit`; does nothing if the optimizer trains the grid."""

    def use(self, live: Tensor) -> None:
        """Set the synapses that are in use from now on; ignored by quantizers that only need them in :meth:`refit`.

        Args:
            live: bool, in the shape of the weight.
        """

    @abstractmethod
    def integers(self, weight: Tensor) -> IntegerWeights:
        """The integers and the scale of ``quantize(weight)``."""

    def scale_and_bits(self, weight: Tensor) -> tuple[Tensor, int]:
        """Scale (float64, broadcastable to ``weight``) and width in bits of :meth:`integers`.

        Called in each training step with a chip's integers; override it if the integers are not needed to compute it.
        """
        stored = self.integers(weight)
        return stored.scale, stored.bits

    def input_types(self) -> Tensor | None:
        """Type of each input, int64 ``[in]``; None unless each output has at most one non-zero value per type."""
        return None


class _Touch(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *unused: Tensor) -> Tensor:
        ctx.save_for_backward(*unused)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return grad, *(torch.zeros_like(parameter) for parameter in ctx.saved_tensors)


def touch(x: Tensor, *unused: Tensor) -> Tensor:
    """Return ``x``, with a zero gradient for ``unused``, because DDP waits for the gradient of every parameter."""
    return _Touch.apply(x, *unused)


QuantizerFactory = Callable[[Tensor], Quantizer]


def attach(layer: nn.Module, quantizer: Quantizer) -> None:
    """Make ``layer.weight`` the output of ``quantizer``, whose input, the latent weight, is trained."""
    parametrize.register_parametrization(layer, "weight", quantizer)


def replace(layer: nn.Module, quantizer: Quantizer) -> None:
    """Replace the quantizer of ``layer``, if any, by ``quantizer``; latent weight and masks are kept."""
    if not parametrize.is_parametrized(layer, "weight"):
        attach(layer, quantizer)
        return
    chain = layer.parametrizations.weight  # type: ignore[union-attr]
    assert isinstance(chain, nn.ModuleList)
    position = next((i for i, module in enumerate(chain) if isinstance(module, Quantizer)), None)
    if position is None:
        chain.insert(0, quantizer)
    else:
        chain[position] = quantizer


def quantizer_of(layer: nn.Module) -> Quantizer | None:
    """The quantizer of ``layer``, or None."""
    if not parametrize.is_parametrized(layer, "weight"):
        return None
    return next((module for module in layer.parametrizations.weight if isinstance(module, Quantizer)), None)  # type: ignore[union-attr]


def latent_weight(layer: nn.Module) -> Tensor:
    """The trainable weight of ``layer``: the input of its quantizer, if it has one."""
    if parametrize.is_parametrized(layer, "weight"):
        return layer.parametrizations.weight.original  # type: ignore[union-attr,return-value]
    return layer.weight  # type: ignore[return-value]


def exact_weight(layer: nn.Module) -> Tensor:
    """The weights that ``layer`` computes with, float64; quantised ones as exact multiples of their scale."""
    weight, quantizer = layer.weight, quantizer_of(layer)
    assert isinstance(weight, Tensor)
    if quantizer is None or quantizer.strength < 1:
        return weight.double()
    scale, _ = quantizer.scale_and_bits(latent_weight(layer).detach())
    return torch.where(scale > 0, (weight.double() / scale).round() * scale, 0.0)
