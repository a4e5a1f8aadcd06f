"""Constants computed from the weights ignore synapses that are not in use."""

from functools import partial

import pytest
import torch

from spikefit.quantize import RescaledUniform, Ternary

CASES = [Ternary, partial(RescaledUniform, scope="layer"), partial(RescaledUniform, scope="layer", coefficient="max")]


def constants(quantizer):
    return {name: buffer.clone() for name, buffer in quantizer.named_buffers() if name not in ("in_use", "strength")}


def weight(seed=0):
    return torch.randn(6, 20, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def live():
    live = torch.ones(6, 20, dtype=torch.bool)
    live[2], live[:, 5:9] = False, False
    return live


@pytest.mark.parametrize("make", CASES)
@pytest.mark.parametrize("method", ["refit", "recluster"])
def test_training_steps_leave_dead_synapses_out(make, method, live):
    quantizer = make(weight()).train()
    getattr(quantizer, method)(weight(), live)
    later = torch.where(live, weight(1), torch.tensor(100.0))
    quantised = quantizer(later)
    alone = make(weight(1)[live].view(1, -1))
    assert constants(quantizer).keys() == constants(alone).keys()
    for name, value in constants(alone).items():
        torch.testing.assert_close(constants(quantizer)[name].flatten(), value.flatten())
    torch.testing.assert_close(quantised[live], alone(weight(1)[live].view(1, -1)).flatten())


@pytest.mark.parametrize("make", CASES)
def test_a_checkpoint_remembers_what_is_dead(make, live):
    quantizer = make(weight())
    quantizer.refit(weight(), live)
    other = make(weight(2))
    other.load_state_dict(quantizer.state_dict())
    later = torch.where(live, weight(3), torch.tensor(100.0))
    assert torch.equal(other.train()(later), quantizer.train()(later))
    assert not torch.equal(make(weight())(later), quantizer(later))


@pytest.mark.parametrize("make", CASES)
def test_without_a_living_synapse_the_constants_stay(make):
    quantizer = make(weight())
    before = constants(quantizer)
    quantizer.refit(5 * weight(1), torch.zeros(6, 20, dtype=torch.bool))
    assert all(torch.equal(value, before[name]) for name, value in constants(quantizer).items())


def test_each_channel_counts_its_own_living_synapses(live):
    quantizer = RescaledUniform(weight())
    before = quantizer.gamma[2].clone()
    quantizer.refit(3 * weight(), live)
    for row in (0, 1, 3, 4, 5):
        torch.testing.assert_close(quantizer.gamma[row, 0], 3 * weight()[row][live[row]].abs().mean())
    assert torch.equal(quantizer.gamma[2], before)
