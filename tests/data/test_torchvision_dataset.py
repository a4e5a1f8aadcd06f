"""Any data set of torchvision: the same images as those of the built-in class, and errors that name the option."""

import sys
import types

import pytest
import torch
from helpers import fake_data
from helpers.fake_images import write_svhn
from PIL import Image

from spikefit.data import SpikeDataModule
from spikefit.data.images import FashionMNIST, TorchvisionDataset
from spikefit.errors import ConfigurationError, DataError

FASHION = "torchvision.datasets.FashionMNIST"


def test_it_reads_what_the_built_in_class_reads(tmp_path):
    fake_data.write_mnist(tmp_path, "FashionMNIST", samples=30)
    options = {"root": str(tmp_path), "download": False}
    own = TorchvisionDataset(FASHION, 10, (28, 28), 1, **options)
    for part in ("train", "test"):
        mine, reference = own.load(part, 4), FashionMNIST(**options).load(part, 4)
        assert torch.equal(mine.images, reference.images)
        assert torch.equal(mine.labels, reference.labels)
    modules = [SpikeDataModule(source, val_fraction=0.4) for source in (own, FashionMNIST(**options))]
    batches = []
    for data in modules:
        data.prepare_data()
        data.setup("fit")
        batches.append(next(iter(data.train_dataloader())))
    assert all(torch.equal(mine, reference) for mine, reference in zip(*batches, strict=True))


def test_sets_by_the_name_of_a_split(tmp_path, monkeypatch):
    monkeypatch.setattr("torchvision.datasets.svhn.check_integrity", lambda *_: True)
    write_svhn(tmp_path)
    options = {"size": (8, 8), "part_argument": "split", "root": str(tmp_path), "download": False}
    data = TorchvisionDataset("torchvision.datasets.SVHN", 10, **options)
    assert data.load("train", 4).labels.tolist() == [*range(1, 10), 0] * 12
    assert data.load("test", 4).images.shape == (120, 3, 8, 8)
    other = TorchvisionDataset(
        "torchvision.datasets.SVHN", 10, **options, part_values={"train": "test", "valid": "train", "test": "train"}
    )
    assert other.has_validation
    assert torch.equal(other.load("train", 4).images, data.load("test", 4).images)


def test_a_class_without_a_test_set_loses_a_share_of_every_class():
    made = {"size": 30, "num_classes": 3, "image_size": [3, 8, 8]}  # a class without root and download
    data = TorchvisionDataset("torchvision.datasets.FakeData", 3, (8, 8), init_args=made, part_argument=None)
    data.prepare()
    whole, test = data.read("train"), data.load("test", 4)
    assert torch.bincount(whole.labels).float().mul(0.2).sub(torch.bincount(test.labels)).abs().max() < 1
    assert len(data.load("train", 4)) + len(test) == 30


def test_a_class_that_passes_its_options_on_gets_them(monkeypatch):
    """EMNIST takes root and split by name, and download as one of ``**kwargs``."""
    given = {}
    monkeypatch.setattr("torchvision.datasets.EMNIST.__init__", _recording(given))
    monkeypatch.setattr("torchvision.datasets.EMNIST.__len__", lambda self: 0)
    options = {"init_args": {"split": "letters"}, "root": "somewhere", "download": False}
    TorchvisionDataset("torchvision.datasets.EMNIST", 26, channels=1, **options).read("test")
    assert given == {"root": "somewhere", "split": "letters", "train": False, "download": False}


def _recording(given):
    def init(self, root, split, **kwargs):
        given.update(root=root, split=split, **kwargs)

    return init


class Ten:
    """Ten grey tensors of two classes, without ``download``."""

    def __init__(self, root, labels=(0, 1)):
        self.labels = labels

    def __len__(self):
        return 10

    def __getitem__(self, index):
        if index >= 10:
            raise IndexError
        return torch.full((1, 4, 4), index, dtype=torch.uint8), torch.tensor(self.labels[index % 2])


def ten(**options):
    return TorchvisionDataset("own_torchvision.Ten", 2, (4, 4), 1, part_argument=None, **options)


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """The class can be imported by its path, however pytest imported this file."""
    module = types.ModuleType("own_torchvision")
    module.Ten = Ten
    monkeypatch.setitem(sys.modules, "own_torchvision", module)


def test_tensors_and_a_seeded_split():
    data = ten()
    train, test = data.load("train", 4), data.load("test", 4)
    assert torch.bincount(test.labels).tolist() == [1, 1]
    assert sorted([*train.images[:, 0, 0, 0].tolist(), *test.images[:, 0, 0, 0].tolist()]) == list(range(10))


def test_a_label_out_of_range_and_a_sample_that_fails_are_named(monkeypatch):
    with pytest.raises(DataError, match=r"Ten: the set train is damaged: the label of sample 1 is 7, expected 0 to 1"):
        ten(init_args={"labels": [0, 7]}).prepare()
    with pytest.raises(DataError, match=r"Ten: sample 0 of the set train can't be used: .*'str'"):
        ten(init_args={"labels": ["cat", "dog"]}).prepare()
    monkeypatch.setattr(Ten, "__getitem__", lambda *_: (Image.new("F", (4, 4)), 0))
    with pytest.raises(DataError, match=r"Ten: sample 0 .*pixels of 32 bits"):
        ten().prepare()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_path": "SVHN"}, "class_path: got 'SVHN'"),
        ({"class_path": "torchvision.datasets.SVNH"}, r"class_path: got .*SVNH.*can't be imported"),
        ({"init_args": {"train": True}}, "init_args: got 'train', which another option"),
        ({"init_args": {"colour": 1}}, r"init_args: .*FashionMNIST refuses its arguments .*colour=1"),
        ({"part_argument": None, "part_values": {"train": 1}}, "part_values: got"),
        ({"part_values": {"test": 1}}, "part_values: got .*expected train"),
        ({"num_classes": 0}, "num_classes: got 0"),
    ],
)
def test_options_that_are_not_allowed(options, message, tmp_path):
    given = {"class_path": FASHION, "num_classes": 10, "root": str(tmp_path), "download": False, **options}
    with pytest.raises(ConfigurationError, match=message):
        TorchvisionDataset(**given).prepare()


def test_missing_files_say_where_they_are_expected(tmp_path):
    data = TorchvisionDataset(FASHION, 10, root=str(tmp_path), download=False)
    with pytest.raises(DataError, match=rf"FashionMNIST: not found in {tmp_path} \(expected what torchvision"):
        data.prepare()
