"""Spiking neurons: thin modules over :func:`spikefit.functional.lif.multi_step`.

Neurons map currents ``[T, B, K, ...]`` to spikes of the same shape. ``K`` is the number of *units*: channels after a
convolution, neurons after a linear layer. The membrane starts at rest in every forward pass and is never part of a
state dict. :mod:`spikefit.functional.neuron_models`, the registry of neuron models, describes how to add a neuron.
"""

import math
from collections.abc import Callable
from typing import Protocol, final

import torch
from torch import Tensor, nn

from spikefit.errors import ConfigurationError, check_choice, check_range
from spikefit.functional.current_based import several_spikes, synaptic_filter
from spikefit.functional.dynamics import Dynamics
from spikefit.functional.lif import multi_step
from spikefit.functional.neuron_models import NeuronModel, Reset, neuron_model
from spikefit.functional.surrogate import SURROGATES


class ChipNeurons(Protocol):
    """Interface of neurons in a chip's arithmetic."""

    def fire(self, current: Tensor, steps: int, neuron: "SpikingNeuron") -> Tensor:
        """Spikes for integer currents ``[T, B, units, ...]``, T = ``steps``, with the surrogate of ``neuron``."""


class SpikingNeuron(nn.Module):
    """Base class of all neurons: threshold, reset, surrogate, and the mask of alive units.

    Args:
        units: number of channels or neurons.
        threshold: membrane value at or above which a neuron fires.
        reset: ``subtract`` the threshold from the membrane, or set it to ``zero``.
        surrogate: ``atan``, ``sigmoid`` or ``triangle``.
        alpha: sharpness of the surrogate.

    Attributes:
        alive: bool buffer ``[units]``; False for pruned units, which never fire.
        model: name of the class's entry in :mod:`spikefit.functional.neuron_models`, which defines the leak.
        max_spikes: most spikes of a neuron per step; with more than one, the reset subtracts.
        synaptic_decay: factor of the synaptic current per step; None for neurons without a synaptic current.

    Shape:
        current ``[T, B, units, ...]`` -> spikes ``[T, B, units, ...]``.

    Raises:
        ConfigurationError: for a threshold or alpha that is not positive, an unknown reset or surrogate, or a ``model``
            that is not registered.
    """

    model: str = ""
    max_spikes: int = 1
    synaptic_decay: float | None = None
    alive: Tensor

    def __init__(
        self,
        units: int,
        threshold: float = 1.0,
        reset: Reset = "subtract",
        surrogate: str = "atan",
        alpha: float = 2.0,
    ) -> None:
        super().__init__()
        if not self.model:
            raise ConfigurationError(
                f"{type(self).__name__}: no attribute model; it must name a registered neuron model."
            )
        neuron_model(self.model)
        check_choice("reset", reset, ("subtract", "zero"))
        check_choice("surrogate", surrogate, SURROGATES)
        for option, value in (("threshold", threshold), ("alpha", alpha)):
            if not 0 < value < math.inf:
                raise ConfigurationError(f"{option}: got {value!r}, expected a value above 0.")
        self.units = units
        self.threshold = threshold
        self.reset: Reset = reset
        self.surrogate = surrogate
        self.alpha = alpha
        self.register_buffer("alive", torch.ones(units, dtype=torch.bool))

    @property
    def entry(self) -> NeuronModel:
        """The neuron's entry in the registry."""
        return neuron_model(self.model)

    @property
    def own_dynamics(self) -> bool:
        """Whether the class defines its own dynamics, which the leak of its entry does not describe."""
        parts = ("forward", "fire", "filtered", "dynamics")
        return any(getattr(type(self), part) is not getattr(SpikingNeuron, part) for part in parts)

    def own_constants(self) -> dict[str, Tensor | float]:
        """Constants that the entry's step needs besides threshold and leak, by name."""
        return {name: getattr(self, name) for name in self.entry.constants if hasattr(self, name)}

    @property
    def dynamics(self) -> Dynamics:
        """Threshold, leak, reset and surrogate.

        Raises:
            ConfigurationError: if the entry names no leak; the class must then override :meth:`fire`.
        """
        leak = self.entry.leak
        if leak is None:
            raise ConfigurationError(
                f"{self.entry} has no leak in its entry, and its class does not override fire; add one of them."
            )
        return Dynamics(self.threshold, leak, self.reset, self.surrogate, self.alpha)

    def leak_amount(self) -> Tensor | float:
        """The decay factor, or the linear loss per step in units of the membrane.

        Raises:
            ConfigurationError: if the entry has a leak, and the class does not override this method.
        """
        if self.entry.leak in ("decay", "linear"):
            raise ConfigurationError(
                f"{self.entry} has no leak_amount, but its entry says leak={self.entry.leak!r}; add the method."
            )
        return 0.0

    def forward(self, current: Tensor, chip: ChipNeurons | None = None) -> Tensor:
        """Spikes ``[T, B, units, ...]`` for currents of the same shape; with ``chip``, in the chip's arithmetic."""
        spikes = self.fire(current) if chip is None else chip.fire(current, len(current), self)
        return spikes * self.alive.view(-1, *[1] * (current.dim() - 3))

    def fire(self, current: Tensor) -> Tensor:
        """Spikes of all units, alive or not, for currents ``[T, B, units, ...]``."""
        if self.max_spikes > 1:
            return several_spikes(current, self.dynamics, self.leak_amount(), self.max_spikes)
        return multi_step(current, self.dynamics, self.leak_amount())

    @final
    def filtered(self, delivered: Tensor) -> Tensor:
        """Synaptic currents ``[T, ...]`` for the output of the synapses; unchanged for neurons without such currents.

        Raises:
            ConfigurationError: if the entry has a synaptic current, but the class no ``synaptic_decay``.
        """
        if not self.entry.synaptic:
            return delivered
        return synaptic_filter(delivered, synaptic_decay_of(self))

    def extra_repr(self) -> str:
        """Constants shown when the network is printed."""
        return f"{self.units}, threshold={self.threshold}, reset={self.reset!r}, surrogate={self.surrogate!r}"


def synaptic_decay_of(neuron: SpikingNeuron) -> float:
    """The factor of the synaptic current per step.

    Raises:
        ConfigurationError: if the neuron has none, although its entry has a synaptic current.
    """
    if neuron.synaptic_decay is None:
        raise ConfigurationError(f"{neuron.entry} has no synaptic_decay, but its entry says synaptic=True.")
    return neuron.synaptic_decay


NeuronFactory = Callable[[int], SpikingNeuron]


class IF(SpikingNeuron):
    """Integrate-and-fire: ``v[t] = u[t-1] + I[t]``, where ``u`` is the membrane after the reset.

    Arguments, attributes and shapes as in :class:`SpikingNeuron`.

    Example:
        >>> IF(1)(torch.full((4, 1, 1), 0.6)).flatten().tolist()
        [0.0, 1.0, 0.0, 1.0]
    """

    model = "if"


class LIF(SpikingNeuron):
    """Leaky integrate-and-fire: ``v[t] = decay * u[t-1] + I[t]``, where ``u`` is the membrane after the reset.

    Args:
        units: number of channels or neurons.
        decay: factor of the membrane per step, in (0, 1]; ``exp(-dt / tau)``. 0.5 if ``tau`` is not given either.
        tau: membrane time constant in steps; alternative to ``decay``.
        threshold, reset, surrogate, alpha: as in :class:`SpikingNeuron`.

    Raises:
        ConfigurationError: for a decay outside (0, 1], or both ``decay`` and ``tau``.

    Example:
        >>> LIF(1, decay=0.5)(torch.full((5, 1, 1), 0.6)).flatten().tolist()
        [0.0, 0.0, 1.0, 0.0, 0.0]
    """

    model = "lif"

    def __init__(
        self,
        units: int,
        decay: float | None = None,
        tau: float | None = None,
        threshold: float = 1.0,
        reset: Reset = "subtract",
        surrogate: str = "atan",
        alpha: float = 2.0,
    ) -> None:
        super().__init__(units, threshold, reset, surrogate, alpha)
        self.decay = _decay(decay, tau)

    def leak_amount(self) -> Tensor | float:
        """The decay factor."""
        return self.decay

    def extra_repr(self) -> str:
        """Constants of the base class, and the decay."""
        return f"{super().extra_repr()}, decay={self.decay:.4g}"


class ParametricLIF(SpikingNeuron):
    """LIF with a learned decay ``sigmoid(w)``, one ``w`` per layer (Fang et al. 2021, arXiv 2007.05785).

    Args:
        units: number of channels or neurons.
        decay: initial factor of the membrane per step, in (0, 1). 0.5 if ``tau`` is not given either.
        tau: initial time constant in steps; alternative to ``decay``.
        threshold, reset, surrogate, alpha: as in :class:`SpikingNeuron`.

    Raises:
        ConfigurationError: for a decay outside (0, 1), or both ``decay`` and ``tau``.

    Example:
        >>> neuron = ParametricLIF(1, decay=0.5)
        >>> neuron.leak_amount().item(), [name for name, _ in neuron.named_parameters()]
        (0.5, ['decay_logit'])
    """

    model = "lif"

    def __init__(
        self,
        units: int,
        decay: float | None = None,
        tau: float | None = None,
        threshold: float = 1.0,
        reset: Reset = "subtract",
        surrogate: str = "atan",
        alpha: float = 2.0,
    ) -> None:
        super().__init__(units, threshold, reset, surrogate, alpha)
        initial = _decay(decay, tau)
        if initial == 1:
            raise ConfigurationError("decay: got 1, expected a value in (0, 1); a neuron without leak is IF.")
        self.decay_logit = nn.Parameter(torch.tensor(math.log(initial / (1 - initial))))

    def leak_amount(self) -> Tensor:
        """The decay factor, a scalar tensor with a gradient."""
        return self.decay_logit.sigmoid()


class LinearLeakIF(SpikingNeuron):
    """Integrate-and-fire with a linear leak: the membrane moves towards zero by a constant per step.

    ``v[t] = u - sign(u) * min(|u|, leak_per_step) + I[t]``, where ``u = u[t-1]`` is the membrane after the reset. Chips
    such as TrueNorth support no other leak.

    Args:
        units: number of channels or neurons.
        leak_per_step: loss per step, in units of the membrane, at least 0.
        threshold, reset, surrogate, alpha: as in :class:`SpikingNeuron`.

    Raises:
        ConfigurationError: for a negative leak.

    Example:
        >>> LinearLeakIF(1, leak_per_step=0.25)(torch.full((4, 1, 1), 0.5)).flatten().tolist()
        [0.0, 0.0, 1.0, 0.0]
    """

    model = "linear_leak_if"

    def __init__(
        self,
        units: int,
        leak_per_step: float = 0.1,
        threshold: float = 1.0,
        reset: Reset = "subtract",
        surrogate: str = "atan",
        alpha: float = 2.0,
    ) -> None:
        super().__init__(units, threshold, reset, surrogate, alpha)
        check_range("leak_per_step", leak_per_step, 0)
        self.leak_per_step = leak_per_step

    def leak_amount(self) -> Tensor | float:
        """The loss per step."""
        return self.leak_per_step

    def extra_repr(self) -> str:
        """Constants of the base class, and the leak."""
        return f"{super().extra_repr()}, leak_per_step={self.leak_per_step}"


class CubaLIF(SpikingNeuron):
    """Current-based LIF that may fire several times per step, like Xylo's neurons.

    One step computes::

        j[t] = synaptic_decay * (j[t-1] + I[t])          synaptic current
        v[t] = decay * u[t-1] + norm(j[t])               charge
        s[t] = min(floor(v[t] / threshold), max_spikes)  fire; 0 below the threshold
        u[t] = v[t] - threshold * s[t]                   reset

    A block applies its norm after the synaptic current. So the norm folds into the threshold and the bias of a chip
    that adds the bias to the membrane. Above the threshold, the surrogate gradient repeats around its multiples.

    Args:
        units: number of channels or neurons.
        synaptic_decay: factor of the synaptic current per step, in (0, 1).
        decay: factor of the membrane per step, in (0, 1].
        max_spikes: most spikes of a neuron per step.
        threshold, surrogate, alpha: as in :class:`SpikingNeuron`; the reset subtracts.

    Raises:
        ConfigurationError: for a decay out of its range, or ``max_spikes`` below 1.

    Example:
        >>> neuron = CubaLIF(1, max_spikes=3)
        >>> current = neuron.filtered(torch.tensor([8.0, 0.0, 0.0]).view(3, 1, 1))
        >>> current.flatten().tolist(), neuron(current).flatten().tolist()
        ([4.0, 2.0, 1.0], [3.0, 2.0, 1.0])
    """

    model = "cuba_lif"
    synaptic_decay: float

    def __init__(
        self,
        units: int,
        synaptic_decay: float = 0.5,
        decay: float = 0.5,
        max_spikes: int = 1,
        threshold: float = 1.0,
        surrogate: str = "atan",
        alpha: float = 2.0,
    ) -> None:
        super().__init__(units, threshold, "subtract", surrogate, alpha)
        check_range("max_spikes", max_spikes, 1)
        if not 0 < synaptic_decay < 1:
            raise ConfigurationError(f"synaptic_decay: got {synaptic_decay!r}, expected a value in (0, 1).")
        self.synaptic_decay, self.decay, self.max_spikes = synaptic_decay, _decay(decay, None), max_spikes

    def leak_amount(self) -> Tensor | float:
        """The membrane's decay factor."""
        return self.decay

    def extra_repr(self) -> str:
        """Constants of the base class, the decays and the number of spikes."""
        return (
            f"{super().extra_repr()}, synaptic_decay={self.synaptic_decay:.4g}, decay={self.decay:.4g}, "
            f"max_spikes={self.max_spikes}"
        )


def _decay(decay: float | None, tau: float | None) -> float:
    if decay is not None and tau is not None:
        raise ConfigurationError(f"decay and tau: got both ({decay!r} and {tau!r}), expected one of them.")
    if tau is not None:
        if not tau > 0:
            raise ConfigurationError(f"tau: got {tau!r}, expected a value above 0.")
        decay = math.exp(-1 / tau)
    decay = 0.5 if decay is None else decay
    if not 0 < decay <= 1:
        raise ConfigurationError(f"decay: got {decay!r}, expected a value in (0, 1].")
    return decay
