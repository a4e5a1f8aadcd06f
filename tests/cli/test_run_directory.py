"""Every run gets its own directory, also if several runs start together."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from jsonargparse import Namespace

from spikefit.cli.run_directory import (
    RunDirectory,
    assign_run_directory,
    claim_directory,
    discard_if_empty,
    link_latest,
    release_run_directory,
)
from spikefit.cli.run_name import run_name
from spikefit.errors import ConfigurationError


@pytest.fixture(autouse=True)
def released():
    """A test does not end as a run does, so it must forget its directory itself."""
    yield
    release_run_directory()


def trainer(**options):
    csv = Namespace(class_path="lightning.pytorch.loggers.CSVLogger", init_args=Namespace(**options))
    wandb = Namespace(class_path="lightning.pytorch.loggers.WandbLogger", init_args=Namespace(save_dir="."))
    return Namespace(logger=[csv, wandb], default_root_dir=None)


def test_numbers_go_up_and_gaps_are_left(tmp_path):
    (tmp_path / "version_4").mkdir()
    (tmp_path / "version_x").mkdir()
    assert [claim_directory(tmp_path).name for _ in range(2)] == ["version_5", "version_6"]


def test_claims_at_the_same_moment_differ(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        claimed = list(pool.map(lambda _: claim_directory(tmp_path), range(64)))
    assert len(set(claimed)) == 64


def test_loggers_share_the_claimed_directory(tmp_path):
    settings = trainer(save_dir=str(tmp_path), name="a", version=None)
    directory = assign_run_directory(settings, "b")
    assert directory == RunDirectory(tmp_path / "a" / "version_0", tmp_path)
    assert settings.logger[0].init_args.version == "version_0"
    assert settings.logger[1].init_args.save_dir == str(directory.path)


def test_a_given_version_is_respected(tmp_path):
    settings = trainer(save_dir=str(tmp_path), name="a", version="mine")
    assert assign_run_directory(settings, "b").path == tmp_path / "a" / "mine"
    assert not (tmp_path / "a").exists()


def test_a_logger_without_a_name_gets_that_of_the_run(tmp_path):
    settings = trainer(save_dir=str(tmp_path), name="lightning_logs", version=None)
    assert assign_run_directory(settings, "digits-mlp-float").path == tmp_path / "digits-mlp-float" / "version_0"
    assert settings.logger[0].init_args.name == "digits-mlp-float"
    assert settings.logger[1].init_args.get("name") is None


def test_a_given_name_counts_for_every_logger(tmp_path):
    settings = trainer(save_dir=str(tmp_path), name="a", version=None)
    assert assign_run_directory(settings, "b", given=True).path == tmp_path / "b" / "version_0"
    assert settings.logger[1].init_args.name == "b"


def test_without_a_logger_the_root_is_claimed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = Namespace(logger=False, default_root_dir=None)
    assert assign_run_directory(settings, "a") == RunDirectory(Path("runs/a/version_0"), Path("runs"))
    assert settings.default_root_dir == "runs/a/version_0"


@pytest.mark.parametrize("logger", [None, True])
def test_without_the_option_a_run_has_a_table_of_its_metrics(tmp_path, logger):
    settings = Namespace(logger=logger, default_root_dir=str(tmp_path))
    assert assign_run_directory(settings, "a").path == tmp_path / "a" / "version_0"
    assert settings.logger[0].class_path.endswith("CSVLogger")
    assert settings.default_root_dir == str(tmp_path)


def test_worker_processes_inherit_the_directory(tmp_path, monkeypatch):
    monkeypatch.delenv("_SPIKEFIT_RUN_DIRECTORY", raising=False)
    options = {"save_dir": str(tmp_path), "name": "a", "version": None}
    first = assign_run_directory(trainer(**options), "a")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert assign_run_directory(trainer(**options), "a") == first
    link_latest(first)
    monkeypatch.delenv("_SPIKEFIT_RUN_DIRECTORY")
    assert assign_run_directory(trainer(**options), "a") is None
    assert len(list((tmp_path / "a").iterdir())) == 1
    assert not (tmp_path / "latest").exists()


def test_only_an_empty_directory_is_discarded(tmp_path):
    empty, full = tmp_path / "a" / "empty", tmp_path / "b" / "full"
    for directory in (empty, full):
        directory.mkdir(parents=True)
    (full / "file").touch()
    for directory in (empty, full, tmp_path / "c" / "absent"):
        discard_if_empty(RunDirectory(directory, tmp_path))
    discard_if_empty(None)
    assert [path.relative_to(tmp_path) for path in tmp_path.glob("*/*")] == [Path("b/full")]
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_the_link_to_the_newest_run_is_replaced(tmp_path):
    for name in ("a", "b"):
        directory = RunDirectory(tmp_path / name / "version_0", tmp_path)
        directory.path.mkdir(parents=True)
        link_latest(directory)
        assert (tmp_path / "latest").resolve() == directory.path
    assert not (tmp_path / "latest").readlink().is_absolute()  # the folder can be moved
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "latest"]


def test_no_link_where_it_is_not_possible(tmp_path, monkeypatch):
    directory = RunDirectory(tmp_path / "a" / "version_0", tmp_path)
    directory.path.mkdir(parents=True)
    (tmp_path / "latest").mkdir()
    link_latest(directory)  # something else has the name
    assert not (tmp_path / "latest").is_symlink()
    (tmp_path / "latest").rmdir()

    def refuse(*_, **__):
        raise OSError("not supported")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    link_latest(directory)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def part(class_path, **options):
    return Namespace(class_path=class_path, init_args=Namespace(**options))


@pytest.mark.parametrize(
    ("quantizer", "name"),
    [
        (part("spikefit.quantize.Codebook", levels=4, bits=8), "digits-conv_snn-codebook4"),
        (part("spikefit.quantize.Uniform", bits=2), "digits-conv_snn-uniform2"),
        (part("spikefit.quantize.Ternary"), "digits-conv_snn-ternary"),
        (None, "digits-conv_snn-float"),
    ],
)
def test_the_name_of_a_run(quantizer, name):
    data = part("spikefit.data.SpikeDataModule", dataset=part("spikefit.data.images.Digits"))
    model = part("spikefit.module.SpikingClassifier", network=part("spikefit.networks.ConvSNN"), quantizer=quantizer)
    assert run_name(Namespace(data=data, model=model, name=None)) == name
    assert run_name(Namespace(data=data, model=model, name="mine/one")) == "mine/one"
    assert (
        run_name(Namespace(data=part("a.OwnData"), model=part("b.OwnModel"), name=None)) == "own_data-own_model-float"
    )


@pytest.mark.parametrize("name", ["latest", "", "/tmp", "../a", "a\0"])
def test_a_wrong_name_is_refused(name):
    with pytest.raises(ConfigurationError, match="name: got "):
        run_name(Namespace(name=name))
