"""Training with a chip's arithmetic on digits: the trained network equals the deployed program."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from helpers.deployment_contexts import context

from spikefit.module import SpikingClassifier

QUICK = ("--config", "configs/quickstart.yaml", "--trainer.enable_progress_bar=false")
NEURONS = {
    "loihi": ("LIF", {"decay": 0.45, "reset": "zero"}, "membrane", "batch"),
    # One register of TrueNorth holds the leak or the bias.
    "truenorth": ("LinearLeakIF", {"leak_per_step": 0.13, "reset": "zero"}, "spikes", "gain"),
}


def deployment():
    options = {"at_fit_end": True, "parity_samples": 360}
    return json.dumps([{"class_path": "callbacks.DeploymentSimulation", "init_args": options}])


@pytest.mark.parametrize("target", NEURONS)
def test_deployed_accuracy_is_the_validated_one(run, csv_only, target):
    neuron, options, readout, norm = NEURONS[target]
    checkpoints = [
        {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"filename": "last"}},
        {"class_path": "callbacks.CodebookReclustering", "init_args": {"schedule": {"start": 2}}},
        {"class_path": "callbacks.FSCPruning", "init_args": {"fraction": 0.3, "schedule": {"start": 3, "stop": 4}}},
        {"class_path": "callbacks.NormCalibration"},
        {"class_path": "callbacks.ChipEmulation", "init_args": {"schedule": {"start": 6}}},
    ]
    network = {
        "class_path": "spikefit.networks.ConvSNN",
        "init_args": {
            "channels": [12, 16],
            "hidden": [32],
            "readout": readout,
            "norm": norm,
            "neuron": {"class_path": f"spikefit.neurons.{neuron}", "init_args": options},
        },
    }
    status, printed = run(
        "fit",
        *QUICK,
        csv_only,
        f"--hardware={target}",
        "--trainer.max_epochs=8",
        f"--trainer.callbacks={json.dumps(checkpoints)}",
        f"--trainer.callbacks+={deployment()[1:-1]}",
        f"--model.init_args.network={json.dumps(network)}",
    )
    assert status == 0, printed
    folder = Path("runs/quickstart/version_0")
    report = json.loads((folder / "deployment" / "report.json").read_text())
    assert_one_and_the_same(report)
    assert report["parity"]["mismatches"] == 0, "the network's own numbers are still lowered exactly"
    assert report["accuracy_deployed"] > 0.8
    assert not [finding["text"] for finding in report["findings"] if finding["kind"] == "structure"]

    last = folder / "checkpoints" / "last.ckpt"
    # A test of the checkpoint knows the chip without the callback.
    status, printed = run(
        "test", *QUICK, csv_only, f"--hardware={target}", "--ckpt_path", last,
        f"--trainer.callbacks={deployment()}", f"--model.init_args.network={json.dumps(network)}",
    )  # fmt: skip
    assert status == 0, printed
    again = json.loads(Path("runs/quickstart/version_1/deployment/report.json").read_text())
    assert_one_and_the_same(again)
    assert again["accuracy_deployed"] == report["accuracy_deployed"]

    # Another chip is a mistake, unless the deployment lists it.
    other = {"loihi": "generic", "truenorth": "altai1"}[target]
    words = ("test", *QUICK, csv_only, f"--model.init_args.network={json.dumps(network)}", "--ckpt_path", last)
    status, printed = run(*words, f"--hardware={other}", f"--trainer.callbacks={deployment()}")
    assert status == 2
    assert (
        f"hardware: got '{other}', but the network of the checkpoint computes with the integers of '{target}'"
        in printed
    )

    # So is a chip of the same name that computes otherwise; another price of its energy is none.
    described = yaml.safe_load(Path(f"configs/hardware/{target}.yaml").read_text())
    Path("mine").mkdir()
    for section, figure, expected in (("neuron", "bias_max", 2), ("energy", "synop_j", 0)):
        changed = {
            **described,
            section: {**described[section], figure: {"value": 3, "source": "ours", "confidence": "S"}},
        }
        Path(f"mine/{target}.yaml").write_text(yaml.safe_dump(changed))
        status, printed = run(*words, f"--hardware=mine/{target}.yaml", f"--trainer.callbacks={deployment()}")
        assert status == expected, printed
        assert ("other values of neuron.bias_max" in printed) == (expected == 2), printed

    # Without a word about the chip it is the checkpoint's.
    status, printed = run(*words, "--hardware=null", f"--trainer.callbacks={deployment()}")
    assert status == 0, printed
    folder = max(Path("runs/quickstart").glob("version_*"), key=lambda path: path.stat().st_mtime)
    assert_one_and_the_same(json.loads((folder / "deployment" / "report.json").read_text()))

    both = json.loads(deployment())
    both[0]["init_args"]["hardware"] = [target, other]
    status, printed = run(*words, f"--hardware={target}", f"--trainer.callbacks={json.dumps(both)}")
    assert status == 0, printed
    assert f"(with the integers of {target})" in printed, "another chip than the one that the table is about"
    folder = max(Path("runs/quickstart").glob("version_*"))
    own, others = (json.loads((folder / "deployment" / chip / "report.json").read_text()) for chip in (target, other))
    assert_one_and_the_same(own)
    assert (own["target"], others["target"]) == (target, other)
    assert others["trained_with_integers_of"] == target


def test_xylo_in_a_few_epochs(run):
    """Current-based neurons, several spikes a step, decays by shifts: the shipped experiment, shortened."""
    callbacks = [
        {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"filename": "last"}},
        {"class_path": "callbacks.CodebookReclustering", "init_args": {"schedule": {"start": 3}}},
        {"class_path": "callbacks.NormCalibration"},
        {"class_path": "callbacks.ChipEmulation", "init_args": {"schedule": {"start": 8}}},
        *json.loads(deployment()),
    ]
    status, printed = run(
        "fit", "--config", "configs/experiment/digits_xylo.yaml", "--trainer.enable_progress_bar=false",
        "--trainer.max_epochs=10", f"--trainer.callbacks={json.dumps(callbacks)}",
    )  # fmt: skip
    assert status == 0, printed
    report = json.loads(Path("runs/digits_xylo/version_0/deployment/report.json").read_text())
    assert_one_and_the_same(report, neurons=100)
    assert report["parity"]["mismatches"] == 0
    assert report["fits"]
    assert report["accuracy_deployed"] > 0.6


def assert_one_and_the_same(report, neurons=500):
    agreement = report["target_agreement"]
    assert report["samples"] == 360
    assert agreement["compared"] > 360 * 4 * neurons
    assert (agreement["mismatches"], agreement["ties"]) == (0, 0)
    assert report["accuracy_deployed"] == report["accuracy_float"]


def test_a_checkpoint_from_before_the_chip_turns_it_off(tmp_path):
    """What is restored is the network as it was saved."""
    from helpers.tiny_fit import module

    from spikefit.program.emulation import Emulator

    plain, chip = module(), module()
    chip.network.emulation = Emulator(context(4, target="loihi"))
    checkpoints = []
    for model in (plain, chip):
        checkpoint = {"state_dict": model.state_dict()}
        model.on_save_checkpoint(checkpoint)
        checkpoints.append(checkpoint)
    torch.save(checkpoints[1], tmp_path / "c.ckpt")
    plain.on_load_checkpoint(torch.load(tmp_path / "c.ckpt", weights_only=True))
    assert plain.network.emulation == chip.network.emulation
    chip.on_load_checkpoint(checkpoints[0])
    assert chip.network.emulation is None


def test_given_quantizers_come_back_with_the_checkpoint(tmp_path):
    """A quantizer that a callback chose needs neither the callback nor the configuration to be restored."""
    from helpers.tiny_fit import module

    from spikefit.quantize.base import latent_weight

    model = module()
    latent = latent_weight(model.network.block("fc1").synapses).detach().clone()
    model.replace_quantizers({"fc1": {"class": "Codebook", "levels": 2, "bits": 8, "zero": "free"}})
    layer = model.network.block("fc1").synapses
    assert torch.equal(latent_weight(layer), latent)
    assert len(layer.weight.unique()) <= 3
    checkpoint = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "q.ckpt")
    restored = module()
    loaded = torch.load(tmp_path / "q.ckpt", weights_only=True)
    restored.on_load_checkpoint(loaded)
    restored.load_state_dict(loaded["state_dict"])
    assert torch.equal(restored.network.block("fc1").synapses.weight, layer.weight)


def test_a_checkpoint_holds_a_chip_of_ones_own(run, csv_only, tmp_path, monkeypatch):
    """Its file is found by a path that means nothing in another directory."""
    content = yaml.safe_load(Path("configs/hardware/loihi.yaml").read_text())
    content["limits"]["cores"]["value"] = 77
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    status, printed = run(
        "fit", *QUICK, csv_only, "--hardware=mine.yaml", "--trainer.max_epochs=2", "--trainer.limit_train_batches=2",
        "--trainer.callbacks=" + json.dumps([
            {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"filename": "last"}},
            {"class_path": "callbacks.ChipEmulation", "init_args": {"schedule": {"start": 1}}},
        ]),
    )  # fmt: skip
    assert status == 0, printed
    path = (tmp_path / "runs/quickstart/version_0/checkpoints/last.ckpt").resolve()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    context = SpikingClassifier.load_from_checkpoint(path, map_location="cpu", weights_only=True).context
    assert (context.chip.name, context.chip.limits.cores.value) == ("mine", 77)
    assert (context.time_steps, context.input_kind) == (4, "constant")
