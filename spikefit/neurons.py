"""Spiking neurons: thin modules over :func:`spikefit.functional.lif.multi_step`.

What a neuron of your own must supply is said in :mod:`spikefit.functional.neuron_models`, the registry of their models.

Every neuron maps currents ``[T, B, K, ...]`` to spikes of the same shape. ``K`` counts its *units*: channels behind a
convolution, neurons behind a linear layer. The membrane starts at rest in every forward and never enters a state dict.
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
    """Neurons as a chip computes them."""

    def fire(self, current: Tensor, steps: int, neuron: "SpikingNeuron") -> Tensor:
        """Spikes of integer currents ``[T, B, units, ...]``, T = ``steps``, with the surrogate of ``neuron``."""


class SpikingNeuron(nn.Module):
    """Base of all neurons: threshold, reset, surrogate, and which units are alive.

    Args:
        units: number of channels or neurons.
        threshold: membrane value at which a neuron fires.
        reset: ``subtract`` the threshold or set to ``zero``.
        surrogate: ``atan``, ``sigmoid`` or ``triangle``.
        alpha: sharpness of the surrogate.

    Attributes:
        alive: bool buffer ``[units]``; a pruned unit is False and never fires.
        model: name of the class's entry in :mod:`spikefit.functional.neuron_models`, which says what its leak is.
        max_spikes: how often a neuron may fire in one step; where it may more than once, the reset subtracts.
        synaptic_decay: factor that the synaptic current keeps in a step; None for neurons without such a current.

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
        """The neuron's entry in the registry."""
        return neuron_model(self.model)

    @property
    def own_dynamics(self) -> bool:
        """Whether the class fires in its own way, which the leak of its entry does not describe."""
        parts = ("forward", "fire", "filtered", "dynamics")
        return any(getattr(type(self), part) is not getattr(SpikingNeuron, part) for part in parts)

    def own_constants(self) -> dict[str, Tensor | float]:
        """What the step of the entry needs besides threshold and leak, by name."""
        return {name: getattr(self, name) for name in self.entry.constants if hasattr(self, name)}

    @property
    def dynamics(self) -> Dynamics:
        """Threshold, leak, reset and surrogate.

        Raises:
            ConfigurationError: where the entry names no leak, so that the class has to fire in its own way.
        """
        leak = self.entry.leak
        if leak is None:
            raise ConfigurationError(f"{self.entry} has no leak in its entry, and no fire of its own; give it either.")
        return Dynamics(self.threshold, leak, self.reset, self.surrogate, self.alpha)

    def leak_amount(self) -> Tensor | float:
        """The decay factor or the linear loss of one step, in units of the membrane."""
        return 0.0

    def forward(self, current: Tensor, chip: ChipNeurons | None = None) -> Tensor:
        """Spikes ``[T, B, units, ...]`` for currents of the same shape; with ``chip``, as its integers fire."""
        spikes = self.fire(current) if chip is None else chip.fire(current, len(current), self)
        return spikes * self.alive.view(-1, *[1] * (current.dim() - 3))

    def fire(self, current: Tensor) -> Tensor:
        """Spikes of all units, living or not, for currents ``[T, B, units, ...]``."""
        if self.max_spikes > 1:
            return several_spikes(current, self.dynamics, self.leak_amount(), self.max_spikes)
        return multi_step(current, self.dynamics, self.leak_amount())

    @final
    def filtered(self, delivered: Tensor) -> Tensor:
        """Synaptic currents of what synapses deliver, ``[T, ...]`` both; the same where the neurons have none.

        Raises:
            ConfigurationError: for a synaptic neuron without ``synaptic_decay``.
        """
        if not self.entry.synaptic:
            return delivered
        if self.synaptic_decay is None:
            raise ConfigurationError(f"{self.entry} has no synaptic_decay, but its entry says synaptic=True.")
        return synaptic_filter(delivered, self.synaptic_decay)

    def extra_repr(self) -> str:
        """Constants that a reader of the printed network wants to see."""
        return f"{self.units}, threshold={self.threshold}, reset={self.reset!r}, surrogate={self.surrogate!r}"


NeuronFactory = Callable[[int], SpikingNeuron]


class IF(SpikingNeuron):
    """Integrate-and-fire: ``v[t] = u[t-1] + I[t]``. Parameters and shapes as in :class:`SpikingNeuron`."""

    model = "if"


class LIF(SpikingNeuron):
    """Leaky integrate-and-fire: ``v[t] = decay * u[t-1] + I[t]``.

    Args:
        units: number of channels or neurons.
        decay: factor that the membrane keeps in a step, in (0, 1]; ``exp(-dt / tau)``.
        tau: membrane time constant in steps; given instead of ``decay``.
        threshold, reset, surrogate, alpha: as in :class:`SpikingNeuron`.

    Raises:
        ConfigurationError: for a decay outside (0, 1], or ``decay`` and ``tau`` both given.
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
        """Adds the decay."""
        return f"{super().extra_repr()}, decay={self.decay:.4g}"


class ParametricLIF(SpikingNeuron):
    """LIF whose decay is learned: ``decay = sigmoid(w)``, one ``w`` a layer (Fang et al. 2021, arXiv 2007.05785).

    Args:
        units: number of channels or neurons.
        decay: initial factor, in (0, 1).
        tau: initial time constant in steps; given instead of ``decay``.
        threshold, reset, surrogate, alpha: as in :class:`SpikingNeuron`.

    Raises:
        ConfigurationError: for a decay outside (0, 1), or ``decay`` and ``tau`` both given.
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
        """The decay factor, a scalar tensor that carries a gradient."""
        return self.decay_logit.sigmoid()


class LinearLeakIF(SpikingNeuron):
    """IF whose membrane moves towards zero by a constant: ``v[t] = u - sign(u) * min(|u|, leak_per_step) + I[t]``.

    The only leak of chips such as TrueNorth.

    Args:
        units: number of channels or neurons.
        leak_per_step: loss a step, in units of the membrane, at least 0.
        threshold, reset, surrogate, alpha: as in :class:`SpikingNeuron`.

    Raises:
        ConfigurationError: for a negative leak.
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
        """The loss of one step."""
        return self.leak_per_step

    def extra_repr(self) -> str:
        """Adds the leak."""
        return f"{super().extra_repr()}, leak_per_step={self.leak_per_step}"


class CubaLIF(SpikingNeuron):
    """Current-based LIF, which may fire several times a step, as Xylo's neurons do::

        j[t] = synaptic_decay * (j[t-1] + I[t])          synaptic current
        v[t] = decay * u[t-1] + norm(j[t])               charge
        s[t] = min(floor(v[t] / threshold), max_spikes)  fire; 0 below the threshold
        u[t] = v[t] - threshold * s[t]                   reset

    A block's norm stands behind the synaptic current: so it folds into threshold and bias of a chip that adds its bias
    to the membrane. Behind the threshold, the surrogate gradient repeats around its multiples.

    Args:
        units: number of channels or neurons.
        synaptic_decay: factor that the synaptic current keeps in a step, in (0, 1).
        decay: factor that the membrane keeps in a step, in (0, 1].
        max_spikes: how often a neuron may fire in one step.
        threshold, surrogate, alpha: as in :class:`SpikingNeuron`; the reset subtracts.

    Raises:
        ConfigurationError: for a decay out of its range, or less than one spike.
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
        """Adds decays and the number of spikes."""
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
