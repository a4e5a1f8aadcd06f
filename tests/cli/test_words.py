"""The words of a command line and the environment, before anything is parsed."""

import re
from pathlib import Path

import pytest

from spikefit.cli.environment import PREFIX, VARIABLES, words_of_environment
from spikefit.cli.shipped import find_config, require_config, shipped_configs, shipped_names
from spikefit.cli.words import COMMANDS, command_first, sort_words
from spikefit.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = ("trainer", "trainer.max_epochs", "trainer.callbacks", "trainer.logger", "model", "data", "hardware")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("fit --config a", "fit --config a"),
        ("--config a fit --name=b", "fit --config a --name=b"),
        ("-c a --hardware=loihi fit", "fit -c a --hardware=loihi"),
        ("--print_config fit", "fit --print_config"),
        ("--config fit", "--config fit"),  # a file of this name
        ("--help", "--help"),
        ("login --x", "login --x"),
        ("", ""),
    ],
)
def test_the_command_comes_first(words, expected):
    assert command_first(words.split()) == expected.split()


def test_files_options_and_overrides_are_separated():
    given = (
        "--x=1 -c a --callbacks.A.b=2 --config=c --logger.L.m n --y z --trainer.callbacks.A=null --quantizer.levels=-8"
    )
    words = sort_words(given.split())
    assert words.configs == ["a", "c"]
    assert words.options == ["--x=1", "--y", "z"]
    assert [(entry.place, ".".join(entry.path), entry.value) for entry in words.overrides] == [
        ("callbacks", "A.b", "2"),
        ("logger", "L.m", "n"),
        ("callbacks", "A", "null"),
        ("quantizer", "levels", "-8"),
    ]


def test_short_names_of_whole_options():
    words = sort_words(
        ["--logger=false", "--callbacks+={class_path: a.B}", "--quantizer=null", "--trainer.callbacks.x=1"]
    )
    assert words.options == [
        "--trainer.logger=false",
        "--trainer.callbacks+={class_path: a.B}",
        "--model.init_args.quantizer=null",
        "--trainer.callbacks.x=1",
    ]


@pytest.mark.parametrize("words", [["--config"], ["--config", "--x=1"], ["--callbacks.A.b"]])
def test_a_missing_value_is_named(words):
    with pytest.raises(ConfigurationError, match=f"{words[0][2:]}: got no value, expected a"):
        sort_words(words)


def environment(command="fit", **variables):
    return words_of_environment({f"{PREFIX}{name}": value for name, value in variables.items()}, command, OPTIONS)


def test_variables_are_options():
    words = environment(
        TRAINER__MAX_EPOCHS="3",
        FIT__HARDWARE="odin",
        MODEL__INIT_ARGS__LR_SCHEDULER__INIT_ARGS__T_max="9",
        LOGGER="false",
        CONFIG="[a, b]",
        FIT__CONFIG="c",
        DATA_DIR="/data",
        TEST__CKPT_PATH="best.ckpt",
    )
    assert sorted(words.options) == [
        "--hardware=odin",
        "--model.init_args.lr_scheduler.init_args.T_max=9",
        "--trainer.logger=false",
        "--trainer.max_epochs=3",
    ]
    assert words.configs == ["a", "b", "c"]


def test_variables_are_overrides():
    """Parts may be separated by dots, as ``env`` and Python allow."""
    words = environment(CALLBACKS__FSCPRUNING__FRACTION="0.7", FIT__QUANTIZER__LEVELS="8", TEST__CALLBACKS__A__B="1")
    assert [(entry.place, entry.path, entry.upper) for entry in words.overrides] == [
        ("callbacks", ("FSCPRUNING", "FRACTION"), True),
        ("quantizer", ("LEVELS",), True),
    ]
    (override,) = environment(**{"callbacks.FSCPruning.schedule.stop": "9"}).overrides
    assert (override.path, override.upper) == (("FSCPruning", "schedule", "stop"), False)


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("DATADIR", "SPIKEFIT_DATA_DIR"),
        ("TRAINER__MAX_EPOCH", "SPIKEFIT_TRAINER__MAX_EPOCHS"),
        ("FIT__TRAINER__MAX_EPOCH", "SPIKEFIT_FIT__TRAINER__MAX_EPOCHS"),
        ("TEST__TRAINER__MAX_EPOCH", "SPIKEFIT_TEST__TRAINER__MAX_EPOCHS"),
        ("HARDWARES", "SPIKEFIT_HARDWARE"),
        ("CONFIGS", "SPIKEFIT_CONFIG"),
    ],
)
def test_a_misspelt_variable_is_refused(variable, nearest):
    with pytest.raises(ConfigurationError, match=rf"{variable}: no option has this name\. Did you mean {nearest}\?"):
        environment(**{variable: "1"})


def test_every_variable_that_the_project_reads_is_known():
    sources = [path for folder in ("spikefit", "callbacks", "scripts", ".ci") for path in (ROOT / folder).rglob("*")]
    found = set()
    for path in sources:
        if path.is_file() and path.suffix in (".py", ".sh", ""):
            found |= set(re.findall(r"(?<![A-Z_])SPIKEFIT_[A-Z0-9_]+\b(?!\})", path.read_text(errors="ignore")))
    options = {name for name in found if re.match(r"SPIKEFIT_(TRAINER|TEST|FIT|CONFIG)(__|$)", name)}  # in examples
    assert found - options == set(VARIABLES)


def test_configurations_are_found_here_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = shipped_configs()
    assert require_config("quickstart") == shipped / "quickstart.yaml"
    assert require_config("experiment/digits_truenorth") == shipped / "experiment/digits_truenorth.yaml"
    assert require_config("configs/data/digits.yaml") == shipped / "data/digits.yaml"
    (tmp_path / "quickstart").mkdir()
    (tmp_path / "quickstart.yaml").write_text("hardware: odin")
    assert require_config("quickstart") == Path("quickstart.yaml")
    assert find_config("../quickstart.yaml", (tmp_path / "quickstart",)) is not None
    assert find_config("../configs/quickstart.yaml", (tmp_path,)) is None  # not outside of the shipped folder


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("quikstart", "quickstart"), ("configs/data/digit.yaml", "data/digits"), ("conv_snn", "model/conv_snn")],
)
def test_the_nearest_shipped_configuration_is_named(name, nearest):
    with pytest.raises(ConfigurationError, match=rf"config: no file {name}, .* Did you mean {nearest}\?"):
        require_config(name)


def test_every_configuration_but_chips_has_a_name():
    assert {"quickstart", "base", "model/mlp", "experiment/compare/cat"} <= set(shipped_names())
    assert not any(name.startswith("hardware") for name in shipped_names())
    assert tuple(COMMANDS) == ("fit", "validate", "test", "predict")
