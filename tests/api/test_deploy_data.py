"""Data given to deployment from Python: mistakes are named, with what was expected."""

import numpy as np
import pytest
import torch

import spikefit
from spikefit.errors import ConfigurationError, DataError
from spikefit.module import SpikingClassifier
from spikefit.networks import MLP, ConvSNN

FRAMES, LABELS = torch.ones(4, 3, 1, 8, 8), torch.tensor([0, 9, 3])


@pytest.fixture(scope="module")
def module():
    def network(shape, classes):
        return ConvSNN(shape, classes, (2,), ())

    return SpikingClassifier(network, (1, 8, 8), 10, input_kind="spikes", time_steps=4)


@pytest.mark.parametrize("data", ["foo", 3, torch.ones])
def test_something_else_than_data_is_refused(module, data):
    message = r"data: got .*, expected a LightningDataModule or batches of inputs \[T, B, C, H, W\] and labels \[B\]"
    with pytest.raises(ConfigurationError, match=message):
        spikefit.deploy(module, "loihi", data=data)


WRONG = {
    "no pair": (FRAMES, r"got a Tensor"),
    "names": ("ab", r"got a str"),
    "arrays": ((np.ones((4, 3, 1, 8, 8)), np.zeros(3)), r"got inputs of the type ndarray"),
    "channels": ((torch.ones(4, 3, 2, 8, 8), LABELS), r"got inputs of shape \(4, 3, 2, 8, 8\)"),
    "flattened": ((FRAMES.flatten(2), LABELS), r"got inputs of shape \(4, 3, 64\)"),
    "no time": ((torch.ones(3, 1, 8, 8), LABELS), r"got inputs of shape \(3, 1, 8, 8\)"),
    "too few labels": ((FRAMES, LABELS[:2]), r"got labels of shape \(2,\) for 3 samples"),
    "one-hot": ((FRAMES, torch.eye(10)[:3]), r"got labels of shape \(3, 10\) for 3 samples"),
    "fractions": ((FRAMES, LABELS / 2), r"got labels of the type torch.float32"),
    "too large": ((FRAMES, LABELS + 1), r"got labels from 1 to 10"),
    "negative": ((FRAMES, LABELS - 1), r"got labels from -1 to 8"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_batch_is_refused(module, case):
    batch, message = WRONG[case]
    expected = r"expected inputs \[T, B, 1, 8, 8\] and labels \[B\], whole numbers in 0..9"
    with pytest.raises(DataError, match=f"data: {message}.*{expected}"):
        spikefit.deploy(module, "loihi", data=[batch])


def test_right_batches_are_deployed(module):
    assert spikefit.deploy(module, "loihi", data=[(FRAMES, LABELS), [FRAMES, LABELS.int()]]).samples == 6
    flat = SpikingClassifier(MLP, (64,), 10, input_kind="spikes", time_steps=4)
    assert spikefit.deploy(flat, "loihi", data=iter([(FRAMES.flatten(2), LABELS)])).samples == 3


def test_loading_something_else_than_a_path_says_what_is_expected():
    with pytest.raises(TypeError, match=r"int"):
        spikefit.load(3)
