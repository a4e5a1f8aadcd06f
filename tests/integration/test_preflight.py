"""An impossible configuration is refused before data are loaded, with one message and exit status 2."""

import json
from pathlib import Path

import pytest

from spikefit.module import SpikingClassifier

BASE = (
    *("--config", "configs/base.yaml", "--config", "configs/data/digits.yaml", "--config", "configs/model/mlp.yaml"),
    *("--config", "configs/quantizer/codebook.yaml", "--trainer.accelerator=cpu", "--trainer.max_epochs=2"),
    "--trainer.enable_progress_bar=false",
)


def added(class_path, /, **options):
    """An option that appends a callback."""
    return f"--trainer.callbacks+={json.dumps({'class_path': class_path, 'init_args': options})}"


def recluster(**options):
    return added("callbacks.CodebookReclustering", **options)


def fsc(**options):
    return added("callbacks.FSCPruning", **options)


@pytest.fixture
def no_data(monkeypatch):
    monkeypatch.setattr("spikefit.data.images.Digits.load", lambda *_: 1 / 0)


REFUSED = {
    "start": ([recluster(schedule={"start": 8})], ["CodebookReclustering.schedule.start: got 8", "at most 1"]),
    "freeze": ([recluster(freeze=2)], ["CodebookReclustering.freeze: got 2", "2 epochs", "trainer.max_epochs"]),
    "ramp": ([recluster(ramp=3)], ["CodebookReclustering.ramp: got 3", "at most 2"]),
    "stop": ([fsc()], ["FSCPruning.schedule.stop: got 5", "at most 1"]),
    "recovery": ([fsc(schedule={"start": 0, "stop": 1}, recovery=3)], ["FSCPruning.recovery: got 3", "at most 0"]),
    "emulate_from": (
        [added("callbacks.FitToHardware", schedule={"start": 0, "stop": 1}, emulate_from=4)],
        ["FitToHardware.emulate_from: got 4"],
    ),
    "chip": (
        [added("callbacks.ChipEmulation", schedule={"start": 9})],
        ["ChipEmulation.schedule.start: got 9", "epoch 9"],
    ),
    "norms": (
        [added("callbacks.NormCalibration", schedule={"start": 3})],
        ["NormCalibration.schedule.start: got 3"],
    ),
    "max_steps": (
        ["--trainer.max_steps=10", recluster(schedule={"start": 10, "interval": "step"})],
        ["CodebookReclustering.schedule.start: got 10", "10 steps", "trainer.max_steps"],
    ),
    "misspelt monitor": (
        [added("lightning.pytorch.callbacks.EarlyStopping", monitor="val/acuracy")],
        ["EarlyStopping.monitor: got 'val/acuracy'", "train/loss", "Did you mean val/accuracy?"],
    ),
    "no validation": (
        ["--data.init_args.val_fraction=0"],
        ["CompressedCheckpoint.monitor: got 'val/accuracy'", "data.init_args.val_fraction is 0", "train/accuracy"],
    ),
    "no validated epoch": (
        [fsc(schedule={"start": 0, "stop": 2}), "--trainer.max_epochs=3", "--trainer.check_val_every_n_epoch=2"],
        ["CompressedCheckpoint: would never save", "FSCPruning", "epoch 1"],
    ),
    "same key": (
        [fsc(schedule={"start": 0, "stop": 1}), fsc(schedule={"start": 0, "stop": 1})],
        ["two of FSCPruning", "name: got '' twice"],
    ),
    "same key without a name": (
        [added("callbacks.CodebookMonitor"), added("callbacks.CodebookMonitor")],
        ["two of CodebookMonitor", "other options"],
    ),
    "old option": ([fsc(start=8)], ["start: is now schedule.start"]),
    "old option of the last callback": (
        [fsc(schedule={"start": 0, "stop": 1}), "--trainer.callbacks.every=2"],
        ["every: is now schedule.every"],
    ),
    "misspelt option": ([fsc(schedule={"stopp": 8})], ["Did you mean stop?", "start, stop, every, interval"]),
    "number": ([fsc(schedule=8)], ["schedule of callbacks.FSCPruning: got 8", "start, stop, every and interval"]),
    "interval": ([fsc(schedule={"interval": "hour"})], ["interval", "hour", "'epoch', 'step'"]),
    "stop before start": ([fsc(schedule={"start": 8})], ["schedule.stop: got 5, expected at least 8"]),
    "no stop": ([fsc(schedule={"stop": None})], ["schedule.stop: got None"]),
    "layers": ([recluster(layers=["conv9"])], ["layers: 'conv9' matches no quantised layer"]),
    "masks": (
        [added("callbacks.SynapsePruning", schedule={"start": 0, "stop": 1})],
        ["model.init_args.prunable_synapses: true"],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_before_data_is_loaded(run, no_data, name):
    options, named = REFUSED[name]
    status, printed = run("fit", *BASE, *options)
    assert status == 2, printed
    assert "Traceback" not in printed
    assert len(printed.splitlines()) <= 24, printed
    for words in named:
        assert words in printed, printed
    assert not list(Path().glob("runs/*/*"))


def test_steps_that_epochs_do_not_reach_are_refused_when_training_begins(run):
    """1,294 images in batches of 64: 21 steps an epoch."""
    status, printed = run("fit", *BASE, recluster(schedule={"start": 100, "interval": "step"}))
    assert status == 2, printed
    assert "Traceback" not in printed
    assert "CodebookReclustering.schedule.start: got 100" in printed


def test_one_batch_and_other_commands_ask_less(run):
    late = (fsc(), recluster(schedule={"start": 9}))
    assert run("fit", *BASE, *late, "--trainer.fast_dev_run=1")[0] == 0
    assert run("fit", *BASE)[0] == 0
    checkpoint = next(Path().glob("runs/digits-mlp-codebook4/*/checkpoints/last.ckpt"))
    for command in ("test", "validate", "predict"):
        status, printed = run(command, *BASE, *late, f"--ckpt_path={checkpoint}")
        assert status == 0, printed


def test_the_second_of_two_gets_a_name(run):
    same = {"schedule": {"start": 0, "stop": 1}}
    short = ("--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1")
    status, printed = run("fit", *BASE, fsc(**same), fsc(**same, name="second"), *short)
    assert status == 0, printed


def test_a_run_is_checked_once(run, monkeypatch, caplog):
    """What a check says, such as the terms that a budget leaves out, is said once."""
    made = []
    make = SpikingClassifier.make_optimizer
    monkeypatch.setattr(SpikingClassifier, "make_optimizer", lambda self: made.append(1) or make(self))
    pruning = fsc(schedule={"start": 0, "stop": 0}, budget={"energy_j": 1.0})
    with caplog.at_level("INFO"):
        status, printed = run("fit", *BASE, pruning, "--trainer.max_epochs=1", "--trainer.limit_train_batches=1")
    assert status == 0, printed
    assert len(made) == 2  # to check its options, and to train
    assert (printed + caplog.text).count("the energy on loihi is counted without") == 1
