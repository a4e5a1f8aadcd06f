"""Pruned synapses on the chip: no weight, no synop, no synapse in the report."""

from functools import partial

import pytest
import torch
from helpers.deployment_contexts import context

from spikefit.deploy.deployment import Deployment
from spikefit.hardware.target import HardwareTarget
from spikefit.networks import ConvSNN, ResidualSNN
from spikefit.neurons import LIF
from spikefit.program.lower import lower
from spikefit.program.parity import compare
from spikefit.prune import unit_groups
from spikefit.prune.groups import set_alive
from spikefit.prune.synapse_mask import attach_mask, mask_of
from spikefit.quantize import Codebook, Ternary, Uniform
from spikefit.quantize.base import attach

LOIHI = HardwareTarget.load("loihi")
NETWORKS = {"conv": partial(ConvSNN, channels=(4, 6), hidden=(8,)), "residual": partial(ResidualSNN, channels=(4, 6))}


def build(make, quantizer, wake):
    torch.manual_seed(1)
    network = make((1, 8, 8), 4, neuron=partial(LIF, reset="zero"))
    for _, layer in network.named_synapses():
        if quantizer:
            attach(layer, quantizer(layer.weight.detach()))
        attach_mask(layer).live.copy_(torch.rand(layer.weight.shape) < 0.5)
    x = (torch.rand(4, 6, 1, 8, 8) < 0.5).float()
    return wake(network, x), x


@pytest.mark.parametrize("quantizer", [None, partial(Codebook, zero="none"), Uniform, Ternary])
@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_the_lowered_program_has_the_masks(wake, make, quantizer):
    """None of the weights is 0 before it is masked, with a codebook without zero: the masks can be read off."""
    network, x = build(make, quantizer, wake)
    exact = lower(network, context(4))
    integer = lower(network, context(4, target=LOIHI), "target")
    layers = dict(network.named_synapses())
    for program in (exact, integer):
        for projection in program.projections:
            if projection.name in layers:
                live = mask_of(layers[projection.name]).live
                assert not projection.weight[~live].any()
                if isinstance(quantizer, partial):
                    assert (projection.weight[live] != 0).all()
    parity = compare(network, exact, x)
    assert parity.compared > 0
    assert parity.mismatches == 0


def test_a_report_counts_what_is_left(wake):
    """Masks that leave nothing of a layer's synapses but those of one input channel and one place of the kernel."""
    network, x = build(NETWORKS["conv"], partial(Codebook, zero="none"), wake)
    mask = mask_of(network.block("conv2").synapses).live
    mask.fill_(False)
    mask[:, 2, 1, 1] = True
    group = unit_groups(network)[1]
    set_alive(network, group, torch.tensor([True, True, True, False, False, True]))
    deployment = Deployment(network, context(4, target=LOIHI))
    with torch.no_grad():
        deployment.update(x, torch.zeros(6, dtype=torch.int64), network.logits(network(x)))
    report = deployment.report()
    row = next(row for row in report.layers if row.name == "conv2")
    assert row.synapses == 4 * 64  # 4 living channels, each reads the 64 neurons of one channel (2 x 2 pooled)
    conv1 = network.block("conv1")
    with torch.no_grad():
        spikes = conv1.neuron(conv1.current(x))
    assert row.synops == pytest.approx(4 * float(spikes[:, :, 2].sum()) / 6)
    assert report.synapses == sum(layer.synapses for layer in report.layers)
