"""Import of NIR graphs that other libraries wrote, as networks."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import nn

from spikefit.errors import ConfigurationError, ExchangeError, check_choice
from spikefit.functional.neuron_models import Reset
from spikefit.networks.blocks import Block, IdentitySkip, Network
from spikefit.networks.norms import FixedNorm
from spikefit.neurons import IF, LIF, NeuronFactory, ParametricLIF, SpikingNeuron
from spikefit.nir.dialects import Dialect, Discretisation, Fires, dialect_called, require_nir
from spikefit.nir.read_nodes import Layer, Reader, Shape, Synapses, array

_NEARLY = 1e-6  # tolerance for a float32 quotient that should be 1


@dataclass(frozen=True)
class _Reading:
    """The conventions by which the neurons of a graph are read."""

    dt: float
    discretisation: Discretisation
    fires: Fires
    if_gain: Literal["per_second", "per_step"]
    reset: Reset | None
    dialect: Dialect
    ignore_resistance: bool


@dataclass(frozen=True)
class _Neurons:
    """Constants of the neurons of one layer, in units of their input current.

    Attributes:
        decay: factor that the membrane keeps in a step; None for IF.
        threshold: ``[units]``.
        reset: kind of reset.
    """

    decay: float | None
    threshold: np.ndarray
    reset: Reset


class FromNIR(Network):
    """A feed-forward network read from a NIR file, ready to be trained, compressed and deployed.

    Layers are called ``conv1``, ``conv2``, ..., ``fc1``, ..., and the last one ``readout``. Supported nodes are Conv1d
    (as a Conv2d on maps of height 1: the data then has the shape ``(C, 1, L)``), Conv2d, Linear, Affine, IF, LIF,
    CubaLIF with ``tau_syn`` equal to ``dt`` (no synaptic memory: Euler's factor is 0), AvgPool2d, SumPool2d and
    Flatten. A shortcut past a layer may be a Scale or a 1x1 Conv2d. Any other node raises an error that names it.
    :mod:`spikefit.nir.dialects` has the equations and dialects.

    The following holds up to float32 rounding. Weights and biases are copied (multiplied by k**2 after a SumPool2d,
    which becomes an average). The gain G of a LIF changes its threshold, never the weights. Neurons of a layer share
    one threshold here; if thresholds differ between channels, a norm with fixed statistics
    (:class:`~spikefit.networks.norms.FixedNorm`) precedes the neurons, so that M distinct weights stay M distinct
    weights, and lowering restores the threshold of each channel. A neuron that fires above its threshold gets the next
    larger float32 (float64 for a float64 file) as its threshold and fires at this value, since no number lies in
    between. Membranes start at ``v_reset``, and ``v_leak`` must be equal to ``v_reset``: NIR does not specify the
    initial membrane, and libraries differ.

    The file is read every time the network is built, including when a checkpoint is loaded, so it must stay at its
    path. Weights then come from the checkpoint, thresholds and decays from the file.

    Args:
        input_shape: ``(C, H, W)`` or ``(N,)`` of one frame.
        num_classes: number of outputs of the last layer.
        path: path of the file; in Python a ``nir.NIRGraph`` is also accepted.
        dialect: conventions of the file: ``nir``, ``snntorch``, ``spikingjelly``, ``norse`` or ``sinabs``.
        dt: length of a step, seconds; None for ``dt`` in the file's metadata, or else the dialect's default.
        reset: ``zero`` (NIR's reset to ``v_reset``) or ``subtract``; None for ``reset`` in the nodes' metadata, or else
            the dialect's default, with a warning.
        ignore_resistance: use G = 1 whatever R is: for LIF neurons of sinabs with ``norm_input=False``, whose R is not
            written.
        learn_decay: whether the decay of LIF neurons is trained, one per layer.
        surrogate, alpha: as in :class:`~spikefit.neurons.SpikingNeuron`.

    Raises:
        ExchangeError: when ``nir`` is not installed, the file can't be read, or a node is not supported; names it.
        ConfigurationError: for an unknown dialect, or an ``input_shape`` or ``num_classes`` that contradicts the file.

    Example:
        >>> from spikefit.hardware.deployment_context import DeploymentContext
        >>> from spikefit.input_kind import InputKind
        >>> from spikefit.networks import MLP
        >>> from spikefit.neurons import LIF
        >>> from spikefit.nir.write import to_nir
        >>> from spikefit.program.lower import lower
        >>> network = MLP((4,), 3, hidden=[5], neuron=lambda units: LIF(units, reset="zero")).eval()
        >>> graph = to_nir(lower(network, DeploymentContext(None, 4, InputKind.SPIKES)))
        >>> FromNIR((4,), 3, graph)(torch.ones(4, 2, 4)).shape
        torch.Size([4, 2, 3])
    """

    provides_weights = True

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        path: str,
        dialect: str = "nir",
        dt: float | None = None,
        reset: Literal["zero", "subtract"] | None = None,
        ignore_resistance: bool = False,
        learn_decay: bool = False,
        surrogate: str = "atan",
        alpha: float = 2.0,
    ) -> None:
        conventions = dialect_called(dialect)
        if reset is not None:
            check_choice("reset", reset, ("zero", "subtract"))
        graph, name = _read(path)
        reader = Reader(graph, name)
        shape, layers = reader.layers()
        _check_ends(name, shape, input_shape, layers[-1].shape[0], num_classes)
        said = graph.metadata if isinstance(graph.metadata, dict) else {}
        step = float(said.get("dt", conventions.dt)) if dt is None else dt
        if not 0 < step < math.inf:
            raise ConfigurationError(f"dt: got {step!r}, expected a value above 0.")
        reading = _Reading(
            step,
            _text(said.get("discretisation", conventions.discretisation)),  # type: ignore[arg-type]
            _text(said.get("fires", conventions.fires)),  # type: ignore[arg-type]
            _text(said.get("if_gain", conventions.if_gain)),  # type: ignore[arg-type]
            reset,
            conventions,
            ignore_resistance,
        )
        for option, allowed in (
            ("discretisation", ("euler", "exponential")),
            ("fires", ("above", "at")),
            ("if_gain", ("per_second", "per_step")),
        ):
            check_choice(f"{option} in the metadata of {name}", getattr(reading, option), allowed)

        def factory(neurons: _Neurons, threshold: float) -> NeuronFactory:
            shared: dict[str, Any] = {
                "threshold": threshold,
                "reset": neurons.reset,
                "surrogate": surrogate,
                "alpha": alpha,
            }
            if neurons.decay is None:
                return lambda units: IF(units, **shared)
            cls: Callable[..., SpikingNeuron] = ParametricLIF if learn_decay else LIF
            return lambda units: cls(units, decay=neurons.decay, **shared)

        names = _names(layers)
        blocks: dict[str, Block] = {}
        by_node = {layer.node: names[index] for index, layer in enumerate(layers)}
        for index, layer in enumerate(layers):
            norm, neuron = None, None
            if layer.node is not None:
                neurons = _neurons(reader, layer.node, layer.shape, reading)
                norm, threshold = _norm(neurons.threshold)
                neuron = factory(neurons, threshold)(layer.shape[0])
            skip = None if layer.skip is None else _skip(layer.skip)
            source = None if layer.skip is None else by_node[layer.skip.signal.source]
            main = _module(layer.main)
            blocks[names[index]] = Block(main, norm, neuron, layer.pool, "avg", source, skip)
        super().__init__(blocks, input_shape)
        _warn_of_assumed_resets(reader, layers, reading)


def _warn_of_assumed_resets(reader: Reader, layers: list[Layer], reading: _Reading) -> None:
    """Warn of neurons whose reset neither the caller nor the file names."""
    dialect = reading.dialect
    nodes = [layer.node for layer in layers if layer.node and _named_reset(reader, layer.node, reading) is None]
    if not nodes or dialect.exported == (dialect.reset,):
        return
    usual = f" (neurons of {dialect.name} use {dialect.exported[0]!r} by default)"
    rank_zero_warn(
        f"{reader.name} does not say whether the neurons of {', '.join(map(repr, nodes))} reset to v_reset ('zero') or "
        f"subtract the threshold ('subtract'). Assumed {dialect.reset!r}, by the dialect {dialect.name!r}"
        f"{usual if dialect.exported[0] != dialect.reset else ''}. Set the option reset to confirm or change it."
    )


def _read(path: Any) -> tuple[Any, str]:
    """The graph, and its name in error messages."""
    nir = require_nir()
    if isinstance(path, nir.NIRGraph):
        return path, "NIR graph"
    if not Path(path).is_file():
        raise ExchangeError(f"path: no file {path}; expected a NIR graph.")
    try:
        # The type checks of nir refuse graphs that several libraries write; Reader checks shapes itself.
        graph = nir.read(path, type_check=False)
    except Exception as error:  # h5py and nir raise many kinds of errors for other files
        raise ExchangeError(f"path: {path} can't be read as a NIR graph: {type(error).__name__}: {error}") from error
    if not isinstance(graph, nir.NIRGraph):
        raise ExchangeError(f"path: {path} holds a single {type(graph).__name__}, expected a NIR graph.")
    return graph, str(path)


def _check_ends(name: str, shape: Shape, input_shape: Shape, outputs: int, num_classes: int) -> None:
    wanted = (shape[0], 1, shape[1]) if len(shape) == 2 else shape
    given = tuple(input_shape)
    # A first layer that is linear flattens its input.
    if given != wanted and not (len(wanted) == 1 and math.prod(given) == wanted[0]):
        raise ConfigurationError(f"input_shape: got {given}, but {name} reads frames of {wanted}.")
    if outputs != num_classes:
        raise ConfigurationError(f"num_classes: got {num_classes}, but {name} has {outputs} outputs.")


def _names(layers: list[Layer]) -> list[str]:
    names: list[str] = []
    for layer in layers[:-1]:
        stem = "conv" if len(layer.shape) > 1 else "fc"
        names.append(f"{stem}{sum(name.startswith(stem) for name in names) + 1}")
    return [*names, "readout"]


def _module(synapses: Synapses) -> nn.Conv2d | nn.Linear:
    """A layer with the weights and biases of ``synapses``, float32."""
    weight = torch.tensor(synapses.weight, dtype=torch.float32)
    biased = synapses.bias is not None
    module: nn.Conv2d | nn.Linear
    if weight.dim() == 2:
        module = nn.Linear(weight.shape[1], weight.shape[0], bias=biased)
    else:
        inputs = weight.shape[1] * synapses.options["groups"]
        size = (weight.shape[2], weight.shape[3])
        module = nn.Conv2d(inputs, weight.shape[0], size, bias=biased, **synapses.options)
    with torch.no_grad():
        module.weight.copy_(weight)
        if module.bias is not None and synapses.bias is not None:
            module.bias.copy_(torch.tensor(synapses.bias))
    return module


def _skip(synapses: Synapses) -> IdentitySkip | nn.Conv2d:
    if synapses.kind == "Scale":
        return IdentitySkip(float(synapses.weight[0]))
    module = _module(synapses)
    assert isinstance(module, nn.Conv2d)
    return module


def _norm(threshold: np.ndarray) -> tuple[FixedNorm | None, float]:
    """The norm and the common threshold that together give each unit its ``threshold`` ``[units]``."""
    if (threshold == threshold[0]).all():
        return None, float(threshold[0])
    norm, highest = FixedNorm(len(threshold)), float(threshold.max())
    with torch.no_grad():
        norm.weight.copy_(torch.tensor(highest / threshold))  # at least 1, thus above the norm's smallest gain
    return norm, highest


def _neurons(reader: Reader, node: str, shape: Shape, reading: _Reading) -> _Neurons:
    """The constants of the neurons at ``node``, one per unit, in units of their input current."""
    content, kind = reader.nodes[node], reader.kind(node)

    def constant(name: str, default: float | None = None) -> np.ndarray:
        value = getattr(content, name, None)
        if value is None and default is not None:
            value = default
        numbers = array(value)
        if numbers.size == 1:
            return np.full(shape[0], numbers.item())
        if numbers.shape != shape:
            reader.refuse(node, f"{name} has the shape {numbers.shape}, expected {shape}.")
        units = numbers.reshape(shape[0], -1)
        if (units != units[:, :1]).any():
            reader.refuse(node, f"{name} differs within a channel; expected one value per channel.")
        return units[:, 0]

    decay: float | None = None
    gain = constant("r")
    rest = constant("v_reset", 0.0)
    if kind == "IF":
        gain = gain * (1.0 if reading.if_gain == "per_step" else reading.dt)
    else:
        if (constant("v_leak") != rest).any():
            reader.refuse(
                node, "v_leak is not v_reset; NIR does not specify the initial membrane, so they must be equal."
            )
        tau = constant("tau" if kind == "LIF" else "tau_mem")
        decay, driven = _decay(reader, node, tau, reading)
        gain = gain * driven
    if kind == "CubaLIF":
        synaptic = constant("tau_syn")
        if reading.discretisation != "euler" or (abs(synaptic / reading.dt - 1) > _NEARLY).any():
            reader.refuse(
                node, f"tau_syn is not dt ({reading.dt:g} s): synaptic currents with memory are not supported."
            )
        gain = gain * constant("w_in", 1.0)
    if reading.ignore_resistance or (abs(gain - 1) <= _NEARLY).all():
        gain = np.ones_like(gain)
    if not (gain > 0).all():
        reader.refuse(node, f"its gain is {gain.min():g}; expected a value above 0.")
    reset = _named_reset(reader, node, reading) or reading.dialect.reset
    if reset not in ("zero", "subtract"):
        reader.refuse(node, f"its metadata contain the reset {reset!r}; expected 'zero' or 'subtract'.")
    if reset == "subtract" and rest.any():
        reader.refuse(node, "v_reset is not 0, but the reset subtracts the threshold.")
    threshold = (constant("v_threshold") - rest) / gain
    if not (threshold > 0).all():
        reader.refuse(node, f"its threshold above v_reset is {threshold.min():g}; expected a value above 0.")
    if reading.fires == "above":
        wide = getattr(content.v_threshold, "dtype", None)
        threshold = np.nextafter(threshold.astype(np.float64 if "64" in str(wide) else np.float32), np.inf)
    return _Neurons(decay, threshold.astype(np.float64), reset)  # type: ignore[arg-type]


def _named_reset(reader: Reader, node: str, reading: _Reading) -> str | None:
    """The reset of the option ``reset`` or of the node's metadata; None if neither has one."""
    metadata = getattr(reader.nodes[node], "metadata", None) or {}
    return reading.reset or (_text(metadata["reset"]) if "reset" in metadata else None)


def _decay(reader: Reader, node: str, tau: np.ndarray, reading: _Reading) -> tuple[float, float]:
    """The decay in a step and the factor on ``R * I`` in a step, from ``tau`` ``[units]`` in seconds."""
    if (tau != tau[0]).any():
        reader.refuse(node, f"tau ranges from {tau.min():g} to {tau.max():g} s; expected one value per layer.")
    ratio = reading.dt / tau[0] if tau[0] else math.inf
    decay = 1 - ratio if reading.discretisation == "euler" else math.exp(-ratio)
    if not 0 < decay < 1:
        reader.refuse(
            node,
            f"tau = {tau[0]:g} s with a step of {reading.dt:g} s ({reading.discretisation}) gives a decay of "
            f"{decay:g}; expected a value between 0 and 1. Is dt right?",
        )
    return decay, 1 - decay


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
