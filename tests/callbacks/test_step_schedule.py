"""StepSchedule: fewer time steps in the first epochs of training, all of them in evaluation."""

import pytest
import torch
from helpers.tiny_fit import TinyData, fit, module

from callbacks import StepSchedule
from spikefit.errors import ConfigurationError
from spikefit.input_kind import InputKind
from spikefit.losses import CrossEntropy


class Seen(CrossEntropy):
    """Notes how many steps the readout and the inputs had, in training and in evaluation."""

    def __init__(self):
        super().__init__()
        self.steps = {True: [], False: []}

    def forward(self, logits, labels, inputs=None, steps=None):
        self.steps[self.training].append((len(steps), len(inputs)))
        return super().forward(logits, labels)


class Constant(TinyData):
    """The same images in each of 4 steps."""

    input_kind = InputKind.CONSTANT

    def on_after_batch_transfer(self, batch, dataloader_idx):
        x, y = batch
        return x[:, 0].expand(4, *x[:, 0].shape), y


def train(tmp_path, schedule, monkeypatch, data=Constant):
    monkeypatch.setattr("helpers.tiny_fit.TinyData", data)
    _, model = fit(tmp_path, [StepSchedule(schedule)], module(loss=Seen()), epochs=4)
    return model.loss.steps, model


def test_each_epoch_trains_with_its_steps_and_evaluates_with_all(tmp_path, monkeypatch):
    seen, _ = train(tmp_path, {2: 4, 0: 1, 1: 2}, monkeypatch)
    assert [steps for steps, _ in seen[True]] == [1] * 4 + [2] * 4 + [4] * 8
    assert {steps for steps, _ in seen[False]} == {4}
    assert {inputs for _, inputs in seen[True]} == {4}, "what the network could see, for a teacher"


def test_with_all_steps_nothing_changes(tmp_path, monkeypatch):
    _, scheduled = train(tmp_path, {0: 4}, monkeypatch)
    _, plain = fit(tmp_path, [], module(), epochs=4)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(scheduled.state_dict()[name], tensor), name


def test_inputs_that_change_in_time_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ConfigurationError, match="'spikes', expected 'constant'"):
        train(tmp_path, {0: 1, 2: 4}, monkeypatch, TinyData)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({0: 1, 2: 2}, r"time_steps: got 2 in the last epochs, expected 4"),
        ({0: 8, 2: 4}, r"time_steps\[0\]: got 8, expected a value from 1 to 4"),
        ({0: 1, 4: 4}, r"time_steps: got 4, which takes effect at epoch 4, but training has 4 epochs"),
    ],
)
def test_what_data_and_training_do_not_allow_is_refused_before_training(tmp_path, monkeypatch, schedule, message):
    with pytest.raises(ConfigurationError, match=message):
        train(tmp_path, schedule, monkeypatch)


@pytest.mark.parametrize(
    ("schedule", "named"), [({1: 4}, "epoch 0"), ({0: 0}, "time_steps"), ({0: 1, -1: 2}, "epoch of")]
)
def test_a_bad_option_is_named(schedule, named):
    with pytest.raises(ConfigurationError, match=named):
        StepSchedule(schedule)
