"""The quickstart: a first and a second run, a test, a prediction, and an interrupted run that is resumed."""

import csv
import json
from pathlib import Path

import torch
import yaml

EVERY_CALLBACK = Path(__file__).resolve().parents[1] / "helpers" / "every_callback.yaml"
QUICK = ("--config", "configs/quickstart.yaml", "--trainer.enable_progress_bar=false")
REQUIRED = {
    "accuracy_float",
    "accuracy_deployed",
    "samples",
    "target",
    "fits",
    "findings",
    "cores_used",
    "neurons",
    "synapses",
    "unique_weights_max",
    "synops_per_inference",
    "energy_per_inference_j",
    "energy",
    "layers",
}


def report_of(run_directory: Path) -> dict:
    return json.loads((run_directory / "deployment" / "report.json").read_text())


def figures_of(run_directory: Path) -> dict:
    """All of the report but which run it is of."""
    report = report_of(run_directory)
    for key in ("run", "configuration", "checkpoint"):
        del report["provenance"][key]
    return report


def test_fit_then_test_then_predict(run, monkeypatch):
    """W&B offline and CSV; the run directory holds everything; test and predict start from its checkpoint."""
    monkeypatch.setenv("WANDB_SILENT", "true")
    status, printed = run("fit", *QUICK)
    assert status == 0, printed
    first = Path("runs/quickstart/version_0")
    report = report_of(first)
    assert report.keys() >= REQUIRED
    assert report["fits"] is True
    assert report["samples"] == 360
    assert report["accuracy_deployed"] >= 0.96
    assert report["units_pruned_fraction"] >= 0.3
    assert report["unique_weights_max"] <= 4
    assert all(layer["unique_weights"] <= 4 for layer in report["layers"])
    assert report["parity"]["mismatches"] == 0
    # Its last epochs train with the chip's integers: what was validated is what runs there.
    agreement = report["target_agreement"]
    assert (agreement["mismatches"], agreement["ties"]) == (0, 0)
    assert report["accuracy_deployed"] == report["accuracy_float"]
    assert report["trained_with_integers_of"] == "loihi"
    assert report["accuracy_before_compression"] >= report["accuracy_deployed"]
    assert report["samples_before_compression"] == 360
    assert report["energy"]["model"] == "target"
    assert report["encoder"] == "conv1"
    origin = report["provenance"]
    assert (origin["data_set"], origin["run"], origin["seed"]) == ("Digits", "quickstart/version_0", 0)
    assert (report["input_kind"], report["time_steps"]) == ("constant", 4)
    assert origin["configuration"] == str(first / "config.yaml")
    assert origin["checkpoint"] == str(first / "checkpoints" / "best.ckpt")
    assert origin["epoch"] == torch.load(first / "checkpoints" / "best.ckpt", weights_only=True)["epoch"]
    for words in (
        "accuracy, deployed",
        "cores used",
        "synops",
        "unique weights",
        "energy",
        "report.json",
        "report.html",
    ):
        assert words in printed
    assert (first / "config.yaml").is_file()
    assert (first / "checkpoints" / "best.ckpt").is_file()
    assert list((first / "wandb").glob("offline-run-*/*.wandb"))
    tables = list((first / "wandb").glob("offline-run-*/files/media/table/deploy/layers*.table.json"))
    assert len(tables) == 1
    assert [row[0] for row in json.loads(tables[0].read_text())["data"]] == [
        "conv1",
        "conv2",
        "fc1",
        "readout",
    ]
    with (first / "metrics.csv").open() as file:
        logged = {key for row in csv.DictReader(file) for key, value in row.items() if value}
    assert {"val/accuracy", "train/loss", "deploy/energy_per_inference_j", "prune/units_alive"} <= logged
    assert {"deploy/accuracy_before_compression", "deploy/energy_unknown_terms"} <= logged

    checkpoint = str(first / "checkpoints" / "best.ckpt")
    status, printed = run("test", *QUICK, "--ckpt_path", checkpoint)
    assert status == 0, printed
    whole, tested = figures_of(first), figures_of(Path("runs/quickstart/version_1"))
    # The checkpoint has the record of the training up to the epoch that it was saved in.
    epochs, known = (figures.pop("training")["epochs"] for figures in (whole, tested))
    assert tested == whole
    assert len(epochs) == 30
    assert known[:-1] == epochs[: origin["epoch"]]
    assert known[-1]["epoch"] == origin["epoch"]
    assert report_of(Path("runs/quickstart/version_1"))["provenance"]["checkpoint"] == checkpoint

    status, printed = run("predict", *QUICK, "--ckpt_path", checkpoint)
    assert status == 0, printed
    with Path("runs/quickstart/version_2/predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["sample"]) for row in rows] == list(range(360))
    assert all(0 <= int(row["class"]) < 10 and 0 < float(row["probability"]) <= 1 for row in rows)


def test_a_second_run_overwrites_nothing_and_its_config_can_be_used_again(run, csv_only):
    callbacks = (
        '[{"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"filename": "last"}}, '
        '{"class_path": "callbacks.DeploymentSimulation", "init_args": {"at_fit_end": true, "max_samples": 64}}]'
    )
    assert run("fit", *QUICK, csv_only, "--trainer.max_epochs=1", f"--trainer.callbacks={callbacks}")[0] == 0
    first = Path("runs/quickstart/version_0")
    before = {path: path.stat().st_mtime_ns for path in first.rglob("*") if path.is_file()}
    saved = first / "config.yaml"
    assert yaml.safe_load(saved.read_text())["trainer"]["logger"]["init_args"]["version"] is None
    assert run("fit", "--config", saved)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*") if path.is_file()} == before
    assert figures_of(Path("runs/quickstart/version_1")) == figures_of(first)


def test_an_interrupted_run_resumes_bit_for_bit(run, csv_only, tmp_path, monkeypatch):
    """With every callback; stopped in the middle of epoch 3, while they act; resumed from the end of epoch 2."""
    monkeypatch.setenv("DUMP_STATE_DIR", str(tmp_path))
    short = (*QUICK, "--config", EVERY_CALLBACK, csv_only, "--trainer.devices=1", "--trainer.strategy=auto")
    assert run("fit", *short)[0] == 0
    interrupt = '--trainer.callbacks+={"class_path": "helpers.dump_state.Interrupt", "init_args": {"epoch": 3}}'
    run("fit", *short, interrupt)
    whole, part = Path("runs/quickstart/version_0"), Path("runs/quickstart/version_1")
    assert torch.load(part / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 2
    status, printed = run("fit", *short, "--ckpt_path", part / "checkpoints" / "last.ckpt")
    assert status == 0, printed
    resumed = Path("runs/quickstart/version_2")
    expected = torch.load(whole / "checkpoints" / "last.ckpt", weights_only=True)
    found = torch.load(resumed / "checkpoints" / "last.ckpt", weights_only=True)
    assert expected["epoch"] == found["epoch"] == 5
    names = expected["state_dict"].keys()
    assert names == found["state_dict"].keys()
    assert any(name.endswith("codebook") for name in names)
    assert any(name.endswith("alive") and not bool(expected["state_dict"][name].all()) for name in names)
    for name in names:
        assert torch.equal(expected["state_dict"][name], found["state_dict"][name]), name
    assert figures_of(whole) == figures_of(resumed)


def test_the_best_checkpoint_survives_a_resumed_run(run, csv_only):
    """Interrupted after the best epoch: the resumed run still deploys the best of the whole training."""
    options = (
        csv_only,
        "--trainer.max_epochs=6",
        '--trainer.callbacks=[{"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": '
        '{"filename": "last", "enable_version_counter": false}}, {"class_path": "callbacks.CompressedCheckpoint", '
        '"init_args": {"filename": "best", "monitor": "val/accuracy", "mode": "min"}}, {"class_path": '
        '"callbacks.DeploymentSimulation", "init_args": {"at_fit_end": true, "max_samples": 64}}]',
    )  # mode min: the first epoch is "best"
    interrupt = '--trainer.callbacks+={"class_path": "helpers.dump_state.Interrupt", "init_args": {"epoch": 3}}'
    run("fit", *QUICK, *options, interrupt)
    first = Path("runs/quickstart/version_0/checkpoints")
    status, printed = run("fit", *QUICK, *options, "--ckpt_path", first / "last.ckpt")
    assert status == 0, printed
    deployed = report_of(Path("runs/quickstart/version_1"))["provenance"]["checkpoint"]
    assert Path(deployed) == (first / "best.ckpt").resolve()
    assert (first / "best.ckpt").is_file()
