"""A NIR graph as a chain of layers, with every shape checked, or refused with the name of the node that does not fit.

The chain is what :class:`~spikefit.networks.blocks.Network` can be: synapses, neurons, pooling, again and again, from
one input to one output; one more path may lead from an earlier layer's spikes straight into later neurons.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from typing import Any, NoReturn

import numpy as np

from spikefit.errors import ExchangeError
from spikefit.functional.convolution import output_size
from spikefit.functional.neuron_models import NIR_LEAKS

NEURONS = (*NIR_LEAKS, "CubaLIF")  # one without synaptic memory is a LIF
SYNAPSES = ("Conv1d", "Conv2d", "Linear", "Affine", "Scale")
POOLS = ("AvgPool2d", "SumPool2d")
KNOWN = ("Input", "Output", "Flatten", *SYNAPSES, *NEURONS, *POOLS)
INPUT = "input"

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Signal:
    """Spikes (or inputs) on their way from neurons to synapses.

    Attributes:
        source: node that sends them, or ``input``.
        shape: of one frame.
        pool: side of the window that they were pooled with.
        factor: what average pooling must be multiplied by to give them.
    """

    source: str
    shape: Shape
    pool: int = 1
    factor: int = 1


@dataclass(frozen=True)
class Synapses:
    """Weights between two layers.

    Attributes:
        node: their node.
        kind: the node's type.
        signal: what they read.
        shape: of the current that they deliver.
        weight: ``[out, in, kh, kw]`` or ``[out, in]``, a single number for ``Scale``; the signal's factor is in it.
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
    """Synapses and the neurons behind them.

    Attributes:
        main: synapses that read the layer before.
        skip: synapses that read an earlier layer, or None.
        node: the neurons' node; None for a readout of currents.
        shape: of the neurons.
        pool: side of the average pooling of their spikes.
    """

    main: Synapses
    skip: Synapses | None
    node: str | None
    shape: Shape
    pool: int = 1


def array(value: Any) -> np.ndarray:
    """Numbers of a node, float64."""
    detach = getattr(value, "detach", None)  # some libraries leave torch tensors in their graphs
    return np.asarray(value if detach is None else detach().cpu().numpy(), dtype=np.float64)


class Reader:
    """Follows the edges of a graph.

    Args:
        graph: a ``nir.NIRGraph``.
        name: of the file, for messages.
    """

    def __init__(self, graph: Any, name: str) -> None:
        self.name = name
        self.nodes: dict[str, Any] = dict(graph.nodes)
        edges = sorted({(str(first), str(second)) for first, second in graph.edges})
        self.before: dict[str, list[str]] = {node: [] for node in self.nodes}
        self.behind: dict[str, list[str]] = {node: [] for node in self.nodes}
        for first, second in edges:
            for end in (first, second):
                if end not in self.nodes:
                    raise ExchangeError(
                        f"{name}: an edge leads from {first!r} to {second!r}, but there is no node {end!r}."
                    )
            self.before[second].append(first)
            self.behind[first].append(second)

    def kind(self, node: str) -> str:
        """The node's type."""
        return type(self.nodes[node]).__name__

    def refuse(self, node: str, reason: str) -> NoReturn:
        """Raise an error that names ``node``."""
        raise ExchangeError(f"{self.name}: node {node!r} ({self.kind(node)}): {reason}")

    def layers(self) -> tuple[Shape, list[Layer]]:
        """Shape of the input, and the layers in order."""
        order = self._order()
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
        """Nodes, each behind those that it reads; refuses what no network here can be."""
        for node in self.nodes:
            if self.kind(node) not in KNOWN:
                what = (
                    "a graph within the graph"
                    if self.kind(node) == "NIRGraph"
                    else "not one of the nodes that are read"
                )
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
                self.refuse(node, "nothing leads to it.")
            if not self.behind[node] and self.kind(node) != "Output":
                self.refuse(node, "it leads nowhere.")
            if len(self.before[node]) > 1 and self.kind(node) not in NEURONS:
                self.refuse(node, f"it reads {self.before[node]} at once; only neurons add up currents here.")
        return order

    def _input_shape(self, node: str) -> Shape:
        shape = tuple(int(side) for side in np.asarray(self.nodes[node].input_type["input"]).reshape(-1))
        wanted = {"Conv1d": 2, "Conv2d": 3, "Linear": 1, "Affine": 1}
        ranks = {wanted.get(self.kind(reader), len(shape)) for reader in self.behind[node]}
        # Some libraries leave the batch of their sample in the shape.
        frame = shape[len(shape) - max(ranks) :]
        return frame if len(ranks) == 1 and math.prod(frame) == math.prod(shape) and shape[0] == 1 else shape

    def _signal(self, node: str, signals: Mapping[str, Signal]) -> Signal:
        (source,) = self.before[node]
        if source not in signals:
            self.refuse(node, f"it reads {source!r} ({self.kind(source)}), but there must be neurons between the two.")
        return signals[source]

    def _pooled(self, node: str, signal: Signal) -> Signal:
        content, kind = self.nodes[node], self.kind(node)
        kernel, stride, padding = (_pair(getattr(content, name)) for name in ("kernel_size", "stride", "padding"))
        if signal.source == INPUT:
            self.refuse(node, "pools the input; only spikes of neurons are pooled here.")
        if signal.pool > 1 or len(signal.shape) != 3:
            self.refuse(
                node, f"reads a signal of shape {signal.shape} pooled by {signal.pool}; expected a map of spikes."
            )
        if len({*kernel, *stride}) != 1 or any(padding):
            self.refuse(
                node, f"kernel {kernel}, stride {stride}, padding {padding}; expected square windows side by side."
            )
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
        weight = weight if rank == 3 else weight[:, :, None]  # one line of a map of height 1
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
                    node, "padding 'same' with a stride or an even kernel; expected as many zeros on either side."
                )
            padding = [length // 2 for length in reach]
        elif isinstance(padding, str):  # 'valid'
            padding = 0
        pads = _pair(padding)
        pads = (0, pads[1]) if flat else pads
        return {"stride": stride, "padding": pads, "dilation": dilation, "groups": int(content.groups)}

    def _layer(self, node: str, read: list[Synapses | None], found: list[Layer]) -> Layer:
        """The layer of neurons ``node`` behind those that were ``found``."""
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
            self.refuse(node, f"does not read the layer before it, {previous!r}: branching that is not read here.")
        others = [synapses for synapses in inputs if synapses is not direct[0]]
        if len(others) > 1:
            self.refuse(node, f"reads {len(inputs)} layers; expected one, and at most one more earlier one.")
        for skip in others:
            if skip.signal.source == INPUT:
                self.refuse(skip.node, "leads from the input past a layer; expected the spikes of an earlier layer.")
            if skip.kind != "Scale" and (skip.kind != "Conv2d" or skip.weight.shape[2:] != (1, 1)):
                self.refuse(skip.node, "leads past a layer; expected a Scale or a Conv2d with a kernel of 1x1 there.")
        return Layer(direct[0], others[0] if others else None, node, direct[0].shape)

    def _end(
        self, node: str, signals: Mapping[str, Signal], synapses: Mapping[str, Synapses], found: list[Layer]
    ) -> None:
        """Check the output; a readout of currents becomes the last layer."""
        (source,) = self.before[node]
        if source in synapses:
            readout = synapses[source]
            if not found or readout.signal.source != found[-1].node:
                self.refuse(source, "the readout does not read the last neurons.")
            if readout.kind == "Scale":
                self.refuse(source, "the readout has no weights; expected Linear or Affine.")
            found.append(Layer(readout, None, None, readout.shape))
        elif not found or signals[source].source != found[-1].node or signals[source].pool > 1:
            self.refuse(node, f"reads {source!r}; expected the last neurons, or a Linear or Affine behind them.")
        if len(found[-1].shape) != 1:
            self.refuse(node, f"the last layer has the shape {found[-1].shape}; expected one output a class.")

    def _with_pools(self, found: list[Layer]) -> list[Layer]:
        """The layers with the pooling that all readers of their spikes share."""
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
