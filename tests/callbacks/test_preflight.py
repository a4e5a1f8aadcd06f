"""Checks before training, called from Python; tests/integration checks the command line."""

import lightning.pytorch as pl
import pytest
from helpers.tiny_fit import TinyData, fit, module
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from callbacks import (
    ChipEmulation,
    CodebookMonitor,
    CodebookReclustering,
    CompressedCheckpoint,
    EpochTimer,
    FitToHardware,
    FSCPruning,
    NormCalibration,
    Schedule,
    ScheduledCallback,
    SpikeMonitor,
)
from spikefit.errors import ConfigurationError
from spikefit.module import SpikingClassifier
from spikefit.preflight import training_end


class Recorder(ScheduledCallback):
    def act(self, trainer, module, position):
        pass


class Logging(pl.Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        pl_module.log("mine", 1.0)


class Declared(Logging):
    def logged_metrics(self, module):
        return ["mine", "others/*"]


class NoData(TinyData):
    def prepare_data(self):
        raise AssertionError("data was prepared")


def train(callbacks, data=None, model=None, **options):
    trainer = pl.Trainer(
        accelerator="cpu", callbacks=callbacks, logger=False, enable_progress_bar=False, enable_model_summary=False,
        **{"max_epochs": 3, "enable_checkpointing": any(isinstance(c, ModelCheckpoint) for c in callbacks), **options},
    )  # fmt: skip
    trainer.fit(model or module(), data or NoData())
    return trainer


TOO_LATE = {
    "start": (CodebookReclustering(Schedule(8)), r"CodebookReclustering\.schedule\.start: got 8, .* at most 2"),
    "freeze": (CodebookReclustering(freeze=3), r"CodebookReclustering\.freeze: got 3, .* at most 2"),
    "ramp": (CodebookReclustering(Schedule(1), ramp=2.5), r"CodebookReclustering\.ramp: got 2\.5, .* at most 1\.5"),
    "stop": (FSCPruning(schedule=Schedule(1, 3)), r"FSCPruning\.schedule\.stop: got 3, .* at most 2"),
    "recovery": (FSCPruning(schedule=Schedule(1, 2), recovery=1), r"FSCPruning\.recovery: got 1, .* at most 0"),
    "chip": (ChipEmulation(schedule=Schedule(3)), r"ChipEmulation\.schedule\.start: got 3, .* at most 2"),
    "emulate_from": (
        FitToHardware(schedule=Schedule(0, 1), emulate_from=3),
        r"FitToHardware\.emulate_from: got 3, .* at most 2",
    ),
    "norms": (NormCalibration(schedule=Schedule(3)), r"NormCalibration\.schedule\.start: got 3, .* at most 2"),
    "own": (Recorder(Schedule(5, every=2)), r"Recorder\.schedule\.start: got 5, .* epoch 5, .* 3 epochs, .* 0 to 2"),
}


@pytest.mark.parametrize("name", TOO_LATE)
def test_what_never_comes_is_refused_before_data_is_prepared(name):
    callback, message = TOO_LATE[name]
    with pytest.raises(ConfigurationError, match=message):
        train([callback])


@pytest.mark.parametrize(
    "callback",
    [
        CodebookReclustering(Schedule(2)),
        CodebookReclustering(Schedule(0, 20), freeze=2),
        CodebookReclustering(Schedule(1), ramp=2),
        FSCPruning(schedule=Schedule(1, 3, every=3)),
        FSCPruning(schedule=Schedule(0, 1), recovery=1),
        FSCPruning(schedule=Schedule(4, 11, interval="step")),
        FSCPruning(schedule=Schedule(4, 10, interval="step"), recovery=2),
    ],
)
def test_what_comes_at_the_very_end_is_allowed(callback):
    """3 epochs of 4 steps."""
    train([callback], TinyData(), limit_val_batches=1)


@pytest.mark.parametrize(
    ("callback", "options", "message"),
    [
        (FSCPruning(schedule=Schedule(4, 12, interval="step")), {}, r"schedule\.stop: got 12, .* step 12, .* 12 steps"),
        (CodebookReclustering(Schedule(12, interval="step")), {}, r"schedule\.start: got 12"),
        (Recorder(Schedule(6, interval="step")), {"accumulate_grad_batches": 2}, r"has 6 steps"),
        (Recorder(Schedule(2)), {"max_epochs": -1, "max_steps": 8}, r"schedule\.start: got 2, .* has 2 epochs"),
    ],
)
def test_steps_and_epochs_follow_from_each_other_when_training_begins(callback, options, message):
    class NoStep(pl.Callback):
        def on_train_batch_start(self, *_):
            raise AssertionError("training began")

    with pytest.raises(ConfigurationError, match=message):
        train([callback, NoStep()], TinyData(), **options)


def test_steps_are_known_before_data_where_the_trainer_limits_them():
    with pytest.raises(ConfigurationError, match=r"Recorder\.schedule\.start: got 9, .* training has 9 steps"):
        train([Recorder(Schedule(9, interval="step"))], max_steps=9)


def test_a_training_without_an_end_or_of_a_few_batches_refuses_nothing():
    assert training_end(pl.Trainer(max_epochs=-1, logger=False, accelerator="cpu"), "epoch") is None
    assert training_end(pl.Trainer(logger=False, accelerator="cpu"), "epoch") is None
    assert training_end(pl.Trainer(max_epochs=4, logger=False, accelerator="cpu"), "step") is None
    train([Recorder(Schedule(50))], TinyData(), fast_dev_run=True)


def test_an_overridden_predicate_decides():
    class Odd(Recorder):
        def due(self, position):
            return position % 2 == 1

    train([Odd(Schedule(99))], TinyData(), limit_val_batches=1)
    with pytest.raises(ConfigurationError, match="Odd"):
        train([Odd(Schedule(99))], max_epochs=1)


@pytest.mark.parametrize(
    ("monitor", "message"),
    [
        ("val/acuracy", r"expected one of train/loss, .* Did you mean val/accuracy\?"),
        ("test/loss", "expected one of train/loss"),
        ("spike/fc1", r".*Did you mean spikes/fc1\?"),
        ("codebook/flips/conv3", r".*Did you mean codebook/flips/conv[12]\?"),
    ],
)
@pytest.mark.parametrize("kind", [ModelCheckpoint, CompressedCheckpoint, EarlyStopping])
def test_a_misspelt_monitor_is_refused(kind, monitor, message):
    with pytest.raises(ConfigurationError, match=rf"{kind.__name__}\.monitor: got '{monitor}', {message}"):
        train([kind(monitor=monitor), SpikeMonitor(), CodebookMonitor(), EpochTimer()])


@pytest.mark.parametrize(
    "monitor",
    [
        "train/loss",
        "val/accuracy",
        "spikes/conv1",
        "codebook/dead/fc1",
        "time/epoch_seconds",
        "quantizer/error/conv1",
        "prune/fraction",
        "epoch",
        None,
    ],
)
def test_what_is_logged_may_be_monitored(tmp_path, monitor):
    pruning = FSCPruning(schedule=Schedule(0, 1))
    others = [SpikeMonitor(), CodebookMonitor(), EpochTimer(), CodebookReclustering(), pruning]
    checkpoint = ModelCheckpoint(tmp_path, monitor=monitor)
    train([checkpoint, *others], TinyData())
    assert checkpoint.best_model_path


def test_what_another_callback_or_module_may_log_is_not_refused(tmp_path):
    class Own(SpikingClassifier):
        def training_step(self, batch, batch_idx):
            self.log("mine", 1.0)
            return super().training_step(batch, batch_idx)

    own = module()
    own.__class__ = Own
    train([ModelCheckpoint(tmp_path, monitor="mine"), Logging()], TinyData())
    train([ModelCheckpoint(tmp_path, monitor="mine")], TinyData(), own)
    train([ModelCheckpoint(tmp_path, monitor="mine"), Declared()], TinyData())
    with pytest.raises(ConfigurationError, match=r"got 'minne', .*Did you mean mine\?"):
        train([ModelCheckpoint(tmp_path, monitor="minne"), Declared()])


def test_a_validation_that_does_not_take_place_can_not_be_monitored():
    class Unvalidated(NoData):
        validates = False

    with pytest.raises(ConfigurationError, match=r"got 'val/loss', .* data\.init_args\.val_fraction is 0"):
        train([EarlyStopping("val/loss")], Unvalidated())
    with pytest.raises(ConfigurationError, match=r"trainer\.limit_val_batches is 0.*train/loss, train/accuracy"):
        train([EarlyStopping("val/loss")], limit_val_batches=0)


def test_training_without_batches_is_refused():
    """It would deploy random weights."""
    with pytest.raises(ConfigurationError, match=r"trainer\.limit_train_batches: got 0, expected at least one batch"):
        train([], limit_train_batches=0)


@pytest.mark.parametrize(
    ("callback", "options"),
    [
        (Recorder(Schedule(0)), {}),
        (Recorder(Schedule(0, 9)), {}),
        (FSCPruning(schedule=Schedule(1, 2)), {"check_val_every_n_epoch": 2}),
        (Recorder(Schedule(0, 20, interval="step")), {"max_steps": 12}),
    ],
)
def test_a_checkpoint_that_could_never_be_saved_is_refused(tmp_path, callback, options):
    name = type(callback).__name__
    with pytest.raises(ConfigurationError, match=f"CompressedCheckpoint: would never save, because {name}"):
        train([CompressedCheckpoint(tmp_path, monitor="val/loss"), callback], **options)


def test_a_network_that_has_yet_to_fit_may_be_saved_later(tmp_path):
    checkpoint = CompressedCheckpoint(tmp_path, monitor="val/loss")
    fit(tmp_path, [checkpoint, FitToHardware(schedule=Schedule(0, 1), emulate_from=2)], epochs=3)
    assert checkpoint.best_model_path


def test_a_schedule_of_another_kind_is_named():
    for make in (CodebookReclustering, Recorder, lambda schedule: NormCalibration(schedule=schedule)):
        with pytest.raises(ConfigurationError, match=r"schedule: got 8, expected Schedule\("):
            make(8)
    with pytest.raises(ConfigurationError, match=r"schedule\.stop: got None, expected the last position, at least 4"):
        FSCPruning(schedule=Schedule(4))
    with pytest.raises(ConfigurationError, match=r"ChipEmulation\.schedule\.stop: got 5, expected null"):
        ChipEmulation(schedule=Schedule(2, 5))
    with pytest.raises(ConfigurationError, match=r"NormCalibration\.schedule\.interval: got 'step'"):
        NormCalibration(schedule=Schedule(interval="step"))
