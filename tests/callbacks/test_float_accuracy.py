"""Accuracy of the float network: its measurement before compression, its storage, and the absence of side effects."""

import json
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from helpers.compression_cases import SMALL_CHIP
from helpers.tiny_fit import TinyData, TinyDataWithTest, module

from callbacks import (
    ChipEmulation,
    CodebookReclustering,
    DeploymentSimulation,
    FSCPruning,
    NormCalibration,
    PostTrainingQuantization,
    SynapsePruning,
)
from callbacks.schedule import Schedule
from spikefit.errors import DataError
from spikefit.quantize import PostTraining

EPOCHS = 4


class LosesTest(TinyDataWithTest):
    """The test part is announced, and is not there."""

    def setup(self, stage):
        if stage == "test":
            raise DataError("test.npz is missing")


class Drawing(pl.Callback):
    """Training draws random numbers of all kinds, so that a disturbed generator would show in the weights."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        batch[0].mul_(torch.rand_like(batch[0]) < 0.9)


class Keep(pl.Callback):
    """Saves a checkpoint after each epoch."""

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.save_checkpoint(Path(trainer.default_root_dir) / f"{trainer.current_epoch}.ckpt")


def trainer_of(folder, callbacks, epochs=EPOCHS, **options):
    return pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **options,
    )


def compressing():
    return [CodebookReclustering(Schedule(2)), NormCalibration(2), FSCPruning(0.4, schedule=Schedule(2, 3))]


def train(folder, callbacks, data=None, checkpoint=None, epochs=EPOCHS, model=None, **options):
    model = module() if model is None else model
    pl.seed_everything(3)
    trainer = trainer_of(folder, callbacks, epochs, **options)
    trainer.fit(model, TinyDataWithTest() if data is None else data, ckpt_path=checkpoint, weights_only=True)
    return model


def evaluated(model, data, samples):
    """Accuracy of the network on the first samples of the test part."""
    model.eval()
    correct = seen = 0
    for batch in data.test_dataloader():
        inputs, labels = data.on_after_batch_transfer(batch, 0)
        inputs, labels = inputs[:, : samples - seen], labels[: samples - seen]
        with torch.no_grad():
            correct += int((model.network.logits(model.network(inputs)).argmax(dim=1) == labels).sum())
        seen += len(labels)
    return correct, seen


def test_it_is_that_of_the_float_network(tmp_path):
    """A run that ends where compression would begin has the same network."""
    model = train(tmp_path, [*compressing(), DeploymentSimulation(max_samples=30)])
    floating = train(tmp_path, [NormCalibration(2)], epochs=2)
    before = model.accuracy_before_compression
    assert (before.correct, before.samples) == evaluated(floating, TinyDataWithTest(), 30)
    assert floating.accuracy_before_compression is None


def test_training_is_the_same_bit_for_bit(tmp_path):
    """Weights, norms, codebooks, masks, optimizer and random state; with noise that depends on the generator."""
    states = []
    for more in ([], [DeploymentSimulation()]):
        (tmp_path / str(len(more))).mkdir()
        train(tmp_path / str(len(more)), [*compressing(), Drawing(), Keep(), *more])
        states.append(torch.load(tmp_path / str(len(more)) / f"{EPOCHS - 1}.ckpt", weights_only=True))
        states[-1]["random"] = torch.get_rng_state()
    without, measured = states
    assert without["spikefit"]["accuracy_before_compression"] is None
    assert measured["spikefit"]["accuracy_before_compression"] is not None
    assert torch.equal(without["random"], measured["random"])
    assert without["state_dict"].keys() == measured["state_dict"].keys()
    for name, tensor in without["state_dict"].items():
        assert torch.equal(tensor, measured["state_dict"][name]), name
    moments = [state["optimizer_states"][0]["state"] for state in states]
    assert moments[0].keys() == moments[1].keys()
    for index, moment in moments[0].items():
        assert torch.equal(moment["exp_avg"], moments[1][index]["exp_avg"])


@pytest.mark.parametrize("resumed_after", [0, 2], ids=["before compression", "after it began"])
def test_a_resumed_run_keeps_it(tmp_path, resumed_after):
    whole = train(tmp_path, [*compressing(), DeploymentSimulation(), Keep()])
    again = train(tmp_path, [*compressing(), DeploymentSimulation()], checkpoint=tmp_path / f"{resumed_after}.ckpt")
    assert whole.accuracy_before_compression is not None
    assert again.accuracy_before_compression == whole.accuracy_before_compression


def test_the_reports_of_fit_and_test_have_it(tmp_path):
    deployment = DeploymentSimulation(at_fit_end=True, max_samples=30)
    fitted = train(tmp_path, [*compressing(), deployment, Keep()])
    before = fitted.accuracy_before_compression
    assert deployment.report.accuracy_before_compression == before.share
    assert deployment.report.samples_before_compression == 30
    assert deployment.report.provenance.epoch == EPOCHS - 1
    assert deployment.report.provenance.checkpoint is None
    path = tmp_path / f"{EPOCHS - 2}.ckpt"
    on_more = DeploymentSimulation()
    trainer_of(tmp_path, [on_more]).test(module(), TinyDataWithTest(), ckpt_path=path, verbose=False, weights_only=True)
    assert on_more.report.accuracy_before_compression is None, "of other samples"
    tested = DeploymentSimulation(max_samples=30)
    trainer_of(tmp_path, [tested]).test(module(), TinyDataWithTest(), ckpt_path=path, verbose=False, weights_only=True)
    assert tested.report.accuracy_before_compression == before.share
    assert tested.report.samples_before_compression == 30
    assert tested.report.samples == 30
    assert tested.report.provenance.epoch == EPOCHS - 2
    assert tested.report.provenance.checkpoint == str(path)
    assert tested.report.trained_with_integers_of is None
    stored = json.loads((tmp_path / "deployment" / "report.json").read_text())
    assert stored["accuracy_before_compression"] == before.share


@pytest.mark.parametrize(
    "callbacks",
    [
        list,
        lambda: [CodebookReclustering(Schedule(0))],
        lambda: [FSCPruning(0.4, schedule=Schedule(1, 1))],
        lambda: [ChipEmulation(Schedule(1))],
    ],
    ids=["nothing compresses", "quantizers are on", "pruned when quantizers are on", "integers alone"],
)
def test_there_is_none_without_a_float_network(tmp_path, callbacks):
    deployment = DeploymentSimulation(at_fit_end=True)
    model = train(tmp_path, [*callbacks(), deployment], epochs=2)
    assert model.accuracy_before_compression is None
    assert deployment.report.accuracy_before_compression is None
    assert deployment.report.samples_before_compression is None


def test_a_network_with_pruned_units_or_synapses_is_not_the_one_before(tmp_path):
    for spoil in ("units", "synapses"):
        model = module(prunable_synapses=True)
        if spoil == "units":
            model.network.block("conv1").neuron.alive[0] = False
        else:
            model.network.block("conv1").synapses.parametrizations.weight[-1].live[0] = False
        train(tmp_path, [CodebookReclustering(Schedule(1)), DeploymentSimulation()], model=model, epochs=2)
        assert model.accuracy_before_compression is None, spoil


@pytest.mark.parametrize(
    "callback",
    [FSCPruning(0.4, schedule=Schedule(1, 1)), SynapsePruning(0.4, schedule=Schedule(1, 1))],
    ids=["units", "synapses"],
)
def test_pruning_a_network_without_quantizers(tmp_path, callback):
    model = module(quantizer=None, prunable_synapses=True)
    train(tmp_path, [callback, DeploymentSimulation()], model=model, epochs=2)
    assert model.accuracy_before_compression.samples == 40


def test_quantization_after_training(tmp_path):
    model = train(tmp_path, [], model=module(PostTraining), epochs=2)
    expected = evaluated(model, TinyDataWithTest(), 40)
    deployment = DeploymentSimulation()
    trainer_of(tmp_path, [PostTrainingQuantization(), deployment]).test(model, TinyDataWithTest(), verbose=False)
    before = model.accuracy_before_compression
    assert (before.correct, before.samples) == expected
    assert deployment.report.accuracy_before_compression == before.share
    assert all(quantizer.strength == 1 for _, _, quantizer in model.quantized_layers())


def test_no_test_part_is_no_error(tmp_path):
    model = train(tmp_path, [*compressing(), DeploymentSimulation()], data=TinyData())
    assert model.accuracy_before_compression is None


def test_a_test_part_that_can_not_be_loaded_is_said(tmp_path):
    with pytest.warns(UserWarning, match=r"accuracy before compression.*test\.npz is missing"):
        model = train(tmp_path, [*compressing(), DeploymentSimulation()], data=LosesTest())
    assert model.accuracy_before_compression is None


def test_a_network_with_the_chips_integers_says_so(tmp_path):
    deployment = DeploymentSimulation(at_fit_end=True)
    train(tmp_path, [CodebookReclustering(Schedule(1)), ChipEmulation(Schedule(2)), deployment])
    assert deployment.report.trained_with_integers_of == "loihi"
    assert deployment.report.accuracy_float == deployment.report.accuracy_deployed


def test_a_network_that_does_not_fit_is_partial(tmp_path):
    deployment = DeploymentSimulation([SMALL_CHIP], at_fit_end=True)
    train(tmp_path, [CodebookReclustering(Schedule(1)), deployment], epochs=2)
    assert not deployment.report.fits
    assert deployment.report.partial
    page = (tmp_path / "deployment" / "report.html").read_text()
    assert 'class="card partial"' in page
