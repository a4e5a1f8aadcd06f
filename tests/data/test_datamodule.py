"""SpikeDataModule: splits are disjoint, orders are reproducible, wrong values are named."""

import subprocess
import sys
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from sklearn.datasets import load_digits

from spikefit.data import SpikeDataModule
from spikefit.data.augment import Cutout, RandomCrop
from spikefit.data.events import NMNIST, POKERDVS
from spikefit.data.images import CIFAR10, MNIST, Digits, FashionMNIST
from spikefit.data.source import LabelledDataset
from spikefit.errors import ConfigurationError, DataError
from spikefit.seeding import reseed


def digits(**options):
    data = SpikeDataModule(Digits(), **options)
    data.setup("fit")
    data.setup("test")
    return data


def images_of(loader):
    return torch.cat([x for x, _ in loader])


def keys(images):
    return [tuple(image.flatten().tolist()) for image in images]


def test_splits_of_digits_hold_every_image_once():
    """1437 training images, 144 of which validate, and 360 test images: together they are the 1797 of scikit-learn."""
    data = digits()
    train, val, test = (
        images_of(loader) for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
    )
    assert (len(train), len(val), len(test)) == (1293, 144, 360)
    everything = sorted(keys(torch.cat([train, val, test])))
    reference = torch.from_numpy(load_digits().images).float() / 16
    assert everything == sorted(keys(reference))


def test_splits_are_stratified():
    data = digits()
    for loader in (data.val_dataloader(), data.test_dataloader()):
        labels = torch.cat([y for _, y in loader])
        counts = torch.bincount(labels, minlength=10).float()
        assert (counts / len(labels) - 0.1).abs().max() < 0.011


class Trainerless(SimpleNamespace):
    world_size, global_rank, training, overfit_batches = 1, 0, True, 0.0
    strategy = SimpleNamespace(root_device=torch.device("cpu"))


def test_the_order_is_a_function_of_seed_and_epoch():
    def order(seed, epoch, rank=0, world=1):
        data = digits(seed=0)
        data.seed = seed
        data.trainer = Trainerless(current_epoch=epoch, global_rank=rank, world_size=world)
        torch.rand(epoch + 7)  # whatever was drawn before does not matter
        return keys(images_of(data.train_dataloader()))

    assert order(0, 3) == order(0, 3)
    assert order(0, 3) != order(0, 4)
    assert order(0, 3) != order(1, 3)
    assert sorted(order(0, 3)) == sorted(order(0, 4))
    halves = order(0, 3, 0, 2), order(0, 3, 1, 2)
    assert abs(len(halves[0]) - len(halves[1])) == 0
    assert set(halves[0]) | set(halves[1]) == set(order(0, 3))


def test_more_processes_than_test_samples_are_refused():
    data = digits()
    samples = len(data.test_dataloader().sampler)
    data.trainer = Trainerless(testing=True, world_size=samples)
    assert sum(len(x[0]) for x, _ in data.test_dataloader()) == 1  # [T, B, C, H, W]
    data.trainer = Trainerless(testing=True, world_size=samples + 1)
    with pytest.raises(ConfigurationError, match=f"trainer.devices: got {samples + 1} processes, expected at most"):
        data.test_dataloader()


class Recorder(pl.LightningModule):
    """Remembers the batches that it is trained on, by epoch."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(64, 10)
        self.seen = []

    def on_train_epoch_start(self):
        reseed("epoch", self.current_epoch)

    def training_step(self, batch, batch_idx):
        x, y = batch
        self.seen.append((self.current_epoch, x.clone()))
        return torch.nn.functional.cross_entropy(self.layer(x.mean(0).flatten(1)), y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class Jitter(torch.nn.Module):
    def forward(self, image):
        return image * torch.rand(())


@pytest.mark.parametrize("device_cache", ["auto", False])
@pytest.mark.parametrize("augment", [[Jitter()], [RandomCrop(1), Cutout(3)]])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_sees_the_batches_of_the_uninterrupted_one(workers, augment, device_cache, tmp_path):
    """Order, augmentation and rate coding, under a real trainer."""

    def batches(epochs, ckpt_path=None, save=None):
        module = Recorder()
        options = {"num_workers": workers, "augment": augment, "device_cache": device_cache}
        data = SpikeDataModule(Digits(), encoding="rate", batch_size=500, val_fraction=0, **options)
        quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
        trainer = pl.Trainer(max_epochs=epochs, accelerator="cpu", **quiet)
        trainer.fit(module, data, ckpt_path=ckpt_path)
        if save:
            trainer.save_checkpoint(save)
        return module.seen

    whole = [x for epoch, x in batches(3) if epoch == 2]
    batches(2, save=tmp_path / "two.ckpt")
    resumed = batches(3, ckpt_path=tmp_path / "two.ckpt")
    assert [epoch for epoch, _ in resumed] == [2, 2, 2]
    assert all(torch.equal(x, again) for x, (_, again) in zip(whole, resumed, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_give_the_same_batches(workers):
    data = digits(num_workers=workers, batch_size=500, device_cache=False)
    labels = [y.tolist() for _, y in data.train_dataloader()]
    assert labels == [y.tolist() for _, y in digits(batch_size=500).train_dataloader()]
    assert [len(batch) for batch in labels] == [500, 500, 293]


class Sevens(torch.nn.Module):
    def forward(self, image):
        return image * 0 + 7


def test_a_validation_part_too_small_for_every_class_is_named():
    with pytest.raises(ConfigurationError, match=r"val_fraction: 0\.002 of 1437"):
        digits(val_fraction=0.002)


def test_augmentation_reaches_training_images_only():
    data = digits(augment=[Sevens()])
    assert (images_of(data.train_dataloader()) == 7).all()
    assert images_of(data.val_dataloader()).max() <= 1
    assert images_of(data.test_dataloader()).max() <= 1


def test_no_validation_part_is_no_loader():
    data = digits(val_fraction=0.0)
    assert data.val_dataloader() == []
    assert len(images_of(data.train_dataloader())) == 1437


@pytest.mark.parametrize("encoding", ["direct", "rate", "latency"])
def test_batches_are_time_first(encoding):
    data = digits(encoding=encoding, time_steps=6, batch_size=50)
    for batch in (next(iter(data.test_dataloader())), list(data.test_dataloader())[-1]):
        x, y = data.on_after_batch_transfer(batch, 0)
        assert x.shape == (6, len(y), 1, 8, 8)
        assert x.dtype == torch.float32
        assert data.on_after_batch_transfer(batch[0], 0).shape == x.shape
    assert data.input_kind == ("constant" if encoding == "direct" else "spikes")


def test_rate_coding_repeats_in_evaluation_and_not_in_training():
    data = digits(encoding="rate")
    images = torch.full((2, 1, 8, 8), 0.5)
    assert torch.equal(data.encode(images), data.encode(images))
    data.trainer = Trainerless(current_epoch=0)
    assert not torch.equal(data.encode(images), data.encode(images))
    with torch.no_grad():
        assert torch.equal(data.encode(images), data.encode(images))


@pytest.mark.parametrize(
    ("source", "options", "named"),
    [
        (Digits, {"encoding": "frames"}, "direct, rate, latency"),
        (POKERDVS, {"encoding": "rate"}, "frames"),
        (Digits, {"encoding": "burst"}, "encoding"),
        (Digits, {"time_steps": 0}, "time_steps"),
        (Digits, {"batch_size": 0}, "batch_size"),
        (Digits, {"val_fraction": 1.0}, "val_fraction"),
        (Digits, {"num_workers": -1}, "num_workers"),
    ],
)
def test_a_bad_value_is_named(source, options, named):
    with pytest.raises(ConfigurationError, match=named):
        SpikeDataModule(source(), **options)


@pytest.mark.parametrize("options", [{"classes": []}, {"classes": [3, 10]}])
def test_a_bad_value_of_a_source_is_named(options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        NMNIST(**options)


@pytest.mark.parametrize("source", [MNIST, FashionMNIST, CIFAR10, POKERDVS, NMNIST])
def test_a_missing_folder_says_what_is_expected_where(source, tmp_path):
    encoding = "frames" if source.event else "direct"
    data = SpikeDataModule(source(root=str(tmp_path), download=False), encoding=encoding)
    with pytest.raises(DataError, match="expected") as caught:
        data.prepare_data()
    assert str(tmp_path) in str(caught.value)
    assert "SPIKEFIT_DATA_DIR" in str(caught.value)


@pytest.mark.parametrize("source", [MNIST, CIFAR10, POKERDVS, NMNIST])
def test_loading_what_was_never_prepared_names_the_folder_and_writes_nothing(source, tmp_path):
    with pytest.raises(DataError, match="missing") as caught:
        source(root=str(tmp_path)).load("test", 2)
    assert str(tmp_path) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_a_data_error(tmp_path):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (folder / f"{name}-ubyte").write_bytes(b"")
    with pytest.raises(DataError, match="MNIST"):
        MNIST(root=str(tmp_path)).prepare()
    with pytest.raises(DataError, match="damaged"):
        MNIST(root=str(tmp_path)).load("train", 2)


def test_a_failed_download_is_one_clear_message(tmp_path, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise RuntimeError("no route to host\nsecond line")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", refuse)
    with pytest.raises(DataError, match=r"download failed") as caught:
        FashionMNIST(root=str(tmp_path)).prepare()
    assert "FashionMNIST/raw" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_shapes_are_known_before_any_file_is_touched(tmp_path):
    data = SpikeDataModule(NMNIST(root=str(tmp_path), classes=[9, 6]), encoding="frames", time_steps=5)
    assert (data.input_shape, data.num_classes, data.time_steps, data.input_kind) == ((2, 34, 34), 2, 5, "spikes")


def test_data_libraries_are_imported_only_when_data_are_loaded():
    code = (
        "import sys, spikefit.data.datamodule, spikefit.data.events, spikefit.data.images;"
        "print([name for name in ('tonic', 'sklearn') if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_the_trainer_gets_every_sample_in_a_last_smaller_batch():
    """1293 = 10 * 128 + 13."""
    module = Recorder()
    trainer = pl.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(module, SpikeDataModule(Digits(), batch_size=128, val_fraction=0.1))
    assert [x.shape[1] for _, x in module.seen] == [128] * 10 + [13]


def test_labelled_dataset_has_as_many_samples_as_labels():
    data = Digits().load("test", 4)
    assert isinstance(data, LabelledDataset)
    assert len(data) == len(data.labels) == 360


def subset(samples, seed=0, **options):
    """Digits' training part, reduced to ``samples``."""
    data = SpikeDataModule(Digits(), train_samples=samples, seed=seed, **options)
    data.setup("fit")
    return data._parts["train"]


def test_a_subset_is_stratified_and_one_whatever_the_training_seed():
    reseed(1)
    chosen = subset(300, val_fraction=0.0)
    reseed(2)
    again = subset(300, val_fraction=0.0)
    assert chosen.indices == again.indices
    assert len(set(chosen.indices)) == 300
    labels = torch.tensor([label for _, label in chosen])
    everything = torch.bincount(torch.tensor([label for _, label in subset(None, val_fraction=0.0)]))
    shares = 300 * everything / everything.sum()
    assert ((torch.bincount(labels) - shares).abs() < 1).all()
    assert chosen.indices != subset(300, seed=1, val_fraction=0.0).indices


def test_a_subset_leaves_the_validation_part_as_it_is():
    small, whole = digits(train_samples=200), digits()
    assert keys(images_of(small.val_dataloader())) == keys(images_of(whole.val_dataloader()))
    assert len(images_of(small.train_dataloader())) == 200
    assert not set(keys(images_of(small.train_dataloader()))) & set(keys(images_of(small.val_dataloader())))
    assert len(subset(1437, val_fraction=0.0)) == 1437


@pytest.mark.parametrize("samples", [0, 5, 2000])
def test_an_impossible_subset_is_named(samples):
    with pytest.raises(ConfigurationError, match=f"train_samples: (got )?{samples}"):
        subset(samples, val_fraction=0.0)
