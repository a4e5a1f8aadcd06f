"""The measured change of the loss, compared with networks from which the unit has been removed."""

import copy

import torch
from helpers.small_batches import CLASSES, SAMPLES, batches, inputs

from spikefit.losses import CrossEntropy
from spikefit.networks import ResidualSNN
from spikefit.prune import Oracle, compact, unit_groups
from spikefit.prune.groups import set_alive


def total_loss(network):
    with torch.no_grad():
        return sum(float(CrossEntropy()(network.logits(network(x)), y).sum()) for x, y in batches())


def test_the_oracle_is_the_loss_without_the_unit_less_the_loss_with_it(wake):
    torch.manual_seed(0)
    network = wake(ResidualSNN((1, 8, 8), CLASSES, (3, 4)), inputs())
    network.block("stage1_1a").neuron.alive[2] = False
    before = copy.deepcopy(network.state_dict())
    totals, samples = Oracle().accumulate(network, batches(), CrossEntropy())
    assert samples == SAMPLES
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    for group in unit_groups(network):
        for unit in range(group.units):
            cut = copy.deepcopy(network)
            alive = cut.block(group.blocks[0]).neuron.alive.clone()
            alive[unit] = False
            set_alive(cut, group, alive)
            expected = total_loss(compact(cut)) - total_loss(network)
            assert abs(float(totals[group.name][unit]) - expected) < 1e-4
    assert totals["stage1_1a"][2] == 0
    assert totals["stem+stage1_1b"].abs().max() > 1e-2
