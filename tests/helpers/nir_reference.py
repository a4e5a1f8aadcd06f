"""Interpreter of a NIR graph by its equations, in float64: the reference for reading and writing."""

import math
from graphlib import TopologicalSorter

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def run(graph, inputs: Tensor, dt: float = 1e-4, exponential: bool = False) -> dict[str, Tensor]:
    """What every node gives, ``[T, B, ...]``: neurons integrated by steps of ``dt``, firing above their threshold.

    Args:
        graph: feed-forward.
        inputs: ``[T, B, ...]``.
        dt: seconds.
        exponential: integrate exactly instead of by forward Euler.
    """
    before = {name: [] for name in graph.nodes}
    for first, second in graph.edges:
        before[second].append(first)
    found: dict[str, Tensor] = {}
    for name in TopologicalSorter(before).static_order():
        node = graph.nodes[name]
        x = inputs.double() if not before[name] else sum(found[source] for source in before[name])
        found[name] = _neurons(node, x, dt, exponential) if hasattr(node, "v_threshold") else _stateless(node, x)
    return found


def _number(value) -> Tensor:
    return torch.tensor(np.asarray(value), dtype=torch.float64)


def _pair(value):
    return tuple(int(side) for side in np.broadcast_to(np.asarray(value), 2))


def _stateless(node, x: Tensor) -> Tensor:
    kind, folded, steps = type(node).__name__, x.flatten(0, 1), x.shape[:2]
    if kind in ("Linear", "Affine"):
        y = F.linear(folded, _number(node.weight), _number(node.bias) if kind == "Affine" else None)
    elif kind == "Conv2d":
        options = (_pair(node.stride), node.padding if isinstance(node.padding, str) else _pair(node.padding))
        y = F.conv2d(folded, _number(node.weight), _number(node.bias), *options, _pair(node.dilation), int(node.groups))
    elif kind == "Conv1d":
        options = (int(node.stride), node.padding, int(node.dilation), int(node.groups))
        y = F.conv1d(folded, _number(node.weight), _number(node.bias), *options)
    elif kind in ("AvgPool2d", "SumPool2d"):
        y = F.avg_pool2d(folded, _pair(node.kernel_size), _pair(node.stride), _pair(node.padding))
        y = y * (math.prod(_pair(node.kernel_size)) if kind == "SumPool2d" else 1)
    elif kind == "Flatten":
        y = folded.flatten(1)
    elif kind == "Scale":
        y = folded * _number(node.scale)
    else:
        assert kind in ("Input", "Output")
        y = folded
    return y.unflatten(0, steps)


def _neurons(node, x: Tensor, dt: float, exponential: bool) -> Tensor:
    kind = type(node).__name__
    rest, r, threshold = (_number(value) for value in (node.v_reset, node.r, node.v_threshold))
    v = rest.expand(x.shape[1:]).clone()
    synaptic = torch.zeros_like(v)
    spikes = []
    for step in x:
        current = step
        if kind == "CubaLIF":
            synaptic = synaptic + dt / _number(node.tau_syn) * (_number(node.w_in) * step - synaptic)
            current = synaptic
        if kind == "IF":
            v = v + dt * r * current
        else:
            share = dt / _number(node.tau if kind == "LIF" else node.tau_mem)
            share = 1 - torch.exp(-share) if exponential else share
            v = v + share * (_number(node.v_leak) - v + r * current)
        fired = v > threshold
        v = torch.where(fired, rest, v)
        spikes.append(fired.double())
    return torch.stack(spikes)
