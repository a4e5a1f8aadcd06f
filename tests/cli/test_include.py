"""Configuration files that include others: order, appending, where paths start, and errors."""

import sys
from pathlib import Path

import pytest
import yaml

from spikefit.cli.include import expand
from spikefit.cli.lightning_cli import main
from spikefit.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "base.yaml": """
        seed_everything: 3
        data:
          class_path: spikefit.data.SpikeDataModule
          init_args:
            dataset: {class_path: spikefit.data.images.Digits}
            encoding: direct
            time_steps: 2
            batch_size: 16
        trainer:
          accelerator: cpu
          max_epochs: 3
          enable_progress_bar: false
          logger: [{class_path: lightning.pytorch.loggers.CSVLogger, init_args: {save_dir: runs, name: nested}}]
          callbacks: [{class_path: callbacks.SpikeMonitor}]
    """,
    "parts/model.yaml": """
        model:
          class_path: spikefit.module.SpikingClassifier
          init_args:
            network: {class_path: spikefit.networks.MLP, init_args: {hidden: [8]}}
    """,
    "parts/middle.yaml": """
        include: [../base.yaml, model.yaml]
        data: {init_args: {time_steps: 3, batch_size: 32}}
        trainer: {callbacks+: [{class_path: callbacks.EpochTimer}]}
    """,
    "parts/timer.yaml": "trainer: {callbacks+: [{class_path: callbacks.EpochTimer}]}",
    "top/run.yaml": """
        include: ../parts/middle.yaml
        seed_everything: 5
        data: {init_args: {time_steps: 4}}
        model: {init_args: {network: {init_args: {hidden: [6, 7]}}}}
        trainer: {callbacks+: {class_path: callbacks.PredictionWriter}}
    """,
}


def write(path, text):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(yaml.safe_load(text)))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory next to the files, which no path in them starts from."""
    monkeypatch.setattr(sys, "argv", ["spikefit"])
    for name, text in FILES.items():
        write(tmp_path / "files" / name, text)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "files"


@pytest.fixture
def run(capsys):
    """``run("fit", ...)`` gives the exit status and what was printed to the two streams."""

    def call(*words):
        capsys.readouterr()
        status = 0
        try:
            main([str(word) for word in words])
        except SystemExit as end:
            status = int(end.code or 0)
        return status, *capsys.readouterr()

    return call


@pytest.fixture
def parsed(run):
    def call(*words):
        status, printed, errors = run(*words, "--print_config")
        assert status == 0, errors
        return yaml.safe_load(printed)

    return call


def names(callbacks):
    return [callback["class_path"].rsplit(".", 1)[-1] for callback in callbacks]


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_included_files_come_first(folder, parsed, command):
    """Later files override, ``callbacks+`` appends in their order, and paths start at the file that has them."""
    config = parsed(command, "--config", folder / "top/run.yaml")
    assert config["seed_everything"] == 5
    assert config["data"]["init_args"]["time_steps"] == 4
    assert config["data"]["init_args"]["batch_size"] == 32
    assert config["model"]["init_args"]["network"]["init_args"]["hidden"] == [6, 7]
    assert config["trainer"]["max_epochs"] == 3
    assert names(config["trainer"]["callbacks"]) == ["SpikeMonitor", "EpochTimer", "PredictionWriter"]
    assert "include" not in config


def test_an_include_equals_its_files_on_the_command_line(folder, parsed):
    names_of_files = ("base.yaml", "parts/model.yaml", "parts/middle.yaml", "top/run.yaml")
    for path in folder.rglob("*.yaml"):  # the same files without the key
        text = {key: value for key, value in yaml.safe_load(path.read_text()).items() if key != "include"}
        write(folder.parent / "alone" / path.relative_to(folder), yaml.safe_dump(text))
    apart = [word for name in names_of_files for word in ("--config", folder.parent / "alone" / name)]
    extra = ("--config", folder / "parts/timer.yaml", "--data.init_args.batch_size=9")
    assert parsed("fit", "--config", folder / "top/run.yaml", *extra) == parsed("fit", *apart, *extra)


def test_a_file_that_two_included_files_share_is_applied_once(folder, parsed):
    """Where it comes first: the second of the two files sees the changes of the first, not the shared file again."""
    write(folder / "left.yaml", "include: base.yaml\nseed_everything: 8\ntrainer: {max_epochs: 7}")
    write(folder / "right.yaml", "include: [base.yaml, parts/timer.yaml]")
    write(folder / "both.yaml", "include: [left.yaml, right.yaml, parts/timer.yaml, parts/model.yaml]")
    config = parsed("fit", "--config", folder / "both.yaml")
    assert (config["seed_everything"], config["trainer"]["max_epochs"]) == (8, 7)
    assert names(config["trainer"]["callbacks"]) == ["SpikeMonitor", "EpochTimer"]


def test_earlier_files_of_the_command_line_are_kept(folder, parsed):
    write(folder / "more.yaml", "include: parts/timer.yaml")
    config = parsed("fit", "--config", folder / "top/run.yaml", "--config", folder / "more.yaml")
    assert names(config["trainer"]["callbacks"])[-2:] == ["PredictionWriter", "EpochTimer"]


def test_the_environment_names_files_and_options(folder, parsed, monkeypatch):
    monkeypatch.setenv("SPIKEFIT_FIT__CONFIG", str(folder / "top/run.yaml"))
    monkeypatch.setenv("SPIKEFIT_FIT__TRAINER__MAX_EPOCHS", "7")
    config = parsed("fit")
    assert config["trainer"]["max_epochs"] == 7
    assert names(config["trainer"]["callbacks"]) == ["SpikeMonitor", "EpochTimer", "PredictionWriter"]


def test_other_paths_of_an_included_file_start_at_it(folder, parsed):
    """jsonargparse reads ``model: network.yaml`` from the folder of the file that says so."""
    write(folder / "parts/network.yaml", yaml.safe_dump(yaml.safe_load(FILES["parts/model.yaml"])["model"]))
    write(folder / "parts/model.yaml", "model: network.yaml")
    config = parsed("fit", "--config", folder / "top/run.yaml")
    assert config["model"]["init_args"]["network"]["init_args"]["hidden"] == [6, 7]


def test_the_saved_configuration_stands_alone(folder, run, parsed):
    status, _, errors = run("fit", "--config", folder / "top/run.yaml", "--trainer.max_epochs=1")
    assert status == 0, errors
    saved = Path("runs/nested/version_0/config.yaml")
    assert "include" not in yaml.safe_load(saved.read_text())
    expected = parsed("fit", "--config", folder / "top/run.yaml", "--trainer.max_epochs=1")
    assert parsed("fit", "--config", saved) == expected


def test_shipped_configurations_work_from_any_directory(folder, parsed):
    config = parsed("fit", "--config", ROOT / "configs/quickstart.yaml")
    assert names(config["trainer"]["callbacks"])[:2] == ["ModelCheckpoint", "CompressedCheckpoint"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("include: no.yaml", ("run.yaml: include: no file no.yaml", "relative to the folder of")),
        ("include: run.yaml", ("run.yaml: include: run.yaml leads back to itself", "run.yaml -> ")),
        ("include: [../base.yaml, ../parts/circle.yaml]", ("circle.yaml: include: ../top/run.yaml leads back",)),
        ("include: {a: b}", ("run.yaml: include: got {'a': 'b'}, expected a path or a list of paths",)),
        ("include: [base.yaml, 3]", ("got ['base.yaml', 3], expected a path or a list of paths",)),
        ("include: null", ("got None, expected a path or a list of paths",)),
        ("include: ../parts", ("no file ../parts",)),
        ("include: ../parts/list.yaml", ("list.yaml: expected a YAML mapping of options, got list",)),
    ],
)
def test_a_wrong_include_is_explained(folder, run, text, words):
    write(folder / "parts/circle.yaml", "include: ../top/run.yaml")
    write(folder / "parts/list.yaml", "[1, 2]")
    write(folder / "top/run.yaml", text)
    status, _, errors = run("fit", "--config", folder / "top/run.yaml")
    assert status == 2
    assert errors.startswith("spikefit: error: ")
    assert len(errors.splitlines()) == 1
    assert all(word in errors for word in words), errors
    with pytest.raises(ConfigurationError):
        expand(folder / "top/run.yaml")


def test_expand_gives_all_files_in_order(folder):
    files = expand(folder / "top/run.yaml")
    assert [path.name for path, _ in files] == ["base.yaml", "model.yaml", "middle.yaml", "run.yaml"]
    assert all("include" not in content for _, content in files)
    assert files[-1][1]["seed_everything"] == 5
