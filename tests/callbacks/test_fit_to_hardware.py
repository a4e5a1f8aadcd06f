"""FitToHardware: a network that violates limits of a chip is changed until it fits."""

from functools import partial

import lightning.pytorch as pl
import pytest
import torch
import yaml
from helpers.deployment_contexts import context
from helpers.own_chip import own_chip
from helpers.tiny_fit import fit, module
from torch import nn

from callbacks import (
    ChipEmulation,
    CodebookReclustering,
    CompressedCheckpoint,
    DeploymentSimulation,
    FitToHardware,
    FSCPruning,
)
from callbacks.schedule import Schedule
from spikefit.deploy.fitting import Trial, findings_on, masks_that_fit, suited_quantizers, towards
from spikefit.errors import ConfigurationError, TargetError
from spikefit.hardware.deployment_context import DeploymentContext
from spikefit.hardware.target import HardwareTarget
from spikefit.input_kind import InputKind
from spikefit.module import SpikingClassifier
from spikefit.networks import MLP, ConvSNN, ResidualSNN
from spikefit.neurons import IF, LIF, LinearLeakIF
from spikefit.prune.groups import alive_units, unit_groups
from spikefit.quantize import AxonCodebook, Codebook, Uniform
from spikefit.quantize.base import attach, quantizer_of


def small(path, family="memory", **limits):
    """A chip like Loihi, but with these limits; its file."""
    content = HardwareTarget.load("loihi").to_dict()
    content["placement"]["family"] = family
    for name, value in limits.items():
        content["limits"][name] = {"value": value, "source": "test", "confidence": "D"}
    file = path / "small.yaml"
    file.write_text(yaml.safe_dump(content))
    return str(file)


def living(network):
    return {group.name: int(alive_units(network, group).sum()) for group in unit_groups(network)}


def test_three_limits_hold_after_training(tmp_path):
    """tiny_fit's network: 6 and 8 channels and 10 neurons on maps of 8 x 8 and 4 x 4.

    conv1 384, conv2 128, fc1 10 and readout 2 neurons, of which those that fire take two cells each: 1046. A neuron of
    fc1 reads 8 channels of 4 x 4. With 150 cells a core that is 6 + 2 + 1 + 1 cores.
    """
    target = small(tmp_path, neurons_per_chip=800, fan_in=100, cores=8, neurons_per_core=150)
    model = module(hardware=target)
    before = findings_on(model.network, context(4, target=target))
    assert {finding.limit for finding in before} == {"neurons per chip", "fan-in", "cores"}
    callback = FitToHardware(Schedule(1, 2))
    fit(tmp_path, [callback, CompressedCheckpoint(monitor="val/accuracy", mode="max")], model)
    assert callback.fits
    assert findings_on(model.network, context(4, target=target)) == []
    left = living(model.network)
    assert left["conv2"] <= 100 // 16
    assert 2 * (64 * left["conv1"] + 16 * left["conv2"] + left["fc1"]) + 2 <= 800
    assert min(left.values()) >= 2
    assert callback.settled(2)
    assert not FitToHardware(Schedule(1, 2)).settled(2)


def test_nothing_goes_where_everything_holds(tmp_path):
    callback = FitToHardware(Schedule(1, 2))
    _, model = fit(tmp_path, [callback])
    assert callback.fits
    assert callback.removed == 0
    assert living(model.network) == {"conv1": 6, "conv2": 8, "fc1": 10}


def test_it_stops_as_soon_as_the_network_fits(tmp_path):
    """Linear over three events, but training after the first could make it fit sooner: no unit too many is removed."""
    target = small(tmp_path, neurons_per_chip=400)
    callback = FitToHardware(Schedule(0, 2), growth="linear")
    gone = []

    class Watch(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            gone.append(24 - sum(living(pl_module.network).values()))

    fit(tmp_path, [callback, Watch()], module(hardware=target))
    assert gone == sorted(gone)
    assert gone[-1] == gone[2] == callback.removed > gone[0]
    least = module()
    trial = Trial(least.network, context(4, target=target), unit_groups(least.network))
    assert trial.findings({g.name: torch.ones(g.units, dtype=torch.bool) for g in trial.groups})


def test_a_chip_that_is_too_small_is_refused_with_the_findings(tmp_path):
    target = small(tmp_path, neurons_per_chip=100)
    with pytest.raises(TargetError, match=r"can't be fitted(.|\n)*neurons per chip: needs 326, the chip has 100"):
        fit(tmp_path, [FitToHardware(Schedule(1, 2))], module(hardware=target))


def test_quantizers_are_exchanged_and_survive_a_checkpoint(tmp_path):
    """TrueNorth allows 4 values a neuron by type of axon: float layers get them, and a test needs no callback."""
    torch.manual_seed(0)

    def network(shape, classes):
        return ConvSNN(shape, classes, (4,), (8,), neuron=partial(IF, reset="zero"), readout="spikes")

    model = SpikingClassifier(network, (1, 8, 8), 2, hardware="truenorth")
    callbacks = [FitToHardware(Schedule(1, 2)), CodebookReclustering(Schedule(1))]
    trainer, model = fit(tmp_path, callbacks, model)
    kinds = {name: type(quantizer) for name, _, quantizer in model.quantized_layers()}
    assert kinds == {"conv1": Codebook, "fc1": AxonCodebook, "readout": AxonCodebook}
    assert findings_on(model.network, context(4, target="truenorth")) == []
    trainer.save_checkpoint(tmp_path / "fitted.ckpt")
    again = SpikingClassifier.load_from_checkpoint(tmp_path / "fitted.ckpt", network=network, weights_only=True)
    x = torch.rand(4, 2, 1, 8, 8)
    assert torch.equal(again.eval()(x), model.eval()(x))


@pytest.mark.parametrize("callback", [FitToHardware, ChipEmulation, DeploymentSimulation])
def test_biases_and_leaks_in_one_register_are_refused_before_training(tmp_path, callback):
    """The biases are 0 until the batch norm is trained, and the host adds those of an encoder."""

    def network(shape, classes, norm="batch"):
        neuron = partial(LinearLeakIF, leak_per_step=0.1, reset="zero")
        return ConvSNN(shape, classes, (4,), (8,), neuron=neuron, readout="spikes", norm=norm)

    refused = SpikingClassifier(network, (1, 8, 8), 2, hardware="truenorth")
    with pytest.raises(TargetError, match=r"bias and leak in one register: needs both in 8 of 8 .*use the norm gain"):
        fit(tmp_path, [callback()], refused, epochs=6)
    fitting = SpikingClassifier(partial(network, norm="gain"), (1, 8, 8), 2, hardware="truenorth")
    trainer, _ = fit(tmp_path, [callback()], fitting, epochs=6, limit_train_batches=1)
    assert trainer.current_epoch == 6


@pytest.mark.parametrize(
    ("quantizer", "wanted"),
    [
        (None, {"class": "AxonCodebook", "types": 4, "bits": 4}),
        (lambda w: Codebook(w, 4, 8), None),
        (lambda w: Codebook(w, 16, 8), {"class": "Codebook", "levels": 4, "bits": 8}),
        (lambda w: AxonCodebook(w, 4, 4), None),
        (lambda w: AxonCodebook(w, 8, 4), {"class": "AxonCodebook", "types": 4, "bits": 4}),
        (lambda w: Uniform(w, 4), {"class": "AxonCodebook", "types": 4, "bits": 4}),
    ],
)
def test_what_the_chip_can_hold_stays(quantizer, wanted):
    net = MLP((16,), 3, hidden=(8,))
    if quantizer is not None:
        for _, layer in net.named_synapses():
            attach(layer, quantizer(layer.weight.detach()))
    found = suited_quantizers(net, HardwareTarget.load("truenorth")).get("readout")
    if wanted is None:
        assert found is None
    else:
        assert wanted.items() <= found.items()


def test_a_float_network_stays_float_where_values_are_not_limited():
    net = MLP((16,), 3, hidden=(8,))
    assert suited_quantizers(net, HardwareTarget.load("loihi")) == {}
    assert all(quantizer_of(layer) is None for _, layer in net.named_synapses())


def test_layers_share_the_values_of_a_single_core(wake):
    """Six values for two layers: three each, of which none is zero for free."""
    torch.manual_seed(0)
    rule = {"count": 6, "scope": "core", "zero_is_free": False}
    chip = own_chip("single_core", weights={"unique_values": rule, "bits": [4, 8]})
    net = MLP((16,), 3, hidden=(8,), neuron=IF)
    for _, layer in net.named_synapses():
        attach(layer, Codebook(layer.weight.detach(), 6, 8))
    wake(net, torch.rand(4, 20, 16))
    over = DeploymentContext(chip, 4, InputKind.SPIKES)
    limits = [finding.limit for finding in findings_on(net, over)]
    assert "unique weights per core" in limits
    for name, layer in net.named_synapses():
        wanted = suited_quantizers(net, chip)[name]
        assert wanted["levels"] == 3
        detached = layer.parametrizations.weight.original.detach()
        nn.utils.parametrize.remove_parametrizations(layer, "weight")
        attach(layer, Codebook(detached, 3, 8))
    assert "unique weights per core" not in [finding.limit for finding in findings_on(net.eval(), over)]


def test_the_units_of_least_score_go():
    """Fan-in 5 at the readout of a 12-8-3 MLP: three of eight neurons go, those of least score."""
    content = HardwareTarget.load("loihi").to_dict()
    content["limits"]["fan_in"] = {"value": 12, "source": "test", "confidence": "D"}
    content["limits"]["axons_in_per_core"] = {"value": 12, "source": "test", "confidence": "D"}
    target = HardwareTarget.from_dict(content, name="small")
    net = MLP((12,), 3, hidden=(16,))
    groups = unit_groups(net)
    scores = {"fc1": torch.arange(16.0).flip(0)}
    alive = {"fc1": torch.ones(16, dtype=torch.bool)}
    masks, left = masks_that_fit(Trial(net, context(2, target=target), groups), scores, alive, 2)
    assert left == []
    assert masks["fc1"].tolist() == [True] * 12 + [False] * 4
    part = towards(alive, masks, scores, 2)
    assert part["fc1"].tolist() == [True] * 14 + [False] * 2


def test_the_emulation_must_come_after_the_last_event():
    with pytest.raises(ConfigurationError, match=r"emulate_from: got 5, .* after schedule\.stop=5"):
        FitToHardware(Schedule(1, 5), emulate_from=5)


def test_two_callbacks_do_not_disturb_the_key_of_fsc_pruning():
    assert FitToHardware().state_key != FSCPruning().state_key


def test_the_shipped_residual_network_fits_loihi(tmp_path):
    """Its shortcuts, whose weight is large against those of the main path, too."""
    torch.manual_seed(0)

    def network(shape, classes):
        return ResidualSNN(shape, classes, (6, 8), neuron=partial(LIF, reset="zero"))

    model = SpikingClassifier(network, (1, 8, 8), 2, partial(Codebook, levels=4, bits=8), hardware="loihi")
    fit(tmp_path, [FitToHardware(Schedule(1, 2), emulate_from=3), CodebookReclustering(Schedule(1))], model)
    assert findings_on(model.network, model.context) == []
    assert model.network.emulation is not None
