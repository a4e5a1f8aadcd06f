"""Where the command line writes: names of composed runs, the link to the newest training, runs without a logger."""

import os
from pathlib import Path

COMPOSED = [word for name in ("base", "data/digits", "model/mlp") for word in ("--config", name)]
SHORT = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1")
SHORT += ("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false")


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def test_names_and_the_newest_training(run):
    for name, words in {
        "digits-mlp-float/version_0": (),
        "digits-mlp-codebook8/version_0": ("--config", "quantizer/codebook", "--quantizer.levels=8"),
        "mine/version_0": ("--name=mine",),
    }.items():
        status, printed = run("fit", *COMPOSED, *words, *SHORT)
        assert status == 0, printed
        assert (Path("runs") / name / "checkpoints/last.ckpt").is_file()
        assert Path("runs/latest").readlink() == Path(name)
    status, printed = run("test", *COMPOSED, "--name=mine", *SHORT, "--ckpt_path=runs/latest/checkpoints/last.ckpt")
    assert status == 0, printed
    assert Path("runs/latest").readlink() == Path("mine/version_0")  # a test does not train
    status, printed = run("fit", "--config", "runs/latest/config.yaml")
    assert status == 0, printed
    assert Path("runs/latest").readlink() == Path("mine/version_2")  # the test wrote into version_1


def test_a_refused_run_leaves_nothing(run):
    assert run("fit", *COMPOSED, "--name=mine", "--hardware=loihii")[0] == 2
    assert run("fit", *COMPOSED, "--name=latest")[0] == 2
    assert not list(Path("runs").glob("*"))


def test_without_a_logger_and_without_the_option(run):
    """Nothing is nested; metrics are written unless ``logger`` is false."""
    name = "runs/digits-mlp-float"
    for number, (logger, metrics) in enumerate((("false", []), ("true", ["metrics.csv"]), ("null", ["metrics.csv"]))):
        status, printed = run("fit", *COMPOSED, f"--logger={logger}", *SHORT)
        assert status == 0, printed
        expected = sorted(["checkpoints/best.ckpt", "checkpoints/last.ckpt", "config.yaml", *metrics])
        assert files(f"{name}/version_{number}") == expected
    assert not [path for path in Path("runs").rglob("*") if "lightning_logs" in path.name]


def test_a_run_leaves_no_directory_to_later_processes(run, csv_only):
    """Their second process would write into it."""
    short = ("--trainer.fast_dev_run=1", "--trainer.callbacks=[]")
    status, printed = run("fit", "--config", "quickstart", csv_only, *short)
    assert status == 0, printed
    assert "_SPIKEFIT_RUN_DIRECTORY" not in os.environ
