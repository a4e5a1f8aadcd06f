"""A user-defined neuron in chip files, the check, the energy model, NIR and the exact program."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from helpers.compression_cases import SMALL_CHIP
from helpers.custom_neurons import MyLIF, floor_step, forgotten
from helpers.deployment_contexts import context

from spikefit.errors import BundleError, ExchangeError, TargetError
from spikefit.functional.neuron_models import MODELS, NeuronModel, register
from spikefit.hardware.check_supported_features import check_structure
from spikefit.hardware.energy_of_memory import memory_terms
from spikefit.hardware.target import HardwareTarget
from spikefit.networks import MLP
from spikefit.nir.write import to_nir
from spikefit.program.bundle import differences, read_bundle, write_bundle
from spikefit.program.ir import LayerActivity, Population, Program, Projection
from spikefit.program.lower import lower
from spikefit.program.simulate import Simulator


@pytest.fixture(autouse=True)
def registry():
    with forgotten():
        yield


def chip_file(tmp_path, models):
    content = yaml.safe_load(Path(SMALL_CHIP).read_text())
    content["neuron"]["models"]["value"] = models
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_chip_file_may_list_what_is_registered_when_it_is_read(tmp_path):
    path = chip_file(tmp_path, ["if", "my_lif"])
    with pytest.raises(
        TargetError, match=r"neuron.models.value: got \['if', 'my_lif'\], .*one of if, lif, .*registers your own"
    ):
        HardwareTarget.load(path)
    register(NeuronModel("my_lif", "MyLIF", "decay"))
    assert HardwareTarget.load(path).neuron.models.value == ("if", "my_lif")
    register(NeuronModel("my_lif", "MyLIF", "decay", integer=False))
    with pytest.raises(TargetError, match=r"neuron.models.value: neuron my_lif \(MyLIF\) has no integer form: .*"):
        HardwareTarget.load(path)


def program(model):
    """Two dense layers of one model."""
    constants = {"threshold": torch.ones(4), "bias": torch.zeros(4), "leak": torch.full((4,), 0.5)}
    populations = (
        Population("input", (4,), "input"),
        Population("l1", (4,), model, reset="zero", **constants),
        Population("l2", (4,), "readout", bias=torch.zeros(4)),
    )
    joined = tuple(
        Projection(name, source, name, "dense", torch.ones(4, 4, dtype=torch.float64))
        for name, source in (("l1", "input"), ("l2", "l1"))
    )
    return Program(populations, joined, 4)


def test_check_names_chips_neurons_and_what_a_new_one_lacks(tmp_path):
    register(NeuronModel("my_lif", "MyLIF", "decay"))
    (finding,) = check_structure(HardwareTarget.load("loihi"), program("my_lif"))
    assert (finding.needed, finding.available, finding.remedy) == ("my_lif", "if, lif", "use IF or LIF neurons")
    mine = HardwareTarget.load(chip_file(tmp_path, ["my_lif"]))
    assert check_structure(mine, program("my_lif")) == []
    (finding,) = check_structure(mine, program("lif"))
    assert finding.remedy == "use MyLIF neurons"
    register(NeuronModel("floor_if", "FloorIF", None, step=floor_step))
    (finding,) = check_structure(HardwareTarget.load("loihi"), program("floor_if"))
    assert finding.remedy.startswith("FloorIF has no integer form: ")
    assert finding.remedy.endswith("; use IF or LIF neurons")


def test_nir_writes_a_new_neuron_as_the_node_that_its_entry_names():
    pytest.importorskip("nir")
    register(NeuronModel("my_lif", "MyLIF", "decay"))
    with pytest.raises(
        ExchangeError, match=r"^l1: neuron my_lif \(MyLIF\) has no NIR form: its entry .* \(nir=\); use"
    ):
        to_nir(program("my_lif"))
    register(NeuronModel("my_lif", "MyLIF", "decay", nir="LIF"))
    written, plain = (to_nir(program(model)).nodes["l1_neurons"] for model in ("my_lif", "lif"))
    assert type(written) is type(plain)
    assert (written.tau == plain.tau).all()
    assert (written.v_threshold == plain.v_threshold).all()


def test_a_new_leaky_neuron_costs_the_multiplication_of_its_leak():
    register(NeuronModel("my_lif", "MyLIF", "decay"))
    register(NeuronModel("floor_if", "FloorIF", None, step=floor_step))
    layer = LayerActivity("l1", 4, 16, 4.0, 8.0, 0.0, 16.0)
    costs = {model: memory_terms(program(model), layer)["updates"] for model in ("if", "lif", "my_lif", "floor_if")}
    assert costs["my_lif"] == costs["floor_if"] == costs["lif"] > costs["if"]
    readout = LayerActivity("l2", 4, 16, 0.0, 8.0, 0.0, 16.0)
    assert memory_terms(program("lif"), readout)["updates"] == pytest.approx(costs["if"])


def test_a_lif_by_another_name_is_simulated_as_it_was_trained(wake):
    """A known leak is all that lowering and the exact simulation need."""
    register(NeuronModel("my_lif", "MyLIF", "decay"))
    torch.manual_seed(0)
    network = MLP((12,), 3, hidden=(8,), neuron=MyLIF)
    x = (torch.rand(6, 5, 12) < 0.5).double()
    wake(network, x.float())
    network = network.double()
    exact = lower(network, context(6))
    assert exact.population("fc1").model == "my_lif"
    found = Simulator(exact)(x)
    with torch.no_grad():
        torch.testing.assert_close(found.logits, network.logits(network(x)))
    assert found.activity[0].spikes > 0


def test_a_bundle_keeps_the_constants_of_a_step_and_needs_its_neuron_registered(tmp_path):
    pytest.importorskip("safetensors")
    register(NeuronModel("floor_if", "FloorIF", None, step=floor_step, constants={"floor": "membrane"}))
    plain = program("floor_if")
    layer = replace(plain.populations[1], constants=(("floor", torch.full((4,), -0.25, dtype=torch.float64)),))
    stored = replace(plain, populations=(plain.populations[0], layer, plain.populations[2]))
    path = write_bundle(stored, tmp_path / "bundle.safetensors")
    assert differences(read_bundle(path), stored) == []
    assert differences(plain, stored) != []
    with pytest.raises(ExchangeError, match=r"l1: a NIR graph can't represent its constants"):
        to_nir(stored)
    with forgotten():
        del MODELS["floor_if"]
        with pytest.raises(BundleError, match=r"neuron model: got 'floor_if', expected one of .* imported first"):
            read_bundle(path)
