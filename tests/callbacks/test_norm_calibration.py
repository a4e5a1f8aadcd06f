"""NormCalibration: statistics against averages computed by hand."""

import pytest
import torch
import torch.nn.functional as F
from helpers.tiny_fit import TinyData, fit

from callbacks import NormCalibration
from callbacks.schedule import Schedule
from spikefit.errors import ConfigurationError


def test_statistics_are_the_average_over_the_training_batches_at_the_last_weights(tmp_path):
    _, model = fit(tmp_path, [NormCalibration(batches=3)], epochs=2)
    block = model.network.block("conv1")
    frames = [x.flatten(0, 1) for x, _ in TinyData().train_dataloader()][:3]
    currents = [F.conv2d(x, block.synapses.weight.detach(), padding=1) for x in frames]
    mean = torch.stack([current.mean(dim=(0, 2, 3)) for current in currents]).mean(0)
    variance = torch.stack([current.var(dim=(0, 2, 3)) for current in currents]).mean(0)
    torch.testing.assert_close(block.norm.running_mean, mean)
    torch.testing.assert_close(block.norm.running_var, variance)
    assert block.norm.momentum == 0.1


def test_training_goes_on_as_without_it(tmp_path):
    """The same weights, modes and random numbers; other statistics, at the epochs of the schedule."""
    _, plain = fit(tmp_path, [], epochs=2)
    state = torch.get_rng_state()
    _, calibrated = fit(tmp_path, [NormCalibration()], epochs=2)
    assert torch.equal(torch.get_rng_state(), state)
    _, later = fit(tmp_path, [NormCalibration(schedule=Schedule(0, 0))], epochs=2)
    for (name, one), two in zip(plain.named_parameters(), calibrated.parameters(), strict=True):
        assert torch.equal(one, two), name
    assert [child.training for child in plain.modules()] == [child.training for child in calibrated.modules()]
    statistics = [model.network.block("conv2").norm.running_var for model in (plain, calibrated, later)]
    assert not torch.equal(statistics[0], statistics[1])
    assert not torch.equal(statistics[1], statistics[2]), "the second epoch goes on from there"


def test_a_bad_number_of_batches_is_named():
    with pytest.raises(ConfigurationError, match="batches: got 0"):
        NormCalibration(batches=0)
