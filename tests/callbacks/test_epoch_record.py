"""What DeploymentSimulation records of a training: accuracy, energy, pruning and codebooks; also after a resumption."""

import lightning.pytorch as pl
import pytest
from helpers.own_chip import own_chip
from helpers.tiny_fit import TinyData, TinyDataWithTest, module
from lightning.pytorch.callbacks import ModelCheckpoint

from callbacks import ChipEmulation, CodebookReclustering, DeploymentSimulation, FSCPruning, SynapsePruning
from callbacks.schedule import Schedule
from spikefit.deploy.report import Report
from spikefit.deploy.report.collect import codebook_values, layer_weights
from spikefit.hardware.target import HardwareTarget
from spikefit.prune.resources import alive_by_block, energy, measure_traffic

EPOCHS = 6


class Watch(pl.Callback):
    """Notes the state of the network itself after each epoch and each start of one."""

    def __init__(self):
        self.alive, self.live, self.codebooks, self.accuracies, self.weights = [], [], [], [], []

    def on_train_epoch_start(self, trainer, pl_module):
        self.codebooks.append(
            {name: codebook_values(q) for name, _, q in pl_module.quantized_layers() if q.strength > 0}
        )

    def on_validation_end(self, trainer, pl_module):
        self.weights.append(layer_weights(pl_module.network))

    def on_train_epoch_end(self, trainer, pl_module):
        blocks = dict(pl_module.network.named_blocks())
        self.alive.append(tuple(int(blocks[name].neuron.alive.sum()) for name in ("conv1", "conv2", "fc1")))
        self.accuracies.append([float(trainer.callback_metrics[f"{part}/accuracy"]) for part in ("val", "train")])


def compressing():
    return [
        CodebookReclustering(Schedule(2)),
        FSCPruning(0.4, schedule=Schedule(2, 4, every=2)),
        SynapsePruning(0.3, schedule=Schedule(3, 3)),
        ChipEmulation(Schedule(5)),
    ]


def train(folder, callbacks, checkpoint=None, data=None, **options):
    pl.seed_everything(3)
    model = module(prunable_synapses=True)
    trainer = pl.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        num_sanity_val_steps=2,
        **options,
    )
    trainer.fit(model, TinyDataWithTest() if data is None else data, ckpt_path=checkpoint, weights_only=True)
    return model


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder, watch = tmp_path_factory.mktemp("run"), Watch()
    saved = ModelCheckpoint(folder, "{epoch}", monitor="val/accuracy", save_top_k=-1)
    model = train(folder, [*compressing(), DeploymentSimulation(at_fit_end=True), watch, saved])
    return folder, model, watch


def test_every_epoch_is_recorded(trained):
    _, model, watch = trained
    record = model.training_record
    assert [entry.epoch for entry in record.epochs] == list(range(EPOCHS))
    assert record.layers == ("conv1", "conv2", "fc1")
    assert [entry.alive for entry in record.epochs] == watch.alive
    assert [[entry.accuracy_val, entry.accuracy_train] for entry in record.epochs] == watch.accuracies
    assert [entry.quantised for entry in record.epochs] == [0, 0, 1, 1, 1, 1]
    assert [entry.emulated for entry in record.epochs] == [False] * 5 + [True]
    assert sum(record.weights) == sum(layer.weight.numel() for _, layer in model.network.named_synapses())
    assert sum(record.epochs[2].synapses) == sum(record.weights) > sum(record.epochs[3].synapses)


def test_pruning_is_told_where_and_when(trained):
    _, model, watch = trained
    record = model.training_record
    before, units = record.units, dict(record.removed())
    assert list(units) == [2, 3, 4]
    for epoch, alive in enumerate(watch.alive):
        lost = {name: old - new for name, old, new in zip(record.layers, before, alive, strict=True) if old > new}
        assert {name: n for name, n in units.get(epoch, {}).items() if " weights" not in name} == lost
        before = alive
    assert all(name.endswith(" weights") for name in units[3])


def test_the_float_weights_and_the_first_codebooks_are_kept(trained):
    _, model, watch = trained
    assert model.training_record.before == watch.weights[2], "one validation is the sanity check"
    assert model.training_record.first_values == watch.codebooks[2]
    assert watch.codebooks[1] == {}


def test_the_energy_is_that_of_the_network_then(trained):
    """That of the last epoch, computed anew from the trained network and the first validation samples."""
    _, model, _ = trained
    data = TinyData()
    inputs, _ = data.on_after_batch_transfer(next(iter(data.val_dataloader())), 0)
    model.eval()
    found = measure_traffic(model.network, [(inputs[:, :16], None)], model.input_kind)
    expected = energy(model.network, HardwareTarget.load("loihi"), found).total(alive_by_block(model.network))
    record = model.training_record
    assert record.epochs[-1].energy_j == pytest.approx(expected, rel=1e-5)
    assert (record.energy_on, record.energy_without) == ("loihi", ("hops", "static"))


def test_report_and_page_have_it(trained):
    folder, model, _ = trained
    report = Report.from_json((folder / "deployment" / "report.json").read_text())
    assert report.training == model.training_record
    assert [entry.layer for entry in report.codebooks if entry.before] == ["conv1", "conv2", "fc1", "readout"]
    page = (folder / "deployment" / "report.html").read_text()
    for part in ('class="picture accuracy"', 'class="picture energy"', 'class="picture living"', "epoch 4"):
        assert part in page


@pytest.mark.parametrize("after", [0, 3])
def test_a_resumed_run_has_the_same_record(trained, tmp_path, after):
    """The checkpoints are saved after the validation, before the epoch ends."""
    folder, model, _ = trained
    again = train(tmp_path, [*compressing(), DeploymentSimulation()], folder / f"epoch={after}.ckpt")
    assert again.training_record == model.training_record


def test_a_test_of_a_checkpoint_has_the_record_up_to_it(trained, tmp_path):
    folder, model, _ = trained
    tested = DeploymentSimulation()
    trainer = pl.Trainer(
        accelerator="cpu", callbacks=[tested], logger=False, default_root_dir=tmp_path, barebones=False
    )
    restored = module(prunable_synapses=True)
    trainer.test(restored, TinyDataWithTest(), folder / "epoch=3.ckpt", verbose=False, weights_only=True)
    assert tested.report.training.removed() == model.training_record.removed()[:2]


def test_epochs_without_validation_have_no_old_accuracy(tmp_path):
    """Lightning's metrics keep the last value of an earlier epoch."""
    model = train(tmp_path, [DeploymentSimulation()], check_val_every_n_epoch=2)
    assert [entry.accuracy_val is None for entry in model.training_record.epochs] == [True, False] * 3
    assert all(entry.accuracy_train is not None for entry in model.training_record.epochs)
    assert all(entry.energy_j > 0 for entry in model.training_record.epochs)


def test_a_chip_without_prices_has_no_energy(tmp_path):
    deployment = DeploymentSimulation()
    deployment.targets = [own_chip("memory", energy={"synop_j": None})]
    model = train(tmp_path, [deployment])
    assert model.training_record.energy_on == "own"
    assert {entry.energy_j for entry in model.training_record.epochs} == {None}


def test_several_chips_are_side_by_side_in_each_report(tmp_path, capsys):
    deployment = DeploymentSimulation(hardware=["loihi", "generic"], at_fit_end=True)
    train(tmp_path, [deployment])
    printed = capsys.readouterr().out
    for chip in ("loihi", "generic"):
        report = Report.from_json((tmp_path / "deployment" / chip / "report.json").read_text())
        assert [(entry.target, entry.fits) for entry in report.chips] == [("loihi", True), ("generic", True)]
        for entry in report.chips:
            own = deployment.reports[entry.target]
            assert (entry.energy_j, entry.cores_used) == (own.energy_per_inference_j, own.cores_used)
            assert entry.accuracy_deployed == own.accuracy_deployed
        page = tmp_path / "deployment" / chip / "report.html"
        assert "Chips side by side" in page.read_text()
        assert f"{page}\n" in printed
