"""A bundle gives back the program that was put in, and nothing else is ever read from a damaged one."""

import dataclasses
import json
import math
import os
from functools import partial

import pytest
import torch
from helpers.deployment_contexts import context
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save

from spikefit.errors import BundleError, StorageError
from spikefit.hardware.target import HardwareTarget
from spikefit.networks import MLP, ConvSNN, ResidualSNN
from spikefit.neurons import IF, LIF, CubaLIF, LinearLeakIF
from spikefit.program import storage
from spikefit.program.bundle import differences, read_bundle, write_bundle
from spikefit.program.ir import Program
from spikefit.program.lower import lower
from spikefit.program.simulate import Simulator
from spikefit.quantize import AxonCodebook, Codebook
from spikefit.quantize.base import attach

NAME = "bundle.safetensors"


def program(wake, cls=ConvSNN, neuron=LIF, quantizer=Codebook, chip="loihi", graded=False, **options):
    torch.manual_seed(1)
    net = cls((1, 8, 8), 4, neuron=neuron if neuron is CubaLIF else partial(neuron, reset="zero"), **options)
    for _, layer in net.named_synapses() if quantizer else ():
        attach(layer, quantizer(layer.weight.detach()))
    wake(net, (torch.rand(4, 8, 1, 8, 8) < 0.4).float())
    target = HardwareTarget.load(chip) if chip else None
    return lower(net, context(4, graded, target), "target" if chip else "exact")


CASES = {
    "integers": {"channels": (4, 6), "hidden": (8,)},
    "exact": {"chip": None},
    "real weights": {"chip": None, "quantizer": None, "neuron": partial(LIF, decay=0.7)},
    "encoder": {"graded": True},
    "residual": {"cls": ResidualSNN, "channels": (4, 6), "neuron": IF, "chip": "speck2f", "readout": "spikes"},
    "axon types": {
        "cls": MLP,
        "quantizer": AxonCodebook,
        "neuron": LinearLeakIF,
        "chip": "truenorth",
        "readout": "spikes",
    },
    "a codebook a channel": {"quantizer": partial(Codebook, scope="channel")},
    "a codebook a core": {"quantizer": partial(Codebook, scope="core", core_outputs=3), "channels": (8, 7)},
    "rounded after training": {"quantizer": None},
    "synaptic current": {"neuron": CubaLIF, "chip": "xylo_audio2", "cls": MLP, "readout": "spikes"},
}


@pytest.mark.parametrize("case", CASES)
def test_the_program_that_is_read_is_the_one_that_was_written(wake, tmp_path, case):
    written = program(wake, **CASES[case])
    write_bundle(written, tmp_path / NAME)
    read = read_bundle(tmp_path / NAME)
    assert differences(written, read) == []
    assert read.precision == written.precision
    quantised = CASES[case].get("quantizer", Codebook) is not None and written.precision == "target"
    assert all((projection.codebook is not None) == quantised for projection in read.projections[:1])
    images = torch.rand(3, 1, 8, 8).expand(4, 3, 1, 8, 8)
    inputs = images if "encoder" in case else (torch.rand(4, 3, 1, 8, 8) < 0.5).float()
    first, second = (Simulator(p)(inputs, record=True) for p in (written, read))
    assert torch.equal(first.logits, second.logits)
    assert all(torch.equal(first.spikes[name], second.spikes[name]) for name in first.spikes)


def test_differences_see_every_kind_of_field(wake):
    one = program(wake)
    weight = one.projections[0].weight
    moved = weight.clone()
    moved.view(-1)[0] += 1
    for change, named in (
        ({"weight": moved}, "weight"),
        ({"weight": weight.int()}, "weight"),
        ({"stride": (2, 1)}, "stride.0"),
        ({"axon_types": torch.zeros(1)}, "axon_types"),
        ({"bits": None}, "bits"),
        ({"codebook": None}, "codebook"),
    ):
        other = dataclasses.replace(
            one, projections=(dataclasses.replace(one.projections[0], **change), *one.projections[1:])
        )
        assert differences(one, other) == [f"program.projections.0.{named}"]
    assert differences(one, dataclasses.replace(one, time_steps=5)) == ["program.time_steps"]
    assert differences(one, dataclasses.replace(one, projections=one.projections[1:])) == ["program.projections"]


def metadata(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


def test_weights_are_packed_and_the_metadata_says_what_it_is(wake, tmp_path):
    written = program(wake, channels=(8,), hidden=(64,), quantizer=partial(Codebook, levels=4, bits=4))
    path = write_bundle(written, tmp_path / NAME)
    content = json.loads(metadata(path)["program"])
    assert (content["version"], content["target"], content["program"]["fields"]["time_steps"]) == (3, "loihi", 4)
    assert content["spikefit"]
    dense = content["program"]["fields"]["projections"][1]["fields"]["weight"]
    assert dense["shape"] == [64, 128]
    assert (dense["layout"], dense["bits"]) == ("codebook", 2)
    assert content["program"]["fields"]["projections"][1]["fields"]["codebook"] == "layer"
    synapses = sum(projection.weight.numel() for projection in written.projections)
    header = int.from_bytes(path.read_bytes()[:8], "little")
    constants = sum(4 * 8 * p.neurons for p in written.populations)
    assert path.stat().st_size < 8 + header + synapses / 4 + constants


def test_fields_that_are_new_to_the_program_go_along(wake, tmp_path, monkeypatch):
    """Another version of the description, with a tensor, a nested description and an odd number in it."""
    old = program(wake)
    Extra = dataclasses.make_dataclass("Extra", [("ratio", float, math.inf), ("table", object, None)], frozen=True)
    Wider = dataclasses.make_dataclass(
        "Program", [("extra", object, None), ("grid", tuple, ((1, 2), (3, 4)))], bases=(Program,), frozen=True
    )
    monkeypatch.setitem(storage.CLASSES, "Extra", Extra)
    monkeypatch.setitem(storage.CLASSES, "Program", Wider)
    fields = {field.name: getattr(old, field.name) for field in dataclasses.fields(old)}
    written = Wider(**fields, extra=Extra(table=torch.arange(6, dtype=torch.int16)))
    write_bundle(written, tmp_path / NAME)
    read = read_bundle(tmp_path / NAME)
    assert differences(written, read) == []
    assert read.extra.ratio == math.inf
    monkeypatch.undo()
    with pytest.raises(BundleError, match=r"bundle\.safetensors: does not describe a program: KeyError: 'Extra'"):
        read_bundle(tmp_path / NAME)
    write_bundle(old, tmp_path / NAME)
    monkeypatch.setitem(storage.CLASSES, "Program", Wider)
    assert read_bundle(tmp_path / NAME).grid == ((1, 2), (3, 4)), "an older bundle lacks the field: its default"


def test_what_has_no_form_is_refused_and_nothing_is_written(wake, tmp_path):
    strange = dataclasses.replace(program(wake), target={"a": 1})
    with pytest.raises(BundleError, match=r"program\.target: got \{'a': 1\}"):
        write_bundle(strange, tmp_path / "new" / NAME)
    assert not (tmp_path / "new").exists()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    written = program(lambda network, inputs: network, MLP, hidden=(6,))
    return written, write_bundle(written, tmp_path_factory.mktemp("whole") / NAME).read_bytes()


def refused(path, content, expected):
    """Whether the file is refused; if it is not, it must give the program."""
    path.write_bytes(content)
    try:
        read = read_bundle(path)
    except BundleError:
        return True
    assert differences(expected, read) == []
    return False


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), header=st.booleans())
def test_a_flipped_byte_never_gives_another_program(whole, tmp_path, data, header):
    """In the header (its length, the metadata, names and places of tensors) or in the numbers."""
    written, content = whole
    end = 8 + int.from_bytes(content[:8], "little")
    position = data.draw(st.integers(0, end - 1) if header else st.integers(end, len(content) - 1))
    damaged = bytearray(content)
    damaged[position] ^= data.draw(st.integers(1, 255))
    assert refused(tmp_path / NAME, bytes(damaged), written) or header, "every number counts"


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_truncated_file_is_refused(whole, tmp_path, data):
    written, content = whole
    length = data.draw(st.integers(0, len(content) - 1))
    assert refused(tmp_path / NAME, content[:length], written)


def test_every_error_names_the_file_and_the_reason(whole, tmp_path):
    _, content = whole
    path = tmp_path / NAME

    def refusal(altered):
        path.write_bytes(altered)
        with pytest.raises(BundleError) as caught:
            read_bundle(path)
        return str(caught.value)

    def with_metadata(**changed):
        path.write_bytes(content)
        return save(load_file(path), {**metadata(path), **changed})

    with pytest.raises(BundleError, match=r"nowhere/bundle\.safetensors: can't be read: No such file"):
        read_bundle(tmp_path / "nowhere" / NAME)
    with pytest.raises(BundleError, match="is a folder; expected the file"):
        read_bundle(tmp_path)
    text = metadata(write_bundle(whole[0], path))["program"]
    assert "bundle.safetensors: truncated or altered: " in refusal(content[:-30])
    assert "bundle.safetensors: no bundle" in refusal(with_metadata(program='{"a": 1}'))
    assert "bundle.safetensors: no bundle" in refusal(with_metadata(program="[]"))
    assert "bundle.safetensors: no bundle" in refusal(save({"weight": torch.zeros(2)}))
    later = text.replace('"time_steps": 4', '"time_steps": 5')
    assert "bundle.safetensors: altered: its content does not have" in refusal(with_metadata(program=later))
    older = refusal(with_metadata(program=text.replace('"version": 3', '"version": 2')))
    assert "format version 2, but spikefit" in older
    assert "reads version 3 only; write the bundle again" in older


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_crash_leaves_the_old_bundle(wake, tmp_path, monkeypatch, broken):
    old, new = program(wake, MLP, hidden=(6,)), program(wake, MLP, hidden=(9,))
    path = write_bundle(old, tmp_path / NAME)

    def stopped(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, broken, stopped)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(new, path)
    monkeypatch.undo()
    assert differences(old, read_bundle(path)) == []
    write_bundle(new, path)
    assert differences(new, read_bundle(path)) == []
    assert [found.name for found in tmp_path.iterdir()] == [NAME]


def test_a_place_that_can_t_be_written_is_named(wake, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"can't write .*file/bundle\.safetensors"):
        write_bundle(program(wake, MLP), tmp_path / "file" / NAME)
