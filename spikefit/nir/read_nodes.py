"""Parser of NIR graphs: a chain of layers with checked shapes, or an error that names the unsupported node.

The chain is what :class:`~spikefit.networks.blocks.Network` supports: a sequence of synapses, neurons and pooling, from
one input to one output. Each layer may also read one earlier layer's spikes through a shortcut.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from graphlib import CycleError, TopologicalSorter
from typing import Any, NoReturn

import numpy as np

from spikefit.errors import ExchangeError
from spikefit.functional.convolution import output_size
from spikefit.functional.neuron_models import NIR_LEAKS

NEURONS = (*NIR_LEAKS, "CubaLIF")  # a CubaLIF without synaptic memory is a LIF
SYNAPSES = ("Conv1d", "Conv2d", "Linear", "Affine", "Scale")
POOLS = ("AvgPool2d", "SumPool2d")
KNOWN = ("Input", "Output", "Flatten", *SYNAPSES, *NEURONS, *POOLS)
INPUT = "input"

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Signal:
    """Spikes (or inputs) between neurons and synapses.

    Attributes:
        source: name of the node that sends the spikes, or ``input``.
        shape: shape of one frame.
        pool: side of the pooling window.
        factor: factor on average pooling that gives the signal: ``pool**2`` for sum pooling, else 1.
    """

    source: str
    shape: Shape
    pool: int = 1
    factor: int = 1


@dataclass(frozen=True)
class Synapses:
    """Weights between two layers.

    Attributes:
        node: name of the node.
        kind: type of the node.
        signal: the signal that the synapses read.
        shape: shape of the current that the synapses deliver.
        weight: ``[out, in, kh, kw]`` or ``[out, in]``, a single number for ``Scale``; includes the signal's factor.
        bias: ``[out]``, or None.
        options: keyword arguments of a ``Conv2d``.
    """

    node: str
    kind: str
    signal: Signal
    shape: Shape
    weight: np.ndarray
    bias: np.ndarray | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Layer:
    """Synapses and the neurons that they drive.

    Attributes:
        main: synapses that read the previous layer.
        skip: synapses that read an earlier layer, or None.
        node: name of the neurons' node; None for a readout of currents.
        shape: shape of the neurons.
        pool: side of the average pooling of their spikes.
    """

    main: Synapses
    skip: Synapses | None
    node: str | None
    shape: Shape
    pool: int = 1


def array(value: Any) -> np.ndarray:
    """The numbers in a node's field, as a float64 array."""
    detach = getattr(value, "detach", None)  # some libraries leave torch tensors in their graphs
    return np.asarray(value if detach is None else detach().cpu().numpy(), dtype=np.float64)


class Reader:
    """Follows the edges of a NIR graph and collects its layers.

    Args:
        graph: a ``nir.NIRGraph``.
        name: name of the file, for error messages.
    """

    def __init__(self, graph: Any, name: str) -> None:
        self.name = name
        self.nodes: dict[str, Any] = dict(graph.nodes)
        edges = sorted({(str(first), str(second)) for first, second in graph.edges})
        self.before: dict[str, list[str]] = {node: [] for node in self.nodes}
        self.after: dict[str, list[str]] = {node: [] for node in self.nodes}
        for first, second in edges:
            for end in (first, second):
                if end not in self.nodes:
                    raise ExchangeError(
                        f"{name}: an edge leads from {first!r} to {second!r}, but there is no node {end!r}."
                    )
            self.before[second].append(first)
            self.after[first].append(second)

    def kind(self, node: str) -> str:
        """The type of ``node``."""
        return type(self.nodes[node]).__name__

    def refuse(self, node: str, reason: str) -> NoReturn:
        """Raise an error that names ``node``."""
        raise ExchangeError(f"{self.name}: node {node!r} ({self.kind(node)}): {reason}")

    def layers(self) -> tuple[Shape, list[Layer]]:
        """The shape of the input, and the layers in order."""
        order = self._order()
        for node in order:
            self._require_finite(node)
        signals: dict[str, Signal] = {}
        synapses: dict[str, Synapses] = {}
        found: list[Layer] = []
        for node in order:
            kind = self.kind(node)
            if kind == "Input":
                signals[node] = Signal(INPUT, self._input_shape(node))
            elif kind in SYNAPSES:
                synapses[node] = self._synapses(node, self._signal(node, signals))
            elif kind in NEURONS:
                layer = self._layer(node, [synapses.get(name) for name in self.before[node]], found)
                found.append(layer)
                signals[node] = Signal(node, layer.shape)
            elif kind in POOLS:
                signals[node] = self._pooled(node, self._signal(node, signals))
            elif kind == "Flatten":
                signals[node] = self._flat(node, self._signal(node, signals))
            else:
                self._end(node, signals, synapses, found)
        entrance = next(node for node in order if self.kind(node) == "Input")
        return signals[entrance].shape, self._with_pools(found)

    def _order(self) -> list[str]:
        """Nodes in topological order; refuses graphs that a ``Network`` can't represent."""
        for node in self.nodes:
            if self.kind(node) not in KNOWN:
                what = "a graph within the graph" if self.kind(node) == "NIRGraph" else "not a supported node"
                self.refuse(node, f"{what}; expected {', '.join(KNOWN)}.")
        for kind in ("Input", "Output"):
            ends = [node for node in self.nodes if self.kind(node) == kind]
            if len(ends) != 1:
                raise ExchangeError(f"{self.name}: got {len(ends)} {kind} nodes {ends}, expected one.")
        try:
            order = list(TopologicalSorter(self.before).static_order())
        except CycleError as error:
            loop = " -> ".join(reversed(error.args[1]))
            raise ExchangeError(f"{self.name}: recurrent edges {loop}; only feed-forward networks are read.") from error
        for node in order:
            if not self.before[node] and self.kind(node) != "Input":
                self.refuse(node, "no edge leads to it.")
            if not self.after[node] and self.kind(node) != "Output":
                self.refuse(node, "no edge leads from it.")
            if len(self.before[node]) > 1 and self.kind(node) not in NEURONS:
                self.refuse(node, f"it reads several nodes, {self.before[node]}; only neurons may add up currents.")
        return order

    def _require_finite(self, node: str) -> None:
        """Refuse a node whose numbers are NaN, infinite, or too large for a float32."""
        for entry in fields(self.nodes[node]):
            value = getattr(self.nodes[node], entry.name)
            if isinstance(value, float | np.ndarray | np.generic) or hasattr(value, "detach"):
                numbers = array(value)
                wrong = int((~(abs(numbers) <= np.finfo(np.float32).max)).sum())
                if wrong:
                    self.refuse(
                        node,
                        f"{wrong} of {numbers.size} values of {entry.name} are NaN, infinite or beyond float32; "
                        "expected finite numbers.",
                    )

    def _input_shape(self, node: str) -> Shape:
        shape = tuple(int(side) for side in np.asarray(self.nodes[node].input_type["input"]).reshape(-1))
        wanted = {"Conv1d": 2, "Conv2d": 3, "Linear": 1, "Affine": 1}
        ranks = {wanted.get(self.kind(reader), len(shape)) for reader in self.after[node]}
        # Some libraries include the batch dimension of their sample input in the shape.
        frame = shape[len(shape) - max(ranks) :]
        return frame if len(ranks) == 1 and math.prod(frame) == math.prod(shape) and shape[0] == 1 else shape

    def _signal(self, node: str, signals: Mapping[str, Signal]) -> Signal:
        (source,) = self.before[node]
        if source not in signals:
            self.refuse(node, f"it reads {source!r} ({self.kind(source)}); expected neurons between the two.")
        return signals[source]

    def _pooled(self, node: str, signal: Signal) -> Signal:
        content, kind = self.nodes[node], self.kind(node)
        kernel, stride, padding = (_pair(getattr(content, name)) for name in ("kernel_size", "stride", "padding"))
        if signal.source == INPUT:
            self.refuse(node, "pools the input; only spikes of neurons can be pooled.")
        if signal.pool > 1 or len(signal.shape) != 3:
            self.refuse(
                node, f"reads a signal of shape {signal.shape} pooled by {signal.pool}; expected a map of spikes."
            )
        if len({*kernel, *stride}) != 1 or any(padding):
            self.refuse(node, f"kernel {kernel}, stride {stride}, padding {padding}; expected adjacent square windows.")
        channels, height, width = signal.shape
        side = kernel[0]
        shape = (channels, height // side, width // side)
        return replace(signal, shape=shape, pool=side, factor=side**2 if kind == "SumPool2d" else 1)

    def _flat(self, node: str, signal: Signal) -> Signal:
        first, last = int(self.nodes[node].start_dim), int(self.nodes[node].end_dim)
        rank = len(signal.shape)
        first, last = first % rank if rank > 1 else 0, last % rank if rank > 1 else 0
        if (first, last) != (0, rank - 1):
            self.refuse(node, f"flattens dimensions {first} to {last} of {signal.shape}; expected all of them.")
        return replace(signal, shape=(math.prod(signal.shape),))

    def _synapses(self, node: str, signal: Signal) -> Synapses:
        content, kind = self.nodes[node], self.kind(node)
        if kind == "Scale":
            scale = np.unique(array(content.scale))
            if len(scale) != 1:
                self.refuse(node, f"scales by {scale.min()} to {scale.max()}; expected one value for all neurons.")
            return Synapses(node, kind, signal, signal.shape, scale * signal.factor)
        weight = array(content.weight)
        bias = None if kind == "Linear" else array(content.bias)
        bias = None if bias is None or not bias.any() else bias
        if kind in ("Linear", "Affine"):
            if weight.ndim != 2 or signal.shape != weight.shape[1:]:
                self.refuse(
                    node, f"weight of shape {weight.shape} on a signal of shape {signal.shape}; is a Flatten missing?"
                )
            shape: Shape = weight.shape[:1]
            return Synapses(node, kind, signal, shape, weight * signal.factor, bias)
        options = self._conv_options(node, weight)
        rank = weight.ndim - 1
        if len(signal.shape) != rank or signal.shape[0] != weight.shape[1] * options["groups"]:
            self.refuse(node, f"weight of shape {weight.shape} on a signal of shape {signal.shape}.")
        sides = signal.shape[1:] if rank == 3 else (1, signal.shape[1])
        weight = weight if rank == 3 else weight[:, :, None]  # Conv1d becomes Conv2d on a map of height 1
        out = output_size(sides, weight.shape[2:], options["stride"], options["padding"], options["dilation"])
        if min(out) < 1:
            self.refuse(node, f"nothing is left of a signal of shape {signal.shape}.")
        shape = (weight.shape[0], *out) if rank == 3 else (weight.shape[0], out[1])
        return Synapses(node, kind, signal, shape, weight * signal.factor, bias, options)

    def _conv_options(self, node: str, weight: np.ndarray) -> dict[str, Any]:
        content, flat = self.nodes[node], self.kind(node) == "Conv1d"
        stride, dilation = (_pair(value) for value in (content.stride, content.dilation))
        if flat:
            stride, dilation = (1, stride[1]), (1, dilation[1])
        padding = content.padding.decode() if isinstance(content.padding, bytes) else content.padding
        if isinstance(padding, str) and padding == "same":
            reach = [
                spread * (side - 1)
                for spread, side in zip(dilation[-(weight.ndim - 2) :], weight.shape[2:], strict=True)
            ]
            if set(stride) != {1} or any(length % 2 for length in reach):
                self.refuse(
                    node, "padding 'same' with a stride or an even kernel; expected equal padding on both sides."
                )
            padding = [length // 2 for length in reach]
        elif isinstance(padding, str):  # 'valid'
            padding = 0
        pads = _pair(padding)
        pads = (0, pads[1]) if flat else pads
        return {"stride": stride, "padding": pads, "dilation": dilation, "groups": int(content.groups)}

    def _layer(self, node: str, read: list[Synapses | None], found: list[Layer]) -> Layer:
        """The layer of neurons ``node``, which follows the layers in ``found``."""
        inputs = [synapses for synapses in read if synapses is not None]
        if len(inputs) != len(read):
            bare = [name for name, synapses in zip(self.before[node], read, strict=True) if synapses is None]
            self.refuse(node, f"reads {bare} without synapses between them; expected one of {', '.join(SYNAPSES)}.")
        if len({synapses.shape for synapses in inputs}) != 1:
            self.refuse(node, f"currents of different shapes: {', '.join(f'{s.node} {s.shape}' for s in inputs)}.")
        previous = found[-1].node if found else INPUT
        direct = sorted(
            (synapses for synapses in inputs if synapses.signal.source == previous and synapses.kind != "Scale"),
            key=lambda synapses: -synapses.weight[0].size,
        )
        if not direct:
            self.refuse(node, f"does not read the previous layer, {previous!r}; such branches are not supported.")
        others = [synapses for synapses in inputs if synapses is not direct[0]]
        if len(others) > 1:
            self.refuse(node, f"reads {len(inputs)} layers; expected the previous layer and at most one earlier layer.")
        for skip in others:
            if skip.signal.source == INPUT:
                self.refuse(skip.node, "is a shortcut from the input; expected a shortcut from an earlier layer.")
            if skip.kind != "Scale" and (skip.kind != "Conv2d" or skip.weight.shape[2:] != (1, 1)):
                self.refuse(skip.node, "is a shortcut past a layer; expected a Scale or a Conv2d with a 1x1 kernel.")
        return Layer(direct[0], others[0] if others else None, node, direct[0].shape)

    def _end(
        self, node: str, signals: Mapping[str, Signal], synapses: Mapping[str, Synapses], found: list[Layer]
    ) -> None:
        """Check the output node; a readout of currents becomes the last layer."""
        (source,) = self.before[node]
        if source in synapses:
            readout = synapses[source]
            if not found or readout.signal.source != found[-1].node:
                self.refuse(source, "the readout does not read the last neurons.")
            if readout.kind == "Scale":
                self.refuse(source, "the readout has no weights; expected Linear or Affine.")
            found.append(Layer(readout, None, None, readout.shape))
        elif not found or signals[source].source != found[-1].node or signals[source].pool > 1:
            self.refuse(node, f"reads {source!r}; expected the last neurons, or a Linear or Affine after them.")
        if len(found[-1].shape) != 1:
            self.refuse(node, f"the last layer has the shape {found[-1].shape}; expected one output per class.")

    def _with_pools(self, found: list[Layer]) -> list[Layer]:
        """The layers, each with the pooling that all readers of its spikes share."""
        readers: dict[str | None, list[Synapses]] = {}
        for layer in found:
            for synapses in (layer.main, layer.skip):
                if synapses is not None:
                    readers.setdefault(synapses.signal.source, []).append(synapses)
        for source, reading in readers.items():
            if len({synapses.signal.pool for synapses in reading}) > 1:
                names = ", ".join(f"{synapses.node!r} by {synapses.signal.pool}" for synapses in reading)
                self.refuse(str(source), f"its spikes are pooled differently for {names}; expected the same for all.")
        pools = {source: reading[0].signal.pool for source, reading in readers.items()}
        return [replace(layer, pool=pools.get(layer.node, 1)) for layer in found]


def _pair(value: Any) -> tuple[int, int]:
    sides = [int(side) for side in np.asarray(value).reshape(-1)]
    return (sides[0], sides[0]) if len(sides) == 1 else (sides[0], sides[1])
