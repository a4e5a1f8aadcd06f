"""Unsupported NIR graphs are refused with the name of the node and what is expected."""

import re
import warnings

import numpy as np
import pytest
from helpers import nir_graphs
from helpers.deployment_contexts import context
from helpers.nir_graphs import DT, affine, conv, flatten, graph, integrator, lif, pool, rng

from spikefit.errors import ConfigurationError, ExchangeError
from spikefit.networks import MLP
from spikefit.neurons import LIF
from spikefit.nir import FromNIR
from spikefit.nir.dialects import dialect_called
from spikefit.nir.write import to_nir
from spikefit.program.lower import lower

nir = pytest.importorskip("nir", reason="nir is not installed")


@pytest.fixture(autouse=True)
def same_weights_in_any_order():
    nir_graphs.restart()


REFUSED = {
    "recurrent": (
        lambda: graph(
            {"a": affine(12, 10), "n": lif((12,)), "r": affine(12, 12), "d": affine(3, 12)},
            edges=[("input", "a"), ("a", "n"), ("n", "r"), ("r", "n"), ("n", "d"), ("d", "output")],
        ),
        r"recurrent edges (n -> r -> n|r -> n -> r); only feed-forward",
    ),
    "a delay": (
        lambda: graph(affine(12, 10), nir.Delay(np.ones(12)), lif((12,)), affine(3, 12)),
        r"'1' \(Delay\): not a supported node",
    ),
    "a graph": (
        lambda: graph(affine(12, 10), graph(lif((12,)), shape=(12,), outputs=12), affine(3, 12)),
        r"'1' \(NIRGraph\): a graph within the graph",
    ),
    "a leaky integrator": (
        lambda: graph(affine(3, 10), nir.LI(tau=np.ones(3), r=np.ones(3), v_leak=np.zeros(3))),
        r"'1' \(LI\): not a supported node",
    ),
    "synapses upon synapses": (
        lambda: graph(affine(12, 10), affine(12, 12), lif((12,)), affine(3, 12)),
        r"'1' \(Affine\): it reads '0' \(Affine\); expected neurons between",
    ),
    "neurons upon neurons": (
        lambda: graph(affine(12, 10), lif((12,)), integrator((12,)), affine(3, 12)),
        r"'2' \(IF\): reads \['1'\] without synapses",
    ),
    "pooled input": (
        lambda: graph(pool(), conv(4, 1), lif((4, 4, 4)), flatten(4, 4, 4), affine(3, 64), shape=(1, 8, 8)),
        r"'0' \(AvgPool2d\): pools the input",
    ),
    "overlapping windows": (
        lambda: graph(
            conv(4, 1), lif((4, 8, 8)), pool(side=3, stride=2), flatten(4, 3, 3), affine(3, 36), shape=(1, 8, 8)
        ),
        r"'2' \(AvgPool2d\): kernel \(3, 3\), stride \(2, 2\), padding \(0, 0\); expected adjacent square windows",
    ),
    "padded windows": (
        lambda: graph(conv(4, 1), lif((4, 8, 8)), pool(padding=1), flatten(4, 5, 5), affine(3, 100), shape=(1, 8, 8)),
        r"'2' \(AvgPool2d\): kernel .* padding \(1, 1\)",
    ),
    "half a flatten": (
        lambda: graph(conv(4, 1), lif((4, 8, 8)), nir.Flatten(None, 1, -1), affine(3, 256), shape=(1, 8, 8)),
        r"'2' \(Flatten\): flattens dimensions 1 to 2 of \(4, 8, 8\); expected all",
    ),
    "no flatten": (
        lambda: graph(conv(4, 1), lif((4, 8, 8)), affine(3, 256), shape=(1, 8, 8)),
        r"'2' \(Affine\): weight of shape \(3, 256\) on a signal of shape \(4, 8, 8\); is a Flatten missing",
    ),
    "even same": (
        lambda: graph(conv(4, 1, 4, padding="same"), lif((4, 8, 8)), flatten(4, 8, 8), affine(3, 256), shape=(1, 8, 8)),
        r"'0' \(Conv2d\): padding 'same' with a stride or an even kernel",
    ),
    "a large kernel": (
        lambda: graph(conv(4, 1, 9, padding=0), lif((4, 8, 8)), flatten(4, 8, 8), affine(3, 256), shape=(1, 8, 8)),
        r"'0' \(Conv2d\): nothing is left",
    ),
    "thresholds within a channel": (
        lambda: graph(
            conv(1, 1),
            nir.IF(np.ones((1, 8, 8)), rng.random((1, 8, 8))),
            flatten(1, 8, 8),
            affine(3, 64),
            shape=(1, 8, 8),
        ),
        r"'1' \(IF\): v_threshold differs within a channel",
    ),
    "decays that differ": (
        lambda: graph(affine(3, 10), lif((3,), tau=np.array([1.0, 2, 3]) * 2e-4), affine(3, 3)),
        r"'1' \(LIF\): tau ranges from 0\.0002 to 0\.0006 s; expected one value",
    ),
    "a step too long": (
        lambda: graph(affine(3, 10), lif((3,), tau=np.full(3, DT / 2)), affine(3, 3)),
        r"Is dt right\?",
    ),
    "no membrane": (lambda: graph(affine(3, 10), lif((3,), tau=np.full(3, DT)), affine(3, 3)), r"gives a decay of 0;"),
    "another rest": (
        lambda: graph(affine(3, 10), lif((3,), v_leak=np.full(3, 0.2)), affine(3, 3)),
        r"'1' \(LIF\): v_leak is not v_reset",
    ),
    "a threshold below rest": (
        lambda: graph(affine(3, 10), lif((3,), threshold=-0.5), affine(3, 3)),
        r"'1' \(LIF\): its threshold above v_reset is -0\.5",
    ),
    "a negative gain": (
        lambda: graph(affine(3, 10), lif((3,), gain=-1.0), affine(3, 3)),
        r"'1' \(LIF\): its gain is -1; expected",
    ),
    "synaptic memory": (
        lambda: graph(
            affine(3, 10),
            nir.CubaLIF(*(np.full(3, value) for value in (2e-4, 2e-4, 2.0, 0.0, 1.0))),
            affine(3, 3),
        ),
        r"'1' \(CubaLIF\): tau_syn is not dt",
    ),
    "a reset that nobody knows": (
        lambda: graph(affine(3, 10), lif((3,), metadata={"reset": "half"}), affine(3, 3)),
        r"'1' \(LIF\): its metadata contain the reset 'half'",
    ),
    "constants of another shape": (
        lambda: graph(affine(3, 10), lif((4,)), affine(3, 3)),
        r"'1' \(LIF\): v_reset has the shape \(4,\), expected \(3,\)|'1' \(LIF\): r has the shape",
    ),
    "two outputs": (
        lambda: graph(
            {"a": affine(3, 10), "n": lif((3,)), "d": affine(3, 3), "more": nir.Output(np.array([3]))},
            edges=[("input", "a"), ("a", "n"), ("n", "d"), ("d", "output"), ("n", "more")],
        ),
        r"got 2 Output nodes \['output', 'more'\], expected one",
    ),
    "a dead end": (
        lambda: graph(
            {"a": affine(3, 10), "n": lif((3,)), "d": affine(3, 3), "e": affine(3, 3)},
            edges=[("input", "a"), ("a", "n"), ("n", "d"), ("d", "output"), ("n", "e")],
        ),
        r"'e' \(Affine\): no edge leads from it",
    ),
    "nothing before": (
        lambda: graph(
            {"a": affine(3, 10), "n": lif((3,)), "d": affine(3, 3), "e": affine(3, 3)},
            edges=[("input", "a"), ("a", "n"), ("n", "d"), ("d", "output"), ("e", "n")],
        ),
        r"'e' \(Affine\): no edge leads to it",
    ),
    "an edge from nowhere": (
        lambda: graph({"a": affine(3, 10)}, edges=[("input", "a"), ("a", "output"), ("b", "a")]),
        r"an edge leads from 'b' to 'a', but there is no node 'b'",
    ),
    "past the first layer": (
        lambda: graph(
            {
                "a": affine(4, 10),
                "n": lif((4,)),
                "b": affine(4, 4),
                "i": affine(4, 10),
                "m": lif((4,)),
                "d": affine(3, 4),
            },
            edges=[
                ("input", "a"),
                ("a", "n"),
                ("n", "b"),
                ("b", "m"),
                ("input", "i"),
                ("i", "m"),
                ("m", "d"),
                ("d", "output"),
            ],
        ),
        r"'i' \(Affine\): is a shortcut from the input",
    ),
    "a dense path past a layer": (
        lambda: graph(
            {
                "a": affine(4, 10),
                "n": lif((4,)),
                "b": affine(4, 4),
                "m": lif((4,)),
                "c": affine(4, 4),
                "s": affine(4, 4),
                "o": lif((4,)),
                "d": affine(3, 4),
            },
            edges=[
                *[("input", "a"), ("a", "n"), ("n", "b"), ("b", "m"), ("m", "c"), ("c", "o")],
                *[("n", "s"), ("s", "o"), ("o", "d"), ("d", "output")],
            ],
        ),
        r"'s' \(Affine\): is a shortcut past a layer; expected a Scale or a Conv2d",
    ),
    "two branches": (
        lambda: graph(
            {
                "a": affine(4, 10),
                "n": lif((4,)),
                "b": affine(4, 10),
                "m": lif((4,)),
                "c": affine(3, 4),
                "e": affine(3, 4),
                "o": lif((3,)),
            },
            edges=[
                *[("input", "a"), ("a", "n"), ("input", "b"), ("b", "m")],
                *[("n", "c"), ("m", "e"), ("c", "o"), ("e", "o"), ("o", "output")],
            ],
        ),
        r"'(n|m)' \(LIF\): does not read the previous layer",
    ),
    "sums outside of neurons": (
        lambda: graph(
            {"a": affine(4, 10), "n": lif((4,)), "b": affine(4, 4), "m": lif((4,)), "d": affine(3, 4)},
            edges=[("input", "a"), ("a", "n"), ("n", "b"), ("b", "m"), ("m", "d"), ("n", "d"), ("d", "output")],
        ),
        r"'d' \(Affine\): it reads several nodes, \['m', 'n'\]; only neurons may add up",
    ),
    "a map of outputs": (
        lambda: graph(conv(3, 1), lif((3, 8, 8)), shape=(1, 8, 8)),
        r"'output' \(Output\): the last layer has the shape \(3, 8, 8\); expected one output per class",
    ),
    "pooled outputs": (
        lambda: graph(conv(3, 1), lif((3, 8, 8)), pool(side=8), flatten(3, 1, 1), shape=(1, 8, 8)),
        r"'output' \(Output\): reads '3'; expected the last neurons",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_read_is_refused_by_name(case):
    build, match = REFUSED[case]
    source = build()
    shape = tuple(int(side) for side in source.nodes["input"].input_type["input"])
    with pytest.raises(ExchangeError, match=match):
        FromNIR(shape, 3, source)


def test_options_and_files_that_do_not_fit_are_named(tmp_path):
    source = graph(affine(12, 10), lif((12,)), affine(3, 12), shape=(10,))
    with pytest.raises(ConfigurationError, match=r"num_classes: got 4, but NIR graph has 3 outputs"):
        FromNIR((10,), 4, source)
    with pytest.raises(
        ConfigurationError, match=r"input_shape: got \(1, 3, 3\), but NIR graph reads frames of \(10,\)"
    ):
        FromNIR((1, 3, 3), 3, source)
    assert FromNIR((1, 5, 2), 3, source).input_shape == (1, 5, 2), "a dense layer flattens what it reads"
    with pytest.raises(ConfigurationError, match=r"dialect: got 'rockpool', expected one of"):
        FromNIR((10,), 3, source, dialect="rockpool")
    with pytest.raises(ConfigurationError, match=r"reset: got 'half'"):
        FromNIR((10,), 3, source, reset="half")
    with pytest.raises(ConfigurationError, match=r"dt: got -1"):
        FromNIR((10,), 3, source, dt=-1)
    with pytest.raises(ExchangeError, match=r"v_reset is not 0, but the reset subtracts"):
        FromNIR((10,), 3, graph(affine(3, 10), lif((3,), rest=-0.1), affine(3, 3), shape=(10,)), reset="subtract")
    with pytest.raises(ExchangeError, match=r"path: no file .*nothing\.nir; expected a NIR graph"):
        FromNIR((10,), 3, str(tmp_path / "nothing.nir"))
    (tmp_path / "text.nir").write_text("no HDF5")
    with pytest.raises(ExchangeError, match=r"text\.nir can't be read as a NIR graph"):
        FromNIR((10,), 3, str(tmp_path / "text.nir"))
    nir.write(tmp_path / "node.nir", affine(3, 3))
    with pytest.raises(ExchangeError, match=r"node\.nir holds a single Affine|can't be read"):
        FromNIR((10,), 3, str(tmp_path / "node.nir"))


def spoiled(node, name, number):
    """``node`` with one value of the field ``name`` replaced."""
    values = np.array(getattr(node, name), dtype=np.float64)
    values.flat[0] = number
    setattr(node, name, values)
    return node


@pytest.mark.parametrize("number", [np.nan, -np.inf, 1e39])
@pytest.mark.parametrize(
    ("position", "field"),
    [(0, "weight"), (0, "bias"), (1, "tau"), (1, "r"), (1, "v_threshold"), (1, "v_leak"), (1, "v_reset"), (4, "scale")],
)
def test_numbers_that_are_not_finite_are_refused_by_node(tmp_path, number, position, field):
    nodes = [affine(12, 10), lif((12,)), affine(12, 12), lif((12,)), nir.Scale(np.full(12, 0.5)), affine(3, 12)]
    spoiled(nodes[position], field, number)
    names = dict(zip("abcdef", nodes, strict=True))
    edges = [("input", "a"), ("a", "b"), ("b", "c"), ("c", "d"), ("b", "e"), ("e", "d"), ("d", "f"), ("f", "output")]
    source = graph(names, edges=edges)
    nir.write(tmp_path / "spoiled.nir", source)
    name = "abcdef"[position]
    for path, where in ((source, "NIR graph"), (str(tmp_path / "spoiled.nir"), r".*spoiled\.nir")):
        with pytest.raises(ExchangeError, match=rf"^{where}: node '{name}' .*: 1 of \d+ values of {field} are NaN"):
            FromNIR((10,), 3, path)


@pytest.mark.parametrize(
    ("dialect", "assumed"),
    [
        ("nir", r"Assumed 'zero', by the dialect 'nir'\. Set"),
        ("snntorch", r"Assumed 'zero', by the dialect 'snntorch' \(neurons of snntorch use 'subtract' by default\)\."),
        ("norse", r"Assumed 'zero', by the dialect 'norse'\. Set"),
        ("spikingjelly", None),
    ],
)
def test_an_assumed_reset_is_a_warning(tmp_path, dialect, assumed):
    dt = dialect_called(dialect).dt

    def read(**options):
        nodes = (affine(12, 10), lif((12,), tau=np.full(12, 4 * dt), r=np.full(12, 4.0)), affine(3, 12))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            FromNIR((10,), 3, graph(*nodes, shape=(10,)), dialect=dialect, **options)
        return [str(warning.message) for warning in caught if "subtract the threshold" in str(warning.message)]

    found = read()
    assert len(found) == (assumed is not None)
    if assumed:
        assert re.search(rf"neurons of '1' reset .* {assumed}", found[0])
    assert read(reset="zero") == read(reset="subtract") == []


def test_a_reset_in_the_metadata_is_no_assumption(tmp_path):
    """As spikefit writes it."""
    network = MLP((4,), 3, hidden=[5], neuron=lambda units: LIF(units, reset="zero")).eval()
    path = tmp_path / "own.nir"
    nir.write(path, to_nir(lower(network, context(4))))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FromNIR((4,), 3, str(path))
