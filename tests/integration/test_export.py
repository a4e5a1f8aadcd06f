"""The command export: from a checkpoint to a bundle, a NIR graph, and further training."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from helpers.deployment_contexts import context

from spikefit.cli import main
from spikefit.module import SpikingClassifier
from spikefit.program.bundle import read_bundle
from spikefit.program.lower import lower
from spikefit.program.simulate import Simulator

pytest.importorskip("safetensors", reason="bundles need safetensors")

SHORT = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=5", "--trainer.limit_val_batches=1")
BUNDLE = Path("bundle/program.safetensors")
ONE_CHECKPOINT = (
    '--trainer.callbacks=[{"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", '
    '"init_args": {"filename": "last", "enable_version_counter": false}}]'
)


@pytest.fixture
def checkpoint(run, csv_only):
    """A checkpoint of a short training, below the working directory."""
    status, printed = run("fit", "--config", "configs/quickstart.yaml", csv_only, *SHORT, ONE_CHECKPOINT)
    assert status == 0, printed
    return Path("runs/quickstart/version_0/checkpoints/last.ckpt")


@pytest.fixture
def call(capsys):
    """Export; gives status, output and errors."""

    def export(*options):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["export", *map(str, options)])
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return export


def test_a_checkpoint_becomes_a_bundle_and_every_mistake_is_explained(checkpoint, call):
    status, out, err = call(checkpoint, "--hardware", "loihi", "--out", "bundle")
    assert (status, err) == (0, "")
    assert "4 steps, inputs of the kind constant" in out, "from the checkpoint"
    size = BUNDLE.stat().st_size
    assert (
        int(
            re.search(r"bundle bundle/program\.safetensors: ([\d,]+) bytes, read back and equal", out)[1].replace(
                ",", ""
            )
        )
        == size
    )
    network = SpikingClassifier.load_from_checkpoint(checkpoint, map_location="cpu").network
    exact, read = lower(network, context(4, True)), read_bundle(BUNDLE)
    images = torch.rand(1, 20, 1, 8, 8).expand(4, -1, -1, -1, -1)
    assert read.target == "loihi"
    agreeing = Simulator(read)(images).logits.argmax(1) == Simulator(exact)(images).logits.argmax(1)
    assert float(agreeing.float().mean()) > 0.7

    assert call(checkpoint, "--hardware", "loihi", "--out", "bundle", "--time_steps", 7)[0] == 0
    assert (read_bundle(BUNDLE).time_steps, read_bundle(BUNDLE).populations[0].input_kind) == (7, "constant")

    before = BUNDLE.read_bytes()
    alone = shutil.copy(checkpoint, "alone.ckpt")
    assert call(alone, "--hardware", "loihi", "--out", "alone")[0] == 0, "the checkpoint says all that it needs"
    for options, message in (
        ((checkpoint, "--hardware", "truenorth"), "target truenorth can't run this network"),
        ((checkpoint, "--hardware", "loihi", "--format", "rockpool"), "expected one of a Xylo chip"),
        ((checkpoint, "--hardware", "loihi", "--format", "sinabs"), "format: got 'sinabs', expected one of"),
        ((checkpoint, "--hardware", "loihi9"), "hardware: got 'loihi9', expected one of"),
        ((checkpoint, "--hardware", "loihi", "--time_steps", 0), "time_steps: got 0, expected at least 1"),
        (("nowhere.ckpt", "--hardware", "loihi"), "checkpoint: no file nowhere.ckpt"),
        (("configs/quickstart.yaml", "--hardware", "loihi"), "configs/quickstart.yaml can't be read as a checkpoint"),
    ):
        status, out, err = call(*options, "--out", "bundle")
        assert status == 2
        assert err.startswith("spikefit: error: ")
        assert message in err
    assert BUNDLE.read_bytes() == before

    content = torch.load(checkpoint, weights_only=True)
    torch.save({**content, "spikefit": {}}, "older.ckpt")
    assert (
        "input_kind: neither the data module nor the checkpoint"
        in call("older.ckpt", "--hardware", "loihi", "--out", "b")[2]
    )
    del content["hyper_parameters"]["network"]
    torch.save(content, "python.ckpt")
    assert "does not describe its network" in call("python.ckpt", "--hardware", "loihi", "--out", "bundle")[2]
    Path("file").write_text("")
    assert "can't write" in call(checkpoint, "--hardware", "loihi", "--out", "file")[2]


def test_the_nir_graph_starts_another_training(checkpoint, run, csv_only, call):
    pytest.importorskip("nir", reason="nir is not installed")
    status, out, _ = call(checkpoint, "--hardware", "loihi", "--out", "bundle", "--format", "nir")
    assert status == 0
    assert "NIR graph in the dialect nir bundle/network.nir" in out
    assert call(checkpoint, "--out", "bundle")[0] == 0, "the chip of the run"
    shutil.rmtree("bundle")
    status, _, err = call(checkpoint, "--out", "bundle", "--format", "nir", "--dialect", "sinabs")
    assert status == 2
    assert "its reset is 'zero', a sinabs graph means 'subtract'" in err
    assert not Path("bundle").exists(), "refused before anything is written"
    assert call(checkpoint, "--out", "bundle", "--format", "nir")[0] == call(checkpoint, "--out", "bundle")[0] == 0
    network = '--model.init_args.network={"class_path": "spikefit.nir.FromNIR", "init_args": {"path": "PATH"}}'
    status, printed = run(
        "fit",
        "--config",
        "configs/quickstart.yaml",
        csv_only,
        *SHORT,
        ONE_CHECKPOINT,
        network.replace("PATH", "bundle/network.nir"),
    )
    assert status == 0, printed
    second = Path("runs/quickstart/version_1/checkpoints/last.ckpt")
    assert call(second, "--hardware", "loihi", "--out", "second")[0] == 0
    first, last = read_bundle(BUNDLE), read_bundle("second/program.safetensors")
    assert [population.shape for population in first.populations] == [
        population.shape for population in last.populations
    ]
    status, printed = run(
        "fit", "--config", "configs/quickstart.yaml", csv_only, *SHORT, network.replace("PATH", "lost.nir")
    )
    assert status == 2
    assert "path: no file lost.nir" in printed
