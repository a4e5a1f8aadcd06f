"""Batches from tensors on the device equal those of a DataLoader, which is used for everything else."""

from types import SimpleNamespace

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from helpers.event_source import CountsCalledSpikes, MadeUp, MadeUpEvents
from torch.utils.data import DataLoader, Subset
from torchvision.transforms import v2

from spikefit.data import EventPipeline, SpikeDataModule, device_cache
from spikefit.data.augment import BatchTransform, Cutout, RandomCrop, RandomHorizontalFlip
from spikefit.data.batches import AugmentedBatches, LoadedBatches, TensorBatches
from spikefit.data.device_cache import DeviceCache
from spikefit.data.events.pipeline import unpack_bits
from spikefit.data.images import Digits, Images
from spikefit.data.source import LabelledDataset
from spikefit.errors import ConfigurationError, DataError

QUIET = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)


class Trainerless(SimpleNamespace):
    training, testing, overfit_batches, strategy = True, False, 0.0, SimpleNamespace(root_device=torch.device("cpu"))


def made(source=None, epoch=0, rank=0, world=1, **options):
    """A data module in the process ``rank`` of ``world``."""
    data = SpikeDataModule(source or Digits(), **options)
    data.setup("fit")
    data.setup("test")
    data.trainer = Trainerless(current_epoch=epoch, global_rank=rank, world_size=world)
    return data


def same(batches, others):
    return all(
        a.dtype == b.dtype and a.is_contiguous() and torch.equal(a, b)
        for batch, other in zip(batches, others, strict=True)
        for a, b in zip(batch, other, strict=True)
    )


@pytest.mark.parametrize(("rank", "world"), [(0, 1), (0, 2), (1, 2), (2, 4)])
@pytest.mark.parametrize("options", [{}, {"val_fraction": 0.0, "batch_size": 100}, {"train_samples": 203}])
def test_training_batches_are_those_of_a_loader(rank, world, options):
    """1293 and 1437 are odd: two processes get a sample twice, the last batch is smaller."""
    for epoch in (0, 1, 7):
        tensors, loader = (
            made(epoch=epoch, rank=rank, world=world, device_cache=choice, **options).train_dataloader()
            for choice in ("auto", False)
        )
        assert isinstance(tensors, TensorBatches)
        assert isinstance(loader, LoadedBatches)
        assert len(tensors) == len(loader)
        assert same(tensors, loader)


@pytest.mark.parametrize("choice", ["auto", False])
def test_a_test_on_several_processes_has_each_sample_once(choice):
    """361 samples are no multiple of 2 or 4, and the batches of a loader are those of the device."""
    for world in (2, 4):
        labels = []
        for rank in range(world):
            data = made(rank=rank, world=world, device_cache=choice, batch_size=50)
            data.trainer.testing = True
            data._parts["test"] = Subset(data._parts["test"], [*range(360), 0])
            labels.append(torch.cat([batch[1] for batch in data.test_dataloader()]))
        whole = torch.tensor([label for _, label in data._parts["test"]])
        assert all(torch.equal(own, whole[rank::world]) for rank, own in enumerate(labels))


def test_evaluation_batches_are_those_of_a_loader():
    for part in ("val_dataloader", "test_dataloader"):
        tensors, loader = (getattr(made(device_cache=choice), part)() for choice in (True, False))
        assert isinstance(tensors, TensorBatches)
        assert len(tensors) == len(loader)
        assert same(tensors, loader)
        # Lightning shares out the samples of a DataLoader among processes, and of nothing else.
        assert isinstance(getattr(made(world=2), part)(), DataLoader)
    assert isinstance(made().predict_dataloader(), DataLoader)


@pytest.mark.parametrize("cache", ["memory", "disk"])
@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("sensor", [(12, 10, 2), (30, 1, 1)])
def test_cached_frames_of_events_are_held_too(cache, binary, sensor, tmp_path, recwarn):
    def batches(choice):
        pipeline = EventPipeline(cache=cache, cache_dir=str(tmp_path), binary=binary)
        options = {"encoding": "frames", "time_steps": 3, "batch_size": 7, "val_fraction": 0.2}
        data = made(MadeUpEvents(pipeline, sensor), device_cache=choice, **options)
        return data.train_dataloader(), data.val_dataloader()

    for tensors, loader in zip(batches(True), batches(False), strict=True):
        assert isinstance(tensors, TensorBatches)
        assert same(tensors, loader)
    assert not [warning for warning in recwarn if "not writable" in str(warning.message)]


@pytest.mark.parametrize("count", [1, 8, 13, 16])
def test_bits_are_unpacked_as_numpy_does(count):
    rows = np.random.default_rng(0).integers(0, 256, (5, 2), dtype=np.uint8)
    expected = np.unpackbits(rows, axis=1, count=count)
    found = unpack_bits(torch.from_numpy(rows), count)
    assert found.dtype == torch.uint8
    assert torch.equal(found, torch.from_numpy(expected))


@pytest.mark.parametrize(
    "pipeline", [{"cache": "none"}, {"augment": [{"class_path": "tonic.transforms.RandomFlipLR"}]}]
)
def test_frames_made_when_they_are_read_go_through_a_loader(pipeline):
    if "augment" in pipeline:
        pytest.importorskip("tonic")
    options = {"encoding": "frames", "time_steps": 3, "val_fraction": 0.0}
    assert isinstance(made(MadeUpEvents(EventPipeline(**pipeline)), **options).train_dataloader(), LoadedBatches)
    with pytest.raises(ConfigurationError, match="device_cache: got True, but samples of MadeUpEvents are made one by"):
        made(MadeUpEvents(EventPipeline(**pipeline)), device_cache=True, **options).train_dataloader()


class Squares(LabelledDataset):
    """A data set of a user's own."""

    labels = torch.arange(60) % 10

    def __getitem__(self, index):
        return torch.full((1, 8, 8), index, dtype=torch.uint8), int(self.labels[index])


class Doubled(Images):
    """Reads images in a way of its own."""

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return 2 * image, label


class Own(Digits):
    def __init__(self, samples):
        super().__init__()
        self.samples = samples

    def load(self, part, time_steps):
        return self.samples


@pytest.mark.parametrize("samples", [Squares(), Doubled(torch.ones(60, 1, 8, 8), torch.arange(60) % 10)])
def test_a_data_set_of_a_users_own_goes_through_a_loader(samples):
    loader = made(Own(samples), val_fraction=0.0).train_dataloader()
    assert isinstance(loader, LoadedBatches)
    images = torch.cat([x for x, _ in loader])
    assert len(images) == 60
    assert images.max() == (59 if isinstance(samples, Squares) else 2)
    with pytest.raises(ConfigurationError, match="device_cache: got True, but samples of Own"):
        made(Own(samples), val_fraction=0.0, device_cache=True).train_dataloader()


def test_transforms_of_single_images_come_first_and_go_through_a_loader():
    options = {"val_fraction": 0.0, "batch_size": 200}
    plain, flipped, cut = (
        made(augment=augment, **options).train_dataloader()
        for augment in ([], [v2.RandomHorizontalFlip(p=1)], [v2.RandomHorizontalFlip(p=1), Cutout(3)])
    )
    assert isinstance(flipped, LoadedBatches)
    assert isinstance(cut, AugmentedBatches)
    assert isinstance(cut.batches, LoadedBatches)
    for (x, y), (mirrored, labels), (holed, _) in zip(plain, flipped, cut, strict=True):
        assert torch.equal(x.flip(-1), mirrored)
        assert torch.equal(y, labels)
        assert not torch.equal(holed, mirrored)
        assert ((holed == mirrored) | (holed == 0)).all()


AUGMENT = [RandomCrop(1), RandomHorizontalFlip(), Cutout(3)]


def augmented(**options):
    return list(made(augment=AUGMENT, batch_size=200, **options).train_dataloader())


@pytest.mark.parametrize("workers", [0, 2])
def test_augmented_batches_are_the_same_from_tensors_and_from_a_loader(workers):
    assert same(augmented(epoch=2), augmented(epoch=2, device_cache=False, num_workers=workers))


def test_augmentation_is_a_function_of_seed_epoch_process_and_batch():
    class Number(BatchTransform):
        def forward(self, samples, generator=None):
            return torch.randint(2**31, (1,), generator=generator)

    def drawn(seed=0, **options):
        data = made(augment=[Number()], batch_size=500, **options)
        data.seed = seed
        return [int(x) for x, _ in data.train_dataloader()]

    reference = drawn()
    torch.rand(3)
    assert drawn() == reference
    others = [*reference, *drawn(seed=1), *drawn(epoch=1), *drawn(rank=1, world=2)]
    assert len(set(others)) == len(others) == 3 + 3 + 3 + 2


def test_augmentation_of_batches_reaches_training_samples_only():
    plain, data = made(), made(augment=AUGMENT)
    assert not same(data.train_dataloader(), plain.train_dataloader())
    assert same(data.val_dataloader(), plain.val_dataloader())
    assert same(data.test_dataloader(), plain.test_dataloader())


def test_augmentation_moves_frames_of_events_alike_in_all_steps():
    options = {"encoding": "frames", "time_steps": 3, "val_fraction": 0.0, "batch_size": 20}
    ((plain, _),), ((mirrored, _),) = (
        made(MadeUpEvents(), augment=augment, **options).train_dataloader()
        for augment in ([], [RandomHorizontalFlip(p=1)])
    )
    assert torch.equal(mirrored, plain.flip(-1))
    with pytest.raises(ConfigurationError, match="RandomHorizontalFlip got samples of shape"):
        next(iter(made(MadeUpEvents(sensor_size=(30, 1, 1)), augment=AUGMENT[1:], **options).train_dataloader()))


def test_no_processes_are_started_for_data_in_memory(monkeypatch):
    said = []
    monkeypatch.setattr("spikefit.data.datamodule.rank_zero_info", said.append)
    assert isinstance(made(num_workers=2).train_dataloader(), TensorBatches)
    assert [line.split(",")[0] for line in said] == ["num_workers: no workers are started"]
    made().train_dataloader()
    assert len(said) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"device_cache": "sometimes"}, "device_cache: got 'sometimes', expected one of 'auto', True, False"),
        ({"augment": [Cutout(2), v2.RandomInvert()]}, "augment: got RandomInvert after Cutout; expected transforms of"),
        ({"augment": [v2.RandomInvert()], "device_cache": True}, "device_cache: got True, but RandomInvert of augment"),
    ],
)
def test_a_bad_value_is_named(options, said):
    with pytest.raises(ConfigurationError, match=said):
        SpikeDataModule(Digits(), **options)


META = torch.device("meta")


@pytest.mark.parametrize(
    ("choice", "room", "held"),
    [
        ("auto", None, False),  # not a CUDA device
        ("auto", 4 * 92_160, False),
        ("auto", 4 * 92_160 + 1, True),
        (True, None, True),
        (True, 92_160, True),
        (False, 10**9, False),
    ],
)
def test_what_a_device_has_room_for(choice, room, held, monkeypatch):
    """360 test images of 64 float32 are 92,160 bytes."""
    monkeypatch.setattr(device_cache, "room_on", lambda device: room)
    cache, samples = DeviceCache(choice, "Digits"), Digits().load("test", 1)
    tensors = cache.get(samples, META)
    assert (tensors is not None) == held
    if tensors is not None:
        assert tensors.rows.device == tensors.labels.device == META
        assert cache.get(samples, META) is tensors  # copied once


def test_a_data_set_larger_than_the_device_is_named(monkeypatch):
    monkeypatch.setattr(device_cache, "room_on", lambda device: 92_159)
    with pytest.raises(ConfigurationError, match="Digits takes 92,160 bytes and meta has 92,159 free; expected 'auto'"):
        DeviceCache(True, "Digits").get(Digits().load("test", 1), META)


def test_frames_are_looked_at_as_they_are_copied():
    seen = []
    samples = EventPipeline().dataset(MadeUp(), 3, train=False)
    DeviceCache(True, "made up").get(samples, META, lambda frames: seen.append(frames.shape))
    assert seen == [(20, 3, 2, 10, 12)]


def test_frames_that_contradict_their_source_are_refused_when_they_are_copied(monkeypatch):
    checks = []
    data = made(CountsCalledSpikes(), encoding="frames", time_steps=3, val_fraction=0.0)
    monkeypatch.setattr(data._cache, "get", lambda samples, device, check: checks.append(check))
    data.train_dataloader()
    counts = torch.tensor([0, 2])
    with pytest.raises(DataError, match=r"CountsCalledSpikes declares .* counts up to 2"):
        checks[0](counts)
    with pytest.raises(DataError, match=r"CountsCalledSpikes declares .* counts up to 2"):
        data.on_before_batch_transfer((counts, counts), 0)
    there = (counts.to(META), counts.to(META))  # was looked at before; what it holds can't be read here
    assert data.on_before_batch_transfer(there, 0) is there


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("augment", [[], [RandomCrop(1, "reflect"), *AUGMENT]])
def test_batches_on_a_gpu_need_no_synchronisation(augment):
    gpu = SimpleNamespace(root_device=torch.device("cuda", 0))
    data = made(augment=augment)
    data.trainer.strategy = gpu
    batches = iter(data.train_dataloader())
    found = [next(batches)]  # which copies the order of the epoch
    torch.cuda.set_sync_debug_mode("error")
    try:
        found += [data.on_after_batch_transfer(batch, 0) for batch in batches]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(tensor.is_cuda for batch in found for tensor in batch)
    host = made().train_dataloader()
    assert all(torch.equal(y.cpu(), labels) for (_, y), (_, labels) in zip(found, host, strict=True))
    if not augment:
        assert all(torch.equal(x[0].cpu(), images) for (x, _), (images, _) in list(zip(found, host, strict=True))[1:])


class Recorder(pl.LightningModule):
    """Remembers the labels that it is given, by stage."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(64, 10)
        self.seen = {"train": [], "val": [], "test": [], "predict": []}

    def training_step(self, batch, batch_idx):
        x, y = batch
        self.seen["train"].append(y.tolist())
        return torch.nn.functional.cross_entropy(self.layer(x.mean(0).flatten(1)), y)

    def validation_step(self, batch, batch_idx):
        self.seen["val"].append(batch[1].tolist())

    def test_step(self, batch, batch_idx):
        self.seen["test"].append(batch[1].tolist())

    def predict_step(self, batch, batch_idx):
        self.seen["predict"].append(batch[1].tolist())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


TRAINERS = [
    {"max_epochs": 2},
    {"max_epochs": 2, "limit_train_batches": 3, "limit_val_batches": 0.5, "limit_test_batches": 2},
    {"max_epochs": 2, "limit_train_batches": 0.5, "reload_dataloaders_every_n_epochs": 1},
    {"max_epochs": 2, "val_check_interval": 3, "num_sanity_val_steps": 1},
    {"max_epochs": 2, "overfit_batches": 2},
    {"fast_dev_run": 2},
]


@pytest.mark.parametrize("options", TRAINERS, ids=str)
def test_a_trainer_sees_the_batches_of_a_loader_in_every_command(options):
    def seen(choice):
        module = Recorder()
        data = SpikeDataModule(Digits(), batch_size=100, device_cache=choice)
        trainer = pl.Trainer(accelerator="cpu", **QUIET, **options)
        trainer.fit(module, data)
        trainer.validate(module, data, verbose=False)
        trainer.test(module, data, verbose=False)
        trainer.predict(module, data)
        return module.seen

    tensors, loader = seen("auto"), seen(False)
    assert tensors == loader
    assert all(tensors.values())
    if "overfit_batches" in options:
        assert tensors["train"][:2] == tensors["train"][2:]
