"""Every YAML file that ships is parsed and run for one batch."""

from pathlib import Path

import fake_data
import pytest
import torch
import yaml

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
DIGITS = ("configs/base.yaml", "configs/data/digits.yaml")
ONE_BATCH = ("--trainer.fast_dev_run=1", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false")


def fragments(folder: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / folder).glob("*.yaml"))


def with_configs(*paths: str) -> list[str]:
    return [word for path in paths for word in ("--config", path)]


@pytest.fixture
def fake_root(tmp_path, monkeypatch):
    root = tmp_path / "fake"
    for name in ("MNIST", "FashionMNIST"):
        fake_data.write_mnist(root, name)
    fake_data.write_cifar(root, fine=False)
    fake_data.write_cifar(root, fine=True)
    fake_data.write_nmnist(root)
    fake_data.write_pokerdvs(root)
    # Only the files' checksums differ from the real ones.
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, md5=None: Path(path).is_file())
    monkeypatch.setattr("tonic.datasets.POKERDVS._is_file_present", lambda self: True)
    monkeypatch.setenv("SPIKEFIT_DATA_DIR", str(root))
    return root


def test_every_folder_of_configs_is_covered():
    covered = {"data", "model", "quantizer", "callbacks", "hardware", "logger", "experiment"}
    assert {path.name for path in CONFIGS.iterdir() if path.is_dir()} == covered
    assert {path.name for path in CONFIGS.glob("*.yaml")} == {"quickstart.yaml", "base.yaml"}


@pytest.mark.parametrize("name", fragments("data"))
def test_data(run, fake_root, name):
    status, printed = run(
        "fit",
        *with_configs("configs/base.yaml", f"configs/data/{name}.yaml", "configs/model/conv_snn.yaml"),
        *ONE_BATCH,
    )
    assert status == 0, printed


@pytest.mark.parametrize("name", fragments("model"))
def test_model(run, fake_root, name):
    status, printed = run(
        "fit",
        *with_configs("configs/base.yaml", "configs/data/cifar10.yaml", f"configs/model/{name}.yaml"),
        *ONE_BATCH,
        "--data.init_args.batch_size=4",
    )
    assert status == 0, printed


@pytest.mark.parametrize("name", fragments("quantizer"))
def test_quantizer(run, name):
    paths = (*DIGITS, "configs/model/conv_snn.yaml", f"configs/quantizer/{name}.yaml")
    status, printed = run("fit", *with_configs(*paths), *ONE_BATCH)
    assert status == 0, printed


@pytest.mark.parametrize("name", fragments("callbacks"))
def test_callbacks_are_appended(run, name):
    """The base configuration's callbacks stay; the fragment's come behind them."""
    paths = (
        *DIGITS,
        "configs/model/conv_snn.yaml",
        "configs/quantizer/codebook.yaml",
        f"configs/callbacks/{name}.yaml",
    )
    status, printed = run("fit", *with_configs(*paths), "--trainer.max_epochs=1", "--trainer.limit_train_batches=1")
    assert status == 0, printed
    (saved,) = Path("runs/base").glob("*/config.yaml")
    names = [
        callback["class_path"].rsplit(".", 1)[-1]
        for callback in yaml.safe_load(saved.read_text())["trainer"]["callbacks"]
    ]
    assert names[:3] == ["ModelCheckpoint", "CompressedCheckpoint", "PredictionWriter"]
    assert len(names) == 4


def test_the_same_callback_twice(run):
    prune = "configs/callbacks/fsc_pruning.yaml"
    paths = (*DIGITS, "configs/model/conv_snn.yaml", prune, prune)
    options = ("--trainer.callbacks.name=second", "--trainer.max_epochs=1", "--trainer.limit_train_batches=1")
    status, printed = run("fit", *with_configs(*paths), *options)
    assert status == 0, printed


@pytest.mark.parametrize("name", fragments("logger"))
def test_logger(run, name, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    paths = (*DIGITS, "configs/model/mlp.yaml", f"configs/logger/{name}.yaml")
    status, printed = run("fit", *with_configs(*paths), "--trainer.max_epochs=1", "--trainer.limit_train_batches=1")
    assert status == 0, printed
    assert len(list(Path("runs/base/version_0").iterdir())) >= 3


@pytest.mark.parametrize("name", fragments("experiment"))
def test_experiment(run, fake_root, name):
    status, printed = run("fit", *with_configs(f"configs/experiment/{name}.yaml"), *ONE_BATCH)
    assert status == 0, printed


def test_options_come_from_the_environment_too(run, monkeypatch):
    monkeypatch.setenv("SPIKEFIT_FIT__TRAINER__MAX_EPOCHS", "2")
    paths = (*DIGITS, "configs/model/mlp.yaml")
    monkeypatch.setenv("SPIKEFIT_FIT__TRAINER__LIMIT_TRAIN_BATCHES", "1")
    assert run("fit", *with_configs(*paths))[0] == 0
    (saved,) = Path("runs/base").glob("*/config.yaml")
    settings = yaml.safe_load(saved.read_text())["trainer"]
    assert settings["limit_train_batches"] == 1


def test_cpu_threads_are_set(run):
    status, printed = run("fit", "--config", "configs/quickstart.yaml", *ONE_BATCH, "--cpu_threads=3")
    assert status == 0, printed
    assert torch.get_num_threads() == 3
