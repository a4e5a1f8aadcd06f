"""Export of a trained network as a NIR graph, for other libraries and chips.

An ``exact`` program is written as follows. Each projection becomes a ``Conv2d``, ``Linear`` or ``Affine`` node with the
projection's name, preceded by ``AvgPool2d`` or ``SumPool2d`` and ``Flatten`` if needed. Each population becomes an
``IF`` or ``LIF`` node called ``NAME_neurons``; a readout of currents has no neurons. A shortcut with one common weight
becomes a ``Scale``. Norms are folded: each channel has a threshold and a bias, which are expanded over the whole map as
NIR requires.

The factor lambda that a membrane keeps in a step of ``dt`` seconds becomes a time constant
(:mod:`spikefit.nir.dialects` has the equations and the conventions of each library):

* ``euler``: ``tau = dt / (1 - lambda)``;
* ``exponential``: ``tau = -dt / ln(lambda)``;
* ``R = 1 / (1 - lambda)`` in both, so that currents are added to the membrane unscaled. For a dialect that ignores R,
  R is 1 and thresholds are multiplied by ``1 - lambda`` instead, which gives the same spikes.
* IF: ``R = 1 / dt``, or 1 for a dialect in which an IF counts steps. ``v_leak`` and ``v_reset`` are 0.

NIR's neurons fire above the threshold, those of spikefit at the threshold: the next smaller number is written, except
for a dialect that fires at the threshold. For a library with one threshold per layer, weights and biases are divided by
the channel's threshold instead (M distinct weights of a layer then become M per channel). All numbers are rounded to
``dtype``.
"""

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

import spikefit
from spikefit.atomic import atomic_path
from spikefit.errors import ExchangeError, check_choice
from spikefit.functional.convolution import ungrouped
from spikefit.functional.neuron_models import neuron_model, require_nir_form
from spikefit.nir.dialects import Dialect, dialect_called, require_nir
from spikefit.program.ir import Population, Program, Projection

Dtype = Literal["float32", "float64"]

# Fields of populations and projections that the graph represents, or that do not affect what an exact program computes.
_WRITTEN = frozenset(
    [
        "name",
        "shape",
        "model",
        "threshold",
        "bias",
        "leak",
        "reset",
        "graded",
        "unit",
        "source",
        "target",
        "kind",
        "weight",
        "stride",
        "padding",
        "dilation",
        "groups",
        "pool",
        "pool_kind",
        "bits",
        "exponent",
        "axon_types",
        "codebook",
    ]
)


def to_nir(program: Program, dialect: str = "nir", dt: float | None = None, dtype: Dtype = "float32") -> Any:
    """Convert a program to a ``nir.NIRGraph``, whose metadata contain ``dt`` and the other conventions.

    Args:
        program: in ``exact`` precision.
        dialect: the library that will read the graph: ``nir``, ``snntorch``, ``spikingjelly``, ``norse`` or ``sinabs``.
        dt: length of a step, seconds; None for the library's default.
        dtype: dtype of all numbers. Most libraries compute in float32.

    Raises:
        ConfigurationError: for an unknown dialect or dtype.
        ExchangeError: when ``nir`` is not installed, the program is not exact, or NIR or the dialect can't represent
            part of it (a linear leak, a reset by subtraction, max pooling); names the layer and an alternative.
    """
    check_choice("dtype", dtype, ("float32", "float64"))
    conventions = dialect_called(dialect)
    if dt is not None:
        if not dt > 0:
            raise ExchangeError(f"dt: got {dt!r}, expected a value above 0.")
        conventions = replace(conventions, dt=dt)
    nir = require_nir()
    if program.precision != "exact":
        raise ExchangeError(
            f"precision: got {program.precision!r}, expected an 'exact' program: NIR's numbers are real."
        )
    return _Writer(nir, program, conventions, np.dtype(dtype)).graph()


def write_nir(
    program: Program, path: str | Path, dialect: str = "nir", dt: float | None = None, dtype: Dtype = "float32"
) -> Path:
    """Write the graph of :func:`to_nir` to the HDF5 file ``path`` atomically, and verify it by reading it back.

    Raises:
        ExchangeError: as :func:`to_nir`; also when the file reads back with other content.
        StorageError: if the file can't be written.
        ConfigurationError: as :func:`to_nir`.
    """
    graph = to_nir(program, dialect, dt, dtype)
    nir, path = require_nir(), Path(path)
    with atomic_path(path) as draft:
        nir.write(draft, graph)
        found = graph_differences(graph, nir.read(draft, type_check=False))
        if found:
            raise ExchangeError(f"{path}: reads back with other values than were written: {', '.join(found)}.")
    return path


def graph_differences(first: Any, second: Any) -> list[str]:
    """Differences between two NIR graphs: ``edges``, names of nodes that only one of them has, and ``NODE.FIELD``."""
    found = [] if {tuple(e) for e in first.edges} == {tuple(e) for e in second.edges} else ["edges"]
    found += sorted(set(first.nodes) ^ set(second.nodes))
    for name in first.nodes.keys() & second.nodes.keys():
        one, other = vars(first.nodes[name]), vars(second.nodes[name])
        skipped = ("input_type", "output_type")  # nir infers these and does not store them
        found += [
            f"{name}.{key}"
            for key in sorted(one.keys() | other.keys())
            if key not in skipped and not _equal(one.get(key), other.get(key))
        ]
    return found


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, dict):
        return isinstance(second, dict) and first == second
    one, other = np.asarray(first), np.asarray(second)
    same_type = one.dtype == other.dtype or one.dtype.kind != "f"
    return one.shape == other.shape and same_type and bool((one == other).all())


class _Writer:
    """Nodes and edges of one program."""

    def __init__(self, nir: Any, program: Program, dialect: Dialect, dtype: np.dtype[Any]) -> None:
        self.nir, self.program, self.dialect, self.dtype = nir, program, dialect, dtype
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.outlets: dict[str, str] = {}  # by population, the node that sends its signal

    def graph(self) -> Any:
        entrance = self.program.populations[0]
        self._add(entrance.name, self.nir.Input(input_type=np.array(entrance.shape)))
        self.outlets[entrance.name] = entrance.name
        for population in self.program.populations[1:]:
            self._check(population)
            ends = [self._projection(projection, population) for projection in self.program.inputs_of(population.name)]
            if population.spiking:
                node = f"{population.name}_neurons"
                self._add(node, self._neurons(population), *ends)
                ends = [node]
            (self.outlets[population.name],) = ends
        last = self.program.populations[-1]
        if len(last.shape) != 1:
            raise ExchangeError(f"{last.name}: its outputs have the shape {last.shape}, expected one output per class.")
        self._add("output", self.nir.Output(output_type=np.array(last.shape)), self.outlets[last.name])
        kernels = [projection.weight.shape[2:] for projection in self.program.projections if projection.kind == "conv"]
        # When nir 1.0.8 infers shapes, it also uses the height of a kernel as its width.
        square = all(height == width for height, width in kernels)
        metadata = {
            "dt": self.dialect.dt,
            "discretisation": self.dialect.discretisation,
            "if_gain": self.dialect.if_gain,
            "fires": self.dialect.fires,
            "time_steps": self.program.time_steps,
            "written_by": f"spikefit {spikefit.__version__}",
        }
        return self.nir.NIRGraph(self.nodes, self.edges, metadata=metadata, type_check=square)

    def _add(self, name: str, node: Any, *sources: str) -> str:
        self.nodes[name] = node
        self.edges += [(source, name) for source in sources]
        return name

    def _check(self, population: Population) -> None:
        """Refuse a population that NIR or the dialect can't represent."""
        name, dialect = population.name, self.dialect
        parts: list[Population | Projection] = [population, *self.program.inputs_of(name)]
        for part in parts:
            for field in dataclasses.fields(part):
                if field.name not in _WRITTEN and getattr(part, field.name) != field.default:
                    raise ExchangeError(f"{part.name}: a NIR graph can't represent its {field.name}.")
        if population.spiking:
            try:
                require_nir_form(neuron_model(population.model))
            except ExchangeError as error:
                raise ExchangeError(f"{name}: {error}") from None
        if population.spiking and population.reset != dialect.reset:
            hint = "train with reset 'zero'"
            if population.reset == "subtract":
                hint += ", or write the graph for sinabs, which always subtracts"
            else:
                hint = "train with reset 'subtract'"
            raise ExchangeError(
                f"{name}: its reset is {population.reset!r}, a {dialect.name} graph means {dialect.reset!r}; {hint}."
            )
        if population.spiking and _node(population) not in dialect.nodes:
            raise ExchangeError(
                f"{name}: {dialect.name} reads IF as a leaky neuron; use LIF neurons with a decay below 1."
            )
        for projection in self.program.inputs_of(name):
            if projection.pool > 1 and projection.pool_kind == "max":
                raise ExchangeError(f"{name}: NIR has no max pooling; use average pooling.")

    def _scale(self, population: Population) -> Tensor:
        """The factor on weights and biases of ``population``, ``[C]``, which a dialect with one threshold needs."""
        threshold = population.threshold
        if threshold is None or self.dialect.thresholds == "neuron" or bool((threshold == threshold[0]).all()):
            return torch.ones(1, dtype=torch.float64)
        return 1 / threshold

    def _array(self, tensor: Tensor) -> np.ndarray:
        return tensor.numpy().astype(self.dtype)

    def _projection(self, projection: Projection, population: Population) -> str:
        """Add the nodes between the source's neurons and the current of ``population``; return the last node's name."""
        nir, source = self.nir, self.program.population(projection.source)
        before, shape = self.outlets[source.name], projection.pooled_shape(source.shape)
        weight = projection.weight * self._scale(population).view(-1, *[1] * (projection.weight.dim() - 1))
        if projection.pool > 1:
            before = self._pool(projection, before)
            if self.dialect.pooling == "avg":
                weight = weight * projection.pool**2
        name = projection.name.replace(".", "_")
        main = projection is self.program.inputs_of(population.name)[0]
        assert population.bias is not None
        bias = population.bias * self._scale(population) if main else torch.zeros_like(population.bias)
        if projection.kind == "dense":
            if len(shape) > 1:
                flat = nir.Flatten(input_type={"input": np.array(shape)}, start_dim=0, end_dim=-1)
                before = self._add(f"{name}_flatten", flat, before)
            if self.dialect.linear and not bool(bias.any()):
                return self._add(name, nir.Linear(weight=self._array(weight)), before)
            return self._add(name, nir.Affine(weight=self._array(weight), bias=self._array(bias)), before)
        values = weight.unique()
        if projection.groups == shape[0] and weight[0].numel() == 1 and len(values) == 1 and not bool(bias.any()):
            scale = np.full(shape, float(values), dtype=self.dtype)  # one weight for all: an identity shortcut
            return self._add(name, nir.Scale(scale=scale), before)
        conv = nir.Conv2d(
            input_shape=(shape[1], shape[2]),
            weight=self._array(ungrouped(weight, projection.groups)),  # nir misreads grouped inputs
            stride=projection.stride,
            padding=projection.padding,
            dilation=projection.dilation,
            groups=1,
            bias=self._array(bias),
        )
        return self._add(name, conv, before)

    def _pool(self, projection: Projection, before: str) -> str:
        """Add the pooling of the source's spikes, one node for all readers, and return the node's name."""
        name, side = f"{projection.source}_pool", np.array([projection.pool] * 2)
        if name not in self.nodes:
            kind = self.nir.AvgPool2d if self.dialect.pooling == "avg" else self.nir.SumPool2d
            self._add(name, kind(kernel_size=side, stride=side, padding=np.zeros(2, dtype=np.int64)), before)
        return name

    def _neurons(self, population: Population) -> Any:
        """The node of the neurons, IF or LIF, with one value per neuron of each constant."""
        dialect, leak = self.dialect, population.leak
        assert population.threshold is not None
        threshold = population.threshold * self._scale(population)
        constants: dict[str, Tensor] = {}
        if _node(population) == "IF":
            resistance = 1.0 if dialect.if_gain == "per_step" else 1 / dialect.dt
            constants["r"] = torch.full_like(threshold, resistance)
        else:
            assert leak is not None
            euler = dialect.discretisation == "euler"
            constants["tau"] = dialect.dt / (1 - leak) if euler else -dialect.dt / leak.log()
            constants["v_leak"] = torch.zeros_like(threshold)
            constants["r"] = torch.ones_like(threshold)
            if dialect.resistance == "scaled":
                constants["r"] = 1 / (1 - leak)
            else:
                threshold = threshold * (1 - leak)
        spread = {name: self._spread(values, population) for name, values in constants.items()}
        at = self._spread(threshold, population)
        if dialect.fires == "above":
            at = np.nextafter(at, np.array(-np.inf, dtype=self.dtype))
        node = getattr(self.nir, _node(population))
        return node(v_threshold=at, v_reset=np.zeros_like(at), metadata={"reset": population.reset}, **spread)

    def _spread(self, values: Tensor, population: Population) -> np.ndarray:
        """``values`` ``[C]``, expanded to one value per neuron."""
        columns = values.view(-1, *[1] * (len(population.shape) - 1))
        return np.ascontiguousarray(self._array(columns.expand(population.shape)))


def _node(population: Population) -> str:
    """``IF`` or ``LIF``; a LIF without decay is an IF."""
    node = require_nir_form(neuron_model(population.model))
    keeps = population.leak is not None and bool((population.leak == 1).all())
    return "IF" if node == "LIF" and keeps else node
