"""A block with the numbers that a program has: its norm folded into constants, in real numbers or in a chip's integers.

Integers are held exactly by floating-point tensors. A constant that was rounded keeps the gradient of its real value
(straight through, Bengio et al. 2013, arXiv 1308.3432); spikes have the surrogate gradient of the network's neurons.
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
    """How what a network reads arrives at its first layer.

    Attributes:
        kind: what it reads.
        spikes_max: how many spikes of an input the chip takes in a step.
        arithmetic: of the chip; rounds real numbers.
    """

    kind: InputKind
    spikes_max: int
    arithmetic: Arithmetic

    @property
    def largest(self) -> int:
        """Largest magnitude that arrives, in units of the input."""
        if self.kind.graded:
            low, high = self.arithmetic.input_min or 0, self.arithmetic.input_max
            return 2**53 if high is None else max(-low, high)
        return self.spikes_max

    def units(self, x: Tensor) -> Tensor:
        """Inputs as integers: real numbers in the chip's units, counts up to ``spikes_max``; spikes as they are."""
        if self.kind.graded:
            return self.arithmetic.input_units(x)
        return x.clamp(max=self.spikes_max) if self.kind is InputKind.COUNTS else x


def exact_dtype(inputs: int, largest: int, arriving: int, device: str) -> torch.dtype:
    """The narrowest format in which a layer adds integers exactly. Decided by ranges alone: no tensor is read.

    float32 holds every partial sum below 2**24. A CUDA device may multiply float32 in TF32, as cuDNN does unless it is
    told otherwise: it rounds both factors to 11 significant bits and adds the exact products in float32. So float32 is
    chosen there only where factors have no more bits, which is exact whether or not TF32 is allowed, and float64
    otherwise. Convolutions read channels last, for which cuDNN has no Winograd or Fourier form.

    Args:
        inputs: how many a unit has.
        largest: magnitude of a weight, in units of a power of two that all share.
        arriving: largest magnitude of what arrives.
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
        weight: in the shape of the layer's weight (``[C]`` of an identity shortcut): integers with the gradient of the
            real weights, or (``exact``) real numbers, float64. What a dead unit has there means nothing.
        largest: no integer of it is larger, after the division by its common power of two.
        bits: width of a stored integer.
        exponent: scalar float64, the chip stores ``weight / 2**exponent``.
        multiplier: scalar float64, by which the quantizer's integers were multiplied.
        arrives: reads the network's input; None where spikes arrive.
        spikes: how often a neuron of the source may fire in a step.
        places: of the pooling window over which the spikes that arrive are summed.
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
        """A format that holds every sum of the layer exactly, on its device; see :func:`exact_dtype`."""
        arriving = self.spikes * self.places if self.arrives is None else self.arrives.largest
        return exact_dtype(math.prod(self.weight.shape[1:]), self.largest, arriving, self.weight.device.type)

    def deliver(self, layer: nn.Module, x: Tensor) -> Tensor:
        """Integer currents ``[T, B, units, ...]`` of what arrives, ``[1, ...]`` where one frame drives every step.

        Args:
            layer: whose geometry it is.
            x: sums of spikes over the pooling windows of the block before, or the network's input.
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
    """The constants of one block, float64 with one entry a channel where nothing else is said, differentiable.

    Attributes:
        synapses: of the block's layer.
        skip: of its shortcut; None without.
        bias: added to the current at every step.
        synaptic_bias: added to what synapses deliver, before a synaptic current filters it; None without such currents.
        unit: what one unit of the membrane is worth in the current of the layer.
        slope: what one unit of the membrane is worth after the norm, where the surrogate sees the network's membrane.
        threshold, leak: of the neurons; None for a readout without.
        synaptic_leak: what stands for the decay of the synaptic current; None without.
        arithmetic: of the chip.
        constants: what the step of the neurons needs besides threshold and leak, by name.
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
        """Input currents without the bias, ``[T, B, C, ...]``, or ``[1, ...]`` where every step has the same."""
        if self.synaptic_leak is None or neuron is None:
            return delivered
        assert self.synaptic_bias is not None
        delivered = delivered.double() + per_channel(self.synaptic_bias, delivered)
        delivered = delivered.expand(steps, *delivered.shape[1:])
        assert neuron.synaptic_decay is not None
        return integer_filter(delivered, neuron.synaptic_decay, self.synaptic_leak, dynamics(self.arithmetic, neuron))

    def fire(self, current: Tensor, steps: int, neuron: SpikingNeuron, window: int = 1) -> Tensor:
        """Spikes of integer currents without the bias, float32 ``[T, B, C, ...]``, summed over windows."""
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
        """What a readout without neurons gives for integer currents ``[T, B, C]``: the same in every step, float64.

        That is their mean in the units of the network. Sums that are equal stay so, and the larger one stays larger.
        """
        current = current.double() + per_channel(self.bias, current)
        current = current.expand(steps, *current.shape[1:])
        mean = current.sum(dim=0, keepdim=True) * self.unit.detach() / steps
        return mean.expand_as(current)


def dynamics(arithmetic: Arithmetic, neuron: SpikingNeuron) -> IntegerDynamics:
    """What the neurons of a block have in common on a chip.

    Raises:
        ConfigurationError: for neurons without an integer form, or without a gradient in it.
    """
    plain = arithmetic.dynamics(require_emulated(neuron.entry).name, neuron.reset, neuron.max_spikes)
    return replace(plain, surrogate=neuron.surrogate, alpha=neuron.alpha)


def per_channel(constant: Tensor, like: Tensor) -> Tensor:
    """``[C]`` shaped to broadcast over ``[B, C, ...]``, the steps of ``like`` ``[T, B, C, ...]``."""
    return constant.view(-1, *[1] * (like.dim() - 3))
