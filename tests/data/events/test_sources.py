"""Every event data set, from files in its own format through tonic's class to a training batch."""

import os
import pickle
from functools import partial
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from helpers import fake_events

from spikefit.data import EventPipeline, SpikeDataModule
from spikefit.data.events import (
    CIFAR10DVS,
    NCALTECH101,
    NTIDIGITS18,
    SHD,
    SSC,
    DVSGesture,
    RecordingFolder,
    TonicDataset,
)
from spikefit.module import SpikingClassifier
from spikefit.networks import MLP, ConvSNN

FOLDER = partial(RecordingFolder, classes=["left", "right"], sensor_size=(34, 34, 2))
GESTURES = partial(
    TonicDataset, class_path="tonic.datasets.DVSGesture", num_classes=11, sensor_size=(128, 128, 2), download=False
)
CALTECH = partial(
    TonicDataset,
    class_path="tonic.datasets.NCALTECH101",
    num_classes=5,
    sensor_size=(240, 180, 2),
    part_argument=None,
    download=False,
)
SHD_BY_PATH = partial(
    TonicDataset, class_path="tonic.datasets.SHD", num_classes=20, sensor_size=(700, 1, 1), download=False
)
LETTERS = partial(
    TonicDataset,
    class_path="tonic.datasets.ASLDVS",
    num_classes=26,
    sensor_size=(240, 180, 2),
    part_argument=None,
    download=False,
    test_fraction=0.2,
)
five_classes = partial(fake_events.write_ncaltech101, classes=5, per_class=20)
# source, writer, shape of a frame, classes, samples of the parts
CASES = {
    "dvsgesture": (partial(DVSGesture, download=False), fake_events.write_dvsgesture, (2, 128, 128), 11, (55, 22)),
    "cifar10dvs": (partial(CIFAR10DVS, download=False), fake_events.write_cifar10dvs, (2, 128, 128), 10, (180, 20)),
    "ncaltech101": (
        partial(NCALTECH101, download=False, classes=[f"class_{label:03d}" for label in range(5)]),
        partial(fake_events.write_ncaltech101, classes=7, per_class=20),
        (2, 180, 240),
        5,
        (90, 10),
    ),
    "shd": (
        partial(SHD, download=False),
        partial(fake_events.write_heidelberg, name="SHD", classes=20),
        (700,),
        20,
        (240, 240),
    ),
    "ssc": (
        partial(SSC, download=False),
        partial(fake_events.write_heidelberg, name="SSC", classes=35, per_class=2),
        (700,),
        35,
        (70, 70),
    ),
    "ntidigits18": (partial(NTIDIGITS18, download=False), fake_events.write_ntidigits, (64,), 11, (132, 132)),
    "folder": (FOLDER, fake_events.write_recordings, (2, 34, 34), 2, (16, 4)),
    "tonic_train": (GESTURES, fake_events.write_dvsgesture, (2, 128, 128), 11, (55, 22)),
    "tonic_split": (CALTECH, five_classes, (2, 180, 240), 5, (90, 10)),
    "tonic_letters": (LETTERS, fake_events.write_asldvs, (2, 180, 240), 26, (104, 26)),
    "tonic_audio": (
        SHD_BY_PATH,
        partial(fake_events.write_heidelberg, name="SHD", classes=20),
        (700,),
        20,
        (240, 240),
    ),
}


@pytest.fixture(autouse=True)
def archives(monkeypatch):
    """tonic itself, which :class:`TonicDataset` does not correct, wants archives and full numbers."""
    fake_events.install_aedat(monkeypatch)


@pytest.fixture
def make(tmp_path, monkeypatch):
    def make(name, **options):
        source, write, *_ = CASES[name]
        if not any(tmp_path.iterdir()):
            write(tmp_path)
        if name.startswith("tonic"):
            base = source.keywords["class_path"].rpartition(".")[2]
            monkeypatch.setattr(f"tonic.datasets.{base}._check_exists", lambda self: True)
        return source(root=str(tmp_path), **options)

    return make


@pytest.mark.parametrize("name", CASES)
def test_recordings_have_their_labels(make, name):
    source = make(name)
    _, _, shape, classes, sizes = CASES[name]
    assert (source.shape, source.num_classes, source.event) == (shape, classes, True)
    source.prepare()
    for part, size in zip(("train", "test"), sizes, strict=True):
        recordings = source.recordings(part)
        assert len(recordings) == len(recordings.labels) == size
        assert sorted(set(recordings.labels.tolist())) == list(range(classes))
        assert recordings.labels.dtype == torch.int64
        for index in range(size):
            events = recordings[index]
            assert events.dtype.names == (("t", "x", "p") if len(shape) == 1 else ("t", "x", "y", "p"))
            assert (np.diff(events["t"]) >= 0).all()
            assert int(events["x"].max()) - 1 == int(recordings.labels[index])


@pytest.mark.parametrize("name", CASES)
def test_a_network_trains_on_them(make, name):
    shape = CASES[name][2]
    network = partial(MLP, hidden=(8,)) if len(shape) == 1 else partial(ConvSNN, channels=(2,), hidden=(), pool=4)
    data = SpikeDataModule(
        make(name, pipeline=EventPipeline(cache="none")), "frames", time_steps=3, batch_size=5, val_fraction=0.25
    )
    module = SpikingClassifier(network, data.input_shape, data.num_classes)
    before = [parameter.clone() for parameter in module.parameters()]
    trainer = pl.Trainer(
        fast_dev_run=True, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False, logger=False
    )
    trainer.fit(module, data)
    changed = [not torch.equal(old, new) for old, new in zip(before, module.parameters(), strict=True)]
    assert any(changed)
    x, y = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert (x.shape, x.dtype, y.shape) == ((3, 5, *shape), torch.float32, (5,))
    assert 0 < float(x.mean()) < 0.5
    data.setup("test")
    x, _ = data.on_after_batch_transfer(next(iter(data.test_dataloader())), 0)
    assert x.shape[2:] == shape


@pytest.mark.parametrize("name", CASES)
def test_another_process_reads_the_same(make, name):
    """A process that loads receives the data set pickled, or inherits its open files."""
    recordings = make(name).recordings("test")
    copy = pickle.loads(pickle.dumps(recordings))
    assert copy.identity == recordings.identity
    assert np.array_equal(copy[3], recordings[3])
    data = SpikeDataModule(
        make(name, pipeline=EventPipeline(cache="none")), "frames", time_steps=2, batch_size=11, num_workers=2
    )
    data.setup("test")
    alone = SpikeDataModule(make(name, pipeline=EventPipeline(cache="none")), "frames", time_steps=2, batch_size=11)
    alone.setup("test")
    for (x, y), (again, labels) in zip(data.test_dataloader(), alone.test_dataloader(), strict=True):
        assert torch.equal(x, again)
        assert torch.equal(y, labels)


@pytest.mark.parametrize("name", CASES)
def test_the_identity_changes_with_the_files_alone(make, name, tmp_path):
    first = {part: make(name).recordings(part).identity for part in ("train", "test")}
    assert first == {part: make(name).recordings(part).identity for part in ("train", "test")}
    assert first["train"] != first["test"]
    for path in tmp_path.rglob("*"):
        if path.suffix in (".npy", ".bin", ".h5", ".hdf5", ".aedat4", ".mat"):
            path.touch()
    assert not set(first.values()) & {make(name).recordings(part).identity for part in ("train", "test")}


@pytest.mark.parametrize("name", ["cifar10dvs", "ncaltech101", "folder", "tonic_split"])
def test_without_official_parts_a_seeded_share_is_held_out(make, name, monkeypatch):
    """One recording is in one part; the order in which the file system lists files does not matter."""

    def files(source, part):
        recordings = source.recordings(part)
        if name == "folder":
            return [str(path) for path in recordings.files]
        return [recordings.dataset.data[index] for index in recordings.indices]

    train, test = files(make(name), "train"), files(make(name), "test")
    assert not set(train) & set(test)
    assert len(set(train)) + len(set(test)) == len(train) + len(test)
    per_class = np.bincount(make(name).recordings("test").labels)
    assert len(set(per_class.tolist())) == 1, "in equal shares of every class"
    assert files(make(name, split_seed=1), "test") != test
    assert files(make(name, split_seed=0), "test") == test
    fewer = files(make(name, test_fraction=0.5), "test")
    assert abs(len(fewer) - (len(train) + len(test)) / 2) <= 1

    listed = os.walk

    def backwards(*arguments, **options):
        for path, folders, names in listed(*arguments, **options):
            names.reverse()
            yield path, folders, names

    monkeypatch.setattr("os.walk", backwards)
    assert files(make(name), "test") == test


def test_a_person_is_never_in_training_and_validation(make):
    data = SpikeDataModule(make("dvsgesture"), "frames", time_steps=2, val_fraction=0.25)
    data.setup("fit")
    users = make("dvsgesture").recordings("train").groups
    kept, held_out = (set(users[data._parts[part].indices].tolist()) for part in ("train", "val"))
    assert not kept & held_out
    assert len(kept | held_out) == 5
    for part in ("train", "val"):
        labels = {int(data._parts[part][index][1]) for index in range(len(data._parts[part]))}
        assert labels == set(range(11))


def test_the_official_validation_part_is_used(make):
    source = make("ssc", pipeline=EventPipeline(cache="none"))
    data = SpikeDataModule(source, "frames", time_steps=2, val_fraction=0.1)
    data.setup("fit")
    assert [len(data._parts[part]) for part in ("train", "val")] == [70, 70]
    valid = source.recordings("valid")
    assert data._parts["val"].labels.tolist() == valid.labels.tolist()
    assert "/valid" in valid.identity
    assert valid.dataset.data_filename == "ssc_valid.h5"
    none = SpikeDataModule(source, "frames", time_steps=2, val_fraction=0.0)
    none.setup("fit")
    assert none.val_dataloader() == []


def test_a_validation_part_that_is_not_there_is_not_the_test_part(make):
    with pytest.raises(ValueError, match="part: got 'valid', expected one of 'train', 'test'"):
        make("shd").load("valid", 2)


def test_one_person_alone_cannot_be_split(tmp_path):
    fake_events.write_dvsgesture(tmp_path, train_users=1)
    data = SpikeDataModule(DVSGesture(root=str(tmp_path), download=False), "frames", time_steps=2)
    with pytest.raises(ValueError, match=r"val_fraction: 0\.1 of 11 samples"):
        data.setup("fit")


def test_every_class_of_ncaltech101_is_used_by_default(tmp_path):
    fake_events.write_ncaltech101(tmp_path, classes=101, per_class=2)
    source = NCALTECH101(root=str(tmp_path), download=False, test_fraction=0.5)
    assert sorted(source.recordings("test").labels.tolist()) == list(range(101))
    (Path(tmp_path) / "NCALTECH101" / "Caltech101" / "class_007").rename(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="has 100 classes, expected 101"):
        source.recordings("test")
    with pytest.raises(OSError, match=r"no recordings of \['class_007'\]"):
        NCALTECH101(root=str(tmp_path), download=False, classes=["class_001", "class_007"]).recordings("test")


def test_events_outside_the_area_of_ncaltech101_are_left_out(make, tmp_path):
    source = make("ncaltech101")
    file = tmp_path / "NCALTECH101" / "Caltech101" / "class_000" / "image_0000.bin"
    fake_events.write_bin(file, *np.array([[0, 0, 0, 1], [5, 239, 3, 0], [7, 240, 3, 0], [9, 3, 180, 1]]).T)
    recordings = [source.recordings(part) for part in ("train", "test")]
    (events,) = [
        part[index]
        for part in recordings
        for index in range(len(part))
        if part.dataset.data[part.indices[index]] == str(file)
    ]
    assert events.tolist() == [(0, 0, 0, 1), (5, 239, 3, 0)]


def test_contours_in_the_archive_of_ncaltech101_are_not_recordings(make, tmp_path):
    source = make("ncaltech101")
    recordings = len(source.recordings("train"))
    contours = tmp_path / "NCALTECH101" / "Caltech101_annotations" / "class_001"
    contours.mkdir(parents=True)
    for number in range(20):
        (contours / f"annotation_{number:04d}.bin").write_bytes(b"\0" * 40)
    assert len(source.recordings("train")) == recordings
