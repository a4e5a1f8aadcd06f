"""Every YAML file that ships is parsed; fragments, experiments and one row for each mechanism of the grids are run."""

import shutil
from functools import partial
from itertools import combinations
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
import yaml
from helpers import fake_data, fake_events, fake_images

from scripts.compare.grid import load_grid
from scripts.compare.run import all_runs
from spikefit.cli.include import IncludingParser, expand
from spikefit.data import SpikeDataModule
from spikefit.module import SpikingClassifier

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
DIGITS = ("configs/base.yaml", "configs/data/digits.yaml")
SHORT_EPOCHS = (  # as many as schedules need
    *("--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1"),
    *("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"),
)
ONE_BATCH = ("--trainer.fast_dev_run=1", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false")

OTHERS = {  # written for the one configuration that reads them
    "ssc": partial(fake_events.write_heidelberg, name="SSC", classes=35, per_class=2),
    "ntidigits18": fake_events.write_ntidigits,
    "dvsgesture": fake_events.write_dvsgesture,
    "cifar10dvs": fake_events.write_cifar10dvs,
    "ncaltech101": fake_events.write_ncaltech101,
    "torchvision_dataset": fake_images.write_svhn,
}
AUDIO = ("shd", "ssc", "ntidigits18")
LARGE = ("cifar10dvs", "ncaltech101")


def fragments(folder: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / folder).glob("*.yaml"))


def with_configs(*paths: str) -> list[str]:
    return [word for path in paths for word in ("--config", path)]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with data sets."""
    root = tmp_path_factory.mktemp("fake")
    for name in ("MNIST", "FashionMNIST"):
        fake_data.write_mnist(root, name)
    fake_data.write_cifar(root, fine=False)
    fake_data.write_cifar(root, fine=True)
    fake_data.write_nmnist(root)
    fake_data.write_pokerdvs(root)
    fake_events.write_heidelberg(root, "SHD", 20)
    return root


@pytest.fixture
def fake_root(written, tmp_path, monkeypatch):
    # Only the files' checksums differ from the real ones.
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, md5=None: Path(path).is_file())
    monkeypatch.setattr("torchvision.datasets.svhn.check_integrity", lambda path, md5=None: Path(path).is_file())
    monkeypatch.setattr("tonic.datasets.POKERDVS._is_file_present", lambda self: True)
    monkeypatch.setenv("SPIKEFIT_DATA_DIR", str(written))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return written


def test_every_folder_of_configs_is_covered():
    covered = {
        "data",
        "model",
        "loss",
        "quantizer",
        "callbacks",
        "hardware",
        "logger",
        "trainer",
        "experiment",
        "compare",
    }
    assert {path.name for path in CONFIGS.iterdir() if path.is_dir()} == covered
    assert {path.name for path in CONFIGS.glob("*.yaml")} == {"quickstart.yaml", "base.yaml"}


def test_every_file_says_what_it_is_for():
    for path in CONFIGS.rglob("*.yaml"):
        assert path.read_text().startswith("# "), path


def lines_of(path: Path) -> list[str]:
    """The lines that set something."""
    lines = [line.split("#")[0].rstrip() for line in path.read_text().splitlines()]
    return [line for line in lines if line]


def test_no_file_repeats_a_long_part_of_another():
    """``include`` and a fragment take the place of copies. Chips are data sheets, and may agree."""
    longest = 8
    parts = {
        path: {tuple(lines[start : start + longest + 1]) for start in range(len(lines) - longest)}
        for path in CONFIGS.rglob("*.yaml")
        if path.parent.name != "hardware"
        for lines in [lines_of(path)]
    }
    for one, other in combinations(parts, 2):
        assert not parts[one] & parts[other], f"{one} and {other} share {parts[one] & parts[other]}"


@pytest.mark.parametrize("name", fragments("trainer"))
def test_trainer(run, name):
    paths = ("configs/base.yaml", "configs/data/digits.yaml", "configs/model/mlp.yaml", f"configs/trainer/{name}.yaml")
    status, printed = run("fit", *with_configs(*paths), "--print_config")
    assert status == 0, printed


def train_one_batch(*paths: str | Path, **options: object) -> None:
    """Train the data and the model of ``paths`` for one batch, without the rest of the command line, which is slow."""
    parser = IncludingParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(SpikeDataModule, "data")
    parser.add_subclass_arguments(SpikingClassifier, "model")
    for name in ("input_shape", "num_classes"):
        parser.link_arguments(f"data.{name}", f"model.init_args.{name}", apply_on="instantiate")
    words = [f"--data.init_args.{name}={value}" for name, value in options.items()]
    built = parser.instantiate_classes(parser.parse_args([*with_configs(*map(str, paths)), *words]))
    trainer = pl.Trainer(fast_dev_run=1, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(built.model, built.data)


@pytest.mark.parametrize("name", fragments("data"))
def test_data(fake_root, name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    fake_events.install_aedat(monkeypatch)
    if name in OTHERS:
        OTHERS[name](fake_root)
    fake_events.write_recordings(Path("data/recordings"))
    fake_images.write_image_folder(Path("data/images/train"))
    model = "mlp" if name in AUDIO else "conv_snn"
    options = {"batch_size": 2} if name in LARGE else {}
    train_one_batch(CONFIGS / f"data/{name}.yaml", CONFIGS / f"model/{model}.yaml", **options)


@pytest.mark.parametrize("name", fragments("model"))
def test_model(fake_root, name):
    train_one_batch(CONFIGS / "data/cifar10.yaml", CONFIGS / f"model/{name}.yaml", batch_size=4)


@pytest.mark.parametrize("name", fragments("quantizer"))
def test_quantizer(run, name):
    paths = (*DIGITS, "configs/model/conv_snn.yaml", f"configs/quantizer/{name}.yaml")
    if any("trainer" in content for _, content in expand(Path(paths[-1]))):
        status, printed = run("fit", *with_configs(*paths), *ONE_BATCH)
        assert status == 0, printed
    else:
        train_one_batch(*paths[1:])


@pytest.mark.parametrize("name", fragments("loss"))
def test_loss(run, name):
    paths = (*DIGITS, "configs/model/conv_snn.yaml", f"configs/loss/{name}.yaml")
    status, printed = run("fit", *with_configs(*paths), "--hardware=loihi", *ONE_BATCH)
    assert status == 0, printed


RUN = (
    "fit_to_hardware",
    "fsc_pruning_energy",
    "synapse_pruning",
    "step_schedule",
    "spike_monitor",
)  # the others are in experiments


@pytest.mark.parametrize("name", fragments("callbacks"))
def test_callbacks_are_appended(run, name):
    """The callbacks of the base configuration stay; those of the fragment follow."""
    paths = (
        *DIGITS,
        "configs/model/conv_snn.yaml",
        "configs/quantizer/codebook.yaml",
        f"configs/callbacks/{name}.yaml",
    )
    status, printed = run("fit", *with_configs(*paths), *(SHORT_EPOCHS if name in RUN else ("--print_config",)))
    assert status == 0, printed
    if name in RUN:
        (saved,) = Path("runs").glob("*/version_0/config.yaml")
        printed = saved.read_text()
    names = [callback["class_path"].rsplit(".", 1)[-1] for callback in yaml.safe_load(printed)["trainer"]["callbacks"]]
    assert names[:3] == ["ModelCheckpoint", "CompressedCheckpoint", "PredictionWriter"]
    own = yaml.safe_load((CONFIGS / "callbacks" / f"{name}.yaml").read_text())["trainer"]["callbacks+"]
    assert names[3:] == [callback["class_path"].rsplit(".", 1)[-1] for callback in own]


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
    assert len(list(Path("runs/digits-mlp-float/version_0").iterdir())) >= 3


@pytest.mark.parametrize("name", fragments("experiment"))
def test_experiment(run, fake_root, name):
    small = ("--data.init_args.batch_size=8",) if name.startswith("cifar10") else ()
    if name in ("cifar10_float", "cifar10_cat", "cifar10_cat_fsc"):
        small += ("--model.init_args.network.init_args.width=0.125",)
    if name == "cifar10_resnet18":
        small += ("--model.init_args.network.init_args.channels=[4,4,8,8]",)
    status, printed = run("fit", "--config", f"configs/experiment/{name}.yaml", *small, *ONE_BATCH)
    assert status == 0, printed


GRIDS = sorted((CONFIGS / "compare").glob("*.yaml"))
TRAINED = (  # one for each mechanism
    ("fashion_mnist", "cat_m4_fsc_distilled"),  # an option that names a checkpoint, pruning and codebooks in one run
    ("fashion_mnist_20k", "float"),  # keeps the checkpoints of some epochs
    ("fashion_mnist_20k", "cat_axon"),  # one layer with another quantizer
    ("fashion_mnist_20k", "kmeans_ptq_m4"),  # a test without training
    ("fashion_mnist_20k", "prune_random"),  # a score with the run's seed
    ("nmnist4", "cat_m4_fsc"),  # events; a grid that includes another
)


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_rows_of_a_grid_are_parsed(run, path):
    """With the options of scripts/compare. Rows with the same files and options count once, whatever the values."""
    different = {}
    for entry in all_runs(load_grid(path), seeds=(0,)):
        words = entry.arguments(Path("runs"), "version_0", {name: Path(f"{name}.ckpt") for name in entry.needs})
        options = [word.partition("=")[0] for word in words]
        different[tuple(options)] = entry.row.name, words
    for name, words in different.values():
        status, printed = run(*words, "--print_config")
        assert status == 0, f"{name}: {printed}"
        settings = yaml.safe_load(printed)["trainer"]
        assert settings["logger"]["init_args"]["version"] == "version_0"
        names = [callback["class_path"] for callback in settings["callbacks"]]
        assert names[0].endswith("ModelCheckpoint")
        assert names[-1] == "callbacks.DeploymentSimulation"


@pytest.mark.parametrize(("grid", "name"), TRAINED, ids=lambda value: value)
def test_compared_row(run, fake_root, grid, name):
    """As scripts/compare runs it; with the checkpoints that it reads if an option names one, else without."""
    runs = {entry.row.name: entry for entry in all_runs(load_grid(Path(f"configs/compare/{grid}.yaml")), seeds=(0,))}
    small = ("--data.init_args.train_samples=40", "--data.init_args.batch_size=8", "--trainer.accelerator=cpu")
    checkpoints = {}
    if "{checkpoint:" in str(runs[name].row.options) or runs[name].row.command == "test":
        for needed in runs[name].row.needs:
            one = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--trainer.callbacks.max_samples=2")
            status, printed = run(*runs[needed].arguments(Path("runs"), needed, {}), *small, *one)
            assert status == 0, printed
            checkpoints[needed] = Path("runs") / needed / "checkpoints" / "last.ckpt"
            shutil.copy(checkpoints[needed], checkpoints[needed].with_name("epoch3.ckpt"))
    status, printed = run(*runs[name].arguments(Path("runs"), "version_0", checkpoints), *small, *ONE_BATCH)
    assert status == 0, printed


def test_every_fragment_of_the_grids_is_used():
    used = set()
    configs = [config for path in GRIDS for grid in [load_grid(path)] for config in grid.configs]
    configs += [config for path in GRIDS for row in load_grid(path).rows for config in row.configs]
    for config in [*configs, *CONFIGS.glob("experiment/*.yaml")]:
        used |= {path.resolve() for path, _ in expand(CONFIGS.parent / config)}
    assert used >= {path.resolve() for path in CONFIGS.glob("experiment/compare/*.yaml")}


def test_options_come_from_the_environment_too(run, monkeypatch):
    monkeypatch.setenv("SPIKEFIT_FIT__TRAINER__MAX_EPOCHS", "2")
    paths = (*DIGITS, "configs/model/mlp.yaml")
    monkeypatch.setenv("SPIKEFIT_FIT__TRAINER__LIMIT_TRAIN_BATCHES", "1")
    assert run("fit", *with_configs(*paths))[0] == 0
    (saved,) = Path("runs").glob("*/version_0/config.yaml")
    settings = yaml.safe_load(saved.read_text())["trainer"]
    assert settings["limit_train_batches"] == 1


def test_cpu_threads_are_set(run):
    status, printed = run("fit", "--config", "configs/quickstart.yaml", *ONE_BATCH, "--cpu_threads=3")
    assert status == 0, printed
    assert torch.get_num_threads() == 3
