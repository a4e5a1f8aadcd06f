"""Every shipped YAML file is parsed and run for one batch."""

import re
import shutil
from functools import partial
from itertools import takewhile
from pathlib import Path

import pytest
import torch
import yaml
from helpers import fake_data, fake_events

from scripts.compare.grid import load_grid
from scripts.compare.run import all_runs

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
DIGITS = ("configs/base.yaml", "configs/data/digits.yaml")
SHORT_EPOCHS = (  # as many as schedules need
    *("--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1"),
    *("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"),
)
ONE_BATCH = ("--trainer.fast_dev_run=1", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false")

EVENTS = {  # written for the one configuration that reads them
    "ssc": partial(fake_events.write_heidelberg, name="SSC", classes=35, per_class=2),
    "ntidigits18": fake_events.write_ntidigits,
    "dvsgesture": fake_events.write_dvsgesture,
    "cifar10dvs": fake_events.write_cifar10dvs,
    "ncaltech101": fake_events.write_ncaltech101,
}
AUDIO = ("shd", "ssc", "ntidigits18")
LARGE = ("cifar10dvs", "ncaltech101")


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
    fake_events.write_heidelberg(root, "SHD", 20)
    # Only the files' checksums differ from the real ones.
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, md5=None: Path(path).is_file())
    monkeypatch.setattr("tonic.datasets.POKERDVS._is_file_present", lambda self: True)
    monkeypatch.setenv("SPIKEFIT_DATA_DIR", str(root))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return root


def test_every_folder_of_configs_is_covered():
    covered = {"data", "model", "quantizer", "callbacks", "hardware", "logger", "experiment", "compare"}
    assert {path.name for path in CONFIGS.iterdir() if path.is_dir()} == covered
    assert {path.name for path in CONFIGS.glob("*.yaml")} == {"quickstart.yaml", "base.yaml"}


@pytest.mark.parametrize("name", fragments("data"))
def test_data(run, fake_root, name, monkeypatch):
    fake_events.install_aedat(monkeypatch)
    if name in EVENTS:
        EVENTS[name](fake_root)
    fake_events.write_recordings(Path("data/recordings"))
    model = "mlp" if name in AUDIO else "conv_snn"
    status, printed = run(
        "fit",
        *with_configs("configs/base.yaml", f"configs/data/{name}.yaml", f"configs/model/{model}.yaml"),
        *ONE_BATCH,
        *(("--data.init_args.batch_size=2",) if name in LARGE else ()),
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
    """The base configuration's callbacks stay; the fragment's come after them."""
    paths = (
        *DIGITS,
        "configs/model/conv_snn.yaml",
        "configs/quantizer/codebook.yaml",
        f"configs/callbacks/{name}.yaml",
    )
    status, printed = run("fit", *with_configs(*paths), *SHORT_EPOCHS)
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
    status, printed = run("fit", *with_configs(*paths), "--trainer.callbacks.name=second", *SHORT_EPOCHS)
    assert status == 0, printed


@pytest.mark.parametrize("name", fragments("logger"))
def test_logger(run, name, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    paths = (*DIGITS, "configs/model/mlp.yaml", f"configs/logger/{name}.yaml")
    status, printed = run("fit", *with_configs(*paths), "--trainer.max_epochs=1", "--trainer.limit_train_batches=1")
    assert status == 0, printed
    assert len(list(Path("runs/base/version_0").iterdir())) >= 3


def stacked(name: str) -> list[str]:
    """An experiment's configurations: those of the command in its header, or the file alone."""
    path = f"configs/experiment/{name}.yaml"
    header = "".join(takewhile(lambda line: line.startswith("#"), (CONFIGS.parent / path).open()))
    return re.findall(r"--config (\S+)", header) or [path]


@pytest.mark.parametrize("name", fragments("experiment"))
def test_experiment(run, fake_root, name):
    paths = stacked(name)
    assert f"configs/experiment/{name}.yaml" in paths
    small = ("--data.init_args.batch_size=8",) if name.startswith("cifar10") else ()
    if name in ("cifar10_float", "cifar10_cat"):  # cifar10_cat_fsc is run as wide as it is
        small += ("--model.init_args.network.init_args.width=0.125",)
    if name == "cifar10_resnet18":
        small += ("--model.init_args.network.init_args.channels=[4,4,8,8]",)
    status, printed = run("fit", *with_configs(*paths), *small, *ONE_BATCH)
    assert status == 0, printed


def compared_rows() -> dict[str, tuple[str, str]]:
    """Grid and name of every row of the method tables; what two grids run alike counts once."""
    rows = {}
    for path in sorted((CONFIGS / "compare").glob("*.yaml")):
        for row in yaml.safe_load(path.read_text())["rows"]:
            rows[str([row.get(key) for key in ("command", "configs", "options")])] = (path.name, row["name"])
    return {f"{grid}-{name}": (grid, name) for grid, name in rows.values()}


@pytest.mark.parametrize(("grid", "name"), compared_rows().values(), ids=list(compared_rows()))
def test_compared_row(run, fake_root, grid, name):
    """As scripts/compare runs it; with the checkpoints that it reads if an option names one, else without."""
    runs = {entry.row.name: entry for entry in all_runs(load_grid(Path("configs/compare") / grid), seeds=(0,))}
    small = ("--data.init_args.train_samples=40", "--data.init_args.batch_size=8", "--trainer.accelerator=cpu")
    checkpoints = {}
    if "{checkpoint:" in str(runs[name].row.options):
        for needed in runs[name].row.needs:
            one = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--trainer.callbacks.max_samples=2")
            status, printed = run(*runs[needed].arguments(Path("runs"), needed, {}), *small, *one)
            assert status == 0, printed
            checkpoints[needed] = Path("runs") / needed / "checkpoints" / "last.ckpt"
            shutil.copy(checkpoints[needed], checkpoints[needed].with_name("epoch3.ckpt"))
    status, printed = run(*runs[name].arguments(Path("runs"), "version_0", checkpoints), *small, *ONE_BATCH)
    assert status == 0, printed


def test_every_part_of_a_compared_row_is_in_a_grid(run):
    used = set()
    for path in Path("configs/compare").glob("*.yaml"):
        grid = load_grid(path)
        used |= {*grid.configs, *(config for row in grid.rows for config in row.configs)}
    assert {Path(config).name for config in used} >= {path.name for path in CONFIGS.glob("experiment/compare/*.yaml")}


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
