"""Declarations of a user's own data module, and errors for wrong ones."""

import pytest
from helpers.tiny_fit import TinyData, fit, module

from spikefit.errors import ConfigurationError, DataError


def declaring(**attributes):
    return type("Mine", (TinyData,), attributes)()


def test_the_first_batch_that_contradicts_it_is_refused(tmp_path, monkeypatch):
    def counts(self, batch, dataloader_idx):
        x, y = batch
        return 3 * x.transpose(0, 1), y

    monkeypatch.setattr(TinyData, "on_after_batch_transfer", counts)
    model = module()
    with pytest.raises(DataError, match=r"the data module TinyData declares inputs of the kind 'spikes', but.* to 3"):
        fit(tmp_path, [], model)
    assert model.trainer.global_step == 0


def test_an_unknown_kind_is_named_with_what_is_known():
    with pytest.raises(ConfigurationError, match=r"Mine.input_kind: got 'frames', expected .*spikes.*constant"):
        module().declare(declaring(input_kind="frames"))


def test_steps_that_contradict_those_of_the_module_are_refused():
    model = module(time_steps=6)
    with pytest.raises(ConfigurationError, match=r"time_steps=6\), but the data module Mine declares 4"):
        model.declare(declaring())
    model.declare(declaring(time_steps=6))
