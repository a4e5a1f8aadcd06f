"""An event pipeline in YAML: training, resuming, and errors before data are loaded."""

import json
import subprocess
import sys
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
import yaml
from helpers.event_source import MadeUpEvents

from spikefit.data import SpikeDataModule
from spikefit.data.events.pipeline import EventPipeline
from spikefit.seeding import reseed

ROOT = Path(__file__).resolve().parents[2]
ONE_BATCH = ("--trainer.fast_dev_run=1", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false")


def arguments(pipeline, source="helpers.event_source.MadeUpEvents"):
    """Of a fit of a small network on the events of this pipeline."""
    settings = {
        "dataset": {"class_path": source, "init_args": {"pipeline": pipeline}},
        "encoding": "frames",
        "time_steps": 4,
        "batch_size": 4,
    }
    Path("events.yaml").write_text(
        yaml.safe_dump({"data": {"class_path": "spikefit.data.SpikeDataModule", "init_args": settings}})
    )
    return ("fit", "--config", "configs/base.yaml", "--config", "events.yaml", "--config", "configs/model/mlp.yaml")


PIPELINE = {
    "transforms": [{"class_path": "tonic.transforms.Downsample", "init_args": {"spatial_factor": 0.5}}],
    "augment": [
        {"class_path": "tonic.transforms.RandomFlipLR"},
        {"class_path": "tonic.transforms.DropEvent", "init_args": {"p": [0.0, 0.4]}},
    ],
    "framing": {
        "class_path": "spikefit.data.events.framing.TimeWindows",
        "init_args": {"microseconds": 20_000, "overlap": 0, "incomplete": True},
    },
    "binary": False,
    "cache": "disk",
    "cache_dir": "kept",
}


def test_a_pipeline_trains(run):
    status, printed = run(*arguments(PIPELINE), "--trainer.max_epochs=1", "--trainer.limit_train_batches=2")
    assert status == 0, printed
    assert len(list(Path("kept").glob("*.cache"))) == 1
    (saved,) = Path("runs").glob("*/version_0/config.yaml")
    kept = yaml.safe_load(saved.read_text())["data"]["init_args"]["dataset"]["init_args"]["pipeline"]["init_args"]
    assert [kept[name] for name in PIPELINE] == list(PIPELINE.values())
    checkpoint = torch.load(saved.parent / "checkpoints" / "last.ckpt", weights_only=True)
    inputs = next(value for name, value in checkpoint["state_dict"].items() if name.endswith("weight"))
    assert inputs.shape[1] == 2 * 5 * 6  # of a sensor of 12 x 10, halved


def test_an_option_of_a_pipeline_on_the_command_line(run):
    option = "--data.init_args.dataset.init_args.pipeline.init_args.framing=spikefit.data.events.framing.VoxelGrid"
    status, printed = run(*arguments({"cache": "none"}), option, *ONE_BATCH)
    assert status == 0, printed


@pytest.mark.parametrize(
    ("pipeline", "named"),
    [
        ({"transforms": [{"class_path": "tonic.transforms.Denoize"}]}, ["transforms[0]", "Denoize", "Denoise"]),
        ({"augment": [{"class_path": "tonic.transforms.DropEvent", "init_args": {"q": 1}}]},
         ["augment[0].init_args", "'q' is not accepted", "allowed are p"]),
        ({"transforms": [{"class_path": "tonic.transforms.DropEvent", "init_args": {"p": 0.1}}]},
         ["transforms[0]", "is random", "augment"]),
        ({"augment": [{"class_path": "tonic.transforms.RandomCrop", "init_args": {"target_size": [30, 4]}}]},
         ["augment[0]", "RandomCrop", "12 x 10 x 2"]),
        ({"augment": [{"class_path": "tonic.transforms.RandomCrop", "init_args": {"target_size": [3, 4]}}]},
         ["augment: training frames", "(3, 4, 2)", "(12, 10, 2)"]),
        ({"framing": {"class_path": "spikefit.data.events.framing.TimeWindows", "init_args": {"microseconds": 0}}},
         ["microseconds", "got 0", "at least 1"]),
        ({"framing": "spikefit.data.events.framing.TimeBin"}, ["TimeBin"]),
        ({"cache": "tape"}, ["cache", "tape", "memory"]),
        ({"cache_limit": -1}, ["cache_limit", "-1"]),
    ],
)  # fmt: skip
def test_a_mistake_is_named_before_data_are_loaded(run, pipeline, named, monkeypatch):
    monkeypatch.setattr(MadeUpEvents, "load", lambda *_: pytest.fail("data are loaded"))
    monkeypatch.setattr(MadeUpEvents, "prepare", lambda *_: pytest.fail("data are looked for"))
    status, printed = run(*arguments(pipeline))
    assert status == 2, printed
    assert "Traceback" not in printed
    assert max(map(len, printed.splitlines())) <= 500, printed
    for words in named:
        assert words in printed, printed


def test_reading_a_configuration_imports_no_data_library(run):
    words = [*arguments(PIPELINE)[:5], "--config", "configs/model/mlp.yaml", "--print_config"]
    code = (
        f"import sys; from spikefit.cli.lightning_cli import main; sys.argv = ['lightning', *{json.dumps(words)}]\n"
        "try: main()\nexcept SystemExit: print('tonic' in sys.modules)"
    )
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PATH": "/usr/bin:/bin"}
    printed = subprocess.check_output([sys.executable, "-c", code], text=True, env=environment)
    assert "tonic.transforms.DropEvent" in printed
    assert printed.splitlines()[-1] == "False"


class Recorder(pl.LightningModule):
    """Remembers the batches that it is trained on, by epoch."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(240, 2)
        self.seen = []

    def on_train_epoch_start(self):
        reseed("epoch", self.current_epoch)

    def training_step(self, batch, batch_idx):
        x, y = batch
        self.seen.append((self.current_epoch, x.clone()))
        return torch.nn.functional.cross_entropy(self.layer(x.mean(0).flatten(1)), y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.parametrize("cache", ["none", "memory", "disk"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_sees_the_batches_of_the_uninterrupted_one(workers, cache, tmp_path):
    augment = [{"class_path": "tonic.transforms.DropEvent", "init_args": {"p": 0.3}}]

    def batches(epochs, ckpt_path=None, save=None):
        module = Recorder()
        pipeline = EventPipeline(augment=augment, cache=cache, cache_dir=str(tmp_path))
        options = {"encoding": "frames", "batch_size": 7, "val_fraction": 0, "num_workers": workers}
        quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
        trainer = pl.Trainer(max_epochs=epochs, accelerator="cpu", **quiet)
        trainer.fit(module, SpikeDataModule(MadeUpEvents(pipeline), **options), ckpt_path=ckpt_path)
        if save:
            trainer.save_checkpoint(save)
        return module.seen

    whole = [x for epoch, x in batches(3) if epoch == 2]
    batches(2, save=tmp_path / "two.ckpt")
    resumed = batches(3, ckpt_path=tmp_path / "two.ckpt")
    assert [x.shape for x in whole] == [(4, 7, 2, 10, 12)] * 2 + [(4, 6, 2, 10, 12)]
    assert [epoch for epoch, _ in resumed] == [2, 2, 2]
    assert all(torch.equal(x, again) for x, (_, again) in zip(whole, resumed, strict=True))
