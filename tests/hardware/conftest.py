"""Small programs, built by hand."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from spikefit.input_kind import InputKind
from spikefit.program.ir import Population, Program, Projection


def make_population(name: str, shape: tuple[int, ...], model: str = "if", **options: Any) -> Population:
    channels = shape[0]
    if model != "readout":
        options.setdefault("threshold", torch.full((channels,), 65))
        options.setdefault("leak", torch.zeros(channels, dtype=torch.int64))
    options.setdefault("bias", torch.zeros(channels, dtype=torch.int64))
    options.setdefault("unit", torch.ones(channels, dtype=torch.float64))
    return Population(name, shape, model, **options)  # type: ignore[arg-type]


def make_chain(
    source: tuple[int, ...],
    *layers: tuple[Tensor, dict[str, Any], dict[str, Any]],
    graded: bool = False,
    precision: str = "target",
) -> Program:
    """An input, then ``l1``, ``l2``, ...; a layer is (weight, options of projection, of population)."""
    populations = [Population("input", source, "input", input_kind=InputKind.CONSTANT if graded else InputKind.SPIKES)]
    projections = []
    for number, (weight, wiring, neurons) in enumerate(layers, start=1):
        before, name = populations[-1], f"l{number}"
        kind = "conv" if weight.dim() == 4 else "dense"
        projection = Projection(name, before.name, name, kind, weight, **{"bits": None, **wiring})
        shape: tuple[int, ...] = (weight.shape[0],)
        if kind == "conv":
            pooled = projection.pooled_shape(before.shape)
            blank = torch.zeros(1, *pooled)
            shape = torch.nn.functional.conv2d(blank, weight.float(), **projection.conv_options).shape[1:]
        projections.append(projection)
        populations.append(make_population(name, tuple(shape), **neurons))
    return Program(tuple(populations), tuple(projections), 4, precision)  # type: ignore[arg-type]


def dense_matrix(program: Program, projection: Projection) -> Tensor:
    """The weight between every two neurons ``[target, source]``, from the response to one spike at a time."""
    source = program.population(projection.source)
    signal = torch.eye(source.neurons).view(-1, *source.shape)
    if projection.pool > 1:
        signal = torch.nn.functional.avg_pool2d(signal, projection.pool, divisor_override=1)
    weight = projection.weight.float()
    if projection.kind == "dense":
        return (signal.flatten(1) @ weight.T).T
    return torch.nn.functional.conv2d(signal, weight, **projection.conv_options).flatten(1).T


@pytest.fixture(scope="session")
def population() -> Callable[..., Population]:
    return make_population


@pytest.fixture(scope="session")
def chain() -> Callable[..., Program]:
    return make_chain


@pytest.fixture(scope="session")
def matrix() -> Callable[[Program, Projection], Tensor]:
    return dense_matrix
