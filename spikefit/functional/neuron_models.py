"""The registry of neuron models: what programs, chips, kernels and other libraries need to know of a neuron.

A new neuron is a class that derives from :class:`spikefit.neurons.SpikingNeuron`, whose attribute ``model`` names its
entry, and that entry::

    from spikefit.functional.neuron_models import NeuronModel, register
    from spikefit.neurons import LIF

    register(NeuronModel("my_lif", "MyLIF", "decay", nir="LIF"))

    class MyLIF(LIF):
        model = "my_lif"

What it must supply, and what asks for it:

* **To train**: ``leak`` names a leak that the scan knows, and the class gives its amount (``leak_amount``); or the
  class has a ``fire`` of its own, and ``leak`` is None. With ``synaptic``, it has the attribute ``synaptic_decay``.
* **To be lowered and simulated exactly** (:func:`require_exact`): nothing more with a known leak. A ``forward``,
  ``fire``, ``filtered`` or ``dynamics`` of its own is described by no leak: the entry then has ``step``, the same
  neuron in plain torch, and names in ``constants`` what the step needs besides threshold and leak.
* **To run in a chip's integers** (:func:`require_integer`): nothing more with a known leak. A ``step`` gives whole
  numbers for int64 states, currents and constants, and the entry says so with ``integer=True``.
* **To be trained in a chip's integers** (:func:`require_emulated`): a known leak, whose gradient the emulation has.
* **To be written to NIR** (:func:`require_nir_form`): ``nir`` names the node with the same equation, ``IF`` for no
  leak, ``LIF`` for a decay.

What is missing is an error of the part that needs it, and names the field of the entry.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, get_args

import torch
from torch import Tensor

from spikefit.errors import ConfigurationError, ExchangeError, check_choice
from spikefit.functional.lif import Leak, Reset

Unit = Literal["membrane", "ratio"]

# Populations of a program that are no neurons of a model: what drives the network, and sums that never fire.
INPUT, READOUT = "input", "readout"
# Neurons of a NIR graph that a neuron is written as, and the leak of each.
NIR_LEAKS: Mapping[str, Leak] = {"IF": "none", "LIF": "decay"}
_HERE = "spikefit.functional.neuron_models"


@dataclass(frozen=True)
class StepConstants:
    """Constants of one step, each shaped to broadcast over ``[B, C, ...]``.

    Attributes:
        threshold: in units of the membrane.
        leak: the class's ``leak_amount``: a share, or an amount in units of the membrane; 0 where ``leak`` is None.
        reset: ``subtract`` or ``zero``.
        max_spikes: how often a neuron may fire in one step.
        own: what the entry's ``constants`` name.
    """

    threshold: Tensor
    leak: Tensor
    reset: Reset = "subtract"
    max_spikes: int = 1
    own: Mapping[str, Tensor] = field(default_factory=dict)


class Stepped(NamedTuple):
    """What a step gives, ``[B, C, ...]`` each: spikes, the membrane before the reset, the state after it."""

    spikes: Tensor
    membrane: Tensor
    state: Tensor


class Step(Protocol):
    """One step of a neuron: the reference of a neuron that no known leak describes."""

    def __call__(self, state: Tensor, current: Tensor, constants: StepConstants, /) -> Stepped:
        """Charge, fire and reset.

        Args:
            state: membranes after the step before, zeros at first, ``[B, C, ...]``: float64, or int64 on a chip.
            current: with the bias in it, in the shape and dtype of ``state``.
            constants: of the neurons.
        """


@dataclass(frozen=True)
class NeuronModel:
    """One model of neurons.

    Attributes:
        name: in programs, hardware files and reports, such as ``lif``.
        neuron: name of the class, for messages.
        leak: what the membrane loses in a step: ``none``, ``decay`` (a share) or ``linear`` (an amount); None where the
            class fires in its own way.
        synaptic: whether a synaptic current with a decay of its own lies between synapses and membrane.
        integer: whether a chip's integers are defined for it; None, the default, for True unless it has a step.
        nir: the node of a NIR graph that stands for it, ``IF`` or ``LIF``; None when NIR has none.
        step: one step in plain torch, for dynamics that ``leak`` does not describe.
        constants: names of the class's attributes (numbers) that ``step`` needs, and the unit of each: ``membrane`` for
            what is measured as the membrane is, ``ratio`` for what has no unit.

    Raises:
        ConfigurationError: for an unknown leak, node or unit, a name that programs use otherwise, constants that no
            step reads, or a node whose equation is not the neuron's.
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
            raise ConfigurationError(f"name of neuron {self.neuron}: got {self.name!r}, expected a name of its own.")
        check_choice(f"leak of {where}", self.leak, (*get_args(Leak), None))
        check_choice(f"nir of {where}", self.nir, (*NIR_LEAKS, None))
        for constant, unit in self.constants.items():
            check_choice(f"constant {constant} of {where}", unit, get_args(Unit))
        if self.constants and self.step is None:
            raise ConfigurationError(f"constants of {where}: got {', '.join(self.constants)}, but it has no step.")
        if self.nir is not None and (self.step is not None or self.synaptic or self.leak != NIR_LEAKS[self.nir]):
            raise ConfigurationError(
                f"nir of {where}: got {self.nir!r}, expected None: that node has the leak {NIR_LEAKS[self.nir]!r}, no "
                "synaptic current and no step of its own."
            )
        if self.integer is None:
            object.__setattr__(self, "integer", self.leak is not None and self.step is None)

    def __str__(self) -> str:
        """Name and class, as messages have them."""
        return f"neuron {self.name} ({self.neuron})"

    @property
    def leak_unit(self) -> Unit:
        """What the amount of the leak is measured in: a ``linear`` leak as the membrane is, a decay is a ``ratio``."""
        return "membrane" if self.leak == "linear" else "ratio"

    @property
    def multiplies(self) -> bool:
        """Whether an update of the membrane costs a multiplication; of a step nothing better is known."""
        return self.leak == "decay" or self.step is not None


MODELS: dict[str, NeuronModel] = {}


def register(model: NeuronModel) -> NeuronModel:
    """Add ``model``, or replace the entry of the same class, as a module does that is loaded again.

    Raises:
        ConfigurationError: when its name is another class's.
    """
    there = MODELS.get(model.name)
    if there is not None and there.neuron != model.neuron:
        raise ConfigurationError(f"neuron model: {model.name!r} is {there.neuron}'s name; give {model.neuron} another.")
    MODELS[model.name] = model
    return model


register(NeuronModel("if", "IF", "none", nir="IF"))
register(NeuronModel("lif", "LIF", "decay", nir="LIF"))
register(NeuronModel("linear_leak_if", "LinearLeakIF", "linear"))
register(NeuronModel("cuba_lif", "CubaLIF", "decay", synaptic=True))


def neuron_model(name: str) -> NeuronModel:
    """The entry called ``name``.

    Raises:
        ConfigurationError: when there is none, naming those that there are.
    """
    if name not in MODELS:
        raise ConfigurationError(
            f"neuron model: got {name!r}, expected one of {', '.join(MODELS)}; a neuron of your own is registered with "
            f"{_HERE}.register, in a module that has to be imported first."
        )
    return MODELS[name]


def require_exact(model: NeuronModel, own_dynamics: bool = False) -> NeuronModel:
    """``model``, if an exact program can repeat it: by its step where it has one, else by its leak.

    Args:
        model: of the neurons.
        own_dynamics: whether their class fires in its own way (``SpikingNeuron.own_dynamics``).

    Raises:
        ConfigurationError: naming the step that is missing.
    """
    if model.step is None and (own_dynamics or model.leak is None):
        raise ConfigurationError(
            f"{model} has no step: its class fires in its own way, which no known leak describes; give its entry in "
            f"{_HERE} step=, one step in plain torch. Until then it can be trained, but not lowered."
        )
    return model


def require_integer(model: NeuronModel) -> NeuronModel:
    """``model``, if a chip's integers can compute it.

    Raises:
        ConfigurationError: naming the integer form that is missing.
    """
    require_exact(model)
    if not model.integer:
        raise ConfigurationError(f"{model} {lacks_integer(model)}; it can be simulated exactly, but not on a chip.")
    return model


def require_emulated(model: NeuronModel) -> NeuronModel:
    """``model``, if it can be trained in a chip's integers.

    Raises:
        ConfigurationError: naming the integer form or the gradient that is missing.
    """
    require_integer(model)
    if model.step is not None:
        raise ConfigurationError(
            f"{model} has no gradient in a chip's integers: only known leaks have one; train without the chip's "
            "arithmetic and round afterwards."
        )
    return model


def require_nir_form(model: NeuronModel) -> str:
    """The NIR node that ``model`` is written as.

    Raises:
        ExchangeError: naming the NIR form that is missing, and why.
    """
    if model.nir is None:
        raise ExchangeError(f"{model} has no NIR form: {_why_no_nir(model)}; use {_or(list(NIR_LEAKS))} neurons.")
    return model.nir


def lacks_integer(model: NeuronModel) -> str:
    """Half a sentence: that ``model`` has no integer form, and why; empty where it has one."""
    if model.integer:
        return ""
    if model.step is None:
        return f"has no integer form: its entry in {_HERE} says integer=False"
    return f"has no integer form: its entry in {_HERE} does not say integer=True, that its step keeps integers whole"


def names_of(models: tuple[str, ...]) -> str:
    """Classes of the neurons called ``models``, for a message: ``IF or LIF``."""
    return _or([neuron_model(model).neuron for model in models])


def constants_in_units(model: NeuronModel, values: Mapping[str, Tensor | float], gain: Tensor) -> dict[str, Tensor]:
    """The constants of ``model``'s step when the membrane is measured in other units.

    Args:
        model: says which constants there are, and their units.
        values: of each constant, a number or ``[C]``.
        gain: ``[C]``, how many of the old units a new one is: the norm's gain, or the unit of a chip's membrane.

    Returns:
        ``[C]`` each, float64: ``membrane`` ones divided by ``gain``, ``ratio`` ones as they are.

    Raises:
        ConfigurationError: for a constant without a value.
    """
    absent = [name for name in model.constants if name not in values]
    if absent:
        raise ConfigurationError(
            f"{model}: no value of {', '.join(absent)}; the class needs an attribute of that name."
        )
    gain = gain.detach().double()
    numbers = {
        name: torch.as_tensor(values[name], dtype=torch.float64, device=gain.device).detach().expand_as(gain)
        for name in model.constants
    }
    return {name: number / gain if model.constants[name] == "membrane" else number for name, number in numbers.items()}


def _why_no_nir(model: NeuronModel) -> str:
    if model.step is not None or model.leak is None:
        return "NIR knows no dynamics but its own"
    if model.synaptic:
        return "its synaptic current is not that of a NIR node"
    if model.leak == "linear":
        return "NIR knows no linear leak"
    return f"its entry in {_HERE} names no node (nir=)"


def _or(names: list[str]) -> str:
    return " or ".join(names)
