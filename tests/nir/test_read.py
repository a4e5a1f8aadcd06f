"""Supported NIR graphs fire by NIR's own equations; unsupported ones are refused by name."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers import nir_graphs, nir_reference
from helpers.deployment_contexts import context
from helpers.nir_graphs import DT, STEPS, affine, biases, conv, flatten, frames, graph, integrator, lif, pool, weights

from spikefit.errors import ConfigurationError
from spikefit.networks import FixedNorm
from spikefit.neurons import IF, LIF, ParametricLIF
from spikefit.nir import FromNIR
from spikefit.program.lower import lower
from spikefit.program.parity import compare
from spikefit.prune.compact import compact
from spikefit.prune.scores.recording import recorded_spikes

nir = pytest.importorskip("nir", reason="nir is not installed")


@pytest.fixture(autouse=True)
def same_weights_in_any_order():
    nir_graphs.restart()


def assert_same(network, source, x, exponential=False, dt=DT):
    """Every spike and the output, against NIR's equations."""
    found = nir_reference.run(
        source, x.view(*x.shape[:2], *[int(s) for s in source.nodes["input"].input_type["input"]]), dt, exponential
    )
    with recorded_spikes(network.double().eval()) as spikes, torch.no_grad():
        output = network(x.double())
    expected = [value for name, value in found.items() if hasattr(source.nodes[name], "v_threshold")]
    assert len(expected) == len(spikes)
    for one, other in zip(spikes.values(), expected, strict=True):
        assert 0.02 < float(other.mean()) < 0.98
        assert torch.equal(one, other.view_as(one))
    assert torch.allclose(output, found["output"], atol=1e-5)


CHAINS = {
    "dense": (lambda: [affine(12, 10), lif((12,)), affine(3, 12)], (10,)),
    "a spiking readout": (lambda: [affine(12, 10), lif((12,)), affine(3, 12), integrator((3,))], (10,)),
    "IF": (lambda: [affine(12, 10), integrator((12,), 0.8), nir.Linear(weights(3, 12))], (10,)),
    "a gain": (lambda: [affine(12, 10), lif((12,), gain=0.3, threshold=0.4), affine(3, 12)], (10,)),
    "rest below 0": (lambda: [affine(12, 10), lif((12,), rest=-0.3, threshold=0.6), affine(3, 12)], (10,)),
    "thresholds by channel": (
        lambda: [conv(4, 1), lif((4, 8, 8), threshold=[0.4, 0.9, 1.3, 0.7]), flatten(4, 8, 8), affine(3, 256)],
        (1, 8, 8),
    ),
    "thresholds and gains by neuron": (
        lambda: [
            affine(5, 10),
            lif((5,), threshold=[0.4, 0.9, 1.3, 0.7, 0.5], r=np.array([1.0, 2, 3, 4, 3]) / 0.6),
            affine(3, 5),
        ],
        (10,),
    ),
    "average pool": (
        lambda: [
            conv(4, 1),
            lif((4, 8, 8)),
            pool(),
            conv(5, 4, 3, padding=0),
            lif((5, 2, 2)),
            flatten(5, 2, 2),
            affine(3, 20),
        ],
        (1, 8, 8),
    ),
    "sum pool": (
        lambda: [conv(4, 1), lif((4, 8, 8)), pool(nir.SumPool2d, 3), flatten(4, 2, 2), affine(3, 16)],
        (1, 8, 8),
    ),
    "stride, dilation, groups": (
        lambda: [
            conv(4, 2, stride=2),
            lif((4, 4, 4)),
            conv(6, 2, dilation=2, padding=2, groups=2),
            integrator((6, 4, 4)),
            flatten(6, 4, 4),
            affine(3, 96),
        ],
        (2, 8, 8),
    ),
    "same": (lambda: [conv(4, 1, 5, padding="same"), lif((4, 8, 8)), flatten(4, 8, 8), affine(3, 256)], (1, 8, 8)),
    "valid": (lambda: [conv(4, 1, padding="valid"), lif((4, 6, 6)), flatten(4, 6, 6), affine(3, 144)], (1, 8, 8)),
    "no synaptic memory": (
        lambda: [
            affine(12, 10),
            nir.CubaLIF(
                tau_syn=np.full(12, DT),
                tau_mem=np.full(12, 2 * DT),
                r=np.full(12, 4.0),
                v_leak=np.zeros(12),
                v_threshold=np.ones(12),
                w_in=np.full(12, 0.5),
            ),
            affine(3, 12),
        ],
        (10,),
    ),
}


@pytest.mark.parametrize("case", CHAINS)
def test_a_chain_fires_by_nir_s_equations(case):
    build, shape = CHAINS[case]
    source = graph(*build(), shape=shape)
    network = FromNIR(shape, 3, source)
    x = frames(*shape)
    assert_same(network, source, x)
    parity = compare(network, lower(network, context(STEPS)), x)
    assert parity.mismatches == 0
    assert parity.compared > 0


def test_a_line_is_a_map_of_height_1():
    line = nir.Conv1d(None, weights(4, 2, 5), 2, 1, 2, 1, biases(4))
    second = nir.Conv1d(None, weights(6, 4, 3), 1, "same", 1, 1, biases(6))
    nodes = [line, lif((4, 7)), second, integrator((6, 7)), flatten(6, 7), affine(3, 42)]
    source = graph(*nodes, shape=(2, 20))
    network = FromNIR((2, 1, 20), 3, source)
    assert_same(network, source, frames(2, 1, 20))
    with pytest.raises(
        ConfigurationError, match=r"input_shape: got \(2, 20, 1\), but NIR graph reads frames of \(2, 1, 20\)"
    ):
        FromNIR((2, 20, 1), 3, source)


@pytest.mark.parametrize("kind", ["scale", "conv"])
def test_a_path_past_a_layer(kind):
    shape = (4, 8, 8)
    past = nir.Scale(np.full(shape, 0.6, dtype=np.float32)) if kind == "scale" else conv(4, 4, 1, padding=0)
    nodes = {
        "a": conv(4, 1),
        "a_n": lif(shape),
        "b": conv(4, 4),
        "b_n": lif(shape),
        "c": conv(4, 4),
        "past": past,
        "c_n": lif(shape, threshold=0.8),
        "p": pool(),
        "f": flatten(4, 4, 4),
        "d": affine(3, 64),
    }
    chain = ["input", "a", "a_n", "b", "b_n", "c", "c_n", "p", "f", "d", "output"]
    edges = [*pairwise(chain), ("a_n", "past"), ("past", "c_n")]
    source = graph(nodes, edges=edges)
    network = FromNIR((1, 8, 8), 3, source)
    assert [name for name, _ in network.named_blocks()] == ["conv1", "conv2", "conv3", "readout"]
    assert network.block("conv3").skip_from == "conv1"
    assert_same(network, source, frames(1, 8, 8))


def test_the_metadata_of_a_graph_count_and_options_come_first():
    nodes = [affine(12, 10), lif((12,), decay=0.7), affine(3, 12)]
    assert FromNIR((10,), 3, graph(*nodes)).block("fc1").neuron.decay == pytest.approx(0.7)
    halved = FromNIR((10,), 3, graph(*nodes, dt=DT / 2))
    assert halved.block("fc1").neuron.decay == pytest.approx(0.85)
    assert FromNIR((10,), 3, graph(*nodes, dt=DT / 2), dt=DT).block("fc1").neuron.decay == pytest.approx(0.7)
    exact = graph(*nodes, discretisation="exponential")
    assert FromNIR((10,), 3, exact).block("fc1").neuron.decay == pytest.approx(math.exp(-0.3))
    assert_same(FromNIR((10,), 3, exact), exact, frames(10), exponential=True)
    at = FromNIR((10,), 3, graph(*nodes, fires="at")).block("fc1").neuron.threshold
    above = FromNIR((10,), 3, graph(*nodes)).block("fc1").neuron.threshold
    gain = 1 / (1 - 0.7) * (1 - FromNIR((10,), 3, graph(*nodes)).block("fc1").neuron.decay)
    assert at == pytest.approx(1 / gain, abs=1e-9)
    assert above == np.nextafter(at, np.inf)
    nodes[1].metadata = {"reset": "subtract"}
    assert FromNIR((10,), 3, graph(*nodes)).block("fc1").neuron.reset == "subtract"
    assert FromNIR((10,), 3, graph(*nodes), reset="zero").block("fc1").neuron.reset == "zero"
    with pytest.raises(ConfigurationError, match=r"fires in the metadata of NIR graph: got 'below'"):
        FromNIR((10,), 3, graph(*nodes, fires="below"))


def test_neurons_take_the_options_of_training():
    source = graph(affine(12, 10), lif((12,)), affine(4, 12), integrator((4,)), affine(3, 4))
    network = FromNIR((10,), 3, source, learn_decay=True, surrogate="triangle", alpha=0.7)
    first, second = network.block("fc1").neuron, network.block("fc2").neuron
    assert (type(first), type(second), first.surrogate, first.alpha) == (ParametricLIF, IF, "triangle", 0.7)
    assert float(first.leak_amount()) == pytest.approx(0.7)
    assert type(FromNIR((10,), 3, source).block("fc1").neuron) is LIF


def test_a_file_is_read_as_the_graph_is(tmp_path):
    source = graph(conv(4, 1), lif((4, 8, 8)), pool(), flatten(4, 4, 4), affine(3, 64), dt=DT)
    source.infer_types()
    nir.write(tmp_path / "network.nir", source)
    x = frames(1, 8, 8)
    with torch.no_grad():
        assert torch.equal(FromNIR((1, 8, 8), 3, str(tmp_path / "network.nir"))(x), FromNIR((1, 8, 8), 3, source)(x))


def test_thresholds_by_channel_train_and_shrink():
    """The norm that carries them gives gradients, keeps its statistics, and is cut with its units."""
    thresholds = [0.4, 0.9, 1.3, 0.7]
    source = graph(conv(4, 1), lif((4, 8, 8), threshold=thresholds), flatten(4, 8, 8), affine(3, 256), shape=(1, 8, 8))
    network = FromNIR((1, 8, 8), 3, source).train()
    norm = network.block("conv1").norm
    assert isinstance(norm, FixedNorm)
    assert not norm.training
    x = frames(1, 8, 8)
    network(x).square().sum().backward()
    assert float(norm.weight.grad.abs().min()) > 0
    assert float(norm.bias.grad.abs().min()) > 0
    torch.optim.swa_utils.update_bn([x], network)
    assert (norm.running_mean == 0).all()
    assert (norm.running_var == 1).all()
    program = lower(network, context(STEPS))
    assert program.population("conv1").threshold.tolist() == pytest.approx(thresholds, rel=1e-6)
    network.block("conv1").neuron.alive[2] = False
    small = compact(network)
    assert isinstance(small.block("conv1").norm, FixedNorm)
    assert lower(small, context(STEPS)).population("conv1").threshold.tolist() == pytest.approx(
        [0.4, 0.9, 0.7], rel=1e-6
    )
    with torch.no_grad():
        assert torch.allclose(small.eval()(x), network.eval()(x), atol=1e-5)


def test_a_fixed_norm_is_its_gain_and_bias():
    """The fused and the plain way, forward and backward, against the formula."""
    torch.manual_seed(0)
    norm = FixedNorm(5).double()
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.normal_()
    x = torch.randn(7, 5, 3, 3, dtype=torch.float64, requires_grad=True)
    shape = (1, 5, 1, 1)
    expected = x * norm.weight.view(shape) + norm.bias.view(shape)
    assert torch.allclose(norm.train()(x), expected)
    gradients = torch.autograd.grad(norm(x).sin().sum(), [x, norm.weight, norm.bias])
    wanted = torch.autograd.grad(expected.sin().sum(), [x, norm.weight, norm.bias])
    assert all(torch.allclose(one, other) for one, other in zip(gradients, wanted, strict=True))
