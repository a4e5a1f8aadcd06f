"""What a new neuron must supply to be trained, lowered and simulated."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from spikefit.errors import ConfigurationError
from spikefit.functional.neuron_models import NeuronModel, Reset


@runtime_checkable
class Neuron(Protocol):
    """Interface of the neurons of a block.

    Derive a class from :class:`spikefit.neurons.SpikingNeuron`: it supplies everything except ``model``, and what the
    entry of ``model`` in the registry (:mod:`spikefit.functional.neuron_models`) makes necessary:

    ===========================  ================================================================================
    the entry says               the class supplies
    ===========================  ================================================================================
    ``leak="none"``              nothing more
    ``leak="decay"``, "linear"   ``leak_amount()``: the factor, or the loss per step, as a number or a tensor
    ``leak=None``                ``fire(current)``, the dynamics; the entry ``step``, the same neuron for one step
    ``synaptic=True``            ``synaptic_decay``, the factor of the synaptic current per step
    ``constants={name: unit}``   an attribute of each name
    ===========================  ================================================================================

    A missing part is an error that names it: when the network is built, or, for parts that only deployment needs,
    before training if the run deploys (``DeploymentSimulation``, ``FitToHardware``, ``ChipEmulation``).

    Attributes:
        model: name of the entry in the registry.
        entry: the entry.
        units: number of channels or neurons.
        threshold: membrane value at or above which a neuron fires.
        reset: ``subtract`` or ``zero``.
        max_spikes: most spikes of a neuron per step.
        alive: bool buffer ``[units]``; False for pruned units.
        synaptic_decay: factor of the synaptic current per step; None without one.
        surrogate, alpha: surrogate gradient and its sharpness, for training with a chip's integers.
        own_dynamics: whether the class defines its own dynamics, which the leak of its entry does not describe.

    Shape:
        current ``[T, B, units, ...]`` -> spikes ``[T, B, units, ...]``.

    Example:
        >>> from spikefit.neurons import LIF
        >>> isinstance(LIF(4), Neuron)
        True
    """

    model: str
    units: int
    threshold: float
    reset: Reset
    max_spikes: int
    alive: Tensor
    synaptic_decay: float | None
    surrogate: str
    alpha: float

    @property
    def entry(self) -> NeuronModel:
        """The entry in the registry."""

    @property
    def own_dynamics(self) -> bool:
        """Whether the class defines its own dynamics."""

    def leak_amount(self) -> Tensor | float:
        """The decay factor, or the linear loss per step in units of the membrane."""

    def own_constants(self) -> Mapping[str, Tensor | float]:
        """Values of the entry's ``constants``, by name."""

    def filtered(self, delivered: Tensor) -> Tensor:
        """Synaptic currents for the output of the synapses."""

    __call__: Callable[..., Any]


PARTS = tuple(name for name in (*Neuron.__annotations__, *vars(Neuron)) if not name.startswith("_"))
"""Names of what a neuron supplies."""


def require_parts(neuron: object) -> None:
    """Raise if ``neuron`` lacks a part of :class:`Neuron`.

    Raises:
        ConfigurationError: names the class and what it lacks.
    """
    missing = [name for name in PARTS if not hasattr(neuron, name)]
    if missing:
        raise ConfigurationError(
            f"neuron {type(neuron).__name__}: has no {', '.join(missing)}; derive it from "
            "spikefit.neurons.SpikingNeuron, which supplies them (spikefit.functional.neuron_protocol.Neuron)."
        )
