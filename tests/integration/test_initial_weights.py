"""Starting from another run's weights on the command line."""

import json
from pathlib import Path

import torch

SMALL = (
    *("--config", "configs/base.yaml", "--config", "configs/data/digits.yaml", "--config", "configs/model/mlp.yaml"),
    *("--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1", "--trainer.accelerator=cpu"),
    *("--trainer.enable_progress_bar=false", "--trainer.max_epochs=1"),
)


def starting_from(path):
    callback = {"class_path": "callbacks.InitialWeights", "init_args": {"checkpoint": str(path)}}
    return f"--trainer.callbacks+={json.dumps(callback)}"


def test_a_missing_start_is_refused_before_data_is_loaded(run, monkeypatch):
    monkeypatch.setattr("spikefit.data.images.Digits.load", lambda *_: 1 / 0)
    status, printed = run("fit", *SMALL, starting_from("nowhere.ckpt"))
    assert status == 2, printed
    assert "InitialWeights.checkpoint: no file nowhere.ckpt" in printed
    assert "Traceback" not in printed
    assert not list(Path().glob("runs/*/*"))


def test_a_run_starts_there_with_another_quantizer_and_resumes_without_it(run):
    assert run("fit", *SMALL)[0] == 0
    first = Path("runs/digits-mlp-float/version_0/checkpoints/last.ckpt").rename("first.ckpt")
    quantised = (*SMALL, "--config", "configs/quantizer/codebook.yaml")
    still = ("--model.init_args.optimizer.init_args.lr=0", "--seed_everything=1")
    status, printed = run("fit", *quantised, starting_from(first), *still)
    assert status == 0, printed
    second = Path("runs/digits-mlp-codebook4/version_0/checkpoints/last.ckpt")
    ours, theirs = (torch.load(path, weights_only=True)["state_dict"] for path in (second, first))
    name = "network.blocks.fc1.synapses."
    assert torch.equal(ours[f"{name}parametrizations.weight.original"], theirs[f"{name}weight"])
    resumed = ("--trainer.max_epochs=2", f"--ckpt_path={second}")
    Path("first.ckpt").unlink()
    status, printed = run("fit", *quantised, starting_from(first), *resumed)
    assert status == 0, printed
