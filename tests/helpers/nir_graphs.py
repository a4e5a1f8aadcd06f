"""Nodes and graphs of NIR for tests, with weights that make neurons fire."""

from functools import partial
from itertools import pairwise

import numpy as np
import torch

try:
    import nir
except ImportError:  # the tests that use it skip
    nir = None

STEPS, DT = 6, 1e-4
rng = np.random.default_rng(0)


def restart():
    """The same weights in whatever order tests run."""
    rng.bit_generator.state = np.random.default_rng(0).bit_generator.state


def weights(*shape):
    return (rng.normal(size=shape) * 1.5 + 0.3).astype(np.float32) / np.sqrt(np.prod(shape[1:]), dtype=np.float32)


def biases(units):
    return (rng.normal(size=units) * 0.3 + 0.1).astype(np.float32)


def lif(shape, decay=0.7, threshold=1.0, gain=1.0, rest=0.0, **options):
    """A LIF with the decay and gain of a step of 1e-4 s; ``threshold`` may differ by channel."""
    full = partial(np.full, shape)
    threshold = np.broadcast_to(np.reshape(threshold, (-1, *[1] * (len(shape) - 1))), shape)
    tau = DT / (1 - decay)
    constants = {"tau": full(tau), "r": full(gain / (1 - decay)), "v_leak": full(rest), "v_reset": full(rest)}
    return nir.LIF(v_threshold=np.array(threshold, dtype=np.float64), **{**constants, **options})


def integrator(shape, threshold=1.0):
    return nir.IF(r=np.full(shape, 1 / DT), v_threshold=np.full(shape, threshold))


def affine(outputs, inputs):
    return nir.Affine(weight=weights(outputs, inputs), bias=biases(outputs))


def conv(outputs, inputs, size=3, **options):
    plain = {"stride": 1, "padding": 1, "dilation": 1, "groups": 1, "input_shape": None}
    return nir.Conv2d(weight=weights(outputs, inputs, size, size), bias=biases(outputs), **{**plain, **options})


def flatten(*shape):
    return nir.Flatten(input_type={"input": np.array(shape)}, start_dim=0, end_dim=-1)


def pool(cls=None, side=2, stride=None, padding=0):
    return (cls or nir.AvgPool2d)(*(np.array([value, value]) for value in (side, stride or side, padding)))


def graph(*nodes, edges=None, shape=None, outputs=3, **metadata):
    """A chain of nodes, or nodes by name with their edges; on lines of 10 or maps of 8 x 8."""
    first = nodes[0] if edges is None else next(iter(nodes[0].values()))
    shape = shape or ((10,) if isinstance(first, nir.Affine) else (1, 8, 8))
    if edges is None:
        named = {str(index): node for index, node in enumerate(nodes)}
        chain = ["input", *named, "output"]
        edges = list(pairwise(chain))
    else:
        (named,) = nodes
    ends = {"input": nir.Input(np.array(shape)), "output": nir.Output(np.array([outputs]))}
    return nir.NIRGraph({**ends, **named}, edges, metadata=metadata, type_check=False)


def frames(*shape, batch=10):
    return (torch.rand(STEPS, batch, *shape, generator=torch.Generator().manual_seed(0)) < 0.4).float()
