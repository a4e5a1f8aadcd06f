"""Switches (strength, frozen assignment): Python numbers that are stored in the state dict."""

import copy

import pytest
import torch

from spikefit.errors import ConfigurationError
from spikefit.quantize import Codebook, PostTraining


def quantizer():
    found = Codebook(torch.randn(4, 6, generator=torch.Generator().manual_seed(0)))
    found.strength = 0.3
    found.frozen = True
    return found


def test_buffers_follow_and_a_number_is_read_as_a_checkpoint_gives_it_back():
    found = quantizer()
    state = found.state_dict()
    assert state["strength"].dtype == torch.float32
    assert state["frozen"].dtype == torch.bool
    assert found.strength == state["strength"].item() != 0.3
    assert found.frozen is True
    assert state["frozen"].item() is True


@pytest.mark.parametrize("assign", [False, True])
def test_a_state_dict_sets_them(assign):
    other = Codebook(torch.randn(4, 6))
    other.load_state_dict(quantizer().state_dict(), assign=assign)
    assert (other.strength, other.frozen) == (quantizer().strength, True)


def test_those_of_a_quantizer_within_another_come_too():
    outer = PostTraining(torch.randn(4, 6))
    state = outer.state_dict()
    state["fitted.frozen"] = torch.tensor(True)
    outer.load_state_dict(state)
    assert isinstance(outer.fitted, Codebook)
    assert outer.fitted.frozen is True
    assert outer.strength == 0


def test_a_copy_has_its_own():
    found = quantizer()
    other = copy.deepcopy(found)
    other.strength, other.frozen = 1, False
    assert (found.strength, found.frozen) == (quantizer().strength, True)
    assert other.state_dict()["strength"] == 1


def test_what_was_written_elsewhere_is_read_when_asked():
    found = quantizer()
    found.state_dict()["strength"].fill_(0.5)  # as a broadcast does
    found.read_switches()
    assert found.strength == 0.5


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan")])
def test_a_strength_out_of_range_is_refused(value):
    with pytest.raises(ConfigurationError, match=r"strength: got .*, expected a value from 0 to 1"):
        quantizer().strength = value
