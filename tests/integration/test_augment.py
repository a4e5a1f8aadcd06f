"""Augmentation in YAML and on the command line."""

import json

import pytest

DIGITS = ("fit", "--config", "configs/base.yaml", "--config", "configs/data/digits.yaml")
MLP = ("--config", "configs/model/mlp.yaml")
ONE_BATCH = ("--trainer.fast_dev_run=1", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false")
FLIP = {"class_path": "torchvision.transforms.v2.RandomHorizontalFlip"}


def crop(**init_args):
    return {"class_path": "spikefit.data.augment.RandomCrop", "init_args": init_args}


@pytest.mark.parametrize(
    ("augment", "cache"),
    [([crop(padding=1)], "true"), ([FLIP, crop(padding=2, mode="reflect")], "auto"), ([FLIP], "false")],
)
def test_augmentation_of_batches_and_of_single_images(run, augment, cache):
    options = (f"--data.init_args.augment={json.dumps(augment)}", f"--data.init_args.device_cache={cache}")
    status, printed = run(*DIGITS, *MLP, *ONE_BATCH, *options)
    assert status == 0, printed


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("augment", [crop(padding=0)], "padding: got 0, expected at least 1"),
        ("augment", [crop(padding=8, mode="reflect")], "padding with mode 'reflect' of 8 x 8: got 8, expected a value"),
        ("augment", [crop(padding=1), FLIP], "augment: got RandomHorizontalFlip after RandomCrop; expected"),
        ("device_cache", "sometimes", "device_cache"),
    ],
)
def test_a_bad_value_is_named(run, option, value, said):
    status, printed = run(*DIGITS, *MLP, *ONE_BATCH, f"--data.init_args.{option}={json.dumps(value)}")
    assert status == 2
    assert said in printed
    assert "Traceback" not in printed
