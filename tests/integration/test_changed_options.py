"""With ``--ckpt_path`` the options that are given take effect, or are refused with both values."""

from pathlib import Path

import pytest
import torch
import yaml

BASE = (
    *("--config", "configs/base.yaml", "--config", "configs/data/digits.yaml", "--config", "configs/model/mlp.yaml"),
    *(
        "--config",
        "configs/quantizer/codebook.yaml",
        "--trainer.accelerator=cpu",
        "--model.init_args.network.hidden=[8]",
    ),
    *("--trainer.enable_progress_bar=false", "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1"),
)
EXPONENTIAL = '{"class_path": "torch.optim.lr_scheduler.ExponentialLR", "init_args": {"gamma": %s}}'
SCHEDULER = f"--model.init_args.lr_scheduler={EXPONENTIAL}"
LAST = "checkpoints/last.ckpt"


def newest():
    return max(Path("runs").glob("*/version_*"), key=lambda path: path.stat().st_mtime_ns)


def rates(checkpoint):
    return [group["lr"] for group in torch.load(checkpoint, weights_only=True)["optimizer_states"][0]["param_groups"]]


def test_options_of_training_take_effect_and_those_of_the_network_are_refused(run):
    status, printed = run("fit", *BASE, "--trainer.max_epochs=1", SCHEDULER % 0.5)
    assert status == 0, printed
    first = newest()
    checkpoint = first / LAST

    changed = (
        "--model.init_args.optimizer.lr=0.3",
        SCHEDULER % 0.1,
        "--model.init_args.loss=spikefit.losses.TemporalCrossEntropy",
    )
    status, printed = run("fit", *BASE, "--trainer.max_epochs=2", *changed, "--ckpt_path", checkpoint)
    assert status == 0, printed
    second = newest()
    assert second != first
    assert rates(second / LAST)[0] == pytest.approx(0.3 * 0.1**2)
    options = yaml.safe_load((second / "config.yaml").read_text())["model"]["init_args"]
    assert options["optimizer"]["init_args"]["lr"] == 0.3
    assert options["lr_scheduler"]["init_args"]["gamma"] == 0.1
    assert options["loss"]["class_path"] == "spikefit.losses.TemporalCrossEntropy"

    refused = {
        "--model.init_args.quantizer.levels=8": "quantizer.init_args.levels: got 8, but the checkpoint",
        "--model.init_args.network.hidden=[9]": "network.init_args.hidden: got [9], but the checkpoint",
    }
    for command in ("fit", "test"):
        for option, named in refused.items():
            status, printed = run(command, *BASE, option, "--ckpt_path", checkpoint)
            assert status == 2
            assert f"model.init_args.{named}" in printed
            assert "Traceback" not in printed
    status, printed = run(
        "fit",
        *BASE,
        "--model.init_args.optimizer=torch.optim.SGD",
        "--model.init_args.optimizer.lr=0.1",
        "--ckpt_path",
        checkpoint,
    )
    assert status == 2
    assert "optimizer.class_path: got torch.optim.SGD" in printed


@pytest.mark.parametrize("command", ["test", "validate", "predict"])
def test_random_weights_are_refused(run, command):
    status, printed = run(command, *BASE)
    assert status == 2
    assert f"ckpt_path: got None, so that {command} would use random weights" in printed
    assert "InitialWeights" in printed
    assert not list(Path().glob("runs/*/*"))
