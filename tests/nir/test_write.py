"""Written NIR graphs, run by NIR's own equations, fire as the network does; others are refused."""

import dataclasses
import math
import os
import sys
from functools import partial

import numpy as np
import pytest
import torch
from helpers import nir_reference
from helpers.deployment_contexts import context

from spikefit.errors import ConfigurationError, ExchangeError, StorageError
from spikefit.hardware.target import HardwareTarget
from spikefit.networks import MLP, ConvSNN, ResidualSNN
from spikefit.networks.blocks import Block, Network
from spikefit.networks.norms import PositiveBatchNorm
from spikefit.neurons import IF, LIF, LinearLeakIF, ParametricLIF
from spikefit.nir import FromNIR
from spikefit.nir import write as export_nir
from spikefit.nir.write import graph_differences, to_nir, write_nir
from spikefit.program.ir import Population
from spikefit.program.lower import lower
from spikefit.program.simulate import Simulator
from spikefit.prune.scores.recording import recorded_spikes
from spikefit.quantize import Codebook
from spikefit.quantize.base import attach

nir = pytest.importorskip("nir", reason="nir is not installed")

STEPS = 5
CASES = {
    "mlp": (MLP, {"hidden": (20, 12)}),
    "conv": (ConvSNN, {"channels": (4, 6), "hidden": (8,)}),
    "pool of 3": (ConvSNN, {"channels": (4,), "hidden": (8,), "pool": 3, "readout": "spikes"}),
    "residual": (ResidualSNN, {"channels": (4, 6), "depth": 2}),
    "residual, pooled": (ResidualSNN, {"channels": (4, 6), "stem_pool": 2, "readout": "spikes"}),
}
NEURONS = {"lif": partial(LIF, decay=0.7), "if": IF, "parametric": ParametricLIF}


def network(wake, cls=ConvSNN, neuron=LIF, quantizer=None, reset="zero", **options):
    torch.manual_seed(1)
    net = cls((1, 8, 8), 4, neuron=partial(neuron, reset=reset), **options)
    for _, layer in net.named_synapses() if quantizer else ():
        attach(layer, quantizer(layer.weight.detach()))
    x = (torch.rand(STEPS, 12, 1, 8, 8) < 0.4).float()
    return wake(net, x), x


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dialect", ["nir", "spikingjelly", "norse"])
def test_by_nir_s_equations_the_graph_fires_as_the_network(wake, dialect, case, neuron):
    cls, options = CASES[case]
    net, x = network(wake, cls, NEURONS[neuron], **options)
    program = lower(net, context(STEPS))
    graph = to_nir(program, dialect, dtype="float64")
    dt = graph.metadata["dt"]
    if neuron == "if" and dialect == "norse":
        dt = 1.0  # its IF counts steps
    found = nir_reference.run(graph, x, dt)
    expected = Simulator(program)(x, record=True)
    for name, spikes in expected.spikes.items():
        if program.population(name).spiking:
            assert 0.05 < float(spikes.mean()) < 0.95
            assert torch.equal(found[f"{name}_neurons"], spikes), name
    assert torch.allclose(net.logits(found["output"]), expected.logits)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("dialect", ["nir", "snntorch", "spikingjelly", "norse", "sinabs"])
@pytest.mark.parametrize("case", CASES)
def test_what_was_written_comes_back_as_the_same_network(wake, tmp_path, case, dialect, dtype):
    cls, options = CASES[case]
    reset = "subtract" if dialect == "sinabs" else "zero"
    net, x = network(wake, cls, partial(LIF, decay=0.7), reset=reset, **options)
    path = write_nir(lower(net, context(STEPS)), tmp_path / "network.nir", dialect, dtype=dtype)
    back = FromNIR((1, 8, 8), 4, str(path)).eval()
    with recorded_spikes(net.double()) as first, recorded_spikes(back.double()) as second, torch.no_grad():
        assert torch.allclose(net(x.double()), back(x.double()), atol=1e-5)
        pairs = list(zip(first.values(), second.values(), strict=True))
    assert pairs
    assert all(torch.equal(one, other) for one, other in pairs)
    again = to_nir(lower(back, context(STEPS)), dialect, dtype=dtype)
    assert len(again.nodes) == len(nir.read(path, type_check=False).nodes)


def test_a_decay_becomes_a_time_constant():
    """lambda 1/2: Euler halves with tau = 2 dt, the exact solution with tau = dt / ln 2; both with R = 2."""
    net = MLP((4,), 2, (3,), partial(LIF, decay=0.5, reset="zero"))
    program = lower(net, context(STEPS))
    euler = to_nir(program, dt=1e-3, dtype="float64").nodes["fc1_neurons"]
    assert euler.tau.tolist() == pytest.approx([2e-3] * 3, rel=1e-12)
    assert euler.r.tolist() == [2.0] * 3
    subtracting = MLP((4,), 2, (3,), partial(LIF, decay=0.5, reset="subtract"))
    exact = to_nir(lower(subtracting, context(STEPS)), "sinabs", dtype="float64").nodes["fc1_neurons"]
    assert exact.tau.tolist() == pytest.approx([1 / math.log(2)] * 3, rel=1e-12)
    assert exact.r.tolist() == [2.0] * 3
    norse = to_nir(program, "norse", dtype="float64").nodes["fc1_neurons"]
    threshold = program.population("fc1").threshold
    assert norse.r.tolist() == [1.0] * 3
    assert norse.v_threshold.tolist() == pytest.approx((threshold / 2).tolist(), rel=1e-12)


def test_a_step_solves_nir_s_equation():
    """tau dv/dt = -v + R I over one step, by scipy: the exact factors of the exponential step."""
    from scipy.integrate import solve_ivp

    net = MLP((4,), 2, (3,), partial(LIF, decay=0.6, reset="subtract"))
    node = to_nir(lower(net, context(STEPS)), "sinabs", dtype="float64").nodes["fc1_neurons"]
    tau, r, v, current = float(node.tau[0]), float(node.r[0]), 0.37, 0.81
    solved = solve_ivp(lambda _, y: (-y + r * current) / tau, (0, 1.0), [v], rtol=1e-10, atol=1e-12)
    assert solved.y[0, -1] == pytest.approx(0.6 * v + current, rel=1e-8)


def test_thresholds_lie_just_below_for_those_who_fire_above():
    net = MLP((4,), 2, (3,), partial(IF, reset="zero"))
    net.block("fc1").norm = None
    program = lower(net, context(STEPS))
    for dtype in ("float32", "float64"):
        (above,) = set(to_nir(program, dtype=dtype).nodes["fc1_neurons"].v_threshold.tolist())
        (at,) = set(to_nir(program, "spikingjelly", dtype=dtype).nodes["fc1_neurons"].v_threshold.tolist())
        assert at == 1.0
        assert above == 1 - np.finfo(dtype).epsneg


def test_distinct_weights_stay_as_many_where_thresholds_are_free(wake):
    net, _ = network(wake, quantizer=partial(Codebook, levels=4, bits=4), channels=(4, 6))
    program = lower(net, context(STEPS))
    free, common = to_nir(program), to_nir(program, "snntorch")
    for name in ("conv1", "conv2"):
        assert len(np.unique(free.nodes[name].weight)) <= 4
        assert len(np.unique(free.nodes[f"{name}_neurons"].v_threshold)) > 1
        assert len(np.unique(common.nodes[f"{name}_neurons"].v_threshold)) == 1
        assert max(len(np.unique(row)) for row in common.nodes[name].weight) <= 4
    back = FromNIR((1, 8, 8), 4, free)
    assert all(len(layer.weight.unique()) <= 4 for _, layer in back.named_synapses())


def test_dead_units_are_gone(wake):
    net, x = network(wake, channels=(4, 6), hidden=(8,))
    net.block("conv1").neuron.alive[1] = False
    net.block("fc1").neuron.alive[:3] = False
    graph = to_nir(lower(net, context(STEPS)), dtype="float64")
    assert graph.nodes["conv1"].weight.shape[0] == 3
    assert graph.nodes["fc1_neurons"].v_threshold.shape == (5,)
    with torch.no_grad():
        assert torch.allclose(nir_reference.run(graph, x)["output"], net.double()(x.double()))


def test_a_rectangular_kernel_and_groups(wake):
    """nir takes kernels for square and groups for fewer inputs; both still arrive."""
    torch.manual_seed(0)

    def block(conv):
        return Block(conv, PositiveBatchNorm(conv.out_channels), LIF(conv.out_channels, reset="zero"))

    blocks = {
        "conv1": block(torch.nn.Conv2d(2, 4, (3, 1), padding=(1, 0), bias=False)),
        "conv2": block(torch.nn.Conv2d(4, 6, 3, stride=2, groups=2, dilation=2, padding=2)),
        "readout": Block(torch.nn.Linear(6 * 16, 3)),
    }
    net = Network(blocks, (2, 8, 8))
    x = (torch.rand(STEPS, 6, 2, 8, 8) < 0.4).float()
    wake(net, x)
    graph = to_nir(lower(net, context(STEPS)), dtype="float64")
    with torch.no_grad():
        expected = net.double()(x.double())
        assert torch.allclose(nir_reference.run(graph, x)["output"], expected)
        assert torch.allclose(FromNIR((2, 8, 8), 3, graph).double().eval()(x.double()), expected, atol=1e-5)


def test_what_nir_can_t_say_is_refused_by_layer(wake):
    def refused(match, dialect="nir", error=ExchangeError, **options):
        net, _ = network(wake, **options)
        with pytest.raises(error, match=match):
            to_nir(lower(net, context(STEPS)), dialect)

    refused(r"conv1: neuron .* has no NIR form: NIR has no linear leak; use IF or LIF", neuron=LinearLeakIF)
    refused(r"conv1: its reset is 'subtract', a nir graph means 'zero'", reset="subtract")
    refused(r"conv1: its reset is 'zero', a sinabs graph means 'subtract'", dialect="sinabs")
    refused(r"conv2: NIR has no max pooling; use average", pool_kind="max")
    refused(r"conv1: snntorch reads IF as a leaky neuron", dialect="snntorch", neuron=IF)
    refused(r"conv1: snntorch reads IF as a leaky neuron", dialect="snntorch", neuron=partial(LIF, decay=1.0))
    refused(r"dialect: got 'lava', expected one of 'nir', 'snntorch'", "lava", ConfigurationError)
    net, _ = network(wake)
    loihi = HardwareTarget.load("loihi")
    with pytest.raises(ExchangeError, match=r"precision: got 'target', expected an 'exact' program"):
        to_nir(lower(net, context(STEPS, target=loihi), "target"))
    program = lower(net, context(STEPS))
    with pytest.raises(ConfigurationError, match=r"dtype: got 'float16'"):
        to_nir(program, dtype="float16")
    with pytest.raises(ExchangeError, match=r"dt: got 0, expected a value above 0"):
        to_nir(program, dt=0)


def test_a_field_that_the_graph_would_lose_is_refused(wake):
    """A description with more in it than there is now; as long as it says nothing, the graph is whole."""
    net, _ = network(wake)
    program = lower(net, context(STEPS))
    Wider = dataclasses.make_dataclass("Population", [("delay", int, 0)], bases=(Population,), frozen=True)

    def widened(delay):
        fields = ({f.name: getattr(p, f.name) for f in dataclasses.fields(p)} for p in program.populations)
        return dataclasses.replace(program, populations=tuple(Wider(**one, delay=delay) for one in fields))

    assert graph_differences(to_nir(widened(0)), to_nir(program)) == []
    with pytest.raises(ExchangeError, match=r"conv1: a NIR graph can't represent its delay"):
        to_nir(widened(2))


def test_without_nir_the_message_says_how_to_get_it(wake, monkeypatch):
    monkeypatch.setitem(sys.modules, "nir", None)
    net, _ = network(wake)
    with pytest.raises(ExchangeError, match=r"not installed: pip install 'spikefit\[interop\]'"):
        to_nir(lower(net, context(STEPS)))
    with pytest.raises(ExchangeError, match=r"not installed"):
        FromNIR((1, 8, 8), 4, "network.nir")


def test_a_file_is_written_whole_or_not_at_all(wake, tmp_path, monkeypatch):
    net, _ = network(wake)
    program = lower(net, context(STEPS))
    path = write_nir(program, tmp_path / "deep" / "network.nir")
    assert graph_differences(to_nir(program), nir.read(path)) == []
    before = path.read_bytes()
    monkeypatch.setattr(export_nir, "graph_differences", lambda first, second: ["conv1.weight"])
    with pytest.raises(ExchangeError, match=r"reads back with other values than were written: conv1\.weight"):
        write_nir(program, path)
    monkeypatch.undo()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(StorageError, match=r"can't write .*network\.nir: permission denied"):
        write_nir(program, path)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["network.nir"]


def test_differences_of_graphs_are_named(wake):
    net, _ = network(wake)
    program = lower(net, context(STEPS))
    one, other = to_nir(program), to_nir(program)
    other.nodes["conv1"].weight = other.nodes["conv1"].weight + 1
    other.nodes["conv2_neurons"].tau = other.nodes["conv2_neurons"].tau.astype(np.float64)
    other.nodes["more"] = other.nodes["fc1"]
    other.edges.pop()
    assert sorted(graph_differences(one, other)) == ["conv1.weight", "conv2_neurons.tau", "edges", "more"]
