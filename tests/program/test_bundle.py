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

from spikefit.errors import BundleError
from spikefit.hardware.target import HardwareTarget
from spikefit.networks import MLP, ConvSNN, ResidualSNN
from spikefit.neurons import IF, LIF, CubaLIF, LinearLeakIF
from spikefit.program import bundle, storage
from spikefit.program.bundle import differences, read_bundle, write_bundle
from spikefit.program.ir import Program
from spikefit.program.lower import lower
from spikefit.program.simulate import Simulator
from spikefit.quantize import AxonCodebook, Codebook
from spikefit.quantize.base import attach

pytest.importorskip("safetensors", reason="bundles need safetensors")
FILES = (bundle.JSON, bundle.TENSORS)


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
    write_bundle(written, tmp_path / "bundle")
    read = read_bundle(tmp_path / "bundle")
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


def test_weights_are_packed_and_the_json_says_what_it_is(wake, tmp_path):
    written = program(wake, channels=(8,), hidden=(64,), quantizer=partial(Codebook, levels=4, bits=4))
    write_bundle(written, tmp_path)
    content = json.loads((tmp_path / bundle.JSON).read_text())
    assert (content["version"], content["target"], content["program"]["fields"]["time_steps"]) == (2, "loihi", 4)
    assert content["spikefit"]
    dense = content["program"]["fields"]["projections"][1]["fields"]["weight"]
    assert dense["shape"] == [64, 128]
    assert (dense["layout"], dense["bits"]) == ("codebook", 2)
    assert content["program"]["fields"]["projections"][1]["fields"]["codebook"] == "layer"
    synapses = sum(projection.weight.numel() for projection in written.projections)
    header = int.from_bytes((tmp_path / bundle.TENSORS).read_bytes()[:8], "little")
    constants = sum(4 * 8 * p.neurons for p in written.populations)
    assert (tmp_path / bundle.TENSORS).stat().st_size < 8 + header + synapses / 4 + constants


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
    write_bundle(written, tmp_path)
    read = read_bundle(tmp_path)
    assert differences(written, read) == []
    assert read.extra.ratio == math.inf
    monkeypatch.undo()
    with pytest.raises(BundleError, match=r"program\.json: does not describe a program: KeyError: 'Extra'"):
        read_bundle(tmp_path)
    write_bundle(old, tmp_path)
    monkeypatch.setitem(storage.CLASSES, "Program", Wider)
    assert read_bundle(tmp_path).grid == ((1, 2), (3, 4)), "an older bundle lacks the field: its default"


def test_what_has_no_form_is_refused_and_nothing_is_written(wake, tmp_path):
    strange = dataclasses.replace(program(wake), target={"a": 1})
    with pytest.raises(BundleError, match=r"program\.target: got \{'a': 1\}"):
        write_bundle(strange, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    written = program(lambda network, inputs: network, MLP, hidden=(6,))
    write_bundle(written, folder)
    return written, {name: (folder / name).read_bytes() for name in FILES}


def outcome(folder, contents, expected):
    """Whether the files are refused; if they are not, they must give the program."""
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    try:
        read = read_bundle(folder)
    except BundleError:
        return True
    assert differences(expected, read) == []
    return False


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), name=st.sampled_from(FILES))
def test_a_flipped_byte_never_gives_another_program(whole, tmp_path, data, name):
    written, files = whole
    position = data.draw(st.integers(0, len(files[name]) - 1))
    mask = data.draw(st.integers(1, 255))
    damaged = bytearray(files[name])
    damaged[position] ^= mask
    refused = outcome(tmp_path, {**files, name: bytes(damaged)}, written)
    assert refused or (name == bundle.JSON and not bytes([damaged[position]]).strip()), "only blanks may change"


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), name=st.sampled_from(FILES))
def test_a_truncated_file_is_refused(whole, tmp_path, data, name):
    written, files = whole
    length = data.draw(st.integers(0, len(files[name]) - 1))
    assert outcome(tmp_path, {**files, name: files[name][:length]}, written)


def test_every_error_names_the_file_and_the_reason(whole, wake, tmp_path):
    _, files = whole

    def refusal(**changed):
        for name, key in zip(FILES, ("json", "tensors"), strict=True):
            (tmp_path / name).write_bytes(changed.get(key, files[name]))
        with pytest.raises(BundleError) as caught:
            read_bundle(tmp_path)
        return str(caught.value)

    with pytest.raises(BundleError, match=r"nowhere/program\.safetensors: can't be read: No such file"):
        read_bundle(tmp_path / "nowhere")
    assert "program.json: truncated or altered: no JSON" in refusal(json=files[bundle.JSON][:-30])
    assert "program.json: no bundle" in refusal(json=b'{"a": 1}')
    assert "program.json: no bundle" in refusal(json=b"[]")
    altered = files[bundle.JSON].replace(b'"time_steps": 4', b'"time_steps": 5')
    assert "program.json: altered: its content does not have the checksum" in refusal(json=altered)
    older = files[bundle.JSON].replace(b'"version": 2', b'"version": 1')
    assert "format version 1, but spikefit" in refusal(json=older)
    assert "reads version 2 alone; write the bundle again" in refusal(json=older)
    write_bundle(program(wake, MLP, hidden=(7,)), tmp_path / "other")
    other = (tmp_path / "other" / bundle.TENSORS).read_bytes()
    assert "program.safetensors: truncated, altered or of another bundle" in refusal(tensors=other)
    assert (tmp_path / bundle.JSON).read_bytes() == files[bundle.JSON]


@pytest.mark.parametrize("renames_before_the_crash", [0, 1, 2, 3])
def test_a_crash_leaves_the_old_bundle_or_the_new_one(wake, tmp_path, monkeypatch, renames_before_the_crash):
    old, new = program(wake, MLP, hidden=(6,)), program(wake, MLP, hidden=(9,))
    write_bundle(old, tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    renames = []

    def replace(source, destination):
        if len(renames) == renames_before_the_crash:
            raise KeyboardInterrupt
        renames.append(destination)
        rename(source, destination)

    rename = os.replace
    monkeypatch.setattr(os, "replace", replace)
    if renames_before_the_crash < 3:
        with pytest.raises(KeyboardInterrupt):
            write_bundle(new, tmp_path)
    else:
        write_bundle(new, tmp_path)
    monkeypatch.undo()
    assert differences(new if renames_before_the_crash >= 2 else old, read_bundle(tmp_path)) == []
    write_bundle(new, tmp_path)
    assert differences(new, read_bundle(tmp_path)) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", *FILES]


def test_a_folder_that_can_t_be_written_is_named(wake, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match=r"file/bundle: the bundle can't be written"):
        write_bundle(program(wake, MLP), tmp_path / "file" / "bundle")
