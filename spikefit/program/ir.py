"""Description of a network as a chip runs it: populations of neurons joined by projections.

:mod:`spikefit.program.lower` builds a :class:`Program` from a trained network. The check, the placement, the simulator
and the energy model all read this one description, which imports nothing from them.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from spikefit.functional.fan_out import conv_fan_in, conv_fan_out, dense_fan_in, dense_fan_out, unpool_fan_out
from spikefit.functional.integer_arithmetic import IntegerDynamics
from spikefit.functional.neuron_models import INPUT, READOUT, Reset, neuron_model
from spikefit.functional.quantize import round_ste
from spikefit.input_kind import InputKind
from spikefit.program.stored_weights import StoredWeights, from_weights

Precision = Literal["exact", "target"]


@dataclass(frozen=True)
class Population:
    """Neurons that share one model, with per-channel constants.

    Attributes:
        name: name of the block that the population comes from, or ``input``.
        shape: ``(C, H, W)`` or ``(N,)``; constants below have one entry per channel ``C`` (or per neuron ``N``).
        model: ``input``; the name of a neuron model in :mod:`spikefit.functional.neuron_models`; or ``readout``, which
            integrates and never fires.
        threshold: ``[C]``; None for ``input`` and ``readout``.
        bias: ``[C]``, added to the current at every step; None for ``input``.
        leak: ``[C]``. For a decay, the factor that the membrane keeps (``exact``) or the integer ``d`` of
            ``v * (1 - d / 2**decay_bits)`` or ``v - (v >> d)`` (``target``; see :class:`Arithmetic`). For a linear
            leak, the amount that the membrane loses in a step.
        reset: ``subtract`` (the threshold) or ``zero``.
        input_kind: for an input, what it holds in a step; real numbers drive the *encoder* layer.
        unit: ``[C]``; the value of one unit of this population's membrane in the trained network's units.
        synaptic_leak: ``[C]``; the leak of the synaptic current, encoded as ``leak``; None without synaptic currents.
        synaptic_bias: ``[C]``; added to the synapses' sum at every step, before the synaptic current filters it; None
            if there is none.
        max_spikes: how often a neuron, or an input, may fire in one step.
        constants: names and values ``[C]`` of the model's constants besides threshold and leak.

    Raises:
        ConfigurationError: for a model that is not registered.

    Example:
        >>> population = Population("conv1", (32, 14, 14), "if", threshold=torch.ones(32))
        >>> population.neurons, population.spiking
        (6272, True)
    """

    name: str
    shape: tuple[int, ...]
    model: str
    threshold: Tensor | None = None
    bias: Tensor | None = None
    leak: Tensor | None = None
    reset: Literal["subtract", "zero"] = "subtract"
    input_kind: InputKind | None = None
    unit: Tensor | None = None
    synaptic_leak: Tensor | None = None
    synaptic_bias: Tensor | None = None
    max_spikes: int = 1
    constants: tuple[tuple[str, Tensor], ...] = ()

    def __post_init__(self) -> None:
        if self.spiking:
            neuron_model(self.model)

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return int(torch.Size(self.shape).numel())

    @property
    def graded(self) -> bool:
        """Whether these are inputs that hold real numbers."""
        return self.input_kind is not None and self.input_kind.graded

    @property
    def spiking(self) -> bool:
        """Whether these neurons fire."""
        return self.model not in (INPUT, READOUT)


@dataclass(frozen=True)
class Projection:
    """Synapses from one population to another.

    If ``pool`` > 1, the source's spikes are pooled first. ``sum`` counts the spikes of a window, which is average
    pooling with its 1/k**2 moved into the scale of the weights; ``max`` is their OR. On a chip without a pooling unit
    ``sum`` costs nothing extra: every neuron of the window gets the window's synapses.

    Attributes:
        name: name of the block that the synapses belong to (``conv2``, or ``conv2.skip`` for a residual input).
        source, target: names of populations.
        kind: ``conv`` or ``dense``. A dense projection flattens its source, channel first.
        weight: ``[out, in / groups, kh, kw]`` or ``[out, in]``; float64 (``exact``) or int64 (``target``). A weight of
            zero is no synapse.
        bits: width of a stored weight; None when the weights are real numbers.
        exponent: the chip stores ``weight / 2**exponent`` and shifts the stored weight when it is used.
        axon_types: int64, the type of each input channel (``conv``) or flattened input (``dense``), if each output has
            at most one non-zero weight per type. A crossbar then needs one axon per source. None for weights without
            this restriction.
        codebook: values and indices of ``weight`` as its quantizer defines them, in a ``target`` program. None for real
            weights, and for integers that were rounded from real weights; :attr:`stored` is always available.

    Example:
        >>> projection = Projection("fc1", "input", "fc1", "dense", torch.tensor([[2, 0, -1], [2, 2, 0]]))
        >>> projection.fan_in((3,)).tolist(), projection.fan_out((3,)).tolist()
        ([2, 2], [2, 1, 1])
        >>> projection.stored.values.tolist()
        [[-1, 0, 2]]
    """

    name: str
    source: str
    target: str
    kind: Literal["conv", "dense"]
    weight: Tensor
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    pool: int = 1
    pool_kind: Literal["sum", "max"] = "sum"
    bits: int | None = None
    exponent: int = 0
    axon_types: Tensor | None = None
    codebook: StoredWeights | None = None

    @property
    def conv_options(self) -> dict[str, Any]:
        """Keyword arguments for :func:`torch.nn.functional.conv2d`."""
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }

    def pooled_shape(self, source: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the source's map after pooling."""
        if self.pool == 1:
            return source
        channels, height, width = source
        return channels, height // self.pool, width // self.pool

    def fan_out(self, source: tuple[int, ...]) -> Tensor:
        """Live synapses that leave each source neuron: int64 ``[*source]``."""
        pooled = self.pooled_shape(source)
        if self.kind == "dense":
            fan = dense_fan_out(self.weight).reshape(pooled)
        else:
            fan = conv_fan_out(self.weight, pooled, **self.conv_options)  # type: ignore[arg-type]
        if self.pool > 1:
            fan = unpool_fan_out(fan, source, self.pool)  # type: ignore[arg-type]
        return fan

    def fan_in(self, source: tuple[int, ...]) -> Tensor:
        """Live synapses that reach each target neuron: int64 ``[*target]``; a pooled input counts its whole window."""
        if self.kind == "dense":
            fan = dense_fan_in(self.weight)
        else:
            pooled = self.pooled_shape(source)
            fan = conv_fan_in(self.weight, pooled, **self.conv_options)  # type: ignore[arg-type]
        return fan * self.pool**2

    @cached_property
    def stored(self) -> StoredWeights:
        """Values and indices of ``weight``: the codebook, or without one, those found by comparing the weights.

        Raises:
            ValueError: when the codebook does not reproduce ``weight``.
        """
        if self.codebook is None:
            return from_weights(self.weight)
        if not torch.equal(self.codebook.weight(), self.weight):
            raise ValueError(f"projection {self.name}: its codebook does not reproduce its weights.")
        return self.codebook


@dataclass(frozen=True)
class Arithmetic:
    """The arithmetic of membranes: number format, range, decay, and units of graded inputs.

    Attributes:
        integer: whether all values are integers; False means float64 without rounding.
        state_min, state_max: range of the membrane (None: unbounded).
        overflow: what happens to a membrane outside this range.
        decay: ``scale``, a product with ``1 - d / 2**decay_bits``, or ``shift``: ``v - (v >> d)``, or one unit towards
            zero if the shift leaves nothing.
        decay_bits: fraction bits of a ``scale`` decay.
        decay_rounding: ``toward_zero`` or ``floor``, for a ``scale`` decay.
        input_scale: real value of one unit of a graded input (``target`` precision).
        input_min, input_max: range of a graded input, in units; the default minimum is ``-input_max``.

    Example:
        >>> arithmetic = Arithmetic(integer=True, input_scale=0.25, input_max=3)
        >>> arithmetic.input_units(torch.tensor([-2.0, 0.3, 0.5, 1.0])).tolist()
        [-3.0, 1.0, 2.0, 3.0]
    """

    integer: bool = False
    state_min: int | None = None
    state_max: int | None = None
    overflow: Literal["saturate", "wrap"] = "saturate"
    decay_bits: int = 12
    decay_rounding: Literal["toward_zero", "floor"] = "toward_zero"
    input_scale: float = 1.0
    input_max: int | None = None
    input_min: int | None = None
    decay: Literal["scale", "shift"] = "scale"

    def dynamics(
        self, model: str, reset: Reset, max_spikes: int = 1, surrogate: str = "atan", alpha: float = 2.0
    ) -> IntegerDynamics:
        """The integer dynamics of neurons in this arithmetic.

        Args:
            model: name in :data:`spikefit.functional.neuron_models.MODELS`.
            reset: ``subtract`` or ``zero``.
            max_spikes: how often a neuron may fire in one step.
            surrogate, alpha: surrogate gradient of the backward pass, if there is one.
        """
        leak = neuron_model(model).leak
        assert leak is not None  # never called for a model with its own step function
        return IntegerDynamics(
            leak=leak,
            decay=self.decay,
            decay_bits=self.decay_bits,
            decay_rounding=self.decay_rounding,
            reset=reset,
            max_spikes=max_spikes,
            state_min=self.state_min,
            state_max=self.state_max,
            overflow=self.overflow,
            integer=self.integer,
            surrogate=surrogate,
            alpha=alpha,
        )

    @property
    def largest_input(self) -> int:
        """Largest magnitude of a graded input, in units; 2**53, the integers of a float64, if there is no range."""
        if self.input_max is None:
            return 2**53
        return self.input_max if self.input_min is None else max(-self.input_min, self.input_max)

    def input_units(self, inputs: Tensor) -> Tensor:
        """Graded ``inputs`` in units, clamped to their range; halves are rounded the same way in every dtype."""
        units = round_ste(inputs.double() / self.input_scale).to(inputs.dtype)
        if self.input_max is None:
            return units
        return units.clamp(-self.input_max if self.input_min is None else self.input_min, self.input_max)


@dataclass(frozen=True)
class Program:
    """A whole network as a chip runs it, in the order in which spikes pass through it.

    The first population is the input, the last one the output. With ``precision`` ``exact`` the program reproduces the
    trained network in float64; with ``target`` it uses the integer arithmetic of the chip named ``target``.

    Example:
        >>> from spikefit.hardware.deployment_context import DeploymentContext
        >>> from spikefit.hardware.target import HardwareTarget
        >>> from spikefit.networks import MLP
        >>> from spikefit.program.lower import lower
        >>> context = DeploymentContext(HardwareTarget.load("loihi"), 4, InputKind.SPIKES)
        >>> program = lower(MLP((1, 8, 8), 10, hidden=[16]).eval(), context, precision="target")
        >>> [population.name for population in program.populations], program.neurons
        (['input', 'fc1', 'readout'], 26)
    """

    populations: tuple[Population, ...]
    projections: tuple[Projection, ...]
    time_steps: int
    precision: Precision = "exact"
    target: str | None = None
    arithmetic: Arithmetic = field(default_factory=Arithmetic)

    def population(self, name: str) -> Population:
        """The population called ``name``."""
        return next(population for population in self.populations if population.name == name)

    def inputs_of(self, name: str) -> tuple[Projection, ...]:
        """The projections that reach population ``name``."""
        return tuple(projection for projection in self.projections if projection.target == name)

    def outputs_of(self, name: str) -> tuple[Projection, ...]:
        """The projections that leave population ``name``."""
        return tuple(projection for projection in self.projections if projection.source == name)

    def fan_out(self, projection: Projection) -> Tensor:
        """Live synapses that leave each source neuron of ``projection``."""
        return projection.fan_out(self.population(projection.source).shape)

    def fan_in(self, projection: Projection) -> Tensor:
        """Live synapses that reach each target neuron of ``projection``."""
        return projection.fan_in(self.population(projection.source).shape)

    def synapses(self, projection: Projection) -> int:
        """Number of live synapses of ``projection``."""
        return int(self.fan_out(projection).sum())

    def is_encoder(self, projection: Projection) -> bool:
        """Whether ``projection`` multiplies real-valued inputs instead of adding the weights of spikes."""
        return self.population(projection.source).graded

    @property
    def neurons(self) -> int:
        """Number of neurons on the chip, in every population but the input."""
        return sum(population.neurons for population in self.populations if population.model != "input")


@dataclass(frozen=True)
class LayerActivity:
    """Operation counts of one population, averaged over inferences (one inference is ``time_steps`` steps).

    Attributes:
        name: name of the population.
        neurons: number of neurons.
        synapses: live synapses that reach the population.
        spikes: spikes that the population sent.
        synops: synaptic operations that the population received.
        macs: multiply-accumulates that the population received from a graded input.
        updates: membrane updates (neurons x steps).
        overflows: membrane values that left the state's range.
    """

    name: str
    neurons: int
    synapses: int
    spikes: float
    synops: float
    macs: float
    updates: float
    overflows: float = 0.0
