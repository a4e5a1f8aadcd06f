"""Firing rates and matrix ranks, compared with numpy's on recorded spikes."""

import numpy as np
import pytest
import torch
from helpers.small_batches import CLASSES, batches, inputs

from spikefit.errors import ConfigurationError
from spikefit.losses import CrossEntropy
from spikefit.networks import ConvSNN, ResidualSNN
from spikefit.prune import SVS, FiringRate


@pytest.fixture
def small(wake):
    torch.manual_seed(0)
    return wake(ConvSNN((1, 8, 8), CLASSES, (3, 4), (5,)), inputs())


def spikes_of(network):
    """Spikes of each block for all samples, block by block, without hooks."""
    found, x = {}, inputs()
    for name, block in network.named_blocks():
        if block.neuron is not None:
            found[name] = block.neuron(block.current(x)).detach()
            x = block.pooled(found[name])
    return found


def test_firing_rate_is_the_mean_spike(small):
    totals, samples = FiringRate(2).accumulate(small, batches(), CrossEntropy())
    spikes = spikes_of(small)
    torch.testing.assert_close(totals["conv1"] / samples, spikes["conv1"].mean((0, 1, 3, 4)))
    torch.testing.assert_close(totals["fc1"] / samples, spikes["fc1"].mean((0, 1)))


def test_svs_is_the_mean_rank_of_the_time_averaged_maps(small):
    totals, samples = SVS(2).accumulate(small, batches(), CrossEntropy())
    spikes = spikes_of(small)
    for name in ("conv1", "conv2"):
        ranks = np.linalg.matrix_rank(spikes[name].double().mean(0).numpy())  # [B, K]
        torch.testing.assert_close(totals[name] / samples, torch.from_numpy(ranks.mean(0)).float())
    fires = spikes["fc1"].amax(0).mean(0)  # share of samples with a spike
    torch.testing.assert_close(totals["fc1"] / samples, fires)
    assert 0 < fires.mean() < 1


def test_the_rank_of_maps_worked_out_by_hand():
    """A cross has rank 2, a full map 1, an empty one 0, a diagonal 4; half the steps give the same rank."""
    cross = torch.zeros(4, 4)
    cross[1], cross[:, 2] = 1, 1
    maps = torch.stack([cross, torch.ones(4, 4), torch.zeros(4, 4), torch.eye(4)])
    spikes = torch.stack([maps, torch.zeros_like(maps)]).unsqueeze(1)  # [2, 1, 4, 4, 4]
    assert SVS().of_spikes(spikes).tolist() == [[2, 1, 0, 4]]


def test_epsilon_is_the_value_up_to_which_a_singular_value_is_zero():
    """diag(1, 1/2) over two steps."""
    spikes = torch.stack([torch.eye(2), torch.diag(torch.tensor([1.0, 0.0]))]).view(2, 1, 1, 2, 2)
    assert SVS(epsilon=0.4).of_spikes(spikes).tolist() == [[2]]
    assert SVS(epsilon=0.6).of_spikes(spikes).tolist() == [[1]]


def test_tied_blocks_add_their_scores(wake):
    torch.manual_seed(0)
    network = wake(ResidualSNN((1, 8, 8), CLASSES, (4,)), inputs())
    totals, samples = FiringRate(2).accumulate(network, batches(), CrossEntropy())
    seen = []
    for name in ("stem", "stage1_1b"):
        network.block(name).neuron.register_forward_hook(lambda module, args, output: seen.append(output))
    network(inputs())
    torch.testing.assert_close(totals["stem+stage1_1b"] / samples, sum(s.mean((0, 1, 3, 4)) for s in seen))


@pytest.mark.parametrize("score", [FiringRate, SVS])
def test_the_dead_score_zero_and_a_batch_is_needed(small, score):
    small.block("conv2").neuron.alive[1] = False
    totals, _ = score(2).accumulate(small, batches(), CrossEntropy())
    assert totals["conv2"][1] == 0
    assert (totals["conv2"] > 0).sum() >= 2
    with pytest.raises(ConfigurationError, match="batches"):
        score(0)


def test_epsilon_may_not_be_negative():
    with pytest.raises(ConfigurationError, match="epsilon: got -1"):
        SVS(epsilon=-1)


def test_spikes_averaged_over_time_keep_their_rank_above_the_default_epsilon(small):
    """The smallest singular value of what fires at all in T steps is far above it."""
    activity = spikes_of(small)["conv1"].double().mean(0)
    values = torch.linalg.svdvals(activity)
    assert values[values > 1e-9].min() > 10 * SVS().epsilon
