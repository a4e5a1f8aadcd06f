"""Pruning of a network with grouped convolutions: depthwise ones are pruned and deployed, others refused at once."""

from functools import partial

import pytest
import torch
import yaml
from helpers.deployment_contexts import context
from helpers.tiny_fit import TinyData, fit
from torch import nn

from callbacks import FitToHardware, FSCPruning, SynapsePruning
from callbacks.schedule import Schedule
from spikefit.deploy.deployment import Deployment
from spikefit.deploy.fitting import findings_on
from spikefit.errors import ConfigurationError
from spikefit.hardware.target import HardwareTarget
from spikefit.module import SpikingClassifier
from spikefit.networks import Block, Network, PositiveBatchNorm
from spikefit.neurons import IF
from spikefit.prune import SVS, FiringRate, Magnitude, Random, compact
from spikefit.quantize import Codebook


def conv(inputs, outputs, kernel, groups=1, pool=1):
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
    return Block(layer, PositiveBatchNorm(outputs), IF(outputs), pool=pool)


def separable(shape, classes):
    """A convolution, a depthwise and a pointwise one."""
    blocks = {
        "conv1": conv(1, 6, 3, pool=2),
        "depthwise": conv(6, 6, 3, groups=6),
        "pointwise": conv(6, 8, 1),
        "readout": Block(nn.Linear(8 * 16, classes, bias=False)),
    }
    return Network(blocks, shape)


def own_model(network=separable, **options):
    torch.manual_seed(0)
    quantizer = partial(Codebook, scope="channel")
    return SpikingClassifier(network, (1, 8, 8), 2, quantizer, **{"hardware": "loihi", **options})


def deployed(model):
    """The report of a deployment on the validation samples."""
    data, network = TinyData(), model.network.eval()
    deployment = Deployment(network, context(4, target=model.context.chip))
    x, y = data.on_after_batch_transfer(next(iter(data.val_dataloader())), 0)
    with torch.no_grad():
        deployment.update(x, y, network.logits(network(x)))
    return deployment.report()


@pytest.mark.parametrize("score", [None, Magnitude(), FiringRate(), SVS(), Random()])
def test_channels_of_a_depthwise_convolution_die_with_those_that_they_read(tmp_path, score):
    _, model = fit(
        tmp_path, [FSCPruning(0.5, Schedule(1, 1), score=score)], own_model(), epochs=2, limit_train_batches=2
    )
    alive = {name: block.neuron.alive for name, block in model.network.named_blocks() if block.neuron is not None}
    assert torch.equal(alive["conv1"], alive["depthwise"])
    left = int(alive["conv1"].sum())
    assert left + int(alive["pointwise"].sum()) == 7, "half of 6 tied channels and 8 others"
    small = compact(model.network)
    assert small.block("depthwise").synapses.weight.shape == (left, 1, 3, 3)
    report = deployed(model)
    assert report.parity.mismatches == 0
    assert report.parity.compared > 1000
    assert report.neurons == 64 * left + 16 * left + 16 * int(alive["pointwise"].sum()) + 2


def test_a_network_with_a_depthwise_convolution_is_fitted_to_a_chip(tmp_path):
    content = HardwareTarget.load("loihi").to_dict()
    content["limits"]["neurons_per_chip"] = {"value": 800, "source": "test", "confidence": "D"}
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(content))
    model = own_model(hardware=str(file))
    dense = findings_on(model.network, context(4, target=str(file)))
    assert [finding.limit for finding in dense] == ["neurons per chip"]
    fit(tmp_path, [FitToHardware(Schedule(1, 1))], model, epochs=2, limit_train_batches=2)
    assert findings_on(model.network, model.context) == []
    assert torch.equal(model.network.block("conv1").neuron.alive, model.network.block("depthwise").neuron.alive)


def test_synapses_of_a_depthwise_convolution_are_pruned(tmp_path):
    model = own_model(prunable_synapses=True)
    fit(tmp_path, [SynapsePruning(0.5, Schedule(1, 1))], model, epochs=2, limit_train_batches=2)
    assert deployed(model).parity.mismatches == 0


REFUSED = {
    "two groups": ({"a": conv(1, 4, 3), "b": conv(4, 6, 3, groups=2)}, "b is a convolution from 4 to 6 .* in 2 groups"),
    "multiplier": ({"a": conv(1, 4, 3), "b": conv(4, 8, 3, groups=4)}, "b is a convolution from 4 to 8 .* in 4 groups"),
}


@pytest.mark.parametrize("callback", [partial(FSCPruning, 0.5), FitToHardware])
@pytest.mark.parametrize("case", REFUSED)
def test_unequal_groups_are_refused_before_training(tmp_path, case, callback):
    blocks, message = REFUSED[case]

    def network(shape, classes):
        units = list(blocks.values())[-1].units
        return Network({**blocks, "readout": Block(nn.Linear(units * 64, classes, bias=False))}, shape)

    with pytest.raises(ConfigurationError, match=f"units: got 'channel', but {message}.* expected units: .neuron."):
        fit(tmp_path, [callback(schedule=Schedule(1, 1))], own_model(network), epochs=2)
