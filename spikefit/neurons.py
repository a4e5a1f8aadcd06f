"""Spiking neurons: thin modules over :func:`spikefit.functional.lif.multi_step`.

For neurons of your own see :mod:`spikefit.functional.neuron_models`, the registry of neuron models.

Every neuron maps currents ``[T, B, K, ...]`` to spikes of the same shape. ``K`` is the number of *units*: channels
after a convolution, neurons after a linear layer. The membrane starts at rest in every forward pass and is never part
of a state dict. In the equations, ``v`` is the membrane before the reset and ``u`` after it.
"""

import math
from collections.abc import Callable
from typing import Protocol, final

import torch
from torch import Tensor, nn

from spikefit.errors import ConfigurationError, check_choice, check_range
from spikefit.functional.current_based import several_spikes, synaptic_filter
from spikefit.functional.lif import Dynamics, Reset, multi_step
from spikefit.functional.neuron_models import NeuronModel, neuron_model
from spikefit.functional.surrogate import SURROGATES


class ChipNeurons(Protocol):
    """Interface of neurons in a chip's integer arithmetic."""

    def fire(self, current: Tensor, steps: int, neuron: "SpikingNeuron") -> Tensor:
        """Spikes for integer currents ``[T, B, units, ...]``, T = ``steps``, with the surrogate of ``neuron``."""


class SpikingNeuron(nn.Module):
    """Base class of all neurons: threshold, reset, surrogate gradient, and mask of living units.

    Args:
        units: number of channels or neurons.
        threshold: membrane value at which a neuron fires.
        reset: ``subtract`` the threshold, or set the membrane to ``zero``.
        surrogate: surrogate gradient, ``atan``, ``sigmoid`` or ``triangle``.
        alpha: sharpness of the surrogate gradient.

    Attributes:
        alive: bool buffer ``[units]``; a pruned unit is False and never fires.
        model: name of the class's entry in :mod:`spikefit.functional.neuron_models`, which defines its leak.
        max_spikes: maximum number of spikes of a neuron in one step; above 1, the reset must be ``subtract``.
        synaptic_decay: factor by which the synaptic current decays per step; None for neurons without such a current.

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
                f"{type(self).__name__}: no attribute model, which names a registered neuron model."
            )
        neuron_model(self.model)
        check_choice("reset", reset, ("subtract", "zero"))
        check_choice("surrogate", surrogate, SURROGATES)
        for option, value in (("threshold", threshold), ("alpha", alpha)):
            if not value > 0:
                raise ConfigurationError(f"{option}: got {value!r}, expected a value above 0.")
        self.units = units
        self.threshold = threshold
        self.reset: Reset = reset
        self.surrogate = surrogate
        self.alpha = alpha
        self.register_buffer("alive", torch.ones(units, dtype=torch.bool))

    @property
    def entry(self) -> NeuronModel:
        """The neuron's entry in the registry of neuron models."""
        return neuron_model(self.model)

    @property
    def own_dynamics(self) -> bool:
        """Whether the class overrides its dynamics, so that the leak of its registry entry does not describe it."""
        parts = ("forward", "fire", "filtered", "dynamics")
        return any(getattr(type(self), part) is not getattr(SpikingNeuron, part) for part in parts)

    def own_constants(self) -> dict[str, Tensor | float]:
        """Constants of the registry entry other than threshold and leak, by name."""
        return {name: getattr(self, name) for name in self.entry.constants if hasattr(self, name)}

    @property
    def dynamics(self) -> Dynamics:
        """Threshold, leak, reset and surrogate.

        Raises:
            ConfigurationError: if the entry has no leak; then the class must override ``fire``.
        """
        leak = self.entry.leak
        if leak is None:
            raise ConfigurationError(f"{self.entry} has no leak in its entry and no fire method; it needs one of them.")
        return Dynamics(self.threshold, leak, self.reset, self.surrogate, self.alpha)

    def leak_amount(self) -> Tensor | float:
        """Decay factor, or linear leak per step in units of the membrane."""
        return 0.0

    def forward(self, current: Tensor, chip: ChipNeurons | None = None) -> Tensor:
        """Spikes ``[T, B, units, ...]`` for currents of the same shape; ``chip`` computes them if it is given."""
        spikes = self.fire(current) if chip is None else chip.fire(current, len(current), self)
        return spikes * self.alive.view(-1, *[1] * (current.dim() - 3))

    def fire(self, current: Tensor) -> Tensor:
        """Spikes of all units, living and pruned, for currents ``[T, B, units, ...]``."""
        if self.max_spikes > 1:
            return several_spikes(current, self.dynamics, self.leak_amount(), self.max_spikes)
        return multi_step(current, self.dynamics, self.leak_amount())

    @final
    def filtered(self, delivered: Tensor) -> Tensor:
        """Filter delivered inputs ``[T, ...]`` into synaptic currents; neurons without such currents change nothing.

        Raises:
            ConfigurationError: for a synaptic neuron without ``synaptic_decay``.
        """
        if not self.entry.synaptic:
            return delivered
        if self.synaptic_decay is None:
            raise ConfigurationError(f"{self.entry} has no synaptic_decay, but its entry says synaptic=True.")
        return synaptic_filter(delivered, self.synaptic_decay)

    def extra_repr(self) -> str:
        """Constants shown when the network is printed."""
        return f"{self.units}, threshold={self.threshold}, reset={self.reset!r}, surrogate={self.surrogate!r}"


NeuronFactory = Callable[[int], SpikingNeuron]


class IF(SpikingNeuron):
    """Integrate-and-fire: ``v[t] = u[t-1] + I[t]``. Parameters and shapes as in :class:`SpikingNeuron`.

    Example:
        >>> IF(units=1)(torch.tensor([0.5, 0.5, 0.5]).view(3, 1, 1)).flatten()
        tensor([0., 1., 0.])
    """

    model = "if"


class LIF(SpikingNeuron):
    """Leaky integrate-and-fire: ``v[t] = decay * u[t-1] + I[t]``.

    Args:
        units: number of channels or neurons.
        decay: factor by which the membrane decays per step, in (0, 1]; ``exp(-dt / tau)``. 0.5 by default.
        tau: membrane time constant in steps; excludes ``decay``.
        threshold, reset, surrogate, alpha: as in :class:`SpikingNeuron`.

    Raises:
        ConfigurationError: for a decay outside (0, 1], or if both ``decay`` and ``tau`` are given.

    Example:
        >>> LIF(units=1, decay=0.5)(torch.full((4, 1, 1), 0.6)).flatten()
        tensor([0., 0., 1., 0.])
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
        """Decay factor per step."""
        return self.decay

    def extra_repr(self) -> str:
        """Constants of the base class and the decay."""
        return f"{super().extra_repr()}, decay={self.decay:.4g}"


class ParametricLIF(SpikingNeuron):
    """LIF with a learned decay: ``decay = sigmoid(w)``, one ``w`` per layer (Fang et al. 2021, arXiv 2007.05785).

    Args:
        units: number of channels or neurons.
        decay: initial decay factor, in (0, 1); 0.5 by default.
        tau: initial time constant in steps; excludes ``decay``.
        threshold, reset, surrogate, alpha: as in :class:`SpikingNeuron`.

    Raises:
        ConfigurationError: for a decay outside (0, 1), or if both ``decay`` and ``tau`` are given.

    Example:
        >>> neuron = ParametricLIF(units=8, decay=0.5)
        >>> neuron(torch.ones(4, 2, 8)).shape, neuron.decay_logit.requires_grad
        (torch.Size([4, 2, 8]), True)
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
            raise ConfigurationError("decay: got 1, expected a value in (0, 1); use IF for a neuron without leak.")
        self.decay_logit = nn.Parameter(torch.tensor(math.log(initial / (1 - initial))))

    def leak_amount(self) -> Tensor:
        """Decay factor per step, a scalar tensor with a gradient."""
        return self.decay_logit.sigmoid()


class LinearLeakIF(SpikingNeuron):
    """IF with a constant leak towards zero: ``v[t] = u - sign(u) * min(|u|, leak_per_step) + I[t]``, ``u = u[t-1]``.

    Chips such as TrueNorth support no other leak.

    Args:
        units: number of channels or neurons.
        leak_per_step: leak per step in units of the membrane, at least 0.
        threshold, reset, surrogate, alpha: as in :class:`SpikingNeuron`.

    Raises:
        ConfigurationError: for a negative leak.

    Example:
        >>> LinearLeakIF(units=1, leak_per_step=0.25)(torch.full((4, 1, 1), 0.5)).flatten()
        tensor([0., 0., 1., 0.])
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
        """Linear leak per step in units of the membrane."""
        return self.leak_per_step

    def extra_repr(self) -> str:
        """Constants of the base class and the leak."""
        return f"{super().extra_repr()}, leak_per_step={self.leak_per_step}"


class CubaLIF(SpikingNeuron):
    """Current-based LIF with up to ``max_spikes`` spikes per step, as on Xylo::

        j[t] = synaptic_decay * (j[t-1] + I[t])          synaptic current
        v[t] = decay * u[t-1] + norm(j[t])               charge
        s[t] = min(floor(v[t] / threshold), max_spikes)  fire; 0 below the threshold
        u[t] = v[t] - threshold * s[t]                   reset

    The norm of the block is applied after the synaptic current, so that it folds into threshold and bias on a chip that
    adds the bias to the membrane. Above the threshold, the surrogate gradient repeats around its multiples.

    Args:
        units: number of channels or neurons.
        synaptic_decay: factor by which the synaptic current decays per step, in (0, 1).
        decay: factor by which the membrane decays per step, in (0, 1].
        max_spikes: maximum number of spikes of a neuron in one step, at least 1.
        threshold, surrogate, alpha: as in :class:`SpikingNeuron`; the reset is always ``subtract``.

    Raises:
        ConfigurationError: for a decay outside its range, or ``max_spikes`` below 1.

    Example:
        >>> CubaLIF(units=1, decay=0.5, max_spikes=3)(torch.tensor([2.5, 1.0, 0.0]).view(3, 1, 1)).flatten()
        tensor([2., 1., 0.])
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
        """Decay factor of the membrane per step."""
        return self.decay

    def extra_repr(self) -> str:
        """Constants of the base class, both decays and the maximum number of spikes."""
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
