"""Registry of neuron models: what programs, chips, kernels and NIR files need to know about a neuron.

To add a neuron, derive a class from :class:`spikefit.neurons.SpikingNeuron` whose attribute ``model`` names its entry,
and register that entry::

    from spikefit.functional.neuron_models import NeuronModel, register
    from spikefit.neurons import LIF

    register(NeuronModel("my_lif", "MyLIF", "decay", nir="LIF"))

    class MyLIF(LIF):
        model = "my_lif"

Class and entry supply, for each use:

* **Training**: ``leak`` names a leak that the scan implements, and the class returns its amount (``leak_amount``).
  Otherwise the class overrides ``fire``, and ``leak`` is None. With ``synaptic``, the class has the attribute
  ``synaptic_decay``.
* **Lowering and exact simulation** (:func:`require_exact`): nothing more if the neuron has a known leak. A class that
  overrides ``forward``, ``fire``, ``filtered`` or ``dynamics`` is not described by a leak. Its entry needs ``step``,
  the same neuron in plain torch, and lists in ``constants`` what the step needs besides threshold and leak.
* **Simulation in a chip's integers** (:func:`require_integer`): nothing more if the neuron has a known leak. A ``step``
  must return whole numbers for int64 states, currents and constants; the entry states this with ``integer=True``.
* **Training in a chip's integers** (:func:`require_emulated`): a known leak, because the emulation needs its gradient.
* **Export to NIR** (:func:`require_nir_form`): ``nir`` names the node with the same equation, ``IF`` for no leak and
  ``LIF`` for a decay.

The part that needs a missing field raises an error that names the field. :class:`~spikefit.functional.neuron_protocol.
Neuron` lists what the class supplies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, get_args

from spikefit.errors import ConfigurationError, ExchangeError, check_choice

if TYPE_CHECKING:
    from torch import Tensor

Leak = Literal["none", "decay", "linear"]
Reset = Literal["subtract", "zero"]
Unit = Literal["membrane", "ratio"]

# Populations of a program without a neuron model: the input of the network, and readouts that never fire.
INPUT, READOUT = "input", "readout"
# NIR nodes that neurons are exported as, and the leak of each node.
NIR_LEAKS: Mapping[str, Leak] = {"IF": "none", "LIF": "decay"}
_HERE = "spikefit.functional.neuron_models"


@dataclass(frozen=True)
class StepConstants:
    """Constants of one step, each shaped to broadcast over ``[B, C, ...]``.

    Attributes:
        threshold: in units of the membrane.
        leak: the class's ``leak_amount``: a factor, or an amount in units of the membrane; 0 where ``leak`` is None.
        reset: ``subtract`` or ``zero``.
        max_spikes: most spikes of a neuron per step.
        own: values of the constants that the entry's ``constants`` lists, by name.
    """

    threshold: Tensor
    leak: Tensor
    reset: Reset = "subtract"
    max_spikes: int = 1
    own: Mapping[str, Tensor] = field(default_factory=dict)


class Stepped(NamedTuple):
    """Result of one step, each ``[B, C, ...]``: spikes, the membrane before the reset and the state after it."""

    spikes: Tensor
    membrane: Tensor
    state: Tensor


class Step(Protocol):
    """Signature of one step of a neuron: the reference for dynamics that no known leak describes."""

    def __call__(self, state: Tensor, current: Tensor, constants: StepConstants, /) -> Stepped:
        """Charge, fire and reset.

        Args:
            state: membranes after the previous step, initially 0, ``[B, C, ...]``: float64, or int64 on a chip.
            current: input current including the bias, in the shape and dtype of ``state``.
            constants: of the neurons.
        """


@dataclass(frozen=True)
class NeuronModel:
    """Entry of the registry: one neuron model.

    Attributes:
        name: name in programs, hardware files and reports, such as ``lif``.
        neuron: name of the class, for messages.
        leak: leak of the membrane per step: ``none``, ``decay`` (a share) or ``linear`` (an amount); None if the class
            defines its own dynamics.
        synaptic: whether a decaying synaptic current lies between the synapses and the membrane.
        integer: whether the neuron is defined in a chip's integers. The default, None, means True for a neuron with a
            known leak and without a step.
        nir: NIR node with the same equation, ``IF`` or ``LIF``; None if there is none.
        step: one step in plain torch, for dynamics that ``leak`` does not describe.
        constants: names of the class's attributes (numbers) that ``step`` needs, and the unit of each: ``membrane`` for
            the unit of the membrane, ``ratio`` for no unit.

    Raises:
        ConfigurationError: for an unknown leak, node or unit, a reserved name, constants without a step, or a node
            with another equation.

    Example:
        >>> model = NeuronModel("my_lif", "MyLIF", "decay", nir="LIF")
        >>> model.integer, model.leak_unit, model.multiplies
        (True, 'ratio', True)
    """

    name: str
    neuron: str
    leak: Leak | None
    synaptic: bool = False
    integer: bool | None = None
    nir: str | None = None
    step: Step | None = None
    constants: Mapping[str, Unit] = field(default_factory=dict)

    def __post_init__(self) -> None:
        where = f"neuron {self.name} ({self.neuron})"
        if self.name in ("", INPUT, READOUT):
            raise ConfigurationError(
                f"name of neuron {self.neuron}: got {self.name!r}, expected a name other than '', {INPUT!r} and "
                f"{READOUT!r}."
            )
        check_choice(f"leak of {where}", self.leak, (*get_args(Leak), None))
        check_choice(f"nir of {where}", self.nir, (*NIR_LEAKS, None))
        for constant, unit in self.constants.items():
            check_choice(f"constant {constant} of {where}", unit, get_args(Unit))
        if self.constants and self.step is None:
            raise ConfigurationError(f"constants of {where}: got {', '.join(self.constants)}, but it has no step.")
        if self.nir is not None and (self.step is not None or self.synaptic or self.leak != NIR_LEAKS[self.nir]):
            raise ConfigurationError(
                f"nir of {where}: got {self.nir!r}, expected None: the NIR node has the leak {NIR_LEAKS[self.nir]!r}, "
                "no synaptic current and no step of its own."
            )
        if self.integer is None:
            object.__setattr__(self, "integer", self.leak is not None and self.step is None)

    def __str__(self) -> str:
        """Name and class, for messages."""
        return f"neuron {self.name} ({self.neuron})"

    @property
    def leak_unit(self) -> Unit:
        """Unit of the amount of the leak: ``membrane`` for a linear leak, ``ratio`` for a decay."""
        return "membrane" if self.leak == "linear" else "ratio"

    @property
    def multiplies(self) -> bool:
        """Whether an update of the membrane costs a multiplication; assumed for a neuron with a step."""
        return self.leak == "decay" or self.step is not None


MODELS: dict[str, NeuronModel] = {}


def register(model: NeuronModel) -> NeuronModel:
    """Add ``model`` to the registry, or replace the entry of the same class (as when a module is reloaded).

    Raises:
        ConfigurationError: if the name belongs to another class.
    """
    registered = MODELS.get(model.name)
    if registered is not None and registered.neuron != model.neuron:
        raise ConfigurationError(
            f"neuron model: the name {model.name!r} belongs to {registered.neuron}; choose another for {model.neuron}."
        )
    MODELS[model.name] = model
    return model


register(NeuronModel("if", "IF", "none", nir="IF"))
register(NeuronModel("lif", "LIF", "decay", nir="LIF"))
register(NeuronModel("linear_leak_if", "LinearLeakIF", "linear"))
register(NeuronModel("cuba_lif", "CubaLIF", "decay", synaptic=True))


def neuron_model(name: str) -> NeuronModel:
    """Return the entry ``name``.

    Raises:
        ConfigurationError: for an unknown name; the message lists the known ones.
    """
    if name not in MODELS:
        raise ConfigurationError(
            f"neuron model: got {name!r}, expected one of {', '.join(MODELS)}. To add a neuron, call {_HERE}.register "
            "in a module that is imported first."
        )
    return MODELS[name]


def require_exact(model: NeuronModel, own_dynamics: bool = False) -> NeuronModel:
    """Return ``model`` if an exact program can simulate it, by its step or else by its leak.

    Args:
        model: entry of the neurons.
        own_dynamics: whether their class defines its own dynamics (``SpikingNeuron.own_dynamics``).

    Raises:
        ConfigurationError: if the step is missing.
    """
    if model.step is None and (own_dynamics or model.leak is None):
        raise ConfigurationError(
            f"{model} has no step: its class defines its own dynamics, which no known leak describes. Add step=, one "
            f"step in plain torch, to its entry in {_HERE}; without it the neuron can be trained, but not lowered."
        )
    return model


def require_integer(model: NeuronModel) -> NeuronModel:
    """Return ``model`` if it can be computed in a chip's integers.

    Raises:
        ConfigurationError: if the integer form is missing.
    """
    require_exact(model)
    if not model.integer:
        raise ConfigurationError(f"{model} {lacks_integer(model)}; it can be simulated exactly, but not on a chip.")
    return model


def require_emulated(model: NeuronModel) -> NeuronModel:
    """Return ``model`` if it can be trained in a chip's integers.

    Raises:
        ConfigurationError: if the integer form or its gradient is missing.
    """
    require_integer(model)
    if model.step is not None:
        raise ConfigurationError(
            f"{model} has no gradient in a chip's integers: only known leaks have one; train without the chip's "
            "arithmetic and round afterwards."
        )
    return model


def require_nir_form(model: NeuronModel) -> str:
    """Return the NIR node that ``model`` is exported as.

    Raises:
        ExchangeError: if there is none; the message gives the reason.
    """
    if model.nir is None:
        raise ExchangeError(f"{model} has no NIR form: {_why_no_nir(model)}; use {_or(list(NIR_LEAKS))} neurons.")
    return model.nir


def lacks_integer(model: NeuronModel) -> str:
    """Predicate for a message, why ``model`` has no integer form; empty if it has one."""
    if model.integer:
        return ""
    if model.step is None:
        return f"has no integer form: its entry in {_HERE} says integer=False"
    return f"has no integer form: its entry in {_HERE} does not assert, with integer=True, that its step is integer"


def names_of(models: tuple[str, ...]) -> str:
    """Class names of the neuron models ``models``, for a message: ``IF or LIF``."""
    return _or([neuron_model(model).neuron for model in models])


def constants_in_units(model: NeuronModel, values: Mapping[str, Tensor | float], gain: Tensor) -> dict[str, Tensor]:
    """Convert the constants of ``model``'s step to another unit of the membrane.

    Args:
        model: entry that lists the constants and their units.
        values: value of each constant, a number or ``[C]``.
        gain: ``[C]``, size of the new unit in old units: the norm's gain, or the unit of a chip's membrane.

    Returns:
        Float64 ``[C]`` for each constant; those with unit ``membrane`` are divided by ``gain``.

    Raises:
        ConfigurationError: for a constant without a value.
    """
    import torch  # imported late, so that descriptions of chips can be read without it

    absent = [name for name in model.constants if name not in values]
    if absent:
        raise ConfigurationError(
            f"{model}: no value for {', '.join(absent)}; the class needs an attribute of that name."
        )
    gain = gain.detach().double()
    numbers = {
        name: torch.as_tensor(values[name], dtype=torch.float64, device=gain.device).detach().expand_as(gain)
        for name in model.constants
    }
    return {name: number / gain if model.constants[name] == "membrane" else number for name, number in numbers.items()}


def _why_no_nir(model: NeuronModel) -> str:
    if model.step is not None or model.leak is None:
        return "NIR has no node for its dynamics"
    if model.synaptic:
        return "its synaptic current differs from that of every NIR node"
    if model.leak == "linear":
        return "NIR has no linear leak"
    return f"its entry in {_HERE} names no node (nir=)"


def _or(names: list[str]) -> str:
    return " or ".join(names)
