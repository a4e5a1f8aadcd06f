"""Every declared kind of inputs: the chip's spikes equal those of the trained network."""

import json
from pathlib import Path

import pytest
import torch

NETWORK = {
    "class_path": "spikefit.networks.ConvSNN",
    "init_args": {"channels": [6, 8], "hidden": [16], "neuron": {"class_path": "spikefit.neurons.IF"}},
}
PIPELINES = {
    "spikes": {},
    "counts": {"binary": False},
    "graded": {"framing": {"class_path": "spikefit.data.events.framing.VoxelGrid"}},
}


def callbacks(*others):
    chosen = [
        {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"filename": "last"}},
        {"class_path": "callbacks.CodebookReclustering", "init_args": {"schedule": {"start": 1, "stop": 1}}},
        {"class_path": "callbacks.NormCalibration"},
        *others,
        {
            "class_path": "callbacks.DeploymentSimulation",
            "init_args": {"at_fit_end": True, "parity_samples": 60, "max_samples": 60},
        },
    ]
    return f"--trainer.callbacks={json.dumps(chosen)}"


ON_CHIP = {"class_path": "callbacks.ChipEmulation", "init_args": {"schedule": {"start": 2}}}


def assert_trained_is_deployed(folder, kind):
    report = json.loads((Path(folder) / "deployment" / "report.json").read_text())
    agreement, parity = report["target_agreement"], report["parity"]
    assert agreement["compared"] > 60 * 6 * 500
    assert (agreement["mismatches"], agreement["ties"]) == (0, 0)
    assert parity["mismatches"] == 0
    assert report["accuracy_deployed"] == report["accuracy_float"]
    assert report["input_kind"] == kind
    graded = kind in ("graded", "constant")
    assert (report["encoder"] is not None) == graded, "an encoder multiplies real numbers, and spikes none"
    assert (report["macs_per_inference"] > 0) == graded
    return report


@pytest.mark.parametrize(
    ("kind", "chip"), [("spikes", "loihi"), ("counts", "loihi"), ("counts", "truenorth"), ("graded", "loihi")]
)
def test_events(run, csv_only, data_dir, monkeypatch, kind, chip):
    monkeypatch.setenv("SPIKEFIT_DATA_DIR", str(data_dir / "nmnist4"))
    dataset = {
        "class_path": "spikefit.data.events.NMNIST",
        "init_args": {
            "classes": [6, 7, 8, 9],
            "download": False,
            "pipeline": {"class_path": "spikefit.data.EventPipeline", "init_args": PIPELINES[kind]},
        },
    }
    network = json.loads(json.dumps(NETWORK))
    network["init_args"] |= {"stride": 2, "readout": "spikes" if chip == "truenorth" else "membrane"}
    status, printed = run(
        "fit", "--config", "configs/quickstart.yaml", csv_only, f"--hardware={chip}", "--trainer.max_epochs=3",
        "--trainer.limit_train_batches=8", "--data.init_args.val_fraction=0.0", "--data.init_args.encoding=frames",
        "--data.init_args.time_steps=6", f"--data.init_args.dataset={json.dumps(dataset)}",
        f"--model.init_args.network={json.dumps(network)}", callbacks(ON_CHIP),
    )  # fmt: skip
    assert status == 0, printed
    folder = "runs/quickstart/version_0"
    report = assert_trained_is_deployed(folder, kind)
    content = torch.load(f"{folder}/checkpoints/last.ckpt", weights_only=True)["spikefit"]
    assert (content["input_kind"], content["time_steps"]) == (kind, 6)

    if chip != "loihi":
        return
    # The report does not depend on how the samples are cut into batches.
    status, printed = run(
        "test", "--config", f"{folder}/config.yaml", "--data.init_args.batch_size=7",
        "--ckpt_path", f"{folder}/checkpoints/last.ckpt",
    )  # fmt: skip
    assert status == 0, printed
    again = assert_trained_is_deployed("runs/quickstart/version_1", kind)
    for key in ("accuracy_deployed", "synops_per_inference", "macs_per_inference", "energy_per_inference_j"):
        assert again[key] == pytest.approx(report[key], rel=1e-12), key


@pytest.mark.parametrize("encoding", ["direct", "rate", "latency"])
def test_images(run, csv_only, encoding):
    status, printed = run(
        "fit", "--config", "configs/quickstart.yaml", csv_only, "--hardware=loihi", "--trainer.max_epochs=3",
        "--trainer.limit_train_batches=8", f"--data.init_args.encoding={encoding}", "--data.init_args.time_steps=6",
        f"--model.init_args.network={json.dumps(NETWORK)}", callbacks(ON_CHIP),
    )  # fmt: skip
    assert status == 0, printed
    assert_trained_is_deployed("runs/quickstart/version_0", "constant" if encoding == "direct" else "spikes")


def test_a_batch_that_contradicts_the_declaration_is_refused(run, csv_only):
    """A data set of a user's own that says spikes and gives counts."""
    dataset = {"class_path": "helpers.event_source.CountsCalledSpikes"}
    status, printed = run(
        "fit", "--config", "configs/quickstart.yaml", csv_only, "--trainer.max_epochs=1",
        "--data.init_args.encoding=frames", f"--data.init_args.dataset={json.dumps(dataset)}",
        f"--model.init_args.network={json.dumps(NETWORK)}", "--trainer.callbacks=[]",
    )  # fmt: skip
    assert status == 2
    assert "CountsCalledSpikes declares inputs of the kind 'spikes', but a batch holds counts up to" in printed


def test_data_of_another_kind_than_the_checkpoint_are_refused(run, csv_only):
    short = ("--config", "configs/quickstart.yaml", csv_only, "--trainer.callbacks=[]")
    status, printed = run("fit", *short, "--trainer.max_epochs=1", "--trainer.limit_train_batches=2")
    assert status == 0, printed
    checkpoint = next(Path("runs").rglob("*.ckpt"))
    status, printed = run("test", *short, "--ckpt_path", checkpoint, "--data.init_args.encoding=rate")
    assert status == 2
    assert (
        "data.init_args.encoding: got 'rate', which gives inputs of the kind 'spikes', but the network in ckpt_path "
        "reads 'constant'. Expected 'direct'." in printed
    )
