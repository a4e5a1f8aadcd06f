"""Damaged images: the message names the file and what is wrong, before training, also for the test part."""

import pickle
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import fake_data, fake_events

from spikefit.data.datamodule import SpikeDataModule
from spikefit.data.events import NMNIST, SHD, RecordingFolder
from spikefit.data.images import CIFAR10, MNIST, Images
from spikefit.data.source import DataSource
from spikefit.errors import DataError

RAW = "MNIST/raw"


def cut(path: Path, bytes_: int) -> None:
    path.write_bytes(path.read_bytes()[:-bytes_])


def put(path: Path, offset: int, content: bytes) -> None:
    old = path.read_bytes()
    path.write_bytes(old[:offset] + content + old[offset + len(content) :])


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def fewer_labels(path: Path) -> None:
    """A file of labels that is complete, but has one label less than there are images."""
    labels = path.read_bytes()[8:-1]
    path.write_bytes(struct.pack(">II", 2049, len(labels)) + labels)


def other_size(path: Path) -> None:
    path.write_bytes(struct.pack(">IIII", 2051, 120, 14, 56) + path.read_bytes()[16:])


IDX = {
    "missing bytes": ("images-idx3", lambda path: cut(path, 1), "94095 bytes, expected 94096 for 120 images"),
    "trailing bytes": ("labels-idx1", lambda path: path.write_bytes(path.read_bytes() + b"0"), "129 bytes, expected"),
    "cut header": ("images-idx3", lambda path: path.write_bytes(b"\0\0\x08"), "3 bytes, which is less than its header"),
    "magic of images": ("images-idx3", lambda path: put(path, 0, b"\0\0\x08\x02"), "is 2050, expected 2051"),
    "magic of labels": ("labels-idx1", lambda path: put(path, 0, b"\0\0\x09\x01"), "is 2305, expected 2049"),
    "other size": ("images-idx3", other_size, "images of 14 x 56, expected 28 x 28"),
    "fewer labels": ("labels-idx1", fewer_labels, "119 labels, but t10k-images-idx3-ubyte has 120 images"),
    "label": ("labels-idx1", lambda path: put(path, 8 + 17, b"\x0a"), "the label of sample 17 is 10, expected 0 to 9"),
    "folder": ("labels-idx1", replace_by_folder, "it is a folder"),
}  # fmt: skip


@pytest.mark.parametrize("download", [True, False])
@pytest.mark.parametrize("name", IDX)
def test_a_damaged_test_part_is_named_before_training(name, download, tmp_path, monkeypatch):
    monkeypatch.setattr("torchvision.datasets.MNIST.download", lambda self: pytest.fail("nothing is missing"))
    fake_data.write_mnist(tmp_path, "MNIST")
    what, damage, message = IDX[name]
    file = tmp_path / RAW / f"t10k-{what}-ubyte"
    damage(file)
    with pytest.raises(DataError) as caught:
        SpikeDataModule(MNIST(root=str(tmp_path), download=download)).prepare_data()
    assert f"{file} is damaged: " in str(caught.value)
    assert message in str(caught.value)
    assert "not found" not in str(caught.value)


def test_an_unreadable_file_is_named(tmp_path, monkeypatch):
    fake_data.write_mnist(tmp_path, "MNIST")
    file, opened = tmp_path / RAW / "train-images-idx3-ubyte", open

    def refuse(path, *args, **kwargs):
        if str(path) == str(file):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **kwargs)

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr(Path, "open", lambda self, *args, **kwargs: refuse(self, *args, **kwargs))
    with pytest.raises(DataError, match="train-images-idx3-ubyte can't be read: Permission denied"):
        MNIST(root=str(tmp_path)).prepare()


def test_a_batch_of_cifar_with_another_checksum_is_named(tmp_path):
    fake_data.write_cifar(tmp_path, fine=False)
    with pytest.raises(DataError, match=r"data_batch_1 is damaged: expected a file with the MD5 c99c"):
        CIFAR10(root=str(tmp_path)).prepare()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"data": np.zeros((3, 3072), np.uint8), "labels": [0, 1]}, "202 labels for 203 images"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0, -1]}, "the label of sample 41 is -1, expected 0 to 9"),
        ({"labels": [0, 1]}, "data"),
    ],
)
def test_batches_of_cifar_that_contradict_themselves(content, message, tmp_path, monkeypatch):
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, md5=None: Path(path).is_file())
    fake_data.write_cifar(tmp_path, fine=False)
    (tmp_path / "cifar-10-batches-py" / "data_batch_2").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match="damaged") as caught:
        CIFAR10(root=str(tmp_path)).prepare()
    expected = message.replace("202", "162").replace("203", "163")  # 4 other batches of 40
    assert expected in str(caught.value)


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_of_an_own_data_set_are_checked(label):
    class Own(DataSource):
        num_classes, shape = 3, (1, 2, 2)

        def prepare(self):
            pass

        def load(self, part, time_steps):
            return Images(torch.zeros(4, 1, 2, 2), torch.tensor([0, 1, label, 2]))

    with pytest.raises(DataError, match=f"Own: the train part is damaged: the label of sample 2 is {label}"):
        SpikeDataModule(Own()).setup("fit")


def folder_of(tmp_path, **options):
    return RecordingFolder(str(tmp_path), ["left", "right"], (34, 30, 2), **options)


def events(**columns):
    """A plain array of ten events with some columns replaced."""
    t, x, y, p = np.arange(10.0) * 100, np.arange(10.0), np.arange(10.0), np.arange(10.0) % 2
    return np.stack([columns.get("t", t), columns.get("x", x), columns.get("y", y), columns.get("p", p)], axis=1)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.5, 1e17])
@pytest.mark.parametrize("column", ["t", "x", "y", "p"])
def test_events_that_are_no_whole_numbers_name_file_and_event(column, value, tmp_path):
    fake_events.write_recordings(tmp_path)
    values = np.arange(10.0)
    values[4] = value
    file = tmp_path / "left" / "odd.npy"
    np.save(file, events(**{column: values}))
    recordings = folder_of(tmp_path).recordings("train" if file.name in _names(tmp_path, "train") else "test")
    index = [path.name for path in recordings.files].index("odd.npy")
    with pytest.raises(
        DataError, match=re.escape(f"odd.npy is damaged: {column} of event 4 is {value}, expected a whole number")
    ):
        recordings[index]


def _names(tmp_path, part):
    return [path.name for path in folder_of(tmp_path).recordings(part).files]


def test_seconds_need_a_tick(tmp_path):
    fake_events.write_recordings(tmp_path)
    for path in (tmp_path / "left").glob("*"):
        path.unlink()
    for number in range(10):
        np.save(tmp_path / "left" / f"{number}.npy", events(t=np.arange(10) / 8))
    with pytest.raises(DataError, match="set tick"):
        folder_of(tmp_path).recordings("train")[0]
    assert folder_of(tmp_path, tick=1e6).recordings("train")[0]["t"].tolist() == [125_000 * i for i in range(10)]


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("a.bin", lambda path: path.write_bytes(b"\0" * 13), "is damaged: 13 bytes, expected 5 for each event"),
        ("a.npy", lambda path: (np.save(path, events()), cut(path, 8)), "is damaged: 440 bytes, expected 448"),
        ("a.npy", lambda path: path.write_bytes(b"text"), "is damaged: "),
        ("a.npy", lambda path: np.save(path, np.array([{}]), allow_pickle=True), "is damaged: it holds Python objects"),
        ("a.aedat4", lambda path: path.write_bytes(b"#!AER-DAT2.0\r\n"), "is damaged: it begins with b'#!AER-DAT2.0'"),
        ("a.npy", lambda path: path.mkdir(), "is damaged: it is a folder"),
    ],
)  # fmt: skip
def test_a_damaged_recording_is_named_before_training(name, damage, message, tmp_path, monkeypatch):
    fake_events.write_recordings(tmp_path / "train")
    fake_events.write_recordings(tmp_path / "test")
    damage(tmp_path / "test" / "right" / name)
    with pytest.raises(DataError) as caught:
        folder_of(tmp_path).prepare()
    assert f"{tmp_path / 'test' / 'right' / name} {message}" in str(caught.value)


def test_a_class_folder_that_is_a_file_is_named(tmp_path):
    fake_events.write_recordings(tmp_path)
    for path in (tmp_path / "left").glob("*"):
        path.unlink()
    (tmp_path / "left").rmdir()
    (tmp_path / "left").write_bytes(b"")
    with pytest.raises(DataError, match="left can't be read: Not a directory"):
        folder_of(tmp_path).prepare()


def test_an_unreadable_class_folder_is_not_called_missing(tmp_path, monkeypatch):
    fake_events.write_recordings(tmp_path)
    listed = Path.iterdir

    def refuse(self):
        if self.name == "left":
            raise PermissionError(13, "Permission denied", str(self))
        return listed(self)

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match="left can't be read: Permission denied"):
        folder_of(tmp_path).prepare()


def test_a_recording_of_nmnist_with_trailing_bytes_is_named_before_training(tmp_path):
    fake_data.write_nmnist(tmp_path, per_class=1)
    file = tmp_path / "NMNIST" / "Test" / "3" / "00000.bin"
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(DataError, match=r"00000\.bin is damaged: 1001 bytes, expected 5 for each event") as caught:
        NMNIST(root=str(tmp_path), download=True).prepare()
    assert "Test/3" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.zeros(19, np.uint16)}, "19 labels, but 20 entries in spikes/times"),
        ({"labels": np.full(20, 20, np.uint16)}, "the label of sample 0 is 20, expected 0 to 19"),
        ({"labels": None}, "labels"),
    ],
)
def test_labels_of_shd_are_checked_before_training(change, message, tmp_path):
    import h5py

    fake_events.write_heidelberg(tmp_path, "SHD", 20, per_class=1)
    with h5py.File(tmp_path / "SHD" / "shd_test.h5", "a") as file:
        for name, values in change.items():
            del file[name]
            if values is not None:
                file[name] = values
    with pytest.raises(DataError, match=r"shd_test\.h5 is damaged") as caught:
        SHD(root=str(tmp_path), download=False).prepare()
    assert message in str(caught.value)


def test_a_time_of_shd_that_is_nan_is_refused(tmp_path):
    import h5py

    fake_events.write_heidelberg(tmp_path, "SHD", 20, per_class=1)
    with h5py.File(tmp_path / "SHD" / "shd_train.h5", "a") as file:
        times = file["spikes/times"][3]
        times[7] = np.nan
        file["spikes/times"][3] = times
    with np.errstate(invalid="ignore"), pytest.raises(DataError, match="SHD, recording 3 is damaged: t of event 7"):
        SHD(root=str(tmp_path), download=False).recordings("train")[3]
