"""Every run gets its own directory, also if several runs start together."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jsonargparse import Namespace

from spikefit.cli.run_directory import assign_run_directory, claim_directory, discard_if_empty


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
    directory = assign_run_directory(settings)
    assert directory == tmp_path / "a" / "version_0"
    assert settings.logger[0].init_args.version == "version_0"
    assert settings.logger[1].init_args.save_dir == str(directory)


def test_a_given_version_is_respected(tmp_path):
    settings = trainer(save_dir=str(tmp_path), name="a", version="mine")
    assert assign_run_directory(settings) == tmp_path / "a" / "mine"
    assert not (tmp_path / "a").exists()


def test_without_a_logger_the_root_is_claimed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = Namespace(logger=False, default_root_dir=None)
    assert assign_run_directory(settings) == Path("runs/version_0")
    assert settings.default_root_dir == "runs/version_0"


def test_worker_processes_inherit_the_directory(tmp_path, monkeypatch):
    monkeypatch.delenv("_SPIKEFIT_RUN_DIRECTORY", raising=False)
    first = assign_run_directory(trainer(save_dir=str(tmp_path), name="a", version=None))
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert assign_run_directory(trainer(save_dir=str(tmp_path), name="a", version=None)) == first
    monkeypatch.delenv("_SPIKEFIT_RUN_DIRECTORY")
    assert assign_run_directory(trainer(save_dir=str(tmp_path), name="a", version=None)) is None
    assert len(list((tmp_path / "a").iterdir())) == 1


def test_only_an_empty_directory_is_discarded(tmp_path):
    empty, full = tmp_path / "empty", tmp_path / "full"
    for directory in (empty, full):
        directory.mkdir()
    (full / "file").touch()
    for directory in (empty, full, tmp_path / "absent", None):
        discard_if_empty(directory)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
