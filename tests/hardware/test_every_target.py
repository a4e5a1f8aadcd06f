"""Every shipped chip: its figures, its limits on random networks, and rules that only one chip has."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from helpers.deployment_contexts import context
from hypothesis import given, settings
from hypothesis import strategies as st

from spikefit.errors import TargetError
from spikefit.hardware.check_chip_capacity import check, unknown_limits
from spikefit.hardware.check_supported_features import check_structure
from spikefit.hardware.finding import Finding
from spikefit.hardware.placement import place
from spikefit.hardware.sourced_value import SourcedValue, known
from spikefit.hardware.target import HardwareTarget, available_targets
from spikefit.networks import MLP, ConvSNN, ResidualSNN
from spikefit.neurons import IF, LIF, LinearLeakIF
from spikefit.program.lower import lower
from spikefit.prune.groups import set_alive, unit_groups
from spikefit.quantize import Codebook
from spikefit.quantize.base import attach

TARGETS = available_targets()
CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "hardware"
SHAPE = (2, 8, 8)


def written(name):
    """Dotted names and entries of the values in a chip's YAML file, read without the library."""
    content = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    stack = list(content.items())
    while stack:
        path, entry = stack.pop()
        if isinstance(entry, dict) and "value" in entry:
            yield path, entry
        elif isinstance(entry, dict):
            stack += [(f"{path}.{key}", value) for key, value in entry.items()]


@pytest.mark.parametrize("name", TARGETS)
def test_known_values_have_sources_and_unknown_ones_are_listed(name):
    entries = dict(written(name))
    assert len(entries) > 15
    for path, entry in entries.items():
        assert entry["value"] is None or (entry["source"] and entry["confidence"] in tuple("PVTSDR")), path
    unknown = {path for path, entry in entries.items() if entry["value"] is None and not path.startswith("energy.")}
    assert set(unknown_limits(HardwareTarget.load(name))) == unknown


def test_only_altai_assumes_its_values_a_neuron():
    source = HardwareTarget.load("altai1").weights.unique_values.count.source
    assert "our assumption" in source


@pytest.mark.parametrize(
    ("weight", "mixed"),
    [
        ([[1, -2, 3], [4, -5, 0]], 0),  # every column has one sign
        ([[1, -2, 3], [-4, -5, 0]], 1),
        ([[1, -2, 3], [-4, 5, -6]], 3),
    ],
)
def test_odin_takes_the_sign_from_the_sender(chain, weight, mixed):
    program = chain((3,), (torch.tensor(weight), {"bits": 4}, {}))
    findings = [f for f in check(HardwareTarget.load("odin"), program) if f.limit == "signs per source"]
    assert len(findings) == (mixed > 0)
    if mixed:
        assert findings[0].remedy.startswith(f"split {mixed} of its sources")


def test_a_channel_is_one_source_of_a_convolution(chain):
    kernel = torch.tensor([[[[1, 2]], [[3, -1]]], [[[0, 1]], [[2, 2]]]])  # the second input has both signs
    program = chain((2, 1, 4), (kernel, {"bits": 4}, {}))
    (finding,) = [f for f in check(HardwareTarget.load("odin"), program) if f.limit == "signs per source"]
    assert finding.remedy.startswith("split 1 of its sources")


def test_a_chip_without_spiking_neurons_says_so(chain):
    program = chain((3,), (torch.ones(2, 3, dtype=torch.int64), {"bits": 4}, {}))
    first = check_structure(HardwareTarget.load("akida_akd1000"), program)[0]
    assert (first.limit, first.available) == ("neuron model", "none")
    assert "another chip" in first.remedy


def test_findings_say_whose_units_would_mend_them(chain):
    ones = partial(torch.ones, dtype=torch.int64)
    program = chain((20,), (ones(30, 20), {"bits": 8}, {}), (ones(12, 30), {"bits": 8}, {}), (ones(4, 12), {}, {}))
    target = HardwareTarget.load("generic")
    limits = replace(
        target.limits, neurons_per_chip=SourcedValue(40), fan_in=SourcedValue(25), fan_out=SourcedValue(10)
    )
    found = {(f.limit, f.where): f.prune_blocks for f in check(replace(target, limits=limits), program)}
    assert found == {
        ("neurons per chip", "generic"): ("l1", "l2"),
        ("fan-in", "l2"): ("l1",),
        ("fan-out", "input"): ("l1",),
        ("fan-out", "l1"): ("l2",),
    }


@st.composite
def networks(draw):
    """Small networks of every kind, quantised or not, some of their units dead."""
    torch.manual_seed(draw(st.integers(0, 9)))
    neuron = draw(st.sampled_from([IF, LIF, LinearLeakIF]))
    factory = partial(neuron, reset=draw(st.sampled_from(["subtract", "zero"])))
    readout = draw(st.sampled_from(["membrane", "spikes"]))
    kind = draw(st.sampled_from(["mlp", "conv", "residual"]))
    if kind == "mlp":
        net = MLP(SHAPE, 3, hidden=(draw(st.integers(2, 9)),), neuron=factory, readout=readout)
    elif kind == "conv":
        pool, pool_kind = draw(st.sampled_from([1, 2])), draw(st.sampled_from(["avg", "max"]))
        net = ConvSNN(SHAPE, 3, (3, 4), (5,), pool=pool, pool_kind=pool_kind, neuron=factory, readout=readout)
    else:
        net = ResidualSNN(SHAPE, 3, channels=(4,), stem_pool=draw(st.sampled_from([1, 2])), neuron=factory)
    if draw(st.booleans()):
        for _, layer in net.named_synapses():
            attach(layer, Codebook(layer.weight.detach(), levels=draw(st.sampled_from([2, 4, 16])), bits=8))
    for group in unit_groups(net):
        alive = torch.rand(group.units) > 0.3
        alive[0] = True
        set_alive(net, group, alive)
    return net.eval()


@given(network=networks(), name=st.sampled_from(TARGETS), data=st.data())
@settings(max_examples=60, deadline=None)
def test_no_network_breaks_check_or_placement(network, name, data):
    """Whatever the limits are: findings, never another exception, and never fewer cores than needed."""
    target = HardwareTarget.load(name)
    limited = {}
    for field in ("neurons_per_chip", "fan_in", "fan_out", "axons_in_per_core", "neurons_per_core", "cores"):
        if known(getattr(target.limits, field)) is not None and data.draw(st.booleans()):
            limited[field] = SourcedValue(data.draw(st.integers(1, 60)), "drawn", "D")
    target = replace(target, limits=replace(target.limits, **limited))
    program = lower(network, context(3, data.draw(st.booleans()), target=target), "target")
    placement = place(target, program)
    assert placement.cores_used >= placement.lower_bound, "also where some populations are too large for a core"
    findings = [*check(target, program), *placement.findings]
    hidden = {population.name for population in program.populations[1:-1]}
    for finding in findings:
        assert isinstance(finding, Finding)
        assert finding.remedy
        assert set(finding.prune_blocks) <= hidden


@given(name=st.sampled_from(TARGETS), data=st.data())
@settings(max_examples=80, deadline=None)
def test_a_damaged_description_is_refused_by_field(name, data):
    """One entry is renamed, or replaced by something without value and source: the error names file and section."""
    content = HardwareTarget.load(name).to_dict()
    section = data.draw(st.sampled_from([key for key in content if key != "description"]))
    field = data.draw(st.sampled_from(sorted(content[section])))
    value = data.draw(st.sampled_from([None, -1, "many", [], {}, {"value": "x"}, {"value": -5}, {"source": "s"}]))
    if data.draw(st.booleans()):
        content[section][field] = value
    else:
        content[section][f"{field}_of_mine"] = content[section].pop(field)
    try:
        HardwareTarget.from_dict(content, name="mine", file="mine.yaml")
        refused = ""
    except TargetError as error:
        refused = str(error)
    assert f"mine.yaml: {section}" in refused
