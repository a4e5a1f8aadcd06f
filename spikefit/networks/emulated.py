"""A block in the numbers of a program: the norm is folded into constants, which are real or a chip's integers.

Integers are stored exactly in floating-point tensors. A rounded constant keeps the gradient of its real value (straight
through, Bengio et al. 2013, arXiv 1308.3432); spikes have the surrogate gradient of the network's neurons.
"""

import math
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikefit.functional.integer_arithmetic import IntegerDynamics
from spikefit.functional.integer_scan import integer_filter, integer_multi_step
from spikefit.functional.neuron_models import require_emulated
from spikefit.input_kind import InputKind
from spikefit.networks.memory_format import laid_out_for
from spikefit.neurons import SpikingNeuron
from spikefit.program.ir import Arithmetic


@dataclass(frozen=True)
class FoldedInput:
    """Conversion of the network's input to the numbers of a chip.

    Attributes:
        kind: kind of the input.
        spikes_max: most spikes per input and step that the chip accepts.
        arithmetic: arithmetic of the chip, which rounds real numbers.
    """

    kind: InputKind
    spikes_max: int
    arithmetic: Arithmetic

    @property
    def largest(self) -> int:
        """Largest magnitude of an input, in units of the input."""
        return self.arithmetic.largest_input if self.kind.graded else self.spikes_max

    def units(self, x: Tensor) -> Tensor:
        """Inputs as integers: real numbers in the chip's units, counts clipped to ``spikes_max``, spikes unchanged."""
        if self.kind.graded:
            return self.arithmetic.input_units(x)
        return x.clamp(max=self.spikes_max) if self.kind is InputKind.COUNTS else x


def exact_dtype(inputs: int, largest: int, arriving: int, device: str) -> torch.dtype:
    """Narrowest dtype in which a layer adds integers exactly, decided from ranges without reading a tensor.

    float32 represents every partial sum below 2**24 exactly. A CUDA device may multiply float32 in TF32 (cuDNN does by
    default): it rounds both factors to 11 significant bits and adds the exact products in float32. On CUDA, float32 is
    therefore chosen only if the factors have no more bits, which is exact with or without TF32, and float64 otherwise.
    Convolutions are channels last, for which cuDNN has no Winograd or Fourier algorithm.

    Args:
        inputs: number of inputs per unit.
        largest: largest magnitude of a weight, in units of the common power of two.
        arriving: largest magnitude of an input.
        device: type of the device, such as ``cpu``.
    """
    exact = inputs * largest * arriving < 2**24
    if device == "cuda":
        exact &= max(largest, arriving) <= 2**11
    return torch.float32 if exact else torch.float64


@dataclass(frozen=True)
class FoldedSynapses:
    """Synapses in units of the membrane.

    Attributes:
        weight: float64 in the shape of the layer's weight (``[C]`` for an identity shortcut): integers with the
            gradient of the real weights, or (``exact``) real numbers. The entries of dead units are meaningless.
        largest: upper bound of the integers' magnitude, after division by their common power of two.
        bits: width of a stored integer.
        exponent: scalar float64; the chip stores ``weight / 2**exponent``.
        multiplier: scalar float64 by which the quantizer's integers were multiplied.
        arrives: conversion of the network's input; None for layers that receive spikes.
        spikes: most spikes of a source neuron per step.
        places: number of positions of the pooling window over which the incoming spikes are summed.
    """

    weight: Tensor
    largest: int
    bits: int | None
    exponent: Tensor
    multiplier: Tensor
    arrives: FoldedInput | None
    spikes: int
    places: int

    def exact_dtype(self) -> torch.dtype:
        """Dtype that represents every sum of the layer exactly, on its device; see :func:`exact_dtype`."""
        arriving = self.spikes * self.places if self.arrives is None else self.arrives.largest
        return exact_dtype(math.prod(self.weight.shape[1:]), self.largest, arriving, self.weight.device.type)

    def deliver(self, layer: nn.Module, x: Tensor) -> Tensor:
        """Integer currents ``[T, B, units, ...]`` for the input ``x``; ``[1, ...]`` if one frame drives every step.

        Args:
            layer: the layer, for its geometry.
            x: sums of spikes over the pooling windows of the previous block, or the network's input.
        """
        if x.shape[0] > 1 and x.stride(0) == 0:
            x = x[:1]
        dtype = self.exact_dtype()
        x = x.to(dtype) if self.arrives is None else self.arrives.units(x.to(dtype))
        folded, weight = x.flatten(0, 1), self.weight.to(dtype)
        if isinstance(layer, nn.Conv2d):
            laid_out = laid_out_for(layer, folded)
            y = F.conv2d(laid_out, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
        elif isinstance(layer, nn.Linear):
            y = F.linear(folded.flatten(1), weight)
        else:
            y = folded * weight.view(-1, 1, 1)
        return y.unflatten(0, (x.shape[0], -1))


@dataclass(frozen=True)
class FoldedBlock:
    """Constants of one block, differentiable; float64 with one entry per channel unless stated otherwise.

    Attributes:
        synapses: synapses of the block's layer.
        skip: synapses of its shortcut; None if it has none.
        bias: added to the current at every step.
        synaptic_bias: added to the output of the synapses before the synaptic filter; None without synaptic currents.
        unit: value of one unit of the membrane in the current of the layer.
        slope: value of one unit of the membrane after the norm, in the units in which the surrogate is evaluated.
        threshold, leak: of the neurons; None for a readout without neurons.
        synaptic_leak: decay of the synaptic current; None without synaptic currents.
        arithmetic: arithmetic of the chip.
        constants: constants that the step of the neurons needs besides threshold and leak, by name.
    """

    synapses: FoldedSynapses
    skip: FoldedSynapses | None
    bias: Tensor
    synaptic_bias: Tensor | None
    unit: Tensor
    slope: Tensor
    threshold: Tensor | None
    leak: Tensor | None
    synaptic_leak: Tensor | None
    arithmetic: Arithmetic
    constants: dict[str, Tensor] = field(default_factory=dict)

    def current(self, delivered: Tensor, steps: int, neuron: SpikingNeuron | None) -> Tensor:
        """Input currents without the bias, ``[T, B, C, ...]``, or ``[1, ...]`` for a constant current."""
        if self.synaptic_leak is None or neuron is None:
            return delivered
        assert self.synaptic_bias is not None
        delivered = delivered.double() + per_channel(self.synaptic_bias, delivered)
        delivered = delivered.expand(steps, *delivered.shape[1:])
        assert neuron.synaptic_decay is not None
        return integer_filter(delivered, neuron.synaptic_decay, self.synaptic_leak, dynamics(self.arithmetic, neuron))

    def fire(self, current: Tensor, steps: int, neuron: SpikingNeuron, window: int = 1) -> Tensor:
        """Spikes for integer currents without the bias, float32 ``[T, B, C, ...]``, summed over windows."""
        assert self.threshold is not None
        assert self.leak is not None
        return integer_multi_step(
            current,
            steps,
            self.bias,
            self.threshold,
            self.leak,
            self.slope,
            dynamics(self.arithmetic, neuron),
            neuron.alive,
            window,
        )

    def readout(self, current: Tensor, steps: int) -> Tensor:
        """Output of a readout without neurons for integer currents ``[T, B, C]``: float64, the same in every step.

        The output is the mean over time in the units of the network. The order of the sums, ties included, is kept.
        """
        current = current.double() + per_channel(self.bias, current)
        current = current.expand(steps, *current.shape[1:])
        mean = current.sum(dim=0, keepdim=True) * self.unit.detach() / steps
        return mean.expand_as(current)


def dynamics(arithmetic: Arithmetic, neuron: SpikingNeuron) -> IntegerDynamics:
    """Properties of a block's neurons on a chip, with the network's surrogate.

    Raises:
        ConfigurationError: for neurons without an integer form, or whose integer form has no gradient.
    """
    plain = arithmetic.dynamics(require_emulated(neuron.entry).name, neuron.reset, neuron.max_spikes)
    return replace(plain, surrogate=neuron.surrogate, alpha=neuron.alpha)


def per_channel(constant: Tensor, like: Tensor) -> Tensor:
    """``constant`` ``[C]`` reshaped to broadcast over one step of ``like`` ``[T, B, C, ...]``."""
    return constant.view(-1, *[1] * (like.dim() - 3))
