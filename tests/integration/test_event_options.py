"""Event data sets in YAML, and error messages of the command line."""

from pathlib import Path

import pytest
import yaml
from helpers import fake_data, fake_events

ONE_BATCH = ("--trainer.fast_dev_run=1", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false")


@pytest.fixture
def fit(run):
    """Fits on a data set that is given as in YAML."""

    def fit(source, model="mlp", **init_args):
        dataset = {"class_path": source, "init_args": init_args}
        data = {"dataset": dataset, "encoding": "frames", "time_steps": 3, "batch_size": 4}
        text = yaml.safe_dump({"data": {"class_path": "spikefit.data.SpikeDataModule", "init_args": data}})
        Path("data.yaml").write_text(text)
        configs = ("--config", "configs/base.yaml", "--config", "data.yaml", "--config", f"configs/model/{model}.yaml")
        return run("fit", *configs, *ONE_BATCH)

    return fit


COUNTS = {"class_path": "spikefit.data.EventPipeline", "init_args": {"binary": False, "cache": "none"}}
LETTERS = {
    "class_path": "tonic.datasets.ASLDVS",
    "num_classes": 26,
    "sensor_size": [240, 180, 2],
    "part_argument": None,
    "root": "data",
    "download": False,
    "test_fraction": 0.1,
}


def test_any_data_set_of_tonic(fit):
    fake_events.write_asldvs(Path("data"), per_class=12)
    status, printed = fit("spikefit.data.events.TonicDataset", **LETTERS, pipeline=COUNTS)
    assert status == 2
    assert "ASLDVS.zip (MD5 33f8b87bf45edc0bfed0de41822279b9; from https://www.dropbox.com" in printed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tonic.datasets.ASLDVS._check_exists", lambda self: True)
        status, printed = fit("spikefit.data.events.TonicDataset", **LETTERS, pipeline=COUNTS, init_args={})
    assert status == 0, printed


def test_a_class_that_is_not_there(fit):
    options = LETTERS | {"class_path": "tonic.datasets.MNISTDVS"}
    status, printed = fit("spikefit.data.events.TonicDataset", **options)
    assert status == 2
    assert "class_path: got 'tonic.datasets.MNISTDVS', which can't be imported" in printed


def test_images_ask_for_images(fit):
    """Before anything is looked for in the folder."""
    status, printed = fit("spikefit.data.events.SHD", model="conv_snn", root="data", download=False)
    assert status == 2
    assert "input_shape: got (700,), expected (channels, height, width)" in printed


def test_what_is_missing_is_the_last_thing_that_is_printed(fit):
    status, printed = fit("spikefit.data.events.SHD", root="data", download=False)
    assert status == 2
    assert "Put shd_train.h5.zip (MD5 f3252aeb598ac776c1b526422d90eecb; from https://" in printed
    assert "Traceback" not in printed
    assert not Path("data").exists()


def test_the_pipeline_of_a_known_data_set(fit):
    fake_data.write_nmnist(Path("data"))
    status, printed = fit("spikefit.data.events.NMNIST", root="data", classes=[3, 5], pipeline=COUNTS)
    assert status == 0, printed
