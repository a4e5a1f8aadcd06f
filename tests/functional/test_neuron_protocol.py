"""What a new neuron must supply: a missing part is named when the network is built, or before training that deploys."""

import pytest
import torch
from helpers.custom_neurons import FloorIF, MyLIF, floor_step, forgotten
from helpers.own_chip import own_chip
from helpers.tiny_fit import fit
from torch import nn

from callbacks import ChipEmulation, DeploymentSimulation, FitToHardware
from callbacks.schedule import Schedule
from spikefit.errors import ConfigurationError, TargetError
from spikefit.functional.neuron_models import NeuronModel, register
from spikefit.functional.neuron_protocol import PARTS, Neuron
from spikefit.hardware.target import HardwareTarget
from spikefit.module import SpikingClassifier
from spikefit.networks import MLP, Block
from spikefit.neurons import IF, LIF, CubaLIF, LinearLeakIF, ParametricLIF, SpikingNeuron


@pytest.fixture(autouse=True)
def registry():
    with forgotten():
        yield


@pytest.mark.parametrize("cls", [IF, LIF, ParametricLIF, LinearLeakIF, CubaLIF])
def test_the_shipped_neurons_follow_the_protocol(cls):
    assert isinstance(cls(3), Neuron)
    assert {"model", "entry", "alive", "leak_amount", "own_constants", "synaptic_decay"} <= set(PARTS)


def test_another_module_in_the_place_of_a_neuron_is_refused_with_what_it_lacks():
    with pytest.raises(ConfigurationError, match=r"neuron ReLU: has no model, units, .*leak_amount.*derive it from"):
        Block(nn.Linear(4, 3), neuron=nn.ReLU())


class Leaky(SpikingNeuron):
    """Its entry has a leak, and the class says nothing of its amount."""

    model = "leaky"


@pytest.mark.parametrize("leak", ["decay", "linear"])
def test_a_leak_without_an_amount_is_named_and_not_taken_for_zero(leak):
    register(NeuronModel("leaky", "Leaky", leak))
    with pytest.raises(ConfigurationError, match=rf"\(Leaky\) has no leak_amount, but its entry says leak='{leak}'"):
        Leaky(3)(torch.ones(2, 1, 3))


def own(cls, *models, epochs=4):
    """A module of ``cls`` for a chip that has ``models``."""
    chip = own_chip("memory", neuron={"models": list(models), "resets": ["subtract", "zero"]})
    module = SpikingClassifier(lambda shape, classes: MLP(shape, classes, (8,), neuron=cls), (1, 8, 8), 2)
    module.hardware = chip
    return module


def refused(tmp_path, module, callback):
    """The error before the first batch."""
    seen = []
    module.training_step = lambda *_: seen.append(1)
    with pytest.raises((ConfigurationError, TargetError)) as caught:
        fit(tmp_path, [callback], module)
    assert not seen
    return str(caught.value)


DEPLOYING = [DeploymentSimulation(), FitToHardware(Schedule(1, 2)), ChipEmulation(Schedule(1))]


@pytest.mark.parametrize("callback", DEPLOYING, ids=lambda callback: type(callback).__name__)
def test_a_run_that_deploys_names_the_missing_part_before_training(tmp_path, callback):
    register(NeuronModel("floor_if", "FloorIF", None))
    assert "floor_if (FloorIF) has no step" in refused(tmp_path, own(FloorIF, "if"), callback)
    register(NeuronModel("floor_if", "FloorIF", None, step=floor_step, constants={"floor": "membrane", "top": "ratio"}))
    assert "no value for top; the class needs an attribute" in refused(tmp_path, own(FloorIF, "if"), callback)
    register(NeuronModel("floor_if", "FloorIF", None, step=floor_step, constants={"floor": "membrane"}))
    assert "FloorIF has no integer form" in refused(tmp_path, own(FloorIF, "if"), callback)
    register(NeuronModel("leaky", "Leaky", "decay"))
    assert "leaky (Leaky) has no leak_amount" in refused(tmp_path, own(Leaky, "if", "leaky"), callback)
    register(NeuronModel("my_lif", "MyLIF", "decay", synaptic=True))
    assert "my_lif (MyLIF) has no synaptic_decay" in refused(tmp_path, own(MyLIF, "if", "my_lif"), callback)


@pytest.mark.parametrize(
    "callback",
    [FitToHardware(Schedule(1, 2), emulate_from=3), ChipEmulation(Schedule(2))],
    ids=lambda callback: type(callback).__name__,
)
def test_training_in_integers_is_refused_before_it_begins(tmp_path, callback):
    entry = NeuronModel("floor_if", "FloorIF", None, step=floor_step, integer=True, constants={"floor": "membrane"})
    register(entry)
    message = refused(tmp_path, own(FloorIF, "floor_if"), callback)
    assert "floor_if (FloorIF) has no gradient in a chip's integers" in message


def test_a_complete_neuron_is_trained_and_deployed(tmp_path):
    register(NeuronModel("my_lif", "MyLIF", "decay"))
    fitted, module = fit(tmp_path, [FitToHardware(Schedule(1, 2), emulate_from=3)], own(MyLIF, "my_lif"))
    assert fitted.current_epoch == 4
    assert module.network.emulation is not None
    assert isinstance(module.hardware, HardwareTarget)
