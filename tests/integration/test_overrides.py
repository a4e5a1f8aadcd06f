"""Options of callbacks, loggers and quantizers by class name; environment; names of files; modules of one's own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TWO = """
trainer:
  callbacks+:
    - {class_path: callbacks.FSCPruning, init_args: {name: late, schedule: {start: 20, stop: 21}}}
    - {class_path: lightning.pytorch.callbacks.ModelCheckpoint, init_args: {filename: other}}
model:
  init_args:
    layer_quantizers:
      readout: {class_path: spikefit.quantize.Uniform, init_args: {bits: 4}}
      conv1: {class_path: spikefit.quantize.Codebook, init_args: {levels: 16}}
"""


@pytest.fixture
def parsed(run, capsys):
    """``parsed("--option=1")``: the configuration of the quickstart with options."""

    def call(*words, config="quickstart", command="fit"):
        status, printed = run(command, "--config", config, *words, "--print_config")
        assert status == 0, printed
        return yaml.safe_load(printed)

    return call


@pytest.fixture
def two():
    """A file with two callbacks of one class."""
    Path("two.yaml").write_text(TWO)
    return ("--config", "two")


def callbacks_of(config):
    found = {}
    for entry in config["trainer"]["callbacks"]:
        found.setdefault(entry["class_path"].rpartition(".")[2], []).append(entry.get("init_args", {}))
    return found


def quantizer(config):
    return config["model"]["init_args"]["quantizer"]["init_args"]


def test_any_option_of_any_callback(parsed):
    before = callbacks_of(parsed())
    words = ("--callbacks.FSCPruning.fraction=0.7", "--callbacks.FSCPruning.schedule.stop", "17")
    config = callbacks_of(parsed(*words, "--callbacks.DeploymentSimulation.hardware=[loihi, odin]"))
    (pruning,) = config["FSCPruning"]
    assert pruning["fraction"] == 0.7
    assert pruning["schedule"] == {"start": 10, "stop": 17, "every": 2, "interval": "epoch"}
    assert config["DeploymentSimulation"][0]["hardware"] == ["loihi", "odin"]
    pruning["fraction"], pruning["schedule"]["stop"] = 0.4, 18
    config["DeploymentSimulation"][0]["hardware"] = before["DeploymentSimulation"][0]["hardware"]
    assert config == before


def test_a_callback_is_removed(parsed):
    before, after = callbacks_of(parsed()), callbacks_of(parsed("--callbacks.FSCPruning=null"))
    assert list(after) == [name for name in before if name != "FSCPruning"]


def test_objects_inside_a_callback(parsed):
    score = ("--callbacks.FSCPruning.score=spikefit.prune.FSC", "--callbacks.FSCPruning.score.batches=3")
    (pruning,) = callbacks_of(parsed(*score))["FSCPruning"]
    assert pruning["score"]["class_path"] == "spikefit.prune.FSC"
    assert pruning["score"]["init_args"]["batches"] == 3


def test_loggers(parsed):
    config = parsed("--logger.WandbLogger.project=mine", "--logger.WandbLogger.tags=[a, b]", "--logger.CSVLogger=null")
    (logger,) = config["trainer"]["logger"]
    assert logger["init_args"]["project"] == "mine"
    assert logger["init_args"]["tags"] == ["a", "b"]
    assert parsed("--logger.WandbLogger=null", "--logger.CSVLogger=null")["trainer"]["logger"] is False


@pytest.mark.parametrize("word", ["--quantizer.levels=8", "--quantizer.Codebook.levels=8"])
def test_quantizer(parsed, word):
    assert quantizer(parsed(word)) == {**quantizer(parsed()), "levels": 8}


def test_quantizers_of_layers(parsed, two):
    config = parsed(*two, "--quantizer.readout.bits=2", "--quantizer.conv1=null", "--quantizer.levels=3")
    layers = config["model"]["init_args"]["layer_quantizers"]
    assert layers["readout"]["init_args"]["bits"] == 2
    assert layers["conv1"] is None  # floating point
    assert quantizer(config)["levels"] == 3
    assert parsed("--quantizer.Codebook=null")["model"]["init_args"]["quantizer"] is None


def test_two_of_one_class_are_told_apart(parsed, two):
    words = ("--callbacks.late.fraction=0.1", "--callbacks.FSCPruning.0.fraction=0.2")
    config = callbacks_of(parsed(*two, *words, "--callbacks.ModelCheckpoint.1.filename=mine"))
    assert [pruning["fraction"] for pruning in config["FSCPruning"]] == [0.2, 0.1]
    assert [checkpoint["filename"] for checkpoint in config["ModelCheckpoint"]] == ["last", "mine"]
    assert len(callbacks_of(parsed(*two, "--callbacks.late=null"))["FSCPruning"]) == 1


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (
            ["--callbacks.FSCPruning.fraction=0.1"],
            ["2 of FSCPruning are in trainer.callbacks: FSCPruning, FSCPruning (late)", "--callbacks.late.fraction"],
        ),
        (["--callbacks.ModelCheckpoint=null"], ["--callbacks.ModelCheckpoint.0.OPTION, --callbacks.ModelCheckpoint.1"]),
        (["--callbacks.FSCPruning.2.fraction=0.1"], ["got number 2, expected 0 to 1"]),
        (["--quantizer.Codebook.levels=2"], ["Codebook (conv1)", "--quantizer.levels, --quantizer.conv1.levels"]),
        (["--callbacks.FSCPrunning.fraction=0.1"], ["no FSCPrunning is in trainer", "Did you mean FSCPruning?"]),
        (["--callbacks.SpikeMonitor.every=2"], ["this run has ModelCheckpoint, ", "+=callbacks.SpikeMonitor"]),
        (["--callbacks.late.fractoin=0.1"], ["callbacks.FSCPruning has no option fractoin", "Did you mean fraction?"]),
        (["--callbacks.late.schedule.stopp=1"], ["--callbacks.late.schedule.stopp", "Did you mean stop?"]),
        (["--callbacks.late.fraction=abc"], ["--callbacks.late.fraction", "'abc'", "float"]),
        (["--callbacks.late.score.batches=2"], ["--callbacks.late.score.batches", "score=CLASS"]),
        (["--callbacks.late=callbacks.SpikeMonitor"], ["expected null, which removes it, or an option"]),
        (["--logger.TensorBoardLogger.name=a"], ["this run has CSVLogger, quickstart, WandbLogger"]),
        (["--logger=false", "--logger.CSVLogger.name=a"], ["this run has none"]),
        (["--quantizer.level=2"], ["spikefit.quantize.Codebook has no option level", "Did you mean levels?"]),
        (["--quantizer.Codebok.levels=2"], ["no Codebok is in model.init_args.quantizer", "Did you mean Codebook?"]),
    ],
)  # fmt: skip
def test_a_wrong_override_is_explained(run, two, words, named):
    status, printed = run("fit", "--config", "quickstart", *two, *words)
    assert status == 2, printed
    assert "Traceback" not in printed
    assert len(printed.splitlines()) <= 6, printed
    for text in named:
        assert text in printed, printed


def test_a_required_option_of_an_own_callback(parsed):
    """It may come from the override alone."""
    Path("required_option.py").write_text(
        "from lightning.pytorch import Callback\n\n\nclass Mine(Callback):\n"
        "    def __init__(self, path: str) -> None:\n        self.path = path\n"
    )
    words = ("--callbacks+=required_option.Mine", "--callbacks.Mine.path=here")
    assert callbacks_of(parsed(*words))["Mine"] == [{"path": "here"}]


def test_the_environment_beats_files_and_loses_to_the_command_line(parsed, monkeypatch):
    monkeypatch.setenv("SPIKEFIT_TRAINER__MAX_EPOCHS", "7")
    monkeypatch.setenv("SPIKEFIT_FIT__HARDWARE", "odin")
    monkeypatch.setenv("SPIKEFIT_CALLBACKS__FSCPRUNING__FRACTION", "0.6")
    monkeypatch.setenv("SPIKEFIT_CALLBACKS__FSCPRUNING__SCHEDULE__STOP", "16")
    monkeypatch.setenv("SPIKEFIT_QUANTIZER__LEVELS", "8")
    config = parsed("--hardware=loihi2", "--callbacks.FSCPruning.fraction=0.7")
    (pruning,) = callbacks_of(config)["FSCPruning"]
    assert (config["trainer"]["max_epochs"], config["hardware"]) == (7, "loihi2")
    assert (pruning["fraction"], pruning["schedule"]["stop"]) == (0.7, 16)
    assert quantizer(config)["levels"] == 8


def test_the_environment_names_files(run, monkeypatch):
    Path("mine.yaml").write_text("hardware: odin")
    monkeypatch.setenv("SPIKEFIT_CONFIG", "[quickstart, mine]")
    status, printed = run("fit", "--print_config")
    assert status == 0, printed
    assert yaml.safe_load(printed)["hardware"] == "odin"


def test_an_option_before_the_command(run):
    status, printed = run("--config", "quickstart", "--hardware=odin", "fit", "--print_config")
    assert status == 0, printed
    assert yaml.safe_load(printed)["hardware"] == "odin"


def test_included_files_are_found_among_the_shipped_ones(parsed):
    Path("mine").mkdir()
    Path("mine/own.yaml").write_text("include: [more, base, data/digits.yaml, model/mlp]\nhardware: odin")
    Path("mine/more.yaml").write_text("cpu_threads: 3")
    config = parsed(config="mine/own")
    assert config["model"]["init_args"]["network"]["class_path"] == "spikefit.networks.MLP"
    assert (config["hardware"], config["cpu_threads"]) == ("odin", 3)


def test_what_resulted_is_recorded_and_can_be_run_again(run, parsed):
    short = ("--trainer.fast_dev_run=false", "--trainer.max_epochs=1", "--trainer.limit_train_batches=1")
    short += ("--trainer.limit_val_batches=1", "--logger.WandbLogger=null", "--callbacks.ChipEmulation=null")
    removed = ("--callbacks.CodebookReclustering=null", "--callbacks.DeploymentSimulation=null")
    kept = ("--callbacks.FSCPruning.schedule={start: 0, stop: 0}", "--callbacks.FSCPruning.fraction=0.1")
    status, printed = run("fit", "--config", "quickstart", *short, *removed, *kept)
    assert status == 0, printed
    (saved,) = Path("runs/quickstart").glob("*/config.yaml")
    config = yaml.safe_load(saved.read_text())
    assert list(callbacks_of(config)) == [
        *("ModelCheckpoint", "CompressedCheckpoint", "NormCalibration", "FSCPruning", "PredictionWriter"),
    ]
    assert callbacks_of(config)["FSCPruning"][0]["fraction"] == 0.1
    assert parsed(config=str(saved)) == config


def test_modules_of_the_working_directory(tmp_path):
    """From the installed program, whose folder is not the working directory."""
    (tmp_path / "my_module.py").write_text("from spikefit.networks import MLP\n\n\nclass MyNet(MLP):\n    pass\n")
    code = "import sys; sys.path.remove(''); sys.argv[0] = 'spikefit'; from spikefit.cli import main; main()"
    words = ["fit", "--config", "base", "--config", "data/digits", "--config", "model/mlp", "--print_config"]
    words += ["--model.init_args.network=my_module.MyNet"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["model"]["init_args"]["network"]["class_path"] == "my_module.MyNet"


def test_a_module_with_the_name_of_a_package(run):
    Path("callbacks.py").write_text("class Mine:\n    pass\n")
    status, printed = run("fit", "--config", "quickstart", "--callbacks+=callbacks.Mine")
    assert status == 2
    assert "callbacks.py has the name of a package of spikefit" in printed
